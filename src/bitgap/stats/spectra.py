"""Spectra of weight matrices: ranks, tails and how far they are from a matrix of pure noise.

All are functions of the singular values, and none moves when the matrix is multiplied by a number.
An i.i.d. m x n matrix has eigenvalues σ² that follow Marchenko & Pastur (1967): with mean square
entry v, between v(√m − √n)² and v(√m + √n)², so its stable rank is mn/(√m + √n)².
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bitgap.records import Floats

FEWEST_FOR_TAIL = 50
"""Eigenvalues below which a tail exponent says nothing (Clauset 2009, section 3)."""
_SHORTEST_TAIL = 10
_CANDIDATES = 40
"""Values of x_min tried; every eigenvalue would take several times as long for the same α."""


def singular_values(matrix: Floats) -> Floats:
    """Returns singular values, largest first, by way of the smaller Gram matrix in float64.

    That squares the condition number, so values below 1e-8 of the largest are not to be trusted;
    nothing here hangs on them.

    Example:
        >>> singular_values(np.diag([1.0, 3.0, 2.0])).round(6)
        array([3., 2., 1.])
    """
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    values: Floats = np.linalg.eigvalsh(gram).astype(np.float64)
    return np.sqrt(np.clip(values[::-1], 0.0, None))


def stable_rank(values: Floats) -> float:
    """Returns ‖W‖²_F/‖W‖²₂ = Σσ²/σ₁².

    Example:
        >>> stable_rank(np.array([2.0, 1.0, 1.0]))
        1.5
    """
    return float((values**2).sum() / values[0] ** 2)


def entropy_rank(values: Floats) -> float:
    """Returns the effective rank exp(−Σ p log p), p = σ/Σσ (Roy & Vetterli 2007).

    Example:
        >>> round(entropy_rank(np.ones(4)), 6)
        4.0
    """
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def energy_ratio(values: Floats, share: float = 0.99) -> float:
    """Returns σ₁/σ_k, k the fewest values that hold a share of the energy Σσ².

    A condition number that the noise in the smallest values does not decide.

    Example:
        >>> energy_ratio(np.array([4.0, 2.0, 0.1]))
        2.0
    """
    held = (values**2).cumsum() / (values**2).sum()
    k = min(int(np.searchsorted(held, share)), len(values) - 1)
    return float(values[0] / values[k])


# -- tail ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tail:
    """A power law fitted to the largest values.

    Attributes:
        exponent: α of p(x) ∝ x^−α above ``start``.
        start: x_min, where the distance is least.
        distance: Kolmogorov–Smirnov distance there.
        p: Share of samples from the fitted law that lie further from their own fit.
    """

    exponent: float
    start: float
    distance: float
    p: float


def fit_tail(values: Floats, n_draws: int = 50, seed: int = 0) -> Tail | None:
    """Returns the power law that fits the upper tail best (Clauset 2009), with its p.

    α is the maximum-likelihood exponent above x_min, and x_min minimises the Kolmogorov–Smirnov
    distance. p is semi-parametric: samples take the tail from the law and the rest from the values
    below it, and are fitted like the values.

    Args:
        values: Positive; eigenvalues of WᵀW, for weights.
        n_draws: Samples for p.
        seed: Of the samples.

    Returns:
        None with fewer than 50 distinct positive values.

    Example:
        >>> fit_tail(np.arange(1.0, 10.0)) is None
        True
    """
    x = np.sort(values[values > 0])
    if len(np.unique(x)) < FEWEST_FOR_TAIL:
        return None
    exponent, start, distance, place = (float(found[0]) for found in _fit_rows(x[None]))
    rng = np.random.default_rng(seed)
    body = x[: int(place)]
    from_tail = rng.random((n_draws, len(x))) < 1 - len(body) / len(x)
    law = start * rng.random((n_draws, len(x))) ** (-1 / (exponent - 1))
    below = rng.choice(body, (n_draws, len(x))) if len(body) else law
    distances = _fit_rows(np.sort(np.where(from_tail, law, below), axis=1))[2]
    return Tail(exponent, start, distance, float((distances >= distance).mean()))


def _fit_rows(x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Returns exponent, x_min, distance and place of x_min of every sorted row, (rows) each."""
    n_rows, n = map(int, x.shape)
    logs = np.log(x)
    best = np.full((4, n_rows), np.inf)
    for k in map(int, np.unique(np.linspace(0, n - _SHORTEST_TAIL, _CANDIDATES).astype(int))):
        tail = logs[:, k:] - logs[:, k : k + 1]
        sums = tail.sum(1)
        exponent = 1 + (n - k) / np.where(sums > 0, sums, np.nan)
        law = 1 - np.exp(-(exponent - 1)[:, None] * tail)
        steps = np.arange(n - k + 1) / (n - k)
        distance = np.maximum(np.abs(steps[1:] - law), np.abs(law - steps[:-1])).max(1)
        found = np.stack([exponent, x[:, k], distance, np.full(n_rows, k)])
        best = np.where(distance < best[2], found, best)
    return best[0], best[1], best[2], best[3]


# -- noise -----------------------------------------------------------------------------------------


def noise_distance(values: Floats, shape: tuple[int, int]) -> float:
    """Returns how far eigenvalues σ²/mean lie from those of an i.i.d. matrix, on average.

    The Wasserstein-1 distance to Marchenko & Pastur's law at the matrix's shape: what the spectrum
    of the matrix with its entries shuffled tends to where they have a fourth moment.

    Args:
        values: Singular values, min(m, n) of them.
        shape: (m, n).

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(60, 90))
        >>> noise_distance(singular_values(noise), (60, 90)) < 0.1
        True
    """
    eigenvalues = np.sort(values**2)
    return float(
        np.abs(eigenvalues / eigenvalues.mean() - noise_quantiles(len(values), shape)).mean()
    )


def noise_quantiles(n: int, shape: tuple[int, int]) -> Floats:
    """Returns n mid-quantiles of eigenvalues/mean of an i.i.d. matrix, ascending, (n).

    Example:
        >>> noise_quantiles(3, (60, 90)).round(2)
        array([0.2 , 0.77, 1.91])
    """
    ratio = min(shape) / max(shape)
    grid, cumulative = _marchenko_pastur(ratio)
    return np.interp((np.arange(n) + 0.5) / n, cumulative, grid)


@lru_cache(maxsize=64)
def _marchenko_pastur(ratio: float) -> tuple[Floats, Floats]:
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    # In an angle the square root at both ends is smooth, and at ratio 1 so is the pole at 0.
    angle = (np.arange(4000) + 0.5) * np.pi / 4000
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    density = np.sin(angle) ** 2 / x
    cumulative = density.cumsum() - density / 2
    return x, cumulative / density.sum()
