"""The plans that T-004 scores, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import Cost
from bitgap.experiments.t004_residual_propagation.controls import masks, scored_sets
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan


def _block_evaluations(n: int) -> int:
    fp, scheme = Plan.uniform("fp", n), "rtn4-g128"
    scored = [Plan.uniform(scheme, n, kept) for kept in scored_sets(n, range(n - 1))]
    noisy = [Plan.uniform("noise0.05-s0", n, set(range(n)) - {j}) for j in range(n)]
    streams = ([fp], [fp, *masks(scheme, n, range(n - 1))], [fp, *noisy])
    return sum(PlanTree(plans).work().block_evaluations for plans in (scored, *streams))


COST = Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 2 * n)
"""What the experiment costs on a model of L blocks."""
