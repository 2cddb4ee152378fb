"""Sets of blocks as bit masks and as plans: one address for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bitgap.quant.plan import Plan
from bitgap.records import Integers

if TYPE_CHECKING:
    pass


def layers_in(mask: int) -> tuple[int, ...]:
    """Returns the layers of a bit set, ascending."""
    return tuple(layer for layer in range(mask.bit_length()) if mask >> layer & 1)


def only(scheme: str, n_blocks: int, block: int) -> Plan:
    """Returns the plan that rounds one block and nothing else, ends included."""
    return Plan(tuple(scheme if i == block else "fp" for i in range(n_blocks)))


def noise_plans(n_blocks: int, sizes: Sequence[float], n_draws: int, seed: int) -> list[Plan]:
    """Returns the L·T·S plans that add noise to one block: block, size, draw.

    One list for all experiments, so that a store shares their scores.
    """
    draws = [f"noise{t}-s{seed + s}" for t in sizes for s in range(n_draws)]
    return [only(draw, n_blocks, j) for j in range(n_blocks) for draw in draws]


def layers_of(mask: int) -> list[int]:
    """Returns the layers in a bit set, ascending."""
    return [layer for layer in range(mask.bit_length()) if mask >> layer & 1]


def popcount(masks: Integers) -> Integers:
    """Returns how many layers each mask holds."""
    counts = np.zeros_like(masks)
    rest = masks.copy()
    while rest.any():
        counts += rest & 1
        rest >>= 1
    return counts


def pairs_of(n: int) -> list[tuple[int, int]]:
    """Returns the pairs (i, j), i < j, of n layers in order."""
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def mask_of(layers: Iterable[int]) -> int:
    """Returns the bit set of some layers."""
    return sum(1 << layer for layer in set(layers))
