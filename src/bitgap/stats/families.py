"""The model as unit: what several model families say together.

Blocks of one model are not exchangeable, models of different families are. A statistic is formed
within each family and tested across them; checkpoints of one family are one unit.

===================  =============================================  ==============================
statistic            p                                              must concur at α
===================  =============================================  ==============================
correlation r̄        one-sample t on Fisher's z, detrended, random  exact sign-flip; model swap
effect               one-sample t on effects, random effects        exact sign-flip
window hits          Poisson-binomial at each family's window mass
both ends            Stouffer over percentiles among block pairs
===================  =============================================  ==============================

The model swap pairs the predictor of one family with the outcome of another, at equal relative
depth, which keeps autocorrelation and the depth profile that all models share. The tests themselves
are in :mod:`bitgap.stats.pooling`, the verdict in :mod:`bitgap.stats.across`. Pure numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, prod

import numpy as np
from scipy import stats
from scipy.special import ndtri

from bitgap.errors import UserError
from bitgap.records import Estimate, Floats
from bitgap.stats.across import Across, too_few
from bitgap.stats.pooling import (
    hits_p,
    least_flip_p,
    least_swap_p,
    random_effects,
    sign_flip_p,
    stouffer_p,
    swap_p,
)
from bitgap.stats.profiles import (
    TREND_TERMS,
    Peak,
    correlate_profiles,
    depths,
    detrend,
    in_window,
    smallest_p_both_ends,
    window_share,
)

# -- what families hand in ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyProfiles:
    """Two block profiles of one family; families may differ in depth.

    Attributes:
        family: Its name, such as ``qwen3``.
        predictor: (L).
        outcome: (L).
    """

    family: str
    predictor: Floats
    outcome: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEffect:
    """One number of one family with its interval; larger supports the hypothesis."""

    family: str
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyPeak:
    """Where one family's profile is extreme."""

    family: str
    peak: Peak
    n_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEnds:
    """How far out each block of one family lies, (L), larger being farther."""

    family: str
    outlyingness: Floats


# -- what they say together -----------------------------------------------------------------------


def correlation_across(
    families: Sequence[FamilyProfiles],
    *,
    name: str = "mean correlation over blocks",
    level: float = 0.95,
) -> Across:
    """Returns r̄, the mean detrended correlation across families, back-transformed from Fisher's z.

    Args:
        families: One entry a family.
        name: What the correlation is of.
        level: Coverage of the interval.

    Raises:
        UserError: If a family is given twice, or its two profiles differ in length.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, noise = rng.normal(size=(3, 12)), 0.1 * rng.normal(size=(3, 12))
        >>> rows = zip(("opt", "bloom", "llama"), x, x + noise)
        >>> profiles = [FamilyProfiles(family=f, predictor=a, outcome=b) for f, a, b in rows]
        >>> correlation_across(profiles).estimate.value > 0.9
        True
    """
    _check_distinct([f.family for f in families])
    for f in families:
        if len(f.predictor) != len(f.outcome):
            raise UserError(
                f"{f.family}: predictor has {len(f.predictor)} blocks and outcome "
                f"{len(f.outcome)}; give both for the same blocks"
            )
    single = [correlate_profiles(f.predictor, f.outcome, level) for f in families]
    left_out = {
        f.family: str(c.estimate.reason)
        for f, c in zip(families, single, strict=True)
        if c.estimate.value is None
    }
    kept = [f for f in families if f.family not in left_out]
    unit = "correlation over blocks, detrended in depth"
    if len(kept) < 2:
        return too_few(name, unit, level, len(kept), left_out)
    swapped = _swapped_z(kept)
    z = np.diag(swapped)
    # A partial correlation given k variables has variance 1/(n − k − 3); k is 2, depth and depth².
    spare = np.array([len(f.predictor) - TREND_TERMS - 2 for f in kept])
    mean, low, high, p = random_effects(z, 1 / np.maximum(spare, 1), level)
    value, low, high = np.tanh([mean, low, high])
    m = len(kept)
    return Across(
        name=name,
        estimate=Estimate(
            value=float(value), low=float(low), high=float(high), unit=unit, level=level, n=m,
            method=f"random-effects t over {m} families on Fisher's z",
        ),
        p=p,
        minima={"t": 0.0, "sign flip": least_flip_p(m), "model swap": least_swap_p(m)},
        concurring={"sign flip": sign_flip_p(z), "model swap": swap_p(swapped)},
        agreeing=float((z > 0).mean()),
        opposite=tuple(
            f.family
            for f, c in zip(families, single, strict=True)
            if c.estimate.high is not None and c.estimate.high < 0
        ),
        n=m,
        left_out=left_out,
    )  # fmt: skip


def effect_across(families: Sequence[FamilyEffect], *, name: str, level: float = 0.95) -> Across:
    """Returns the mean effect across families.

    Args:
        families: One entry a family. Those whose effect has no interval count as precise as the
            least precise other one.
        name: What the effect is.
        level: Coverage of the interval.

    Raises:
        UserError: If a family is given twice.

    Example:
        >>> effect = Estimate(value=1.5, low=1.0, high=2.0, unit="bits", n=8)
        >>> both = [FamilyEffect(family=f, estimate=effect) for f in ("opt", "bloom")]
        >>> effect_across(both, name="gain").estimate.value
        1.5
    """
    _check_distinct([f.family for f in families])
    left_out = {f.family: str(f.estimate.reason) for f in families if f.estimate.value is None}
    kept = [f for f in families if f.estimate.value is not None]
    unit = families[0].estimate.unit if families else ""
    if len(kept) < 2:
        return too_few(name, unit, level, len(kept), left_out)
    values = np.array([f.estimate.value for f in kept], dtype=np.float64)
    mean, low, high, p = random_effects(values, _variances(kept), level)
    m = len(kept)
    return Across(
        name=name,
        estimate=Estimate(
            value=mean, low=low, high=high, unit=unit, level=level, n=m,
            method=f"random-effects t over {m} families",
        ),
        p=p,
        minima={"t": 0.0, "sign flip": least_flip_p(m)},
        concurring={"sign flip": sign_flip_p(values)},
        agreeing=float((values > 0).mean()),
        opposite=tuple(
            f.family for f in kept if f.estimate.high is not None and f.estimate.high < 0
        ),
        n=m,
        left_out=left_out,
    )  # fmt: skip


def window_across(
    families: Sequence[FamilyPeak],
    window: tuple[float, float],
    *,
    name: str = "share of families that peak in the window",
    level: float = 0.95,
) -> Across:
    """Returns the hit rate of a window of depth across families.

    A family hits if its modal peak lies inside. It counts as a miss for the upper end of the
    interval only if the interval of its place lies wholly outside, since a peak that could not be
    located speaks neither for the window nor against it. Ends are Clopper & Pearson's (1934).

    Args:
        families: One entry a family.
        window: Relative depths that count.
        name: What is located.
        level: Coverage of the interval.

    Raises:
        UserError: If a family is given twice.

    Example:
        >>> place = Estimate(value=0.75, low=0.7, high=0.8, unit="depth")
        >>> peak = Peak(place=place, block=9, share=0.9)
        >>> names = ("opt", "bloom", "llama")
        >>> peaks = [FamilyPeak(family=name, peak=peak, n_blocks=12) for name in names]
        >>> found = window_across(peaks, (0.65, 0.85))
        >>> found.estimate.value, round(found.p, 4)
        (1.0, 0.0046)
    """
    _check_distinct([f.family for f in families])
    masses = {f.family: window_share(f.n_blocks, window) for f in families}
    left_out = {name: "no block lies in the window" for name, w in masses.items() if w == 0}
    kept = [f for f in families if f.family not in left_out]
    m = len(kept)
    if m == 0:
        return too_few(name, "share of families", level, 0, left_out)
    ends = np.array([[f.peak.place.low, f.peak.place.value, f.peak.place.high] for f in kept])
    low_in, hit, high_in = in_window(ends.astype(np.float64), window).T
    slack = 1e-9
    outside = (ends[:, 2] < window[0] - slack) | (ends[:, 0] > window[1] + slack)
    hits, possible = int(hit.sum()), int((~outside).sum())
    tail = (1 - level) / 2
    mass = np.array([masses[f.family] for f in kept])
    return Across(
        name=name,
        estimate=Estimate(
            value=hits / m,
            low=float(stats.beta.ppf(tail, hits, m - hits + 1)) if hits else 0.0,
            high=float(stats.beta.isf(tail, possible + 1, m - possible)) if possible < m else 1.0,
            unit="share of families", level=level, n=m,
            method=f"exact binomial over {m} families, unlocated peaks counted both ways",
        ),
        p=hits_p(hits, mass),
        minima={"binomial": float(prod(mass))},
        concurring={},
        agreeing=float((low_in & high_in).mean()),
        opposite=(),
        n=m,
        left_out=left_out,
    )  # fmt: skip


def both_ends_across(
    families: Sequence[FamilyEnds],
    *,
    name: str = "mean percentile of both ends",
    level: float = 0.95,
) -> Across:
    """Returns how far out the first and the last block lie together, by Stouffer's method.

    Args:
        families: One entry a family.
        name: What is compared.
        level: Coverage of the interval of the mean percentile, a t over families.

    Raises:
        UserError: If a family is given twice.

    Example:
        >>> out = np.array([9.0, 1.0, 2.0, 8.0])
        >>> ends = [FamilyEnds(family=name, outlyingness=out) for name in ("opt", "bloom")]
        >>> round(both_ends_across(ends).estimate.value, 3)
        0.917
    """
    _check_distinct([f.family for f in families])
    left_out = {
        f.family: "some block's outlyingness is undefined"
        for f in families
        if not np.isfinite(f.outlyingness).all()
    }
    kept = [f for f in families if f.family not in left_out]
    unit = "percentile among pairs of blocks"
    if len(kept) < 2:
        return too_few(name, unit, level, len(kept), left_out)
    m = len(kept)
    percentiles = np.array([both_ends_percentile(f.outlyingness) for f in kept])
    mean, low, high, _ = random_effects(percentiles, np.ones(m), level)
    # The best percentile there is lies half a pair under 1.
    best = np.array([1 - smallest_p_both_ends(len(f.outlyingness)) / 2 for f in kept])
    return Across(
        name=name,
        estimate=Estimate(
            value=mean, low=max(low, 0.0), high=min(high, 1.0), unit=unit, level=level, n=m,
            method=f"t over {m} families",
        ),
        p=stouffer_p(percentiles),
        minima={"Stouffer": stouffer_p(best)},
        concurring={},
        agreeing=float((percentiles > 0.5).mean()),
        opposite=tuple(
            f.family for f, x in zip(kept, percentiles, strict=True) if x < (1 - level) / 2
        ),
        n=m,
        left_out=left_out,
    )  # fmt: skip


def both_ends_percentile(outlyingness: Floats) -> float:
    """Returns the mid-percentile of min(first, last) among all pairs of blocks, in (0, 1).

    A pair is as far out as its less outlying member, so one extreme end is not enough. Ties count
    half, and so does the pair itself: among exchangeable blocks the mean is 1/2.

    Args:
        outlyingness: (L).

    Example:
        >>> round(both_ends_percentile(np.array([9.0, 1.0, 2.0, 8.0])), 3)
        0.917
    """
    least = min(outlyingness[0], outlyingness[-1])
    # Both members of a pair must lie beyond, so pairs are counted by counting blocks.
    farther = comb(int((outlyingness > least).sum()), 2)
    as_far = comb(int((outlyingness >= least).sum()), 2) - farther
    return 1 - (farther + as_far / 2) * smallest_p_both_ends(len(outlyingness))


# -- inside -------------------------------------------------------------------------------------


def _variances(families: Sequence[FamilyEffect]) -> Floats:
    found = list[float]()
    for f in families:
        low, high = f.estimate.low, f.estimate.high
        half = None if low is None or high is None or high <= low else (high - low) / 2
        found.append(np.nan if half is None else half / ndtri((1 + f.estimate.level) / 2))
    widths = np.array(found) ** 2
    known = widths[np.isfinite(widths)]
    return np.where(np.isfinite(widths), widths, known.max() if len(known) else 1.0)


def _swapped_z(families: Sequence[FamilyProfiles]) -> Floats:
    """Returns Fisher's z of every predictor with every outcome, at its relative depth, (M x M)."""
    rows = list[Floats]()
    for mine in families:
        r = depths(len(mine.predictor))
        outcomes = [np.interp(r, depths(len(f.outcome)), f.outcome) for f in families]
        x, *ys = detrend(np.stack([mine.predictor, *outcomes]))
        norms = np.linalg.norm(ys, axis=1) * np.linalg.norm(x)
        correlation = np.array(ys) @ x / np.where(norms > 0, norms, np.inf)
        rows.append(np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12)))
    return np.array(rows)


def _check_distinct(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"family {', '.join(twice)} is given more than once; checkpoints of one family are one "
            f"unit, so give one entry for each family"
        )
