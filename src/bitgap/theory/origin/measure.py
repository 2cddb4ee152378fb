"""What the original study rounded and kept, scored on a model: the part that sees a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import RoundToNearest, parse_scheme
from bitgap.records import Scores
from bitgap.theory.origin.setup import (
    MAGNITUDE_SHARE,
    ORIGIN_SCHEME,
    ORIGIN_SCHEME_8,
    RANDOM_DRAWS,
    RANDOM_SHARE,
    SETS,
    blocks_of,
)

Blocks = dict[int, dict[str, "Tensor"]]


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
