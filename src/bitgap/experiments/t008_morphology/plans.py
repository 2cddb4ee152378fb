"""The plans that T-008 scores pairs with, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.experiments.t008_morphology import Params
from bitgap.quant.plan import Plan


def plans(n_blocks: int, scheme: str) -> list[Plan]:
    """Returns full precision, then each block alone rounded."""
    alone = (Plan.only(scheme, n_blocks, block) for block in range(n_blocks))
    return [Plan.uniform("fp", n_blocks), *alone]


def sentences(params: Params) -> int:
    """Returns how many sentences the pairs are: two a pair, of agreement and of words alike."""
    return 4 * params.items


COST = Cost.of(
    lambda n: [plans(n, COST_SCHEME)],
    # Every text once: the lab's own for the lens, shared with others; tagged sentences; pairs in
    # full precision; agreement pairs again for the lens.
    passes=4,
    # Full precision's, and those of two lenses at every site.
    heads=lambda n: 1 + 2 * (n + 1),
    sentences=sentences(Params()),
)
"""What the experiment costs on a model of L blocks."""
