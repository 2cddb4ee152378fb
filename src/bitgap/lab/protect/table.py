"""The damage table of a model on a text, by one of two instruments that share one record.

Both tell the mean of what a unit does at two ends: rounded alone in the full-precision model, and
within a base plan, K of the base with the unit so rounded less K of the base with it whole. That is
the unit's Shapley value between the two where damage is pairwise, and sums over units are then
exact for the base.

*Screen*: what every matrix is expected to do at either end, to second order, from a forward and a
backward pass (:mod:`bitgap.lab.screen`). Sums of squares by token have little noise and leave out
what one matrix does to several tokens at once; squares of sums over a sequence have it, and the
noise of a χ² of one degree a draw. So the first are used, multiplied for each unit by the ratio of
the two summed over all sentences, languages and choices. Embedding and head act twice or at the
logits, and experts are given some tokens only; they are few, and are scored exactly.

*Swaps*: exact K of all these plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch

from bitgap.lab.bench import Bench
from bitgap.lab.engine.budget import Dimensions
from bitgap.lab.protect.units import ModelUnits
from bitgap.lab.scores import score
from bitgap.lab.screen import screen
from bitgap.lab.store import content_key
from bitgap.protect.records import Choice, DamageTable, TableFacts
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Floats, Observations, Scores

Instrument = Literal["screen", "swaps"]
INSTRUMENTS = get_args(Instrument)
Choices = Sequence[Sequence[Choice | None]]
SCREEN_VERSION = 2
SCREEN_DRAWS = 2
"""Labels drawn for every token."""
_BACKWARD = 2.0
"""What going back through a block takes, in passes forward."""
_CHANGE = 0.6
"""What one choice of all matrices takes, in passes forward: their products, without attention."""
_ENDS_SHARE = 0.25
"""Of the memory, for rounded embeddings and heads held at once."""


def damage_table(
    bench: Bench,
    units: ModelUnits,
    choices: Choices,
    schemes: Sequence[str],
    instrument: Instrument,
    base: Mapping[str, str],
    *,
    left_out: Mapping[str, str] | None = None,
) -> DamageTable:
    """Returns what every choice for every unit does to every language.

    Args:
        bench: Model and text.
        units: From :func:`bitgap.lab.protect.units.units_of`.
        choices: What each may have, (units x schemes).
        schemes: Names of the columns.
        instrument: ``screen`` or ``swaps``.
        base: Scheme of every unit in the plan around which swaps are measured.
        left_out: Languages that no plan is chosen by, with the reason.
    """
    make = _by_swaps if instrument == "swaps" else _by_screen
    bits = make(bench, units, choices, schemes, base)
    # Full precision does nothing; NaN is for what a unit may not have.
    there = np.array([[one is not None for one in row] for row in choices])
    bits = np.where(there[None, :, :, None], bits, np.nan)
    reference = bench.languages.index(bench.corpus.reference)
    characters = bench.text.counts.characters[reference].astype(np.int64)
    return DamageTable(
        facts=TableFacts(
            model=bench.info.name,
            fingerprint=bench.info.fingerprint,
            corpus=bench.corpus.info.fingerprint,
            instrument=instrument,
            languages=bench.languages,
            reference=bench.corpus.reference,
            units=units.units,
            schemes=tuple(schemes),
            choices=tuple(map(tuple, choices)),
            left_out=dict(left_out or {}),
        ),
        damage_bits=bits.sum(-1) / characters.sum(),
        sentence_bits=bits,
        characters=characters,
        documents=bench.documents,
    )


# -- plans -----------------------------------------------------------------------------------------


def swap_plans(
    units: ModelUnits, choices: Choices, base: Mapping[str, str] | None = None
) -> dict[tuple[int, str], Plan]:
    """Returns the plan of every unit under every choice, by the unit's number and the scheme.

    Args:
        units: Of the model.
        choices: What each may have.
        base: What all others have; whole when None. Then ``fp`` of every unit is among the plans.
    """
    found = dict[tuple[int, str], Plan]()
    for u, (unit, row) in enumerate(zip(units.units, choices, strict=True)):
        names = [choice.scheme for choice in row if choice is not None and choice.scheme != FP]
        for name in names if base is None else (*names, FP):
            found[u, name] = units.plan({**(base or {}), unit.name: name})
    return found


def table_plans(
    units: ModelUnits, choices: Choices, instrument: Instrument, base: Mapping[str, str]
) -> list[Plan]:
    """Returns the plans that an instrument scores."""
    plans = swap_plans if instrument == "swaps" else _outside
    return [*plans(units, choices).values(), *plans(units, choices, base).values()]


def scored(bench: Bench, plans: Sequence[Plan], label: str) -> Scores:
    """Returns the scores of plans, with few embeddings and heads held at once.

    A rounded embedding is as large as the model's own. Where those of all plans would take more
    than a part of the memory, plans are scored by their embedding and head, one after another.

    Args:
        bench: Model and text.
        plans: What to score.
        label: What the progress bar says.
    """
    ends = list(dict.fromkeys((p.embedding, p.head) for p in plans))
    rounded = sum((e != FP) + (h != FP) for e, h in ends)
    if 4 * bench.decoder.tail.weight.numel() * rounded <= _ENDS_SHARE * bench.settings.memory_bytes:
        return score(bench, plans, label)
    known = bench.store.known_scores(bench.text_key)
    for end in ends:
        some = [p for p in plans if (p.embedding, p.head) == end]
        if any(bench.score_key(p) not in known for p in some):
            score(bench, some, label)
            bench.forget_ends()
    return score(bench, plans, label)


# -- swaps -----------------------------------------------------------------------------------------


def _by_swaps(
    bench: Bench,
    units: ModelUnits,
    choices: Choices,
    schemes: Sequence[str],
    base: Mapping[str, str],
) -> Floats:
    alone, within = swap_plans(units, choices), swap_plans(units, choices, base)
    scores = scored(bench, [*alone.values(), *within.values()], "table, by swaps")
    bits = np.zeros(_shape(bench, units, schemes))
    _put_swaps(bits, scores, schemes, alone, within)
    return bits


def _put_swaps(
    bits: Floats,
    scores: Scores,
    schemes: Sequence[str],
    alone: Mapping[tuple[int, str], Plan],
    within: Mapping[tuple[int, str], Plan],
) -> None:
    """Fills a table (A x units x schemes x N) with the means of both ends of some swaps."""
    row = {text: i for i, text in enumerate(scores.plans)}
    for (u, name), plan in alone.items():
        whole = scores.kl_nats[row[within[u, FP].text]]
        among = scores.kl_nats[row[within[u, name].text]] - whole
        own = scores.kl_nats[row[plan.text]]
        bits[:, u, schemes.index(name)] = (own + among) / 2 / np.log(2)


# -- the screen ------------------------------------------------------------------------------------


def _by_screen(
    bench: Bench,
    units: ModelUnits,
    choices: Choices,
    schemes: Sequence[str],
    base: Mapping[str, str],
) -> Floats:
    bits = np.zeros(_shape(bench, units, schemes))
    alone, within = _outside(units, choices), _outside(units, choices, base)
    if alone:
        plans = [*alone.values(), *within.values()]
        _put_swaps(
            bits, scored(bench, plans, "table, embedding, head and experts"), schemes, alone, within
        )
    rounding = [name for name in schemes if name != FP]
    columns = [schemes.index(name) for name in rounding]
    linears, whole = _screened(bench, rounding, None)
    _, among = _screened(bench, rounding, units.plan(base))
    for u, unit in enumerate(units.units):
        if unit.name in units.unwatched:
            continue
        assert unit.block is not None
        # What several matrices of one unit do is added up: they are as good as independent.
        rows = [linears.index((unit.block, name)) for name in units.linears[unit.name]]
        (_, token, sequence), (slope, second, _) = whole[:, rows].sum(1), among[:, rows].sum(1)
        # Of the other end the same, as its sums are differences and may be near 0.
        pooled = sequence.sum() / token.sum() if token.sum() > 0 else 1.0
        both = (token * pooled + slope + second * pooled) / 2
        bits[:, u, columns] = both.transpose(1, 0, 2) / np.log(2)
    return bits


def _outside(
    units: ModelUnits, choices: Choices, base: Mapping[str, str] | None = None
) -> dict[tuple[int, str], Plan]:
    """Returns the plans of what cannot be screened, which is little enough to be scored."""
    return {
        key: plan
        for key, plan in swap_plans(units, choices, base).items()
        if units.units[key[0]].name in units.unwatched
    }


def _screened(
    bench: Bench, schemes: Sequence[str], within: Plan | None
) -> tuple[list[tuple[int, str]], Floats]:
    """Returns linears, and what is expected of them within a plan, (3 x U x C x A x N).

    Slope, second order by token and by sequence. Batches of the text are kept as they are done, so
    that little is lost where it is stopped.
    """
    exact = bench.exact()
    a, n = exact.text.counts.tokens.shape
    blocks = [exact.decoder.block_matrices(i) for i in range(exact.n_blocks)]
    linears = [(i, name) for i, block in enumerate(blocks) for name in block.see_all_tokens]
    sums = np.zeros((3, len(linears), len(schemes), a * n))
    exact.progress.start("table, by the screen", screen_s(bench, schemes, [within]))
    try:
        for number, chunk in enumerate(exact.chunks):
            where, seed = np.asarray(chunk.where), exact.settings.seed
            key = _screen_key(exact, schemes, number, within)
            kept = exact.store.get_observations(key)
            if kept is None:
                found = screen(exact, schemes, draws=SCREEN_DRAWS, chunks=[chunk],
                               seed=_seed_of(seed, number), within=within)  # fmt: skip
                nats = np.stack([found.slope, found.by_token, found.by_sequence])
                kept = Observations(
                    experiment="screen",
                    version=SCREEN_VERSION,
                    arrays={"nats": nats.reshape(*sums.shape)[..., where]},
                    facts={"schemes": list(schemes), "within": within.text if within else FP},
                )
                exact.store.put_observations(key, kept)
                exact.progress.advance(_screen_s(bench, schemes, chunk.n_rows, within))
            sums[..., where] = kept.arrays["nats"]
    finally:
        exact.progress.stop()
    return linears, sums.reshape(3, len(linears), len(schemes), a, n)


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def screen_s(bench: Bench, schemes: Sequence[str], ends: Sequence[Plan | None]) -> float:
    """Returns the seconds that the screen is expected to take beyond what the store holds.

    Args:
        bench: Model and text.
        schemes: Names of the columns.
        ends: Plans within which matrices are rounded; None for full precision.
    """
    exact, rounding = bench.exact(), [name for name in schemes if name != FP]
    return sum(
        _screen_s(bench, rounding, chunk.n_rows, within)
        for within in ends
        for number, chunk in enumerate(exact.chunks)
        if not exact.store.has_observations(_screen_key(exact, rounding, number, within))
    )


def _screen_key(exact: Bench, schemes: Sequence[str], number: int, within: Plan | None) -> str:
    """Returns under which key the store keeps what the screen says of one batch of the text."""
    where = np.asarray(exact.chunks[number].where).tolist()
    about = ["damage screen", SCREEN_VERSION, exact.text_key, list(schemes), SCREEN_DRAWS]
    plan = FP if within is None else within.text
    return content_key(*about, exact.settings.seed, number, where, plan)


def _screen_s(bench: Bench, schemes: Sequence[str], n_rows: int, within: Plan | None) -> float:
    exact = bench.exact()
    rates = exact.measured_rates()
    n_rounding, around = sum(name != FP for name in schemes), within is not None
    # Around a plan there is a pass in full precision, a gradient of KL and the plan's own change.
    passes = 2 + around + _BACKWARD * (SCREEN_DRAWS + around) + _CHANGE * (n_rounding + around)
    # Every matrix is rounded again for every batch: all of them, in every way, are not held.
    weights = exact.n_blocks * Dimensions.of(exact.decoder).block_weights
    rounding_s = (n_rounding + 2 * around) * weights * rates.round_s
    heads = 2 + 2 * around
    return n_rows * (exact.n_blocks * passes * rates.block_s + heads * rates.head_s) + rounding_s


def _shape(bench: Bench, units: ModelUnits, schemes: Sequence[str]) -> tuple[int, int, int, int]:
    a, n = bench.text.counts.tokens.shape
    return a, len(units.units), len(schemes), n


# -- weights alone ---------------------------------------------------------------------------------


@torch.inference_mode()
def squared_errors(
    bench: Bench, units: ModelUnits, choices: Choices, schemes: Sequence[str]
) -> Floats:
    """Returns ‖ΔW‖² of every unit under every choice, (units x schemes); 0 where there is none.

    Args:
        bench: The model.
        units: Of it.
        choices: What each may have.
        schemes: Names of the columns.
    """
    decoder = bench.decoder
    about = ["squared errors", 1, bench.info.fingerprint, list(schemes),
             [unit.name for unit in units.units]]  # fmt: skip
    kept = bench.store.get_observations(key := content_key(*about))
    if kept is not None:
        return kept.arrays["errors"]
    found = np.zeros((len(units.units), len(schemes)))
    for u, (unit, row) in enumerate(zip(units.units, choices, strict=True)):
        if unit.block is not None:
            views = decoder.block_linears(unit.block)
            weights = [views[name].get() for name in units.linears[unit.name]]
        elif unit.kind == "head":
            weights = [decoder.tail.weight]
        else:
            tables = decoder.embedding_weights()
            weights = [tables[name] for name in decoder.token_embedding_names]
        for c, choice in enumerate(row):
            if choice is None or choice.scheme == FP:
                continue
            parsed = parse_scheme(choice.scheme)
            for weight in weights:
                change = round_weight(weight.float(), parsed, stream=unit.name) - weight.float()
                found[u, c] += float(change.double().square().sum())
    kept = Observations(experiment="screen", version=1, arrays={"errors": found}, facts={})
    bench.store.put_observations(key, kept)
    return found
