"""The plans that synergy scores, and what they cost."""

from __future__ import annotations

from bitgap.disparity.layer_map import LARGEST_FACTORIAL, make_design
from bitgap.experiments.protocol.experiment import Cost
from bitgap.experiments.synergy import Params
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan, mask_plans
from bitgap.stats.interactions import corner_masks, sample_backgrounds


def _complete(n_blocks: int, params: Params) -> bool:
    return params.complete and n_blocks <= LARGEST_FACTORIAL


def _corners(n_blocks: int, twins: int, seed: int) -> list[int]:
    """Returns the masks of the pair's corners at random backgrounds, four a background."""
    pair = (0, n_blocks - 1)
    backgrounds = sample_backgrounds(n_blocks, pair, twins, seed)
    return [mask for corners in corner_masks(backgrounds, pair) for mask in corners]


def _requests(n: int) -> list[list[Plan]]:
    """Returns the plans of each part that is scored, full precision left out."""
    params, scheme = Params(), "rtn4-g128"
    asked = [make_design(n, complete=_complete(n, params)).plans(scheme)]
    if not _complete(n, params):
        asked.append(mask_plans(scheme, n, _corners(n, params.background_twins, 0)))
    return [[plan for plan in plans if not plan.is_full_precision] for plans in asked]


COST = Cost(
    block_evaluations=lambda n: sum(
        PlanTree(plans).work().block_evaluations for plans in _requests(n)
    ),
    head_evaluations=lambda n: sum(map(len, _requests(n))),
    of_map=True,
)
"""What the experiment costs on a model of L blocks."""
