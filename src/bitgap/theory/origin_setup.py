"""The origin's setup on any model: its scheme, its protected sets as plans, its block numbers.

The origin rounded GPT-2's every ``*weight`` per tensor to 4 bits (scale max/7), tied embedding and
norm gains included, biases kept; ``seed4`` does so but for the final norm's gain, which the origin
kept in some runs. What it protected by weight, not by block (biases rounded too, random or large
weights kept, one half of a block kept), is added to the bank as a variant of every block, scored
and dropped.

Block numbers of a 12-block model go by relative depth as :func:`bitgap.layer_map.origin_set` takes
them: l becomes round(l L / 12), and the first and the last stay the first and the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, parse_scheme
from bitgap.records import ModelInfo, Scores
from bitgap.theory.origin_claims import N_LAYERS

if TYPE_CHECKING:
    from torch import Tensor

    from bitgap.lab.lab import Lab

ORIGIN_SCHEME, ORIGIN_SCHEME_8 = "seed4", "seed8"
RANDOM_SHARE, MAGNITUDE_SHARE = 0.114, 0.386
"""Weights that the origin kept, at random and by size."""
RANDOM_DRAWS = 3
SETS = {
    "none": (),
    "first": (0,),
    "last": (11,),
    "both": (0, 11),
    "consolidation": (9,),
    "2+11": (2, 11),
    "4+11": (4, 11),
    "8+11": (8, 11),
    "triple": (0, 9, 11),
    "quad": (0, 8, 9, 11),
    "4+6+11": (4, 6, 11),
}
"""The origin's protected sets, in blocks of a 12-block model."""

# What tells the origin's own checkpoints: architecture, vocabulary, blocks and width. No other
# published model of that shape is known; a model trained anew in it would be taken for them, and
# its numbers would then be said not to come out again.
_OWN = {"gpt2": (50257, 12, 768), "opt": (50272, 12, 768)}

Blocks = dict[int, dict[str, "Tensor"]]


def is_origins_own(info: ModelInfo, family: str = "gpt2") -> bool:
    """Returns whether a model has the shape of the checkpoint that the origin used of a family."""
    shape = (info.vocabulary, info.n_blocks, info.width)
    return info.family == family and _OWN.get(family) == shape


def block_at(number: int, n_blocks: int) -> int:
    """Returns which block of a model of n stands where the origin's block of 12 stood."""
    if number == N_LAYERS - 1:
        return n_blocks - 1
    return min(round(number * n_blocks / N_LAYERS), n_blocks - 1)


def blocks_of(name: str, n_blocks: int) -> tuple[int, ...]:
    """Returns the blocks that a set protects in a model of n, ascending.

    Args:
        name: One of :data:`SETS`, ``even``, ``odd`` or ``only-<block>``.
        n_blocks: L.
    """
    if name in ("even", "odd"):
        return tuple(range(int(name == "odd"), n_blocks, 2))
    if name.startswith("only-"):
        return (int(name.removeprefix("only-")),)
    return tuple(sorted({block_at(number, n_blocks) for number in SETS[name]}))


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


# -- protection by weight -------------------------------------------------------------------------


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
    from bitgap.quant.rounding import round_weight

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
    import torch

    return {
        i: {
            name: torch.where(mask(i, name, view.get()), view.get(), linears[i][name])
            for name, view in lab.decoder.block_linears(i).items()
        }
        for i in linears
    }


def _random_kept(lab: Lab, linears: Blocks, seed: int) -> Blocks:
    import torch

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


# -- all of it ------------------------------------------------------------------------------------


def merged(parts: Sequence[tuple[Sequence[str], Scores]]) -> Scores:
    """Returns several scores of one text as one, its plans called by the names given.

    Args:
        parts: Names and scores, a name for each plan.
    """
    first = parts[0][1]
    return replace(
        first,
        plans=tuple(name for names, _ in parts for name in names),
        nll_nats=np.concatenate([scores.nll_nats for _, scores in parts]),
        kl_nats=np.concatenate([scores.kl_nats for _, scores in parts]),
    )


def score_named(lab: Lab, plans: Mapping[str, Plan]) -> Scores:
    """Returns scores with the names in the place of plans; two names may be one plan."""
    scores = lab.score(list(plans.values()), "replication")
    return merged([(list(plans), scores.select(plans=[plan.text for plan in plans.values()]))])


@dataclass(frozen=True, slots=True)
class OriginScores:
    """A model's scores under the origin's plans, by name, and under ours.

    Attributes:
        origin: Scope and scheme of the origin.
        here: Block linears only, at the operating point.
        origin_triples: Every set of three, the origin's scope, on fewer sentences.
        here_triples: The same at the operating point.
    """

    origin: Scores
    here: Scores
    origin_triples: Scores | None = None
    here_triples: Scores | None = None


def score_origin(
    lab: Lab,
    scheme: str,
    *,
    triple_sentences: int,
    draws: int = RANDOM_DRAWS,
    only_blocks: bool = False,
) -> OriginScores:
    """Scores all that the claims need.

    Args:
        lab: Model and text.
        scheme: The operating point.
        triple_sentences: First sentences on which all triples are ranked.
        draws: Of random weights.
        only_blocks: Leave out triples and protection by weight, which claims about other families
            do not need.
    """
    n = lab.n_blocks
    mine, here = block_plans(ORIGIN_SCHEME, n), block_plans(scheme, n)
    scored = [(list(mine), score_named(lab, mine))]
    theirs = score_named(lab, here)
    if only_blocks:
        return OriginScores(scored[0][1], theirs)
    ends = ends_plans(n)
    scored.append((list(ends), score_named(lab, ends)))
    scored += [((name,), scores) for name, scores in score_variants(lab, draws=draws).items()]
    few = lab.first(triple_sentences)
    return OriginScores(
        merged(scored),
        theirs,
        score_named(few, triple_plans(ORIGIN_SCHEME, n)),
        score_named(few, triple_plans(scheme, n)),
    )
