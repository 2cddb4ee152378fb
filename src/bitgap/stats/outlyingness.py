"""How far each block stands out from the others, and whether two named ones stand out most.

Blocks drift, and smoothly: many properties of weights rise or fall with depth, so the ends of a
trend are its extremes without being special, and a block between two others is easier to foretell
than one beyond them. Every block is therefore foretold from *one side*: by a robust line through
its five nearest interior blocks towards the middle, the ends by the same rule, in units of that
prediction's own error:

    t_l = (y_l − a − b r_l) / (s √(1 + 1/n + (r_l − r̄)²/Σ(r − r̄)²))

with b the median of pairwise slopes (Theil–Sen), a the median of what it leaves and s from the
median absolute residual, the two smallest left out of it, since two numbers were fitted. Against
independent autoregressive profiles, of coefficient 0 to .9, the ends of 12 blocks come out among
the top tenth of pairs in a seventh of cases at most; with one line through all other interior
blocks it is more than half of them at .9.

There are more columns (kinds of matrix times measures) than blocks, so a covariance of columns over
blocks cannot be estimated. Measures say much the same of every kind of matrix, though, so their
correlation is estimated over kinds and interior blocks together, drawn half-way towards none, and
taken out. A block's outlyingness is the mean over columns of log(1 + z²), what a heavy-tailed
likelihood (Cauchy's) charges for z: one wild column cannot make a block stand out, several can.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from bitgap.records import Floats
from bitgap.stats.profiles import depths

FEWEST_BLOCKS = 8
"""Below it some block has fewer than three interior ones on either side to see a trend in."""
_NEAREST = 5
"""Interior blocks that a line is put through; more see less of what is near, fewer no error."""
_SHRINKAGE = 0.5
_CLIP = 3.0
"""Where |t| is cut when correlations are estimated, so that odd blocks do not make them."""
_FARTHEST = 10.0
"""Where t is cut at all: further out a number only says how small its error happened to be."""
_ENOUGH = 4
"""Of them that must have a value, where there are so many."""
_MAD = 1.4826


def prediction_t(profiles: Floats) -> Floats:
    """Returns t of every block in every column, (... x L), cut at ±10.

    0 where a value is missing, or too few others are there to say what it should be.

    Args:
        profiles: Values by block in the last axis, (... x L), NaN where there is none. L >= 8.

    Example:
        >>> prediction_t(np.array([9.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0, 1.1])).round(1)
        array([ 10. ,  10. ,  -0.4,  -0.4,   0.4, -10. ,   0.4,   0.4])
    """
    flat = profiles.reshape(-1, profiles.shape[-1])
    n_blocks, r, t = flat.shape[1], depths(flat.shape[1]), np.zeros(flat.shape)
    # As many for every block, or those in the middle would have larger errors than others.
    nearest = min(_NEAREST, (n_blocks - 2) // 2)
    for block in range(n_blocks):
        after = np.arange(block + 1, n_blocks - 1)[:nearest]
        before = np.arange(block - 1, 0, -1)[:nearest]
        side = after if len(after) >= len(before) else before
        known = np.isfinite(flat[:, side])
        for pattern in np.unique(known, axis=0):
            columns = (known == pattern).all(1) & np.isfinite(flat[:, block])
            if columns.any() and pattern.sum() >= min(_ENOUGH, len(side)):
                from_these = side[pattern]
                t[columns, block] = _block_t(
                    flat[columns, block], r[block], flat[columns][:, from_these], r[from_these]
                )
    return np.clip(t, -_FARTHEST, _FARTHEST).reshape(profiles.shape)


def _block_t(value: Floats, place: float, y: Floats, r: Floats) -> Floats:
    """Returns t of one block in C columns, (C), from values y (C x n) at depths r (n)."""
    n = len(r)
    first, second = np.triu_indices(n, 1)
    slope = np.median((y[:, second] - y[:, first]) / (r[second] - r[first]), axis=1)
    residuals = y - slope[:, None] * r
    level = np.median(residuals, axis=1)
    off = np.sort(np.abs(residuals - level[:, None]), axis=1)
    spread = _MAD * np.median(off[:, 2:], axis=1)
    away = value - level - slope * place
    distance = (place - r.mean()) ** 2 / ((r - r.mean()) ** 2).sum()
    error = spread * np.sqrt(1 + 1 / n + distance)
    t = np.where(error > 0, away / np.where(error > 0, error, 1.0), np.copysign(np.inf, away))
    return np.where(np.abs(away) <= 1e-9 * np.abs(y).max(1), 0.0, t)


def decorrelated(t: Floats) -> Floats:
    """Returns t with what measures have in common taken out, (kinds x measures x L).

    Args:
        t: (kinds x measures x L).

    Example:
        >>> decorrelated(np.arange(16.0).reshape(1, 2, 8)).shape
        (1, 2, 8)
    """
    kinds, measures, n_blocks = t.shape
    cut = np.clip(t[:, :, 1:-1], -_CLIP, _CLIP).transpose(0, 2, 1).reshape(-1, measures)
    power = np.sqrt((cut**2).mean(0))
    unit = cut / np.where(power > 0, power, 1.0)
    correlation = (1 - _SHRINKAGE) * unit.T @ unit / max(len(unit), 1)
    np.fill_diagonal(correlation, 1.0)
    values, axes = np.linalg.eigh(correlation)
    root = axes @ np.diag(1 / np.sqrt(values)) @ axes.T
    return np.einsum("ab,kbl->kal", root, t).reshape(kinds, measures, n_blocks)


def outlyingness(z: Floats, weights: Floats) -> Floats:
    """Returns how far every block stands out, (W x L).

    Args:
        z: Decorrelated t, (columns x L).
        weights: How often each column counts, (W x columns).

    Example:
        >>> outlyingness(np.array([[3.0, 0.0, -1.0]]), np.ones((1, 1))).round(2)
        array([[2.3 , 0.  , 0.69]])
    """
    return weights @ np.log1p(z**2) / weights.sum(1, keepdims=True)


def pair_percentile(outlying: Floats, pair: tuple[int, int]) -> Floats:
    """Returns the share of all other pairs whose less outlying block is less so than the pair's.

    Ties count half. Of L blocks in random order it is as likely to be any of its values.

    Args:
        outlying: (W x L).
        pair: Two blocks.

    Returns:
        (W), from 0 to 1.

    Example:
        >>> pair_percentile(np.array([[9.0, 1.0, 2.0, 8.0]]), (0, 3))
        array([1.])
    """
    lower = np.stack(
        [np.minimum(outlying[:, i], outlying[:, j]) for i, j in _pairs(outlying.shape[1])], axis=1
    )
    own = np.minimum(outlying[:, pair[0]], outlying[:, pair[1]])[:, None]
    below = (lower < own).sum(1) + ((lower == own).sum(1) - 1) / 2
    return below / (lower.shape[1] - 1)


def pair_p(outlying: Floats, pair: tuple[int, int]) -> float:
    """Returns the share of all pairs, itself among them, that stand out at least as far as a pair.

    Args:
        outlying: (L).
        pair: Two blocks.

    Example:
        >>> round(pair_p(np.array([9.0, 1.0, 2.0, 8.0]), (0, 3)), 3)
        0.167
    """
    lower = np.array([min(outlying[i], outlying[j]) for i, j in _pairs(len(outlying))])
    return float((lower >= min(outlying[pair[0]], outlying[pair[1]])).mean())


def _pairs(n_blocks: int) -> list[tuple[int, int]]:
    return list(combinations(range(n_blocks), 2))
