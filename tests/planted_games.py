"""Games of blocks whose values are planted, and the slow and obvious Shapley value."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from bitgap.records import Floats


def random_game(n: int, seed: int, *trailing: int) -> Floats:
    """Returns a game with interactions of every order, v by mask (2^n x ...)."""
    return np.random.default_rng(seed).normal(size=(2**n, *trailing))


def additive_game(gains: Floats) -> Floats:
    """Returns the game in which a set is worth the sum of its blocks' gains (n x ...)."""
    masks = np.arange(2 ** len(gains))
    member = (masks[:, None] >> np.arange(len(gains))) & 1
    return np.tensordot(member, gains, axes=1)


def shapley_by_permutations(values: Floats) -> Floats:
    """Returns each block's gain on joining, averaged over all orders of joining, (n x ...)."""
    n = int(np.log2(len(values)))
    gains = np.zeros((n, *values.shape[1:]))
    orders = list(permutations(range(n)))
    for order in orders:
        joined = 0
        for block in order:
            gains[block] += values[joined + 2**block] - values[joined]
            joined += 2**block
    return gains / len(orders)
