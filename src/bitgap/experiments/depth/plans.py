"""The plans that depth scores, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from bitgap.experiments.depth import Params
from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.protocol.masks import map_design
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.sets import mask_of
from bitgap.stats.mask_design import drawn_triples, original_set


def triples_of(n_blocks: int) -> list[int]:
    """Returns the masks of all sets of three blocks."""
    return [mask_of(triple) for triple in combinations(range(n_blocks), 3)]


def asked_triples(n_blocks: int) -> list[int]:
    """Returns the masks of the triples that are asked about: the ends with each block between."""
    return [mask_of((0, block, n_blocks - 1)) for block in range(1, n_blocks - 1)]


def ranked_triples(n_blocks: int, params: Params, seed: int = 0) -> list[int]:
    """Returns the triples that the origin's is ranked among, ascending, itself one of them.

    All of them, or a random sample; none where the rule names no three, or none are to be scored.
    """
    own, masks = mask_of(original_set(n_blocks)), triples_of(n_blocks)
    if len(original_set(n_blocks)) < 3:
        return []
    if len(masks) <= params.most_triples or _in_map(n_blocks, masks, params, seed):
        return sorted(masks)
    # In the layer map's order, so that those in its sample are scored once.
    others = [mask for mask in drawn_triples(n_blocks, seed) if mask != own]
    drawn = others[: params.sampled_triples]
    return sorted([own, *drawn]) if drawn else []


def _in_map(n_blocks: int, masks: Sequence[int], params: Params, seed: int) -> bool:
    return set(masks) <= set(map_design(n_blocks, params, seed).masks)


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, Sequence[Plan]]:
    """Returns the plans of every part.

    ``map``; ``base``, none and the ends; ``singles``, each block alone; and ``triples`` where they
    are scored, those of :func:`ranked_triples` and :func:`asked_triples`, ascending.
    """
    design = map_design(n_blocks, params, seed)
    singles = [1 << block for block in range(n_blocks)]
    parts: dict[str, Sequence[Plan]] = {
        "map": design.plans(scheme),
        "base": mask_plans(scheme, n_blocks, (0, mask_of((0, n_blocks - 1)))),
        "singles": mask_plans(scheme, n_blocks, singles),
    }
    if ranked := ranked_triples(n_blocks, params, seed):
        parts["triples"] = mask_plans(scheme, n_blocks, scored_triples(n_blocks, ranked))
    return parts


def scored_triples(n_blocks: int, ranked: Sequence[int]) -> list[int]:
    """Returns the triples that are ranked or asked about, ascending."""
    return sorted({*ranked, *asked_triples(n_blocks)})


def count_of(n_blocks: int) -> int:
    """Returns how many triples there are."""
    return math.comb(n_blocks, 3)


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores: the layer map's masks, then what it lacks."""
    design = map_design(n_blocks, params, seed)
    ranked = ranked_triples(n_blocks, params, seed)
    ends = [mask_of((0, n_blocks - 1))]
    also = [*ranked, *asked_triples(n_blocks)] if ranked else []
    held = set(design.masks)
    out = [Asked(of_map, params.map_sentences) for of_map in design.requests(scheme)]
    for masks in (ends, ranked, also):
        if new := sorted(set(masks) - held):
            out.append(Asked(mask_plans(scheme, n_blocks, new), params.map_sentences))
        held |= set(masks)
    return out


COST = Cost.of(
    lambda n: [request.plans for request in asked(n, COST_SCHEME, Params())], of_map=True
)
"""What the experiment costs on a model of L blocks."""
