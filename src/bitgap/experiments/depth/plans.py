"""The plans that depth scores, and what they cost."""

from __future__ import annotations

import math
from itertools import combinations

from bitgap.disparity.layer_map import LARGEST_FACTORIAL, make_design
from bitgap.experiments.depth import Params
from bitgap.experiments.protocol.experiment import Cost
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.sets import mask_of


def _complete(n_blocks: int, params: Params) -> bool:
    return params.complete and n_blocks <= LARGEST_FACTORIAL


def triples_of(n_blocks: int) -> list[int]:
    """Returns the masks of all sets of three blocks."""
    return [mask_of(triple) for triple in combinations(range(n_blocks), 3)]


def _requests(n: int) -> list[list[Plan]]:
    """Returns the plans of each part that is scored, full precision left out."""
    params, scheme = Params(), "rtn4-g128"
    asked = [make_design(n, complete=_complete(n, params)).plans(scheme)]
    if not _complete(n, params) and math.comb(n, 3) <= params.most_triples:
        asked.append(mask_plans(scheme, n, triples_of(n)))
    return [[plan for plan in plans if not plan.is_full_precision] for plans in asked]


COST = Cost(
    block_evaluations=lambda n: sum(
        PlanTree(plans).work().block_evaluations for plans in _requests(n)
    ),
    head_evaluations=lambda n: sum(map(len, _requests(n))),
    of_map=True,
)
"""What the experiment costs on a model of L blocks."""
