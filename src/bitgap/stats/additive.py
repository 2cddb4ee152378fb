"""The null model of damage: every rounded block adds its own, K(S) = Σ_{l∉S} k_l with k_l ≥ 0.

Damage that adds up looks like synergy on any scale of ratios: the logarithm of a sum interacts, and
a ratio of two languages' sums rises whenever the protected block is less biased than the average.
So whoever claims that two blocks act together must say what this null would have shown.

The fit is by least squares on log K, language by language: on K itself the largest masks would
decide all, and the ratios implied for the small ones would be anything. Newton's method with the
damping of Levenberg and Marquardt and k kept at or above 0, for all languages and bootstrap draws
at once: the Hessians of all columns are one matrix product, so 4,095 masks of 12 blocks cost
milliseconds a column. Source: method, section 3; Nocedal & Wright 2006, chapters 10 and 16.
"""

from __future__ import annotations

import numpy as np

from bitgap.records import Bools, Floats, Integers

_TOLERANCE = 1e-8
"""Relative fall of the sum of squares below which a column is done."""
_NOTHING = 1e-14
"""A fall that is rounding."""
_STEPS = 60
"""Most steps; some ten are needed from nowhere, two or three from a nearby draw."""


def additive_damage(shares: Floats, rounded: Floats) -> Floats:
    """Returns Σ_{l∉S} k_l, (P x C).

    Args:
        shares: k by block, (L x C).
        rounded: Which blocks each mask leaves to round, (P x L) of 0 and 1.

    Example:
        >>> additive_damage(np.array([[2.0], [1.0]]), np.array([[1.0, 1.0], [0.0, 1.0]]))
        array([[3.],
               [1.]])
    """
    return rounded @ shares


def fit_additive(damage: Floats, rounded: Floats, start: Floats | None = None) -> Floats:
    """Returns k ≥ 0 of least Σ_S (log K(S) − log Σ_{l∉S} k_l)², (L x C).

    Args:
        damage: K by mask, (P x C) for C languages, draws, or both. A mask counts where K is above 0
            and finite; mark those to be left out by NaN.
        rounded: Which blocks each mask leaves to round, (P x L); none may leave out all.
        start: Where to begin, (L x C) or (L x 1), such as the fit of the whole text for its draws.

    Returns:
        NaN in columns in which no mask counts.

    Example:
        >>> rounded = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> fit_additive(np.array([[3.0], [1.0], [2.0]]), rounded).round(3)
        array([[2.],
               [1.]])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(damage)
    counts = np.isfinite(logs)
    logs = np.where(counts, logs, 0.0)
    if start is None:
        start = _first_guess(damage, rounded, counts)
    shares = np.broadcast_to(start, (rounded.shape[1], damage.shape[1])).astype(np.float64)
    return _descend(shares, logs, counts, rounded)


def log_r2(damage: Floats, shares: Floats, rounded: Floats) -> Floats:
    """Returns the share of the variance of log K over masks that the fit explains, (C).

    Example:
        >>> rounded = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> log_r2(np.array([[3.0], [1.0], [2.0]]), np.array([[2.0], [1.0]]), rounded)
        array([1.])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(damage)
        fitted = np.log(additive_damage(shares, rounded))
    return r2(np.where(np.isfinite(logs), logs, np.nan), fitted)


def r2(values: Floats, fitted: Floats) -> Floats:
    """Returns 1 − Σ(y − ŷ)²/Σ(y − ȳ)² over the first axis, (...); NaN where y does not vary.

    Example:
        >>> float(r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])))
        0.5
    """
    left = np.nansum((values - fitted) ** 2, axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(values, axis=0) / np.maximum(np.isfinite(values).sum(0), 1)
    total = np.nansum((values - mean) ** 2, axis=0)
    return 1.0 - left / np.where(total > 0, total, np.nan)


def _first_guess(damage: Floats, rounded: Floats, counts: Bools) -> Floats:
    """Returns the column's mean damage per rounded block, for every block alike."""
    total = np.where(counts, damage, 0.0).sum(0)
    blocks = counts.T.astype(np.float64) @ rounded.sum(1)
    with np.errstate(invalid="ignore"):
        mean = total / np.where(blocks > 0, blocks, np.nan)
    return np.broadcast_to(mean, (rounded.shape[1], damage.shape[1]))


def _descend(shares: Floats, logs: Floats, counts: Bools, rounded: Floats) -> Floats:
    """Returns shares moved to the least sum of squares, every column on its own."""
    n = rounded.shape[1]
    upper = np.triu_indices(n)
    products = rounded[:, upper[0]] * rounded[:, upper[1]]
    out, damping = shares.copy(), np.full(shares.shape[1], 1e-3)
    todo = np.flatnonzero(np.isfinite(shares).all(0))
    for _ in range(_STEPS):
        if not len(todo):
            break
        k, mine = out[:, todo], (logs[:, todo], counts[:, todo], rounded)
        error, inverse = _errors(k, *mine)
        hessian = _symmetric(products.T @ inverse**2, upper, n)
        trial = _step(k, rounded.T @ (error * inverse), hessian, damping[todo])
        before, after = (error**2).sum(0), (_errors(trial, *mine)[0] ** 2).sum(0)
        better = after <= before
        out[:, todo[better]] = trial[:, better]
        damping[todo] *= np.where(better, 0.1, 10.0)
        settled = better & (before - after <= _TOLERANCE * before + _NOTHING)
        todo = todo[~settled & (damping[todo] < 1e9)]
    return out


def _errors(k: Floats, logs: Floats, counts: Bools, rounded: Floats) -> tuple[Floats, Floats]:
    """Returns log K − log Σk and 1/Σk, (P x C) both, 0 where a mask does not count."""
    # Only where every rounded block is at 0 is there no logarithm; a tiny sum is as far off.
    sums = np.maximum(rounded @ k, np.finfo(np.float64).tiny)
    return np.where(counts, logs - np.log(sums), 0.0), np.where(counts, 1 / sums, 0.0)


def _symmetric(entries: Floats, upper: tuple[Integers, Integers], n: int) -> Floats:
    """Returns (C x n x n) from the upper triangles (n(n+1)/2 x C)."""
    full = np.zeros((entries.shape[1], n, n))
    full[:, upper[0], upper[1]] = full[:, upper[1], upper[0]] = entries.T
    return full


def _step(k: Floats, downhill: Floats, hessian: Floats, damping: Floats) -> Floats:
    """Returns the damped Newton step of every column, kept at or above 0.

    A block at 0 that would go below stays out of the step, or it would bend that of the others.
    """
    pinned = ((k <= 0) & (downhill <= 0)).T
    matrix = hessian.copy()
    diagonal = np.einsum("cii->ci", matrix)
    diagonal *= 1 + damping[:, None]
    matrix[pinned] = 0.0
    np.swapaxes(matrix, 1, 2)[pinned] = 0.0
    diagonal += pinned + 1e-12 * diagonal.max(1, keepdims=True, initial=1e-300)
    step = np.linalg.solve(matrix, np.where(pinned, 0.0, downhill.T)[..., None])[..., 0]
    return np.maximum(k + step.T, 0.0)
