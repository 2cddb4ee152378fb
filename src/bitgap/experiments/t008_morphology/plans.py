"""The plans that T-008 scores, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import Cost
from bitgap.experiments.t008_morphology.causal import (
    one_block_plans,
)
from bitgap.lab.engine.tree import PlanTree


def _block_evaluations(n: int) -> int:
    # Every text once: the lab's own for the lens, shared with others; tagged sentences; pairs in
    # full precision and with each block alone rounded; agreement pairs again for the lens.
    rounded = PlanTree(one_block_plans("rtn4-g128", n)[1:]).work().block_evaluations
    return n + n + (n + rounded) + n


COST = Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 3 * (n + 1))
"""What the experiment costs on a model of L blocks."""
