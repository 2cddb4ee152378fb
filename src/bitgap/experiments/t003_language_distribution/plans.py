"""The plans that T-003 scores, and what it costs."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.quant.plan import Plan


def plans(n_blocks: int, scheme: str) -> list[Plan]:
    """Returns all blocks rounded, then all but one, (L + 1), as T-002 and the map score them."""
    kept = [(), *((block,) for block in range(n_blocks))]
    return [Plan.uniform(scheme, n_blocks, blocks) for blocks in kept]


COST = Cost.of(lambda n: [plans(n, COST_SCHEME)], passes=2)
"""What the experiment costs on a model of L blocks."""
