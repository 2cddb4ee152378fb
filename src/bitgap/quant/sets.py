"""Sets of blocks as bit masks: bit l of a mask is set where block l is in the set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from bitgap.records import Floats, Integers

_WORD = 62
"""Blocks whose bits an int64 holds; a mask of more is a Python integer."""


def mask_of(blocks: Iterable[int]) -> int:
    """Returns the mask of some blocks.

    Example:
        >>> mask_of([0, 3])
        9
    """
    return sum(1 << block for block in set(blocks))


def blocks_in(mask: int) -> tuple[int, ...]:
    """Returns the blocks of a mask, ascending.

    Example:
        >>> blocks_in(9)
        (0, 3)
    """
    return tuple(block for block in range(mask.bit_length()) if mask >> block & 1)


def membership(masks: Sequence[int] | Integers, n_blocks: int) -> Floats:
    """Returns which blocks each mask holds, (P x L) of 0 and 1.

    Args:
        masks: (P).
        n_blocks: Number of blocks L.

    Example:
        >>> membership([0, 9], 4)
        array([[0., 0., 0., 0.],
               [1., 0., 0., 1.]])
    """
    bits = np.asarray(masks, dtype=np.int64 if n_blocks <= _WORD else object)
    return (bits[:, None] >> np.arange(n_blocks) & 1).astype(np.float64)


def popcount(masks: Integers) -> Integers:
    """Returns how many blocks each mask holds, of any shape.

    Example:
        >>> popcount(np.array([0, 9, 7]))
        array([0, 2, 3])
    """
    counts = np.zeros_like(masks)
    rest = masks.copy()
    while rest.any():
        counts += rest & 1
        rest >>= 1
    return counts


def pairs_of(n: int) -> list[tuple[int, int]]:
    """Returns the pairs (i, j), i < j, of n blocks in order.

    Example:
        >>> pairs_of(3)
        [(0, 1), (0, 2), (1, 2)]
    """
    return list(combinations(range(n), 2))
