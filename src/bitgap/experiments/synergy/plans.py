"""The plans that synergy scores, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.synergy import FEWEST_BLOCKS, Params
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.sets import pairs_of
from bitgap.stats.interactions import end_corners
from bitgap.stats.mask_design import Design


def cell_masks(n_blocks: int) -> tuple[int, ...]:
    """Returns the masks of nothing, block 0, the last block, and both."""
    return end_corners(n_blocks, (0, n_blocks - 1))[0]


def far_masks(n_blocks: int) -> tuple[int, ...]:
    """Returns the same with all other blocks protected besides."""
    return end_corners(n_blocks, (0, n_blocks - 1))[1]


def design_of(n_blocks: int, params: Params, seed: int = 0) -> Design:
    """Returns the layer map's masks and those of pairs, which it may lack.

    The pairs are the two ends, those one block shorter, and a sample.
    """
    design = map_design(n_blocks, params, seed, pairs=params.pairs)
    if n_blocks < FEWEST_BLOCKS or design.paired:
        return design
    last = n_blocks - 1
    pairs = [(0, last), (0, last - 1), (1, last), *sampled_pairs(n_blocks, params, seed)]
    corners = {mask for pair in pairs for four in end_corners(n_blocks, pair) for mask in four}
    return replace(design, masks=tuple(sorted({*design.masks, *corners})))


def sampled_pairs(n_blocks: int, params: Params, seed: int = 0) -> list[tuple[int, int]]:
    """Returns random pairs that the ends are ranked among where not all pairs are scored.

    Args:
        n_blocks: L.
        params: With how many.
        seed: Of the sample; a smaller one begins a larger one.
    """
    others = [pair for pair in pairs_of(n_blocks) if pair != (0, n_blocks - 1)]
    order = np.random.default_rng([seed, n_blocks, 2]).permutation(len(others))
    return [others[int(i)] for i in order[: params.sampled_pairs]]


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, Sequence[Plan]]:
    """Returns the plans of every part: ``map``, and ``cells`` and ``far``, which are of it.

    ``far`` ends with the plan that rounds nothing.
    """
    parts: dict[str, Sequence[Plan]] = {"map": design_of(n_blocks, params, seed).plans(scheme)}
    if n_blocks >= FEWEST_BLOCKS:
        parts["cells"] = mask_plans(scheme, n_blocks, cell_masks(n_blocks))
        parts["far"] = mask_plans(scheme, n_blocks, far_masks(n_blocks))
    return parts


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores: the layer map's masks, then those that it lacks."""
    of_map = map_design(n_blocks, params, seed, pairs=params.pairs)
    out = [Asked(plans, params.map_sentences) for plans in of_map.requests(scheme)]
    lacks = sorted(set(design_of(n_blocks, params, seed).masks) - set(of_map.masks))
    ends = [mask for mask in lacks if mask in cell_masks(n_blocks)]
    for masks in (ends, [mask for mask in lacks if mask not in ends]):
        if masks:
            out.append(Asked(mask_plans(scheme, n_blocks, masks), params.map_sentences))
    return out


COST = Cost.of(
    lambda n: [request.plans for request in asked(n, COST_SCHEME, Params())], of_map=True
)
"""What the experiment costs on a model of L blocks."""
