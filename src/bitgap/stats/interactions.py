"""What each layer contributes, from the scores of many masks.

A game gives every set S of protected layers a value v(S). Masks are integers whose bit l says that
layer l is in S. Values may carry trailing axes (languages, draws); every formula is linear
in v, so they ride along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import factorial

import numpy as np

from bitgap.records import Floats, Integers


def shapley_values(values: Floats) -> Floats:
    """Returns exact Shapley values φ_l = Σ_S |S|!(L−|S|−1)!/L! · (v(S∪l) − v(S)).

    Source: Shapley 1953. They sum to v(all) − v(∅).

    Args:
        values: v by mask, (2^L x ...).

    Returns:
        (L x ...).
    """
    n_masks = len(values)
    n = n_masks.bit_length() - 1
    masks = np.arange(n_masks)
    weights = _weights(n)[popcount(masks)]
    shares = []
    for layer in range(n):
        without = masks[(masks >> layer) & 1 == 0]
        gains = values[without | (1 << layer)] - values[without]
        shares.append(np.tensordot(weights[without], gains, axes=(0, 0)))
    return np.stack(shares)


def _weights(n: int) -> Floats:
    return np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)] + [0.0])


def popcount(masks: Integers) -> Integers:
    """Returns how many layers each mask holds."""
    counts = np.zeros_like(masks)
    rest = masks.copy()
    while rest.any():
        counts += rest & 1
        rest >>= 1
    return counts


def permutation_chains(n: int, n_pairs: int, seed: int) -> list[tuple[int, ...]]:
    """Returns orders of n layers for sampled Shapley values, each followed by its reverse.

    A permutation and its reverse are antithetic: their errors partly cancel (Mitchell 2022).
    """
    rng = np.random.default_rng(seed)
    orders: list[tuple[int, ...]] = []
    for _ in range(n_pairs):
        order = tuple(int(i) for i in rng.permutation(n))
        orders += [order, order[::-1]]
    return orders


def chain_masks(orders: Sequence[Sequence[int]]) -> list[int]:
    """Returns every mask met when layers join in these orders, each once, ascending."""
    found = {0}
    for order in orders:
        mask = 0
        for layer in order:
            mask |= 1 << layer
            found.add(mask)
    return sorted(found)


def sampled_shapley(values: Mapping[int, Floats], orders: Sequence[Sequence[int]]) -> Floats:
    """Returns the mean marginal gain of every layer over the orders, (L x ...).

    Args:
        values: v for every mask of :func:`chain_masks`.
        orders: The orders; an unbiased sample when uniformly random.
    """
    total = np.zeros((len(orders[0]), *np.shape(values[0])))
    for order in orders:
        mask = 0
        for layer in order:
            joined = mask | (1 << layer)
            total[layer] += values[joined] - values[mask]
            mask = joined
    return total / len(orders)


def pair_design(n: int) -> list[int]:
    """Returns all masks of at most two layers and their complements, ascending."""
    small = {0} | {1 << i for i in range(n)}
    small |= {(1 << i) | (1 << j) for i in range(n) for j in range(i)}
    everything = (1 << n) - 1
    return sorted(small | {everything ^ mask for mask in small})
