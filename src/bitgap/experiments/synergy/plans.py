"""The plans that synergy scores, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.synergy import FEWEST_BLOCKS, Params
from bitgap.quant.plan import Plan, mask_plans
from bitgap.stats.interactions import corner_masks, sample_backgrounds


def cell_masks(n_blocks: int) -> tuple[int, int, int, int]:
    """Returns the masks of nothing, block 0, the last block, and both."""
    last = 1 << (n_blocks - 1)
    return 0, 1, last, 1 | last


def corners(n_blocks: int, twins: int, seed: int) -> list[int]:
    """Returns the masks of the pair's corners at random backgrounds, four a background."""
    pair = (0, n_blocks - 1)
    backgrounds = sample_backgrounds(n_blocks, pair, twins, seed)
    return [mask for four in corner_masks(backgrounds, pair) for mask in four]


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, Sequence[Plan]]:
    """Returns the plans of every part: ``map``; ``cells``, of it; ``corners`` if it is a sample."""
    design = map_design(n_blocks, params, seed, pairs=True)
    parts: dict[str, Sequence[Plan]] = {"map": design.plans(scheme)}
    if n_blocks >= FEWEST_BLOCKS:
        parts["cells"] = mask_plans(scheme, n_blocks, cell_masks(n_blocks))
        if not design.complete:
            masks = corners(n_blocks, params.background_twins, seed)
            parts["corners"] = mask_plans(scheme, n_blocks, masks)
    return parts


def _requests(n_blocks: int) -> list[Sequence[Plan]]:
    parts = plans(n_blocks, COST_SCHEME, Params())
    return [requested for name, requested in parts.items() if name != "cells"]


COST = Cost.of(_requests, of_map=True)
"""What the experiment costs on a model of L blocks."""
