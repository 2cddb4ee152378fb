"""What each block contributes, alone and with others, from the scores of many masks.

A game gives every set S of protected blocks a value v(S). Masks are integers whose bit l says that
block l is in S. Values may carry trailing axes (languages, draws); every formula but
:func:`variance_by_order` is linear in v, so they ride along.

What two blocks do together is the derivative Δ_ij v(T) = v(T∪ij) − v(T∪i) − v(T∪j) + v(T), which
hangs on the background T of the other blocks that are protected already:

==================  ==========================================================================
Möbius              T = ∅: two blocks against none, the comparison of the origin
co-Möbius           T = all others: two blocks against all
Banzhaf             mean over all T alike; four times the Walsh–Hadamard coefficient of {i, j}
Shapley (SII)       mean over sizes of T, and over the T of a size (Grabisch & Roubens 1999)
==================  ==========================================================================

All are exact on 2^L masks. On fewer, the mean of the Möbius and the co-Möbius term is the Banzhaf
interaction of a game without interactions of four blocks or more (:func:`both_ends_interaction`),
and masks of at most two protected and of at most two rounded blocks, :func:`pair_design`, hold it
for every pair. Δ_ij at random backgrounds of one pair is an unbiased sample of its Banzhaf or
Shapley interaction, by the law they are drawn from. Chains of :func:`permutation_chains` give
unbiased Shapley values and no interactions, as no chain holds all four corners of a derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import factorial
from typing import Literal

import numpy as np

from bitgap.quant.sets import mask_of, popcount
from bitgap.records import Floats, Integers

Law = Literal["banzhaf", "shapley"]
"""What a sampled background is drawn from, named after the index its mean derivative estimates."""


def shapley_values(values: Floats) -> Floats:
    """Returns exact Shapley values φ_l = Σ_S |S|!(L−|S|−1)!/L! · (v(S∪l) − v(S)).

    Source: Shapley 1953. They sum to v(all) − v(∅).

    Args:
        values: v by mask, (2^L x ...).

    Returns:
        (L x ...).

    Example:
        >>> shapley_values(np.array([0.0, 1.0, 2.0, 5.0]))
        array([2., 3.])
    """
    n_masks = len(values)
    n = n_masks.bit_length() - 1
    masks = np.arange(n_masks)
    weights = _weights(n)[popcount(masks)]
    shares = list[Floats]()
    for block in range(n):
        without = masks[(masks >> block) & 1 == 0]
        gains = values[without | (1 << block)] - values[without]
        shares.append(np.tensordot(weights[without], gains, axes=(0, 0)))
    return np.stack(shares)


def _weights(n: int) -> Floats:
    return np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)] + [0.0])


def permutation_chains(n: int, n_pairs: int, seed: int) -> list[tuple[int, ...]]:
    """Returns orders of n blocks for sampled Shapley values, each followed by its reverse.

    A permutation and its reverse are antithetic: their errors partly cancel (Mitchell 2022).

    Example:
        >>> permutation_chains(3, 1, seed=0)
        [(2, 0, 1), (1, 0, 2)]
    """
    rng = np.random.default_rng(seed)
    orders: list[tuple[int, ...]] = []
    for _ in range(n_pairs):
        order = tuple(int(i) for i in rng.permutation(n))
        orders += [order, order[::-1]]
    return orders


def chain_masks(orders: Sequence[Sequence[int]]) -> list[int]:
    """Returns every mask met when blocks join in these orders, each once, ascending.

    Example:
        >>> chain_masks([(0, 1, 2), (2, 1, 0)])
        [0, 1, 3, 4, 6, 7]
    """
    found = {0}
    for order in orders:
        mask = 0
        for block in order:
            mask |= 1 << block
            found.add(mask)
    return sorted(found)


def sampled_shapley(values: Mapping[int, Floats], orders: Sequence[Sequence[int]]) -> Floats:
    """Returns the mean marginal gain of every block over the orders, (L x ...).

    Args:
        values: v for every mask of :func:`chain_masks`.
        orders: The orders; an unbiased sample when uniformly random.

    Example:
        >>> sampled_shapley({0: 0.0, 1: 1.0, 2: 2.0, 3: 5.0}, [(0, 1), (1, 0)])
        array([2., 3.])
    """
    total = np.zeros((len(orders[0]), *np.shape(values[0])))
    for order in orders:
        mask = 0
        for block in order:
            joined = mask | (1 << block)
            total[block] += values[joined] - values[mask]
            mask = joined
    return total / len(orders)


def shapley_from_ends(values: Mapping[int, Floats], n: int) -> Floats:
    """Returns Shapley values read off few and off nearly all players, (L x ...).

    A Shapley value is the mean, over how many others are there before, of what a player adds on
    average: φ_l = (g_l(0) + … + g_l(L−1)) / L. Of single players alone and alone left out, g_l(0)
    and g_l(L−1) are known, and g_l is a line between them. Where all pairs are scored too, so are
    g_l(1) and g_l(L−2); the line is then drawn between these two, so that a game that is unlike
    itself at its very ends, such as a ratio with no value where nothing is rounded, bends only
    those.

    Either is the Shapley value of every game of at most two players at a time,
    v(S) = Σ_i a_i + Σ_ij a_ij, whose g_l are lines; of others it leaves out how they bend between.

    Source: Grabisch 1997, k-order additive games, for k = 2.

    Args:
        values: v for ∅, all, and every player alone and alone left out; and of all pairs, or not.
        n: L.

    Example:
        >>> shapley_from_ends({0: 0.0, 1: 1.0, 2: 2.0, 3: 5.0}, 2)
        array([2., 3.])
    """
    everything = (1 << n) - 1
    paired = n > 3 and all(mask in values for mask in pair_design(n))

    def gain(before: int, player: int) -> Floats:
        """What a player adds to those before, and to the others without those, in turn."""
        without = everything ^ before ^ (1 << player)
        few = values[before | 1 << player] - values[before]
        most = values[without | 1 << player] - values[without]
        return np.stack([few, most])

    found = list[Floats]()
    for player in range(n):
        ends = gain(0, player).sum(0)
        if not paired:
            found.append(ends / 2)
            continue
        others = [1 << other for other in range(n) if other != player]
        # Beside one other, and beside all but one: the second is known by its complement.
        next_ = np.mean([gain(other, player) for other in others], axis=0).sum(0)
        found.append((ends + (n - 2) * next_ / 2) / n)
    return np.stack(found)


def walsh_hadamard(values: Floats) -> Floats:
    """Returns f(S) = 2^−L Σ_T (−1)^{|S∩T|} v(T), (2^L x ...): v in an orthogonal basis.

    Their squares add up to the mean square of v (Parseval). Source: O'Donnell 2014, section 1.

    Example:
        >>> walsh_hadamard(np.array([0.0, 1.0, 2.0, 5.0]))
        array([ 2. , -1. , -1.5,  0.5])
    """
    return _butterfly(
        values, lambda without, with_it: (without + with_it, without - with_it)
    ) / len(values)


def banzhaf_interactions(values: Floats) -> Floats:
    """Returns for every S its derivative averaged over all backgrounds, (2^L x ...).

    That is (−2)^|S| f(S): the mean of v at ∅, Banzhaf values at single blocks, interactions above.
    Source: Grabisch & Roubens 1999; Owen 1972.

    Example:
        >>> banzhaf_interactions(np.array([0.0, 1.0, 2.0, 5.0]))
        array([2., 2., 3., 2.])
    """
    factors = np.power(-2.0, popcount(np.arange(len(values)))).astype(np.float64)
    return walsh_hadamard(values) * factors.reshape(-1, *[1] * (values.ndim - 1))


def variance_by_order(values: Floats) -> Floats:
    """Returns the share of the variance of v over masks that each order has, (L+1 x ...).

    Row k is Σ_{|S|=k} f(S)² over all S but ∅ (Parseval); row 0 is 0. NaN where v does not vary.

    Example:
        >>> variance_by_order(np.array([0.0, 1.0, 2.0, 5.0])).round(3)
        array([0.   , 0.929, 0.071])
    """
    squares = walsh_hadamard(values) ** 2
    orders = popcount(np.arange(len(values)))
    n = len(values).bit_length() - 1
    by_order = np.stack([squares[orders == k].sum(0) for k in range(n + 1)])
    by_order[0] = 0.0
    total = by_order.sum(0)
    return by_order / np.where(total > 0, total, np.nan)


def pair_derivatives(values: Floats, i: int, j: int) -> tuple[Floats, Integers]:
    """Returns Δ_ij v(T) for every background T, (2^(L−2) x ...), and the backgrounds, ascending.

    The first is the Möbius, the last the co-Möbius term, their mean the Banzhaf interaction.

    Example:
        >>> pair_derivatives(np.array([0.0, 1.0, 2.0, 5.0]), 0, 1)
        (array([2.]), array([0]))
    """
    masks = np.arange(len(values))
    one, other = 1 << i, 1 << j
    backgrounds = masks[masks & (one | other) == 0]
    return (
        values[backgrounds | one | other]
        - values[backgrounds | one]
        - values[backgrounds | other]
        + values[backgrounds]
    ), backgrounds


def shapley_interaction(values: Floats, i: int, j: int) -> Floats:
    """Returns the Shapley interaction index of a pair, (...).

    Σ_T |T|!(L−|T|−2)!/(L−1)! · Δ_ij v(T). Source: Grabisch & Roubens 1999.

    Example:
        >>> float(shapley_interaction(np.array([0.0, 1.0, 2.0, 5.0]), 0, 1))
        2.0
    """
    n = len(values).bit_length() - 1
    derivatives, backgrounds = pair_derivatives(values, i, j)
    by_size = [factorial(t) * factorial(n - t - 2) / factorial(n - 1) for t in range(n - 1)]
    return np.tensordot(np.array(by_size)[popcount(backgrounds)], derivatives, axes=(0, 0))


def _butterfly(values: Floats, step: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> Floats:
    """Applies a step to (v without l, v with l) for each block l in turn: L passes, not 2^L."""
    n_masks = len(values)
    out = np.asarray(values, dtype=np.float64)
    for block in range(n_masks.bit_length() - 1):
        halves = out.reshape(-1, 2, 1 << block, *out.shape[1:])
        out = np.stack(step(halves[:, 0], halves[:, 1]), axis=1).reshape(out.shape)
    return out


def sample_backgrounds(
    n: int, pair: tuple[int, int], n_twins: int, seed: int, *, law: Law = "banzhaf"
) -> tuple[int, ...]:
    """Returns random sets of the blocks outside a pair, each followed by its complement there.

    A set and its complement are antithetic: what the pair does with a third block cancels in their
    mean. Both have the law asked for, so the mean derivative over them is unbiased.

    Args:
        n: Number of blocks.
        pair: The two that are left out.
        n_twins: How many sets are drawn; twice as many come back.
        seed: Of the draws.
        law: ``banzhaf`` takes each block with probability ½, ``shapley`` a size uniformly and then
            a set of that size.

    Example:
        >>> sample_backgrounds(4, (0, 3), 2, seed=0)
        (4, 2, 6, 0)
    """
    rng = np.random.default_rng(seed)
    others = np.array([block for block in range(n) if block not in pair], dtype=np.int64)
    found: list[int] = []
    for _ in range(n_twins):
        if law == "banzhaf":
            inside = rng.random(len(others)) < 0.5
        else:
            inside = rng.permutation(len(others)) < rng.integers(len(others) + 1)
        found += [mask_of(map(int, others[inside])), mask_of(map(int, others[~inside]))]
    return tuple(found)


def corner_masks(backgrounds: Sequence[int], pair: tuple[int, int]) -> list[tuple[int, ...]]:
    """Returns for every background T the four masks (T, T∪i, T∪j, T∪ij) of its derivative.

    Example:
        >>> corner_masks([0, 4], (0, 1))
        [(0, 1, 2, 3), (4, 5, 6, 7)]
    """
    one, other = 1 << pair[0], 1 << pair[1]
    return [(t, t | one, t | other, t | one | other) for t in backgrounds]


def derivatives_at(corners: Floats) -> Floats:
    """Returns Δ_ij v from v at the corners of :func:`corner_masks`, (... x 4) to (...).

    Example:
        >>> float(derivatives_at(np.array([0.0, 1.0, 2.0, 5.0])))
        2.0
    """
    return corners[..., 3] - corners[..., 1] - corners[..., 2] + corners[..., 0]


def end_corners(n: int, pair: tuple[int, int]) -> list[tuple[int, ...]]:
    """Returns the corners of a pair's derivative where nothing else, and where all is protected.

    Example:
        >>> end_corners(4, (0, 3))
        [(0, 1, 8, 9), (6, 7, 14, 15)]
    """
    return corner_masks([0, (1 << n) - 1 - mask_of(pair)], pair)


def both_ends_interaction(values: Mapping[int, Floats], n: int, pair: tuple[int, int]) -> Floats:
    """Returns the mean of a pair's Möbius and co-Möbius terms, (...), from eight masks.

    With m the Möbius coefficients of the game, Δ_ij v(T) = Σ_{U⊆T} m(ij∪U), U without i and j, so

        (Δ_ij v(∅) + Δ_ij v(all)) / 2 = m(ij) + ½ Σ_{U≠∅} m(ij∪U)

        Banzhaf = Σ_U 2^−|U| m(ij∪U)

    Both weigh |U| ≤ 1 alike: it is the Banzhaf interaction of every game without interactions of
    four blocks or more, and else differs by Σ_{|U|≥2} (½ − 2^−|U|) m(ij∪U). In the orthogonal basis
    of Walsh and Hadamard ∅ and all others are opposite corners, in whose mean all odd orders
    cancel: what is left beside it is of order 4, 6, and so on, that holds i and j. Source: own
    derivation, from Grabisch & Roubens 1999.

    Args:
        values: v for every mask of :func:`end_corners`.
        n: Number of blocks.
        pair: i and j.

    Example:
        >>> float(both_ends_interaction({0: 0.0, 1: 1.0, 2: 2.0, 3: 5.0}, 2, (0, 1)))
        2.0
    """
    corners = [np.stack([values[m] for m in four], -1) for four in end_corners(n, pair)]
    return np.mean([derivatives_at(four) for four in corners], axis=0)


def pair_design(n: int) -> list[int]:
    """Returns all masks of at most two blocks and their complements, ascending.

    Example:
        >>> pair_design(3)
        [0, 1, 2, 3, 4, 5, 6, 7]
    """
    small = {0} | {1 << i for i in range(n)}
    small |= {(1 << i) | (1 << j) for i in range(n) for j in range(i)}
    everything = (1 << n) - 1
    return sorted(small | {everything ^ mask for mask in small})
