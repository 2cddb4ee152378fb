"""Information of states beside what a probe reads: what survives noise, and shapes of spectra.

Differential entropy shifts by d log c when states are scaled by c, so it tracks variance by
construction. What stands here does not, but for the origin's histogram entropy, which is
quoted for comparison: the Gaussian bits that survive a measured noise, entropies of normalised
spectra (always of a *centred* Gram matrix: an uncentred one measures the mean), and a
nearest-neighbour entropy of states brought to one size.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln

from bitgap.records import Floats, Integers
from bitgap.stats.dimension import (
    covariance_eigenvalues,
    neighbour_distances,
    participation_ratio,
)

BINS = 256
"""Of the origin's histogram."""


def noise_limited_bits(covariance: Floats, noise: Floats) -> float:
    """Returns ½ log2 det(I + N^−½ Σ N^−½): Gaussian bits of a state that survive noise.

    The capacity of a Gaussian channel whose input has the states' covariance (Cover & Thomas 2006,
    eq. 9.166), a coding rate (Yu 2020) at the noise that is there. No rescaling of a dimension
    together with its noise changes it.

    Args:
        covariance: Σ of the states, (d x d).
        noise: Variance of the noise in every dimension, (d). A dimension with next to none counts
            as one with 1e-12 of the largest, since a bound that is infinite says nothing.

    Example:
        >>> round(noise_limited_bits(np.diag([3.0, 15.0]), np.ones(2)), 6)
        3.0
    """
    floor = 1e-12 * float(noise.max())
    if floor <= 0:
        return float("inf")
    root = 1 / np.sqrt(np.maximum(noise, floor))
    scaled = np.eye(len(noise)) + root[:, None] * covariance * root
    _, log_det = np.linalg.slogdet(scaled)
    return float(log_det / (2 * np.log(2)))


def renyi2_bits(states: Floats) -> float:
    """Returns the matrix-based Rényi entropy of order 2, −log2 tr K², K = Gram/tr Gram.

    Giraldo 2015, with a linear kernel on centred states (Skean 2025 take it uncentred): log2 of
    the plain participation ratio.

    Args:
        states: (n x d).

    Example:
        >>> round(renyi2_bits(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
        1.0
    """
    return float(np.log2(participation_ratio(states))) if np.ptp(states, axis=0).any() else 0.0


def prompt_entropy_bits(states: Floats, prompts: Integers) -> float:
    """Returns the mean over prompts of the matrix-based entropy of order 1 of their tokens.

    Skean 2025's prompt entropy, on centred tokens. Prompts of fewer than three tokens are left
    out: centred, two tokens always have entropy 0. NaN where none is left.

    Args:
        states: (n x d).
        prompts: Number of every row's prompt, (n).

    Example:
        >>> round(prompt_entropy_bits(np.eye(3), np.zeros(3, dtype=int)), 6)
        1.0
    """
    order = np.argsort(prompts, kind="stable")
    _, starts = np.unique(prompts[order], return_index=True)
    found = [
        _spectral_bits(covariance_eigenvalues(part))
        for part in np.split(states[order], starts[1:])
        if len(part) > 2
    ]
    return float(np.mean(found)) if found else float("nan")


def _spectral_bits(eigenvalues: Floats) -> float:
    total = float(eigenvalues.sum())
    if total <= 0:
        return 0.0
    shares = eigenvalues[eigenvalues > 1e-15 * total] / total
    return float(-(shares * np.log2(shares)).sum())


def knn_entropy_nats(points: Floats, k: int = 4) -> float:
    """Returns the Kozachenko–Leonenko differential entropy from k-th neighbours.

    To be used in few dimensions: its bias is 2 % at 16 and 10 % at 64 with 4,000 points.

    Args:
        points: (n x d), distinct. Their scale enters as d log c; bring them to one size first.
        k: Which neighbour.

    Example:
        >>> round(knn_entropy_nats(np.random.default_rng(0).uniform(size=(4000, 1))), 1) + 0.0
        0.0
    """
    n, d = points.shape
    distances = neighbour_distances(points, k)[:, k - 1]
    ball = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1)
    logs = np.log(distances[distances > 0])
    return float(digamma(n) - digamma(k) + ball + d * logs.mean()) if len(logs) else float("nan")


def histogram_entropy_bits(values: Floats, bins: int = BINS) -> float:
    """Returns the entropy of a histogram of all values pooled: the origin's own measure.

    Args:
        values: Any shape.
        bins: Of equal width, from the smallest to the largest value.

    Example:
        >>> histogram_entropy_bits(np.array([0.0, 1.0, 2.0, 3.0]), bins=4)
        2.0
    """
    counts, _ = np.histogram(values, bins=bins)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
