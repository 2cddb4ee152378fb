"""The plans that synergy scores, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.synergy import FEWEST_BLOCKS, Params
from bitgap.quant.plan import Plan, mask_plans
from bitgap.stats.interactions import end_corners
from bitgap.stats.mask_design import Design


def cell_masks(n_blocks: int) -> tuple[int, ...]:
    """Returns the masks of nothing, block 0, the last block, and both."""
    return end_corners(n_blocks, (0, n_blocks - 1))[0]


def far_masks(n_blocks: int) -> tuple[int, ...]:
    """Returns the same with all other blocks protected besides."""
    return end_corners(n_blocks, (0, n_blocks - 1))[1]


def design_of(n_blocks: int, params: Params, seed: int = 0) -> Design:
    """Returns the layer map's masks and the corners of both ends, which it may lack."""
    design = map_design(n_blocks, params, seed, pairs=params.pairs)
    if n_blocks < FEWEST_BLOCKS:
        return design
    masks = {*design.masks, *cell_masks(n_blocks), *far_masks(n_blocks)}
    return replace(design, masks=tuple(sorted(masks)))


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, Sequence[Plan]]:
    """Returns the plans of every part: ``map``, and ``cells`` and ``far``, which are of it.

    ``far`` ends with the plan that rounds nothing.
    """
    parts: dict[str, Sequence[Plan]] = {"map": design_of(n_blocks, params, seed).plans(scheme)}
    if n_blocks >= FEWEST_BLOCKS:
        parts["cells"] = mask_plans(scheme, n_blocks, cell_masks(n_blocks))
        parts["far"] = mask_plans(scheme, n_blocks, far_masks(n_blocks))
    return parts


def _requests(n_blocks: int) -> list[Sequence[Plan]]:
    return [plans(n_blocks, COST_SCHEME, Params())["map"]]


COST = Cost.of(_requests, of_map=True)
"""What the experiment costs on a model of L blocks."""
