"""The plans that T-003 scores, and what it costs."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.t003_language_distribution import Params
from bitgap.quant.plan import Plan


def plans(n_blocks: int, scheme: str) -> list[Plan]:
    """Returns all blocks rounded, then all but one, (L + 1), as T-002 and the map score them."""
    kept = [(), *((block,) for block in range(n_blocks))]
    return [Plan.uniform(scheme, n_blocks, blocks) for blocks in kept]


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores, which hangs on no parameter."""
    return [Asked(plans(n_blocks, scheme))]


COST = Cost.of(lambda n: [plans(n, COST_SCHEME)], passes=2)
"""What the experiment costs on a model of L blocks."""
