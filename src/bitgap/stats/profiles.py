"""Block profiles: numbers by depth, and what may be concluded from two of them.

Blocks are not exchangeable: profiles are smooth, so two that have nothing to do with each other
correlate, and a permutation of blocks finds that "significant" two to five times in ten. Within one
model both profiles are therefore detrended on (1, r, r²) and the correlation is tested with as many
degrees of freedom as the detrended series really have; that p is approximate and labelled so. The
valid unit is the model; tests across models come with the theory.

One block can make or break a correlation, so each one can be left out (:func:`without_each`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bitgap.records import Estimate, Floats, Integers
from bitgap.stats.pooling import t_above
from bitgap.stats.verdicts import LeftOut, Part

WITHOUT_ENDS = "without both ends"
"""Name of what is left without the first and the last block."""

TREND_TERMS = 3
"""Terms of the trend that is removed: constant, depth, depth²."""


def depths(n_blocks: int) -> Floats:
    """Returns r = l/(L−1) for every block, from 0 to 1.

    Example:
        >>> depths(5)
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    return np.linspace(0.0, 1.0, n_blocks)


def detrend(profile: Floats, at: Floats | None = None) -> Floats:
    """Returns what a quadratic in depth leaves of a profile, (L), or of each of many, (K x L).

    Args:
        profile: (L) or (K x L).
        at: Depths of its blocks where some are left out, (L); evenly spaced otherwise.

    Example:
        >>> detrend(np.array([0.0, 1.0, 4.0, 9.0, 16.0])).round(6) + 0.0
        array([0., 0., 0., 0., 0.])
    """
    r = depths(profile.shape[-1]) if at is None else np.asarray(at, dtype=np.float64)
    basis = _trend(r.tobytes())
    return profile - (profile @ basis) @ basis.T


@lru_cache(maxsize=1024)
def _trend(at: bytes) -> Floats:
    """Returns an orthonormal basis of quadratics at some depths, (L x 3); (L x L) of fewer."""
    r = np.frombuffer(at)
    return np.linalg.qr(np.stack([np.ones_like(r), r, r**2], axis=1))[0]


@lru_cache(maxsize=32)
def detrenders(n_blocks: int, gone: tuple[tuple[int, ...], ...]) -> Floats:
    """Returns what removes the trend from a profile of which some blocks are left out, (K x L x L).

    A product with a profile, (L), is what :func:`detrend` leaves of the blocks that are kept, and 0
    at the others: all ways of leaving out cost one product instead of a regression each.

    Args:
        n_blocks: L.
        gone: The blocks that are left out, K times; negative ones count from the end.

    Example:
        >>> profile = np.array([5.0, 1.0, 0.0, 2.0, 4.0])
        >>> left = detrenders(5, ((), (0,))) @ profile
        >>> np.allclose(left[0], detrend(profile))
        True
        >>> np.allclose(left[1], [0.0, *detrend(profile[1:], depths(5)[1:])])
        True
    """
    blocks, at = np.arange(n_blocks), depths(n_blocks)
    made = np.zeros((len(gone), n_blocks, n_blocks))
    for one, left_out in zip(made, gone, strict=True):
        kept = np.delete(blocks, left_out)
        basis = _trend(at[kept].tobytes())
        one[np.ix_(kept, kept)] = np.eye(len(kept)) - basis @ basis.T
    return made


def effective_dof(x: Floats, y: Floats) -> float:
    """Returns how many degrees of freedom the correlation of two detrended profiles has.

    n_eff = n (1 + 2 Σ_k (1−k/n) ρ_x(k) ρ_y(k))^{-1} (Bartlett 1935; Pyper & Peterman 1998, eq. 1),
    capped at n, less the trend's terms and the correlation's own one.

    Args:
        x: Detrended profile, (L).
        y: Detrended profile, (L).

    Example:
        >>> walk = detrend(np.random.default_rng(0).normal(size=12).cumsum())
        >>> round(effective_dof(walk, walk), 1)
        1.3
    """
    n = len(x)
    lags = np.arange(1, max(2, n // 2))
    inflation = 1 + 2 * float(
        (1 - lags / n) @ (_autocorrelation(x, lags) * _autocorrelation(y, lags))
    )
    return min(n, n / max(inflation, 1e-9)) - TREND_TERMS - 1


def _autocorrelation(x: Floats, lags: Integers) -> Floats:
    centred = x - x.mean()
    power = centred @ centred
    products = np.correlate(centred, centred, "full")[len(x) - 1 + lags]
    return products / power if power > 0 else np.zeros(len(lags))


@dataclass(frozen=True, slots=True)
class ProfileCorrelation:
    """The detrended correlation of two block profiles in one model.

    Attributes:
        estimate: r with its interval from Fisher's z at the effective degrees of freedom.
        p: One-sided p that r > 0, approximate; None where undefined.
        dof: Effective degrees of freedom.
        leave_out: Makes :attr:`without`, which few ask for.
    """

    estimate: Estimate
    p: float | None
    dof: float
    leave_out: Callable[[], Mapping[str, Estimate]] = field(
        default=dict[str, Estimate], compare=False, repr=False
    )

    @property
    def without(self) -> Mapping[str, Estimate]:
        """The same with one block left out, by ``without block 0`` and so on."""
        return LeftOut(self.leave_out)

    def p_equivalence(self, sesoi: float) -> float | None:
        """Returns the one-sided p of "r is at least the SESOI", approximate; None where undefined.

        A t on Fisher's z less the SESOI's, at the effective degrees of freedom: the tail that the
        interval is made from, a little wider.

        Args:
            sesoi: A correlation above 0 and under 1.
        """
        if self.p is None or self.estimate.value is None:
            return None
        away = np.arctanh(self.estimate.value) - np.arctanh(sesoi)
        return t_above(-away / _error_of_z(self.dof), self.dof)

    def part(self, name: str, sesoi: float) -> Part:
        """Returns this correlation as a part of a verdict, with the smallest p it can have."""
        return Part(
            name=name,
            estimate=self.estimate,
            sesoi=sesoi,
            p=self.p,
            p_minimum=smallest_p_of_correlation(self.dof),
            p_equivalence=self.p_equivalence(sesoi),
            without=self.without,
            over_blocks=True,
        )


def correlate_profiles(x: Floats, y: Floats, level: float = 0.95) -> ProfileCorrelation:
    """Returns the detrended correlation of two profiles of one model, and without each block.

    Args:
        x: Profile over blocks, (L).
        y: Profile over blocks, (L).
        level: Coverage aimed at.

    Example:
        >>> x = np.random.default_rng(0).normal(size=12)
        >>> found = correlate_profiles(x, 2 * x + np.arange(12))
        >>> round(found.estimate.value, 6), round(found.without["without block 3"].value, 6)
        (1.0, 1.0)
    """
    found = _correlate(x, y, level, depths(len(x)))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return found  # whatever is left out, there is none

    def leave_out() -> Mapping[str, Estimate]:
        return without_each(len(x), lambda kept: _correlate(x[kept], y[kept], level, kept).estimate)

    return ProfileCorrelation(found.estimate, found.p, found.dof, leave_out)


def without_each(n_blocks: int, statistic: Callable[[Integers], Estimate]) -> dict[str, Estimate]:
    """Returns a statistic over blocks with each block left out in turn, by ``without block 0``.

    For :attr:`~bitgap.stats.verdicts.Part.without`: what one block makes is no profile. The first
    and the last often lie far out together, so that each hides what the other does; they are left
    out together too, as :data:`WITHOUT_ENDS`.

    Args:
        n_blocks: L.
        statistic: Of the blocks that are kept, ascending, (L−1).

    Example:
        >>> profile = np.array([9.0, 1.0, 2.0])
        >>> mean = lambda kept: Estimate(
        ...     value=profile[kept].mean().item(), unit="bits", reason="by hand"
        ... )
        >>> left = without_each(3, mean)
        >>> left["without block 0"].value, left["without both ends"].value
        (1.5, 1.0)
    """
    blocks = np.arange(n_blocks)
    each = {f"without block {i}": statistic(np.delete(blocks, i)) for i in range(n_blocks)}
    return each | {WITHOUT_ENDS: statistic(blocks[1:-1])}


def _correlate(x: Floats, y: Floats, level: float, at: Floats | Integers) -> ProfileCorrelation:
    unit = "correlation over blocks, detrended in depth"
    n = len(x)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return _no_correlation(unit, level, n, "a profile is undefined at some block")
    if n <= TREND_TERMS:
        return _no_correlation(unit, level, n, "a profile is its own trend; nothing is left")
    # A trend in depth is one in the block's number too, shifted and stretched.
    a, b = detrend(x, at / max(at[-1], 1)), detrend(y, at / max(at[-1], 1))
    tiny = 1e-9
    if a.std() <= tiny * np.abs(x).max() or b.std() <= tiny * np.abs(y).max():
        return _no_correlation(unit, level, n, "a profile is its own trend; nothing is left")
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1 + 1e-12, 1 - 1e-12))
    dof = effective_dof(a, b)
    if dof <= 1:
        why = f"{n} blocks leave {max(dof, 0):.1f} degrees of freedom after detrending"
        return ProfileCorrelation(
            Estimate(value=r, unit=unit, level=level, n=n, reason=why), None, dof
        )
    p = t_above(r * np.sqrt(dof / (1 - r**2)), dof)
    half = ndtri((1 + level) / 2) * _error_of_z(dof)
    low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    method = f"Fisher z at {dof:.1f} effective degrees of freedom, approximate"
    return ProfileCorrelation(
        Estimate(
            value=r, low=float(low), high=float(high), unit=unit, level=level, n=n, method=method
        ),
        p,
        dof,
    )


def _error_of_z(dof: float) -> float:
    """Returns the standard error of Fisher's z of a correlation with so many degrees of freedom."""
    return float(1 / np.sqrt(max(dof - 1, 0.5)))


def _no_correlation(unit: str, level: float, n: int, why: str) -> ProfileCorrelation:
    return ProfileCorrelation(
        Estimate(value=None, unit=unit, level=level, n=n, reason=why), None, 0.0
    )


def smallest_p_of_correlation(dof: float) -> float:
    """Returns the p of r = .99, a correlation no profile pair will exceed in earnest.

    Example:
        >>> smallest_p_of_correlation(8) < 1e-6
        True
    """
    return t_above(0.99 * np.sqrt(dof / (1 - 0.99**2)), dof) if dof > 0 else 1.0


def smallest_p_both_ends(n_blocks: int) -> float:
    """Returns 1/C(L, 2): the chance that two named blocks are the two most extreme.

    Example:
        >>> round(smallest_p_both_ends(12), 4)
        0.0152
    """
    return 1 / comb(n_blocks, 2)


def window_share(n_blocks: int, window: tuple[float, float]) -> float:
    """Returns the share of blocks whose depth lies in the window: the null mass of a hit.

    Example:
        >>> round(window_share(12, (0.7, 0.8)), 3)
        0.083
    """
    return float(in_window(depths(n_blocks), window).mean())


def in_window(r: Floats, window: tuple[float, float]) -> NDArray[np.bool_]:
    """Returns whether depths lie in the window, ends included.

    Example:
        >>> in_window(depths(5), (0.7, 0.8))
        array([False, False, False,  True, False])
    """
    slack = 1e-9
    return (r >= window[0] - slack) & (r <= window[1] + slack)


@dataclass(frozen=True, slots=True)
class Peak:
    """Where a profile is largest.

    Attributes:
        place: Depth r of the most frequent peak over draws, with the interval of the peak's place.
        block: That block.
        share: Share of draws that peak there.
        shares: Share of draws that peak at each block, (L); empty where not known.
        leave_out: Makes :attr:`without`, which few ask for.
    """

    place: Estimate
    block: int
    share: float
    shares: tuple[float, ...] = ()
    leave_out: Callable[[], Mapping[str, Estimate]] = field(
        default=dict[str, Estimate], compare=False, repr=False
    )

    @property
    def without(self) -> Mapping[str, Estimate]:
        """The place with one block left out, by ``without block 0`` and so on."""
        return LeftOut(self.leave_out)

    def p_inside(self, window: tuple[float, float]) -> float | None:
        """Returns the one-sided p of "it peaks in the window", by the draws that do; None if
        they are not known.

        Args:
            window: Relative depths that count.
        """
        if not self.shares:
            return None
        inside = in_window(depths(len(self.shares)), window)
        hits = self.place.n * float(np.array(self.shares)[inside].sum())
        return (1 + hits) / (1 + self.place.n)


def locate_peak(draws: Floats, point: Floats, level: float = 0.95) -> Peak:
    """Returns where a profile peaks, by its bootstrap draws.

    Blocks that tie within a draw share it, so that a flat profile peaks nowhere in particular and
    its interval is the whole depth. A block whose value is undefined is no peak.

    Args:
        draws: Resampled profiles, (B x L).
        point: The profile, (L).
        level: Coverage; the interval is the central range of the draws' peaks.

    Example:
        >>> profile = np.array([0.0, 1.0, 0.0])
        >>> locate_peak(np.tile(profile, (9, 1)), profile).block
        1
    """
    r = depths(len(point))
    shares, modal, place = _located(draws, point, r, level)

    def leave_out() -> Mapping[str, Estimate]:
        return without_each(
            len(point), lambda kept: _located(draws[:, kept], point[kept], r[kept], level)[2]
        )

    return Peak(place, modal, float(shares[modal]), tuple(shares.tolist()), leave_out)


def _located(draws: Floats, point: Floats, r: Floats, level: float) -> tuple[Floats, int, Estimate]:
    """Returns the share of draws that peak at each block, (L), the modal block and its place."""
    shares = _peak_shares(draws)
    # Among equally frequent blocks the one the estimate itself peaks at.
    modal = int(np.lexsort((point, shares.round(9)))[-1])
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = r[np.searchsorted(shares.cumsum().round(9), tails)]
    return (
        shares,
        modal,
        Estimate(
            value=float(r[modal]),
            low=float(low),
            high=float(high),
            unit="relative depth",
            level=level,
            n=len(draws),
            method=f"modal peak of {len(draws)} bootstrap profiles; central range of peaks",
        ),
    )


def _peak_shares(draws: Floats) -> Floats:
    """Returns the share of draws that peak at each block, (L)."""
    values = np.where(np.isnan(draws), -np.inf, draws)
    # Equal blocks may differ in the last digit, as the sums behind them are rounded.
    rounding = 1e-9 * np.abs(draws[np.isfinite(draws)]).max(initial=0.0)
    tied = np.isclose(values, values.max(axis=1, keepdims=True), rtol=0, atol=rounding)
    return (tied / tied.sum(axis=1, keepdims=True)).mean(axis=0)


def lmg_shares(response: Floats, predictors: Sequence[Floats]) -> Floats:
    """Returns each predictor's share of explained variance, averaged over orders of entry.

    Lindeman, Merenda & Gold 1980. Shares sum to R²; NaN where the response does not vary.

    Args:
        response: (n).
        predictors: Two of them, (n) each.

    Example:
        >>> predictors = [np.arange(4.0), np.array([0.0, 1.0, 0.0, 1.0])]
        >>> lmg_shares(np.array([1.0, 2.0, 3.0, 5.0]), predictors).round(3)
        array([0.84 , 0.131])
    """
    a, b = predictors
    both, only_a, only_b = (_r_squared(response, xs) for xs in ([a, b], [a], [b]))
    return np.array([(only_a + both - only_b) / 2, (only_b + both - only_a) / 2])


def _r_squared(y: Floats, xs: Sequence[Floats]) -> float:
    design = np.stack([np.ones_like(y), *xs], axis=1)
    fitted, *_ = np.linalg.lstsq(design, y, rcond=None)
    total = ((y - y.mean()) ** 2).sum()
    return float(1 - ((y - design @ fitted) ** 2).sum() / total) if total > 0 else np.nan
