"""The plans that depth scores, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from bitgap.experiments.depth import Params
from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.experiments.protocol.masks import map_design
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.sets import mask_of
from bitgap.stats.mask_design import original_set


def triples_of(n_blocks: int) -> list[int]:
    """Returns the masks of all sets of three blocks."""
    return [mask_of(triple) for triple in combinations(range(n_blocks), 3)]


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, Sequence[Plan]]:
    """Returns the plans of every part: ``map``, ``base``, and ``triples`` where they are scored.

    They are not where the origin's rule names no three, or they are too many beside a sampled map.
    """
    design, masks = map_design(n_blocks, params, seed), triples_of(n_blocks)
    ends = mask_plans(scheme, n_blocks, (0, mask_of((0, n_blocks - 1))))
    parts: dict[str, Sequence[Plan]] = {"map": design.plans(scheme), "base": ends}
    few = design.complete or len(masks) <= params.most_triples
    if few and len(original_set(n_blocks)) == 3:
        parts["triples"] = mask_plans(scheme, n_blocks, masks)
    return parts


def _requests(n_blocks: int) -> list[Sequence[Plan]]:
    parts = plans(n_blocks, COST_SCHEME, Params())
    if map_design(n_blocks, Params()).complete:
        return [parts["map"]]  # which holds the others
    return [parts["map"], parts.get("triples", ())]


COST = Cost.of(_requests, of_map=True)
"""What the experiment costs on a model of L blocks."""
