"""Which sets of protected layers are scored, and how Shapley values come from them.

Up to L = 14 blocks these are all 2^L sets. Above that, all masks of at most two layers and their
complements, plus the masks that random orders of the layers pass through, so that Shapley values
can be sampled. Pure numpy: what an experiment costs is told from here without a statistic.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.errors import UsageError
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Floats
from bitgap.stats.interactions import (
    chain_masks,
    pair_design,
    permutation_chains,
    sampled_shapley,
    shapley_values,
)

LARGEST_FACTORIAL = 14
"""Blocks up to which all masks are scored: 2^15 − 2 block evaluations."""
ORDER_PAIRS = 8
"""Pairs of antithetic layer orders sampled above that."""


@dataclass(frozen=True, slots=True)
class Design:
    """Which masks are scored, and how Shapley values come from them.

    Attributes:
        n_blocks: L.
        masks: Bit sets of protected layers, ascending.
        orders: Sampled orders; empty when the masks are all 2^L.
    """

    n_blocks: int
    masks: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether these are all masks."""
        return not self.orders

    def plans(self, scheme: str) -> tuple[Plan, ...]:
        """Returns the plan of every mask, in order.

        Raises:
            UsageError: If the scheme rounds nothing, so that all masks are one plan.
        """
        if scheme == "fp":
            raise UsageError(
                f"scheme {scheme!r} rounds nothing, so there is nothing to map; name one that "
                f"rounds, such as rtn4-g128"
            )
        return mask_plans(scheme, self.n_blocks, self.masks)

    def shapley(self, values: Floats) -> Floats:
        """Returns Shapley values (L x ...) of the values (masks x ...)."""
        if self.complete:
            return shapley_values(values)
        return sampled_shapley(dict(zip(self.masks, values, strict=True)), self.orders)


def make_design(n_blocks: int, *, seed: int = 0, complete: bool | None = None) -> Design:
    """Returns the masks to score on a model of L blocks.

    Args:
        n_blocks: L.
        seed: Of the sampled orders.
        complete: Whether to score all masks; by default when L is at most 14.

    Example:
        >>> make_design(3).masks
        (0, 1, 2, 3, 4, 5, 6, 7)
        >>> len(make_design(20).masks)
        660
    """
    if complete if complete is not None else n_blocks <= LARGEST_FACTORIAL:
        return Design(n_blocks, tuple(range(2**n_blocks)))
    orders = permutation_chains(n_blocks, ORDER_PAIRS, seed)
    masks = sorted({*pair_design(n_blocks), *chain_masks(orders)})
    return Design(n_blocks, tuple(masks), tuple(orders))


def original_set(n_blocks: int) -> list[int]:
    """Returns the layers that the origin protects, {0, round(.75 L), L−1}, ascending.

    Example:
        >>> original_set(12)
        [0, 9, 11]
    """
    return sorted({0, min(round(0.75 * n_blocks), n_blocks - 1), n_blocks - 1})
