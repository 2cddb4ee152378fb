"""The plans that T-001 scores, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import Cost
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan


def _block_evaluations(n: int) -> int:
    plans = [Plan.uniform("fp", n), Plan.uniform("rtn4-g128", n)]
    return n + PlanTree(plans).work().block_evaluations


COST = Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 0)
"""What the experiment costs on a model of L blocks."""
