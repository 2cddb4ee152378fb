"""A model rounded with error feedback, its text of calibration chosen: each language's, or all.

Block by block, as GPTQ's users do it: what enters each matrix of a block is gathered while the
blocks before it are rounded already (H = Σ x xᵀ, :mod:`bitgap.quant.gptq`), the block's matrices
are rounded, and the text goes on through the rounded block. Sentences stand one after the other in
sequences as long as the model takes, with the prefix in front, as calibrating tools have them.

Every text of calibration has the same number of tokens, those of the language that has fewest, so
that no language calibrates better for being longer. The sentences that calibrate are of other
documents than those on which damage is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from bitgap.disparity.calibration import MIXTURE, Calibrated, Calibration, make_calibration
from bitgap.errors import PlanError, UsageError
from bitgap.lab.bench import Bench, products_round
from bitgap.lab.engine.arithmetic import float32_results, products
from bitgap.lab.engine.budget import Preflight
from bitgap.lab.engine.text import TokenizedText, cut_rows
from bitgap.lab.linear_inputs import watching
from bitgap.lab.scores import score, text_reference
from bitgap.lab.store import assemble, content_key
from bitgap.protect.split import Split, split_sentences
from bitgap.quant.gptq import DAMPING, feedback_factor, round_by_factor
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, parse_scheme
from bitgap.records import Scores

VERSION = 1
"""Raised whenever the same text would round a model otherwise."""
TOKENS = 16_384
"""Tokens of a text of calibration, at most, where nothing else is asked for."""
_LONGEST = 2048
"""Tokens of a sequence, at most, as GPTQ's authors have it."""
_MOST_BITS = 8
_FACTOR_COST = 4
"""Multiplications of a factor, in cubes of its inputs: two Cholesky factors and an inverse, in
float64, which takes twice the time."""


B = TypeVar("B", bound=Bench)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which calibrations of a model are to be compared."""

    scheme: str = "rtn4-g128"
    """Levels and groups; an ``rtn`` scheme."""
    tokens: int = TOKENS
    """Of each text of calibration, at most."""
    damping: float = DAMPING
    """As :func:`bitgap.quant.gptq.round_gptq` takes it."""
    sentences: int | None = None
    """Sentences that damage is measured on, spread over those that may be; all when None."""


@dataclass(frozen=True, slots=True)
class Prepared(Generic[B]):
    """A comparison that can begin.

    Attributes:
        asked: What was asked.
        bench: Model and all the text.
        scored: The bench on the sentences that damage is measured on.
        split: Which sentences calibrate (``calibrate`` and ``search`` together), and which not.
        texts: Sequences of tokens of each text of calibration, by its name.
    """

    asked: Asked
    bench: B
    scored: B
    split: Split
    texts: Mapping[str, tuple[tuple[int, ...], ...]]

    @property
    def n_tokens(self) -> int:
        """Tokens of each text of calibration, without what stands before every sequence."""
        sequences, lead = self.texts[MIXTURE], len(self.bench.text.prefix.ids)
        return sum(len(sequence) - lead for sequence in sequences)


def prepare(bench: B, asked: Asked) -> Prepared[B]:
    """Splits the text and lays out what calibrates; measures nothing.

    Args:
        bench: Model and text.
        asked: What is to be compared.

    Raises:
        UsageError: If the scheme is rounded to no levels, or numbers cannot be.
        CorpusError: If there is too little text to calibrate on some and measure on the rest.
    """
    scheme = parse_scheme(asked.scheme)
    if not isinstance(scheme, RoundToNearest):
        raise UsageError(
            f"--scheme {scheme.name} has no levels that calibration could choose between; give a "
            f"scheme such as rtn4-g128"
        )
    if asked.tokens < 2 or asked.damping < 0:
        raise UsageError(
            f"{asked.tokens} tokens and a damping of {asked.damping:g} calibrate nothing; give 2 "
            f"tokens or more, and a damping of 0 or more"
        )
    units = len(bench.text.kept) if bench.documents is None else bench.documents
    split = split_sentences(units, bench.settings.seed)
    kept = bench.text.kept
    confirm = bench.on(sentences=[int(kept[i]) for i in split.confirm])
    rows = sorted((*split.calibrate, *split.search))
    longest = min(_LONGEST, bench.info.context or _LONGEST)
    texts = calibration_texts(bench.text, rows, asked.tokens, longest)
    return Prepared(asked, bench, confirm.spread(asked.sentences), split, texts)


def calibration_texts(
    text: TokenizedText, rows: Sequence[int], most: int, longest: int
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Returns the sequences of each text of calibration: each language's, then the mixture's.

    The mixture takes sentences in turn, each in another language, in the order of the languages.

    Args:
        text: All the text in tokens.
        rows: Which of its sentences calibrate.
        most: Tokens of a text, at most; fewer where some language has fewer.
        longest: Tokens of a sequence, the prefix included.

    Returns:
        Sequences by language, and under :data:`bitgap.disparity.calibration.MIXTURE`; all with the
        same number of tokens.
    """
    lead = len(text.prefix.ids)
    alone = [[ids[i][lead:] for i in rows] for ids in text.ids]
    n = len(alone)
    # Going round until each sentence was taken in each language, so that there is always enough.
    mixed = [alone[(i + shift) % n][i] for shift in range(n) for i in range(len(rows))]
    streams = [[token for sentence in one for token in sentence] for one in (*alone, mixed)]
    size = min(most, *map(len, streams))
    step = max(1, longest - lead)
    return {
        name: tuple((*text.prefix.ids, *stream[at : at + step][: size - at])
                    for at in range(0, size, step))
        for name, stream in zip((*text.languages, MIXTURE), streams, strict=True)
    }  # fmt: skip


def foresee(prepared: Prepared[Any]) -> Preflight:
    """Returns what the comparison would cost; measures this machine for a moment."""
    bench, scored = prepared.bench, prepared.scored
    plan_of = {name: _known_plan(prepared, name) for name in prepared.texts}
    todo = [name for name, plan in plan_of.items() if plan is None]
    # What they are called does not matter here, so long as they are different.
    stand_ins = [_uniform(scored, f"own:{_label(name)}:{'0' * 12}") for name in todo]
    known = [plan for plan in plan_of.values() if plan is not None]
    plans = [*stand_ins, *known, *_rounded_to_nearest(prepared)]
    cost = scored.preflight(plans)
    rounding_s = len(todo) * _rounding_s(bench, prepared.n_tokens)
    return replace(cost, time_s=cost.time_s + rounding_s)


def _rounding_s(bench: Bench, n_tokens: int) -> float:
    """Returns what rounding a model by one text is foreseen to take, in seconds.

    The text goes through every block twice; H, its factor and the columns of each matrix come
    beside it, by as many multiplications a second as blocks are run with.
    """
    shapes = [view.shape for view in bench.decoder.block_linears(0).values()]
    weights = sum(n_out * n_in for n_out, n_in in shapes)
    beside = sum(n_in**2 * (n_tokens + _FACTOR_COST * n_in + n_out) for n_out, n_in in shapes)
    rows = 2 * n_tokens + beside / weights
    return rows * bench.n_blocks * bench.measured_rates().block_s


def compare_calibrations(prepared: Prepared[Any]) -> Calibration:
    """Rounds the model by every text, measures what each does to each language, and compares.

    What was measured is kept in the store as each text is done, and is not measured again.

    Args:
        prepared: Of :func:`prepare`.

    Raises:
        UnsupportedArchitecture: If a matrix sees some tokens and not others, as experts do.
        ModelError: If what enters a matrix is not finite.
        StoreError: If the store cannot be written.
    """
    scored, nearest = prepared.scored, _rounded_to_nearest(prepared)
    score(scored, nearest, "to nearest")
    plans = [_known_plan(prepared, name) or _measured(prepared, name) for name in prepared.texts]
    scores = _all_scores(scored, [*plans, *nearest])
    return make_calibration(
        scores,
        Calibrated(
            scheme=parse_scheme(prepared.asked.scheme).name,
            plans=dict(zip(prepared.texts, (plan.text for plan in plans), strict=True)),
            nearest=nearest[0].text,
            finer=nearest[1].text if len(nearest) > 1 else None,
            n_tokens=prepared.n_tokens,
            n_sentences=len(prepared.split.calibrate) + len(prepared.split.search),
            damping=prepared.asked.damping,
        ),
        seed=scored.settings.seed,
    )


def rounded_by_text(
    bench: Bench, sequences: Sequence[tuple[int, ...]], scheme: str, damping: float = DAMPING
) -> dict[int, dict[str, Tensor]]:
    """Returns every block's matrices, rounded with error feedback on a text.

    Args:
        bench: Of the model; its bank and its own text are left alone.
        sequences: Tokens of the text, each no longer than the model takes.
        scheme: An ``rtn`` scheme.
        damping: As :func:`bitgap.quant.gptq.round_gptq` takes it.

    Returns:
        By block, matrices (out x in) by name, float32.

    Raises:
        UnsupportedArchitecture: If a matrix sees some tokens and not others.
        ModelError: If what enters a matrix is not finite.
    """
    decoder, device = bench.decoder, bench.settings.device
    chunks = cut_rows(sequences, bench.engine.layout.chunk_rows, device)
    with torch.inference_mode(), products(bench.settings.arithmetic, device):
        states = [decoder.embed_with(chunk.input_ids, {}) for chunk in chunks]
    found: dict[int, dict[str, Tensor]] = {}
    for block in range(decoder.n_blocks):
        sums = _Hessians()
        with watching(decoder, [block], sums.see):
            for chunk, state in zip(chunks, states, strict=True):
                sums.enter(chunk.lengths, chunk.shape[1])
                with torch.inference_mode(), products(bench.settings.arithmetic, device):
                    decoder.run_block(block, state, decoder.context_for(*chunk.shape))
        views = decoder.block_linears(block)
        with torch.no_grad():
            found[block] = {
                name: round_by_factor(view.get().float(), sums.factor(name, damping), scheme)
                for name, view in views.items()
            }
            module = decoder.clone_block(block, linears=found[block])
        for i, chunk in enumerate(chunks):
            with torch.inference_mode(), products(bench.settings.arithmetic, device):
                states[i] = decoder.run_block(
                    block, states[i], decoder.context_for(*chunk.shape), module
                )
        if bench.rates:
            bench.progress.advance(_rounding_s(bench, sum(map(len, sequences))) / bench.n_blocks)
        bench.ledger.ran(2 * sum(chunk.n_rows for chunk in chunks))
    return found


class _Hessians:
    """H of every matrix of one block; matrices that are given the same inputs share one."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}
        self._same: dict[str, str] = {}
        self._last: tuple[str, Tensor] | None = None

    def enter(self, lengths: Any, width: int) -> None:
        """Notes which tokens of the batch that comes are no padding."""
        real = np.arange(width)[None, :] < np.asarray(lengths)[:, None]
        self._real, self._last = torch.from_numpy(real.reshape(-1)), None

    def see(self, block: int, name: str, inputs: Tensor) -> None:
        """Adds what enters one matrix."""
        owner = self._owner(name, inputs)
        if owner != name:
            return
        rows = inputs.reshape(-1, inputs.shape[-1])
        if len(rows) != len(self._real):
            raise PlanError(
                f"matrix {name!r} of block {block} was given {len(rows)} of {len(self._real)} "
                f"tokens; error feedback takes matrices that see all"
            )
        rows = rows[self._real.to(rows.device)].float()
        with float32_results(str(rows.device)):
            product = rows.T @ rows
        self._sums[name] = self._sums[name] + product.double() if name in self._sums else (
            product.double()
        )  # fmt: skip

    def factor(self, name: str, damping: float) -> Tensor:
        """Returns by what errors of a matrix are carried on, made once for all of one H."""
        owner = self._same.get(name, name)
        if owner not in self._factors:
            self._factors[owner] = feedback_factor(self._sums.pop(owner), damping)
        return self._factors[owner]

    def _owner(self, name: str, inputs: Tensor) -> str:
        """Returns the matrix whose H is this one's too: the last one, where the inputs are its."""
        if self._last is not None:
            owner, seen = self._last
            # The last inputs are held, so that their memory is nobody else's.
            if inputs.data_ptr() == seen.data_ptr() and inputs.shape == seen.shape:
                self._same.setdefault(name, owner)
                return owner
        self._last = name, inputs
        return name


# -- what is kept ----------------------------------------------------------------------------------


def _label(name: str) -> str:
    return f"gptq-{name}"


def _uniform(bench: Bench, scheme: str) -> Plan:
    return Plan.uniform(scheme, bench.n_blocks)


def _rounded_to_nearest(prepared: Prepared[Any]) -> list[Plan]:
    """Returns the plans without calibration: the scheme itself, and with one bit more."""
    scheme = parse_scheme(prepared.asked.scheme)
    assert isinstance(scheme, RoundToNearest)
    finer = [scheme.bits + 1] if scheme.bits < _MOST_BITS else []
    schemes = [replace(scheme, bits=bits).name for bits in (scheme.bits, *finer)]
    return [_uniform(prepared.scored, one) for one in schemes]


def _key(prepared: Prepared[Any], name: str) -> str:
    """Returns what the plan of a text is known by: all that its weights hang on."""
    bench, asked = prepared.bench, prepared.asked
    rounds = products_round(bench.settings)
    return content_key(
        "calibrated", VERSION, bench.info.fingerprint, prepared.texts[name], asked.damping,
        parse_scheme(asked.scheme).name, rounds, name,
    )  # fmt: skip


def _known_plan(prepared: Prepared[Any], name: str) -> Plan | None:
    """Returns the plan of a text whose weights were made and measured before."""
    learned, scored = prepared.bench.store.learned(_key(prepared, name)), prepared.scored
    if learned is None:
        return None
    plan = _uniform(scored, learned["scheme"])
    is_scored = scored.score_key(plan) in scored.store.known_scores(scored.text_key)
    return plan if is_scored else None


def _measured(prepared: Prepared[Any], name: str) -> Plan:
    """Rounds a model by one text, measures it, and gives the weights back."""
    bench, scored, asked = prepared.bench, prepared.scored, prepared.asked
    bench.progress.start(f"calibrating on {name}", _rounding_s(bench, prepared.n_tokens))
    try:
        weights = rounded_by_text(bench, prepared.texts[name], asked.scheme, asked.damping)
    finally:
        bench.progress.stop()
    scheme = scored.bank.add(_label(name), weights)
    plan = _uniform(scored, scheme)
    try:
        score(scored, [plan], name)
    finally:
        scored.bank.drop(scheme)
        scored.engine.forget(scheme)
    # After the scores: what is learned without them is measured again.
    bench.store.learn(_key(prepared, name), {"scheme": scheme})
    return plan


def _all_scores(scored: Bench, plans: Sequence[Plan]) -> Scores:
    """Returns the stored scores of plans whose weights are no longer held."""
    facts, arrays = text_reference(scored)
    return assemble(
        scored.store, scored.score_key, plans, facts, arrays, scored.settings.arithmetic
    )
