"""How many dimensions a cloud of states fills: linear counts by spectra, others by distance.

The participation ratio PR = (tr Σ)²/tr Σ² is biased where n is not far above d: for isotropic data
it is nd/(n+d) on average where d is true. Both traces are products of two covariances, so each is
estimated without bias from pairs of *different* units (sentences), averaged over all pairs, which
is what averaging over every way to halve the units gives:

    PR(w) = Σ_{s≠t} w_s w_t tr_s tr_t / Σ_{s≠t} w_s w_t G_st,   G_st = ‖X_s X_tᵀ‖²_F,  tr_s = ‖X_s‖²

with X_s the states of unit s less the mean of all, and w how often each unit counts. It is a ratio
of two forms in w, so resampling units costs next to nothing. Centring is on the mean of all states
and not done anew in each resample, which matters at order 1/S of S units.

Intrinsic dimensions (TwoNN, GRIDE) are of the manifold near each point and biased low where it is
high (true 20 → 16, 40 → 27 at n = 4,000), so only their profile over blocks is to be read.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize
from scipy.spatial.distance import cdist

from bitgap.records import Floats, Integers
from bitgap.stats.bootstrap import Statistic

_TILE_BYTES = 64 * 2**20
"""Memory for the units' covariances; they are made some columns at a time where it is too small."""


# -- participation ratio ---------------------------------------------------------------------------


def unit_products(states: Floats, units: Integers, n_units: int) -> tuple[Floats, Floats]:
    """Returns G_st = ‖X_s X_tᵀ‖²_F of every two units, (S x S), and tr_s = ‖X_s‖²_F, (S).

    Args:
        states: (n x d), centred already.
        units: Unit of every row, (n), from 0 to S − 1.
        n_units: S.

    Example:
        >>> unit_products(np.eye(2), np.array([0, 1]), 2)
        (array([[1., 0.],
               [0., 1.]]), array([1., 1.]))
    """
    traces = np.zeros(n_units)
    np.add.at(traces, units, (states**2).sum(1))
    n, d = states.shape
    if n * n <= min(d * (n + n_units**2), _TILE_BYTES // 8):
        member = (units[:, None] == np.arange(n_units)).astype(np.float64)
        return member.T @ (states @ states.T) ** 2 @ member, traces
    # ‖X_s X_tᵀ‖² = ⟨X_sᵀX_s, X_tᵀX_t⟩: linear in n, and the covariances are made a slice at a time.
    width = max(1, min(d, _TILE_BYTES // (8 * n_units * d)))
    rows = [states[units == s] for s in range(n_units)]
    products = np.zeros((n_units, n_units))
    for start in range(0, d, width):
        part = slice(start, start + width)
        slices = np.stack([x.T @ x[:, part] for x in rows]).reshape(n_units, -1)
        products += slices @ slices.T
    return products, traces


def participation_ratios(products: Floats, traces: Floats) -> Statistic:
    """Returns weights (W x S) -> PR of every site, (W x L), from pairs of different units.

    NaN where no two different units have weight.

    Args:
        products: G of every site, (L x S x S); see :func:`unit_products`.
        traces: tr of every site, (L x S).

    Example:
        >>> products, traces = unit_products(np.eye(4), np.arange(4) // 2, 2)
        >>> participation_ratios(products[None], traces[None])(np.ones((1, 2))).shape
        (1, 1)
    """
    apart = products * (1.0 - np.eye(products.shape[-1]))

    def statistic(weights: Floats) -> Floats:
        sums = weights @ traces.T
        above = sums**2 - (weights**2) @ (traces**2).T
        below = np.stack([((weights @ g) * weights).sum(1) for g in apart], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(below > 0, above / below, np.nan)

    return statistic


def participation_ratio(states: Floats) -> float:
    """Returns the plain (tr Σ̂)²/tr Σ̂²: nd/(n+d) on average for isotropic data of d dimensions.

    Args:
        states: (n x d).

    Example:
        >>> round(participation_ratio(np.random.default_rng(0).normal(size=(4000, 3))), 2)
        2.99
    """
    covariance = _smaller_gram(states)
    return float(np.trace(covariance) ** 2 / (covariance**2).sum())


# -- spectra ---------------------------------------------------------------------------------------


def covariance_eigenvalues(states: Floats) -> Floats:
    """Returns the eigenvalues of the covariance of states (n x d), largest first, none below 0.

    Example:
        >>> covariance_eigenvalues(np.array([[1.0, 0.0], [-1.0, 0.0]])).round(6)
        array([1., 0.])
    """
    values: Floats = np.linalg.eigvalsh(_smaller_gram(states)).astype(np.float64)
    return np.clip(values[::-1], 0.0, None)


def _smaller_gram(states: Floats) -> Floats:
    """Returns the covariance, or the products of rows, which have the same eigenvalues but 0."""
    centred = states - states.mean(0)
    wide = len(centred) < centred.shape[1]
    return (centred @ centred.T if wide else centred.T @ centred) / len(centred)


def rank_me(eigenvalues: Floats) -> float:
    """Returns RankMe: exp of the entropy of the normalised singular values (Garrido 2023, eq. 1).

    k for k equal eigenvalues. Here states are centred, as they are for the ratio beside it.

    Args:
        eigenvalues: Of the covariance; singular values of the states are their roots.

    Example:
        >>> round(rank_me(np.ones(5)), 6)
        5.0
    """
    roots = np.sqrt(eigenvalues[eigenvalues > 0])
    shares = roots / roots.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def components_for(eigenvalues: Floats, share: float = 0.95) -> int:
    """Returns how many principal components hold a share of the variance.

    Args:
        eigenvalues: Of the covariance, largest first.
        share: Of the variance.

    Example:
        >>> components_for(np.array([8.0, 1.0, 1.0]), 0.85)
        2
    """
    held = eigenvalues.cumsum() / eigenvalues.sum()
    return int(np.searchsorted(held.round(12), share)) + 1


# -- intrinsic dimension ---------------------------------------------------------------------------


def neighbour_distances(points: Floats, n_neighbours: int) -> Floats:
    """Returns every point's distances to its nearest others, nearest first, (n x k).

    Args:
        points: (n x d).
        n_neighbours: k, at most n − 1.

    Example:
        >>> neighbour_distances(np.array([[0.0], [1.0], [3.0]]), 2)
        array([[1., 3.],
               [1., 2.],
               [2., 3.]])
    """
    between = np.asarray(cdist(points, points), dtype=np.float64)
    np.fill_diagonal(between, np.inf)
    between.partition(n_neighbours - 1, axis=1)
    return np.sort(between[:, :n_neighbours], axis=1)


def gride(distances: Floats, scale: int) -> float | None:
    """Returns the GRIDE dimension of ratios μ = r_{2k}/r_k (Denti 2022, eq. 7), by likelihood.

    The likelihood equation is n/d + (k − 1) Σ log μ/(1 − μ^−d) = (2k − 1) Σ log μ; at scale k = 1
    it is TwoNN's, n/Σ log(r₂/r₁) (Facco 2017). A larger k looks at a larger neighbourhood.

    Args:
        distances: Of :func:`neighbour_distances`, at least 2k of them.
        scale: k.

    Returns:
        None where fewer than two points have distinct neighbours.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(2000, 2))
        >>> round(gride(neighbour_distances(points, 2), 1), 1)
        2.0
    """
    near, far = distances[:, scale - 1], distances[:, 2 * scale - 1]
    logs = np.log(far[near > 0] / near[near > 0])
    # Equal distances say nothing of the dimension at this scale, and would make it infinite.
    logs = logs[logs > 0]
    if len(logs) < 2:
        return None
    if scale == 1:
        return float(len(logs) / logs.sum())

    def slope(log_d: float) -> float:
        d = np.exp(log_d)
        held = (logs / -np.expm1(-d * logs)).sum()
        return float(len(logs) / d + (scale - 1) * held - (2 * scale - 1) * logs.sum())

    low, high = np.log(1e-3), np.log(1e6)
    if slope(low) <= 0 or slope(high) >= 0:
        return None
    return float(np.exp(optimize.brentq(slope, low, high)))
