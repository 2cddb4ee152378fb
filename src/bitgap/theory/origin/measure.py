"""What the original study rounded and kept, scored on a model: the part that sees a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bitgap.models
from bitgap.errors import UserError
from bitgap.lab.activations import Activations
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import kurtoses, pooled_raw_statistics, relative_errors
from bitgap.languages import language
from bitgap.models.gauge import gauge_fixed_log_variance
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import RoundToNearest, parse_scheme
from bitgap.records import Floats, Integers, Scores
from bitgap.stats.similarity import cosine_matrix, separation, without_common
from bitgap.theory.origin.ledger import Ledger, families_claimed, judge_case
from bitgap.theory.origin.readings import Case, Measure, Readings
from bitgap.theory.origin.regression import RegressionRow
from bitgap.theory.origin.setup import (
    MAGNITUDE_SHARE,
    ORIGIN_SCHEME,
    ORIGIN_SCHEME_8,
    RANDOM_DRAWS,
    RANDOM_SHARE,
    SETS,
    blocks_of,
)

Blocks = dict[int, dict[str, Tensor]]
"""Parameters that replace a block's own, by block and name."""
States = NDArray[np.floating[Any]]
"""Sentence means, (L+1 x A x N x d)."""
OUTLIER_SD = 3.0
"""Standard deviations of a block's output beyond which an entry is an outlier; the origin printed
no definition, and counts weights so in another place."""
_COMPONENTS = 3
_CARD = Path(bitgap.models.__file__).parent / "reference" / "card.md"
_BUNDLED = "reference"
SENTENCES, TRIPLE_SENTENCES = 16, 8
"""First sentences that are scored; all triples take fewer, since there are many."""


def block_plans(scheme: str, n_blocks: int) -> dict[str, Plan]:
    """Returns the plans of every set that protects whole blocks, by name.

    With it ``int8``: the triple's blocks at 8 bits of the same grain, where the scheme has one.
    """
    names = [*SETS, "even", "odd", *(f"only-{block}" for block in range(n_blocks))]
    plans = {
        name: Plan.uniform(scheme, n_blocks, protect=blocks_of(name, n_blocks)) for name in names
    }
    if (eight := _eight_bits(scheme)) is not None:
        none = plans["none"]
        kept = blocks_of("triple", n_blocks)
        mixed = tuple(eight if i in kept else s for i, s in enumerate(none.blocks))
        plans["int8"] = replace(none, blocks=mixed)
    return plans


def _eight_bits(scheme: str) -> str | None:
    if scheme == ORIGIN_SCHEME:
        return ORIGIN_SCHEME_8
    parsed = parse_scheme(scheme)
    return replace(parsed, bits=8).name if isinstance(parsed, RoundToNearest) else None


def triple_plans(scheme: str, n_blocks: int) -> dict[str, Plan]:
    """Returns the plans of all sets of as many blocks as the triple has, by ``a+b+c``."""
    size = len(blocks_of("triple", n_blocks))
    return {
        "+".join(map(str, kept)): Plan.uniform(scheme, n_blocks, protect=kept)
        for kept in combinations(range(n_blocks), size)
    }


def ends_plans(n_blocks: int) -> dict[str, Plan]:
    """Returns the origin's plan with the embedding (and a head tied to it) kept, by name."""
    base = Plan.uniform(ORIGIN_SCHEME, n_blocks)
    return {"embeddings": replace(base, embedding="fp", head="fp")}


def score_variants(lab: Lab, *, draws: int = RANDOM_DRAWS) -> dict[str, Scores]:
    """Returns the scores of what the origin protected by weight, by name.

    ``biases`` (rounded too), ``random-<draw>``, ``magnitude``, ``mlp-<block>``,
    ``attention-<block>``; a name is left out where the model has no such thing. Embedding, head and
    norm gains are rounded in all of them.

    Args:
        lab: Model and text; its bank holds one kind of variant at a time.
        draws: Of random weights.
    """
    n = lab.n_blocks
    base = Plan.uniform(ORIGIN_SCHEME, n)
    out: dict[str, Scores] = {}
    for name, linears, others in _variants(lab, draws):
        variant = lab.bank.add(name, linears, others)
        if name in ("mlp", "attention"):
            plans = {f"{name}-{i}": _with(base, {i: variant}) for i in range(n)}
        else:
            plans = {name: _with(base, dict.fromkeys(range(n), variant))}
        try:
            scores = lab.score(list(plans.values()), "replication")
        finally:
            lab.bank.drop(variant)
        out |= {key: scores.select(plans=[plan.text]) for key, plan in plans.items()}
    return out


def _with(base: Plan, schemes: Mapping[int, str]) -> Plan:
    return replace(base, blocks=tuple(schemes.get(i, s) for i, s in enumerate(base.blocks)))


def _variants(lab: Lab, draws: int) -> Iterator[tuple[str, Blocks, Blocks]]:
    """Yields (name, linears, other parameters) of every block, one kind of protection at a time."""
    linears, gains, biases = rounded_parameters(lab)
    if any(biases.values()):
        yield "biases", linears, {i: gains[i] | biases[i] for i in linears}
    for draw in range(draws):
        yield f"random-{draw}", _random_kept(lab, linears, lab.settings.seed + draw), gains
    yield "magnitude", _kept(lab, linears, lambda i, name, weight: _largest(weight)), gains
    for half in ("mlp", "attention"):
        kept = {
            i: {
                name: view.get() if _is_attention(name) == (half == "attention") else rounded[name]
                for name, view in lab.decoder.block_linears(i).items()
            }
            for i, rounded in linears.items()
        }
        yield half, kept, gains


def rounded_parameters(lab: Lab) -> tuple[Blocks, Blocks, Blocks]:
    """Returns every block's linears (out x in), other weights and biases under the origin's scheme.

    Linears by their names, the others by those of the parameters, as stored.
    """
    linears: Blocks = {}
    gains: Blocks = {}
    biases: Blocks = {}
    for i, block in enumerate(lab.decoder.blocks):
        views = lab.decoder.block_linears(i)
        linears[i] = {
            name: round_weight(view.get(), ORIGIN_SCHEME, stream=name)
            for name, view in views.items()
        }
        matrices = {f"{name}.weight" for name in views}
        rest = {
            name: round_weight(parameter.detach(), ORIGIN_SCHEME, stream=name)
            for name, parameter in block.named_parameters()
            if name not in matrices
        }
        gains[i] = {name: value for name, value in rest.items() if name.endswith("weight")}
        biases[i] = {name: value for name, value in rest.items() if name not in gains[i]}
    return linears, gains, biases


def _is_attention(linear: str) -> bool:
    return any("att" in part for part in linear.lower().split("."))


def _kept(lab: Lab, linears: Blocks, mask: Callable[[int, str, Tensor], Tensor]) -> Blocks:
    """Returns the linears with some weights put back to what they were."""
    return {
        i: {
            name: torch.where(mask(i, name, view.get()), view.get(), linears[i][name])
            for name, view in lab.decoder.block_linears(i).items()
        }
        for i in linears
    }


def _random_kept(lab: Lab, linears: Blocks, seed: int) -> Blocks:

    generator = torch.Generator().manual_seed(seed)

    def mask(i: int, name: str, weight: Tensor) -> Tensor:
        # Drawn on the CPU, so that every device keeps the same weights.
        return (torch.rand(weight.shape, generator=generator) < RANDOM_SHARE).to(weight.device)

    return _kept(lab, linears, mask)


def _largest(weight: Tensor) -> Tensor:
    """Returns which weights are among the largest, of each matrix by itself."""
    size = weight.abs().flatten()
    n_small = max(1, round((1 - MAGNITUDE_SHARE) * size.numel()))
    return weight.abs() > size.kthvalue(n_small).values


def merged(parts: Sequence[tuple[Sequence[str], Scores]]) -> Scores:
    """Returns several scores of one text as one, its plans called by the names given.

    Args:
        parts: Names and scores, a name for each plan.
    """
    first, together = parts[0][1], [scores for _, scores in parts]
    one_floor = len({s.floor_nats for s in together}) == 1 and not any(
        s.floors_nats is not None for s in together
    )
    return replace(
        first,
        floor_nats=max(s.floor_nats for s in together),
        # Light plans are scored in another arithmetic, and so may a part be that has only such.
        floors_nats=None if one_floor else np.concatenate([s.floor_by_plan for s in together]),
        plans=tuple(name for names, _ in parts for name in names),
        nll_nats=np.concatenate([scores.nll_nats for scores in together]),
        kl_nats=np.concatenate([scores.kl_nats for scores in together]),
    )


def score_named(lab: Lab, plans: Mapping[str, Plan]) -> Scores:
    """Returns scores with the names in the place of plans; two names may be one plan."""
    scores = lab.score(list(plans.values()), "replication")
    return merged([(list(plans), scores.select(plans=[plan.text for plan in plans.values()]))])


def score_origin(
    lab: Lab, scheme: str, *, triple_sentences: int, draws: int, only_blocks: bool
) -> dict[str, Scores]:
    """Scores all that the claims need, on a model; arguments as for :func:`case_of`.

    Returns:
        ``origin``, in scope and scheme of the original study, and ``here``, block linears at the
        operating point, plans called by their names; and unless only blocks are asked for, on fewer
        sentences every set of three in both ways, ``origin_triples`` and ``here_triples``.
    """
    n = lab.n_blocks
    named, ends = block_plans(ORIGIN_SCHEME, n), ends_plans(n)
    scored = [(list(named), score_named(lab, named))]
    here = score_named(lab, block_plans(scheme, n))
    if only_blocks:
        return {"origin": scored[0][1], "here": here}
    scored.append((list(ends), score_named(lab, ends)))
    scored += [((name,), scores) for name, scores in score_variants(lab, draws=draws).items()]
    few = lab.spread(triple_sentences)
    return {
        "origin": merged(scored),
        "here": here,
        "origin_triples": score_named(few, triple_plans(ORIGIN_SCHEME, n)),
        "here_triples": score_named(few, triple_plans(scheme, n)),
    }


def case_of(
    lab: Lab, scheme: str, *, triple_sentences: int, draws: int, only_blocks: bool = False
) -> Case:
    """Measures a model.

    Args:
        lab: Model and text.
        scheme: The operating point.
        triple_sentences: First sentences on which all triples are ranked.
        draws: Of random weights.
        only_blocks: Leave out what claims about other families do not need.
    """
    scores = score_origin(
        lab, scheme, triple_sentences=triple_sentences, draws=draws, only_blocks=only_blocks
    )
    activations = lab.activations()
    return Case(
        model=lab.info,
        scheme=scheme,
        **{name: Readings(one) for name, one in scores.items()},
        profiles=weight_profiles(lab, scheme),
        tails=tails_of(activations, lab.text.counts.tokens.shape),
        alignment=alignments(lab, np.asarray(activations.pooled)),
        resources=resources_of(lab),
    )


def weight_profiles(lab: Lab, scheme: str) -> dict[str, Floats]:
    """Returns the profiles of weights that claims are about, (L) each."""
    out = {**pooled_raw_statistics(lab.decoder), "kurtosis": kurtoses(lab.decoder)}
    out["snr_original"] = _decibels(relative_errors(lab.decoder, ORIGIN_SCHEME, pooled=True))
    out["snr_disparity"] = _decibels(relative_errors(lab.decoder, scheme))
    try:
        out["log_variance_fixed"] = gauge_fixed_log_variance(lab.decoder)
    except UserError:
        pass  # a gain that cannot be told apart; the claim then says that it was not measured
    return out


def _decibels(error: Floats) -> Floats:
    return -10 * np.log10(np.maximum(error, np.finfo(np.float64).tiny))


def tails_of(activations: Activations, shape: tuple[int, ...]) -> dict[Measure, Floats]:
    """Returns sums over the entries of sampled block outputs, (L x A x N x 6).

    How many, their first four powers, and how many are outliers of that block's output.

    Args:
        activations: Of one full-precision pass.
        shape: Languages and sentences, (A, N).
    """
    n_blocks = len(activations.count) - 2
    out: dict[Measure, Floats] = {}
    kinds: dict[Measure, bool] = {"original": True, "disparity": False}
    for measure, whole in kinds.items():
        sums = np.zeros((n_blocks, *shape, 6))
        for block in range(n_blocks):
            rows, states = activations.at(block + 1, sinks=whole, massive=whole)
            far = np.abs(states - states.mean()) > OUTLIER_SD * states.std()
            square = states * states
            n = np.full(len(states), float(states.shape[1]))
            # Products, since powers of arrays are slow.
            third, fourth = (square * states).sum(1), (square * square).sum(1)
            sums_of = [n, states.sum(1), square.sum(1), third, fourth, far.sum(1)]
            per_token = np.stack(sums_of, axis=1)
            places = (activations.language[rows], activations.sentence[rows])
            np.add.at(sums[block], places, per_token)
        out[measure] = sums
    return out


def alignments(lab: Lab, states: States) -> dict[Measure, Floats]:
    """Returns how near each other language comes to the reference, mean over blocks, (A−1).

    The raw cosine of parallel sentences, as the origin had it; and d′ between parallel and other
    sentences once each language's mean and top components are gone. Empty where too few sentences
    are left to fit or to test.
    """
    fitted, tested = lab.corpus.split_of(lab.text.kept)
    if len(fitted) < 2 or len(tested) < 2:
        return {}
    return {
        "original": _mean_over_blocks(states, tested, None),
        "disparity": _mean_over_blocks(states, tested, fitted),
    }


def _mean_over_blocks(states: States, tested: Integers, fitted: Integers | None) -> Floats:
    out = np.zeros((len(states) - 1, states.shape[1] - 1))
    for depth, at in enumerate(states[1:].astype(np.float64)):
        rows = at[:, tested]
        if fitted is not None:
            pairs = zip(rows, at[:, fitted], strict=True)
            rows = np.stack([without_common(x, c, _COMPONENTS) for x, c in pairs])
        for a in range(1, len(rows)):
            cosine = cosine_matrix(rows[a], rows[0])
            found = np.diag(cosine) if fitted is None else separation(cosine)
            out[depth, a - 1] = np.nanmean(found)
    return out.mean(0)


def resources_of(lab: Lab) -> dict[str, float]:
    """Returns how much text the model saw of each language, as far as that is known.

    The log share of its training text for the bundled model, whose card says so; for any other the
    class of Joshi et al. 2020, 0 where it has none.
    """
    if lab.info.name == _BUNDLED and _CARD.exists():
        shares = training_shares(_CARD.read_text(encoding="utf-8"))
        if set(lab.languages) <= set(shares):
            return {code: float(np.log(shares[code])) for code in lab.languages}
    return {code: float(language(code).resource_class or 0) for code in lab.languages}


def training_shares(card: str) -> dict[str, float]:
    """Returns the percentages of a card's row ``data``, by language; empty where it has none."""
    rows = [line for line in card.splitlines() if line.startswith("| data")]
    if not rows:
        return {}
    listed = rows[0].rpartition(":")[2]
    return {
        code: float(share) for code, share in re.findall(r"\b([a-z]{2}) (\d+(?:\.\d+)?)", listed)
    }


def replicate(
    lab: Lab,
    scheme: str = "rtn4-g128",
    *,
    others: Mapping[str, Lab] | None = None,
    regression: RegressionRow | None = None,
    sentences: int = SENTENCES,
    triple_sentences: int = TRIPLE_SENTENCES,
    draws: int = RANDOM_DRAWS,
) -> Ledger:
    """Replays every claim of the origin on a model.

    Args:
        lab: Model and text; with a folder of GPT-2's own weights the origin's numbers themselves
            are tried.
        scheme: The model's operating point, block linears only.
        others: Labs of other families by family, for the claims about OPT, BLOOM and XGLM; the
            model at hand stands for its own.
        regression: The origin's regression as published, to be reported beside claim 15.
        sentences: First sentences to score.
        triple_sentences: First sentences on which all triples are ranked, at most as many.
        draws: Of random weights for claim 12.

    Raises:
        UsageError: If the scheme is unknown.
    """
    few = lab.spread(sentences)
    sizes: dict[str, Any] = {
        "triple_sentences": min(triple_sentences, sentences),
        "draws": draws,
    }
    case = case_of(few, scheme, **sizes)
    cases = {
        family: case_of(other.spread(sentences), scheme, only_blocks=True, **sizes)
        for family, other in (others or {}).items()
        if family != lab.info.family and family in families_claimed()
    }
    return judge_case(case, cases, regression)
