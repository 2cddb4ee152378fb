"""Tests over model families from one number each; exact wherever enumeration is affordable.

Random effects are Hartung & Knapp's (2001) with the between-family variance of Paule & Mandel
(1982); where all families are equally precise it is the plain one-sample t. Pure numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import permutations
from math import factorial

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq

from bitgap.records import Floats, Integers

MOST_FLIPPED = 14
"""Families up to which all 2^M sign flips are made; above, as many are drawn at random."""
MOST_PERMUTED = 7
"""Families up to which all M! swaps are made, 5,040 at most; above, as many are drawn."""
SEED = 0
"""Of drawn flips and swaps, so that judging is deterministic."""

# What scipy.stats.t wraps; a verdict on many families asks for hundreds. Its types are not told.
_STUDENT_BELOW: Callable[[float, float], float] = getattr(special, "stdtr")  # noqa: B009
_STUDENT_QUANTILE: Callable[[float, float], float] = getattr(special, "stdtrit")  # noqa: B009


def t_above(t: float, dof: float) -> float:
    """Returns the probability that Student's t lies above a value; a fast ``scipy.stats.t.sf``.

    Example:
        >>> round(t_above(2.132, 4), 4)
        0.05
    """
    return float(_STUDENT_BELOW(dof, -t))


def t_quantile(p: float, dof: float) -> float:
    """Returns the value that Student's t lies under with a probability; of ``scipy.stats.t.ppf``.

    Example:
        >>> round(t_quantile(0.95, 4), 3)
        2.132
    """
    return float(_STUDENT_QUANTILE(dof, p))


def sign_flip_p(values: Floats) -> float:
    """Returns the one-sided p of a mean above 0 under random signs; exact for few families.

    Example:
        >>> sign_flip_p(np.array([1.0, 2.0, 3.0]))
        0.125
    """
    flips = _flips(len(values))
    reached = flips @ values >= values.sum() - 1e-12 * np.abs(values).sum()
    if len(values) <= MOST_FLIPPED:
        return float(reached.mean())
    return float((1 + reached.sum()) / (1 + len(flips)))


def hits_p(hits: int, masses: Floats) -> float:
    """Returns P(at least so many hits) where each family hits with its own probability.

    The Poisson-binomial upper tail; the binomial's where all masses are equal.

    Example:
        >>> round(hits_p(2, np.array([0.5, 0.5, 0.1])), 4)
        0.3
    """
    chances = np.ones(1)
    for mass in masses:
        chances = np.convolve(chances, [1 - mass, mass])
    return float(min(1.0, chances[hits:].sum()))


def stouffer_p(percentiles: Floats) -> float:
    """Returns the one-sided p of families' percentiles in (0, 1) taken together (Stouffer 1949).

    Example:
        >>> round(stouffer_p(np.array([0.9, 0.8, 0.95])), 4)
        0.0148
    """
    return float(stats.norm.sf(stats.norm.ppf(percentiles).sum() / np.sqrt(len(percentiles))))


def random_effects(
    values: Floats, variances: Floats, level: float
) -> tuple[float, float, float, float]:
    """Returns mean, interval and one-sided p that it is above 0 (Hartung & Knapp 2001).

    Args:
        values: One for each family, (M).
        variances: Of each value within its family, (M); only their ratios and size against the
            spread of values matter.
        level: Coverage of the interval.

    Example:
        >>> [round(x, 3) for x in random_effects(np.array([1.0, 2.0, 3.0]), np.ones(3), 0.95)]
        [2.0, -0.484, 4.484, 0.037]
    """
    m = len(values)
    weights = 1 / (variances + between_variance(values, variances))
    weights = weights / weights.sum()
    mean = float(weights @ values)
    error = float(np.sqrt(weights @ (values - mean) ** 2 / (m - 1)))
    if error == 0:
        return mean, mean, mean, 0.0 if mean > 0 else 1.0
    half = t_quantile((1 + level) / 2, m - 1) * error
    return mean, mean - half, mean + half, t_above(mean / error, m - 1)


def between_variance(values: Floats, variances: Floats) -> float:
    """Returns the variance between families at which Cochran's Q meets its mean, M − 1.

    0 where the variances are equal, as weights then do not depend on it.

    Example:
        >>> round(between_variance(np.array([1.0, 5.0, 9.0]), np.array([1.0, 2.0, 1.0])), 2)
        15.0
    """

    def excess(between: float) -> float:
        weights = 1 / (variances + between)
        mean = weights @ values / weights.sum()
        return float(weights @ (values - mean) ** 2) - (len(values) - 1)

    if np.ptp(variances) == 0 or excess(0.0) <= 0:
        return 0.0  # equal weights do not depend on it
    # Q falls below M − 1 at the latest where it is the plain sum of squares over M − 1.
    most = float(((values - values.mean()) ** 2).sum())
    return float(brentq(excess, 0.0, most))


def swap_p(swapped: Floats) -> float:
    """Returns the share of ways to pair predictors with outcomes that reach the true pairing.

    Args:
        swapped: Statistic of every predictor (rows) with every outcome, (M x M).

    Example:
        >>> round(swap_p(np.eye(3)), 3)
        0.167
    """
    m = len(swapped)
    orders = pairings(m)
    reached = swapped[np.arange(m), orders].sum(1) >= np.trace(swapped) - 1e-9
    return float(reached.mean())


@lru_cache(maxsize=32)
def pairings(m: int) -> Integers:
    """Returns ways to pair m families with m outcomes, the true one first, (P x M).

    All M! of them, or as many drawn as there are of the most that are enumerated; with the true one
    among them the share that reaches it is Phipson & Smyth's (1 + #)/(1 + B).

    Example:
        >>> pairings(3)[:2]
        array([[0, 1, 2],
               [0, 2, 1]])
    """
    if m <= MOST_PERMUTED:
        return np.array(list(permutations(range(m))))
    same = np.tile(np.arange(m), (factorial(MOST_PERMUTED) - 1, 1))
    return np.vstack([np.arange(m), np.random.default_rng(SEED).permuted(same, axis=1)])


@lru_cache(maxsize=32)
def _flips(m: int) -> Floats:
    if m <= MOST_FLIPPED:
        return 1.0 - 2.0 * (np.arange(1 << m)[:, None] >> np.arange(m) & 1).astype(np.float64)
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (2**MOST_FLIPPED - 1, m))
    return signs.astype(np.float64)


def least_flip_p(m: int) -> float:
    """Returns the smallest p that sign flips of m families can have.

    Example:
        >>> least_flip_p(7)
        0.0078125
    """
    return 2.0 ** -min(m, MOST_FLIPPED)


def least_swap_p(m: int) -> float:
    """Returns the smallest p that swaps among m families can have.

    Example:
        >>> round(least_swap_p(4), 4)
        0.0417
    """
    return 1 / factorial(min(m, MOST_PERMUTED))
