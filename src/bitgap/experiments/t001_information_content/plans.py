"""The plans whose states T-001 compares, and what it costs."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.quant.plan import Plan


def plans(n_blocks: int, scheme: str) -> dict[str, list[Plan]]:
    """Returns full precision and all blocks rounded, whose states are streamed together."""
    return {"rounded": [Plan.uniform("fp", n_blocks), Plan.uniform(scheme, n_blocks)]}


COST = Cost.of(streamed=lambda n: plans(n, COST_SCHEME).values(), passes=1)
"""What the experiment costs on a model of L blocks."""
