"""The plans that T-006 scores, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import Cost
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, parse_scheme
from bitgap.quant.sets import only


def scored_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns ∅ (all rounded), the first and the last block rounded alone, then each block."""
    ends = {0, n_blocks - 1}
    pair = Plan(tuple(scheme if i in ends else "fp" for i in range(n_blocks)))
    blocks = Plan(tuple(scheme for _ in range(n_blocks)))
    return [blocks, pair, *(only(scheme, n_blocks, i) for i in range(n_blocks))]


def error_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns each block rounded alone, then the first and the last with clipped scales, if any."""
    clipped = clipped_form(scheme)
    ends = [only(clipped, n_blocks, i) for i in (0, n_blocks - 1)] if clipped else []
    return [*(only(scheme, n_blocks, i) for i in range(n_blocks)), *ends]


def _block_evaluations(n: int) -> int:
    scheme = "rtn4-g128"
    scored = scored_plans(scheme, n)
    streamed = [Plan.uniform("fp", n), *error_plans(scheme, n)]
    return sum(PlanTree(plans).work().block_evaluations for plans in (scored, streamed))


COST = Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 2 * n + 5)
"""What the experiment costs on a model of L blocks."""


def clipped_form(scheme: str) -> str | None:
    """Returns the scheme with scales clipped to the least squared error; None where none is."""
    parsed = parse_scheme(scheme)
    if isinstance(parsed, RoundToNearest) and parsed.clip == "absmax":
        return f"{parsed.name}-mse"
    return None
