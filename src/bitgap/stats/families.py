"""The model as unit: what several model families say together.

Blocks of one model are not exchangeable, models of different families are. A statistic is formed
within each family and tested across them. Checkpoints of one family are one unit: entries of one
name are averaged before families are pooled, correlations in Fisher's z.

=================  ==============================================  ==============================
statistic          p                                               must concur at α
=================  ==============================================  ==============================
correlation r̄      one-sample t on Fisher's z, detrended, random   exact sign-flip; model swap
effect             one-sample t on effects, random effects         exact sign-flip
window hits        Poisson-binomial at each family's window mass
both ends          Stouffer over percentiles among block pairs
=================  ==============================================  ==============================

The model swap pairs the predictor of one family with the outcome of another, at equal relative
depth, which keeps autocorrelation and the depth profile that all models share. "At least the SESOI"
is tested by the same tests, each family's own value less the SESOI (for window hits, the binomial
at the SESOI; for both ends, the t and the sign flip); in the swap, only a family's own pairing is
moved. Every correlation is also pooled with one block left out in every family. The tests
themselves are in :mod:`bitgap.stats.pooling`, the verdict in :mod:`bitgap.stats.across`. Pure numpy
and scipy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb, prod
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy import stats
from scipy.special import ndtri

from bitgap.errors import UserError
from bitgap.records import Estimate, Floats
from bitgap.stats.across import Across, Against, too_few
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
    WITHOUT_ENDS,
    Peak,
    correlate_profiles,
    depths,
    detrend,
    detrenders,
    in_window,
    smallest_p_both_ends,
    window_share,
)

CHANCE_OF_ENDS = 0.5
"""Mean percentile of two ends that are blocks like any other."""

# -- what families hand in ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyProfiles:
    """Two block profiles of one checkpoint of a family; models may differ in depth.

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
        families: One entry a checkpoint; those of one family are averaged in Fisher's z.
        name: What the correlation is of.
        level: Coverage of the interval.

    Raises:
        UserError: If two profiles of a checkpoint differ in length.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, noise = rng.normal(size=(3, 12)), 0.1 * rng.normal(size=(3, 12))
        >>> rows = zip(("opt", "bloom", "llama"), x, x + noise)
        >>> profiles = [FamilyProfiles(family=f, predictor=a, outcome=b) for f, a, b in rows]
        >>> correlation_across(profiles).estimate.value > 0.9
        True
    """
    for f in families:
        if len(f.predictor) != len(f.outcome):
            raise UserError(
                f"{f.family}: predictor has {len(f.predictor)} blocks and outcome "
                f"{len(f.outcome)}; give both for the same blocks"
            )
    single = [correlate_profiles(f.predictor, f.outcome, level) for f in families]
    undefined = {
        f.family: str(c.estimate.reason)
        for f, c in zip(families, single, strict=True)
        if c.estimate.value is None
    }
    both = [(f, c) for f, c in zip(families, single, strict=True) if c.estimate.value is not None]
    units = grouped([f for f, _ in both])
    left_out = {name: why for name, why in undefined.items() if name not in units}
    unit, m = "correlation over blocks, detrended in depth", len(units)
    if m < 2:
        return too_few(name, unit, level, m, left_out)
    entries, shares, variances = _weighing(units)
    of_entries = _swapped_z(entries)
    # A family's own value is that of its checkpoints' own pairs, not of one's with another's.
    z = shares @ np.diag(of_entries)
    swapped = shares @ of_entries @ shares.T
    np.fill_diagonal(swapped, z)
    mean, low, high, p = random_effects(z, variances, level)
    estimate = _of_z(mean, low, high, level, m)

    def against(sesoi: float) -> Against:
        least = float(np.arctanh(sesoi))
        return random_effects(least - z, variances, level)[3], {
            "sign flip": sign_flip_p(least - z),
            "model swap": swap_p(least * np.eye(m) - swapped),
        }

    return Across(
        name=name,
        estimate=estimate,
        p=p,
        minima={"t": 0.0, "sign flip": least_flip_p(m), "model swap": least_swap_p(m)},
        concurring={"sign flip": sign_flip_p(z), "model swap": swap_p(swapped)},
        agreeing=float((z > 0).mean()),
        opposite=_opposite((f.family, c.estimate) for f, c in both),
        n=m,
        left_out=left_out,
        against=against,
        leave_out=lambda: _correlations_without(entries, shares, variances, level),
        over_blocks=True,
    )


def correlations_with(
    families: Sequence[FamilyProfiles], outcomes: Sequence[Floats], level: float = 0.95
) -> list[tuple[Estimate, float]]:
    """Returns the pooled correlation with each of several outcomes, and its one-sided p.

    As :func:`correlation_across` would say of each, without the tests that must concur.

    Args:
        families: One entry a checkpoint, at least two families; their own outcomes play no part.
        outcomes: Of each entry, (K x L); none may be a quadratic in depth.
        level: Coverage of the interval.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(3, 12))
        >>> made = [FamilyProfiles(family=f, predictor=a, outcome=a) for f, a in zip("abc", x)]
        >>> found = correlations_with(made, [np.stack([a, -a]) for a in x])
        >>> [round(estimate.value, 6) for estimate, _ in found]
        [1.0, -1.0]
    """
    entries, shares, variances = _weighing(grouped(families))
    of = {id(f): y for f, y in zip(families, outcomes, strict=True)}
    z = shares @ np.array([_z_of(f.predictor, of[id(f)]) for f in entries])
    found = list[tuple[Estimate, float]]()
    for one in z.T:
        mean, low, high, p = random_effects(one, variances, level)
        found.append((_of_z(mean, low, high, level, len(shares)), p))
    return found


def _weighing(
    units: Mapping[str, Sequence[FamilyProfiles]],
) -> tuple[list[FamilyProfiles], Floats, Floats]:
    """Returns entries of one family next to each other, how much each counts for its family, (M x
    E), and the variance of each family's z, (M).
    """
    entries = [f for models in units.values() for f in models]
    shares = _shares([len(models) for models in units.values()])
    # A partial correlation given k variables has variance 1/(n − k − 3); k is 2, depth and depth².
    spare = np.array([len(f.predictor) - TREND_TERMS - 2 for f in entries])
    return entries, shares, shares @ (1 / np.maximum(spare, 1))


def _of_z(mean: float, low: float, high: float, level: float, m: int) -> Estimate:
    value, low, high = np.tanh([mean, low, high]).tolist()
    return Estimate(
        value=value, low=low, high=high, unit="correlation over blocks, detrended in depth",
        level=level, n=m, method=f"random-effects t over {m} families on Fisher's z",
    )  # fmt: skip


def _correlations_without(
    entries: Sequence[FamilyProfiles], shares: Floats, variances: Floats, level: float
) -> dict[str, Estimate]:
    """Returns the pooled correlation without each block, counted from the front and the back, and
    without both ends.

    In families of one depth that is every block once; a family too shallow for a place keeps all
    of its blocks.
    """
    deepest = max(len(f.predictor) for f in entries)
    places = [*range((deepest + 1) // 2), *range(-1, -(deepest // 2) - 1, -1)]
    gone = [(place,) for place in places] + [(0, -1)]
    names = [*(f"without block {place}" for place in places), WITHOUT_ENDS]
    z = shares @ np.array([_z_without(f, gone) for f in entries])
    return {
        name: _pooled_without(one, variances, level) for name, one in zip(names, z.T, strict=True)
    }


def _pooled_without(z: Floats, variances: Floats, level: float) -> Estimate:
    if not np.isfinite(z).all():
        unit = "correlation over blocks, detrended in depth"
        return Estimate(
            value=None, unit=unit, level=level, n=len(z), reason="a family has no correlation then"
        )
    mean, low, high, _ = random_effects(z, variances, level)
    return _of_z(mean, low, high, level, len(z))


def _z_without(family: FamilyProfiles, gone: Sequence[tuple[int, ...]]) -> Floats:
    """Returns Fisher's z without some blocks, for each way of leaving out, (K)."""
    n = len(family.predictor)
    here = tuple(tuple(place for place in one if -n <= place < n) for one in gone)
    kept = detrenders(n, here)
    return _z(kept @ family.predictor, kept @ family.outcome)


def _z_of(predictor: Floats, outcomes: Floats) -> Floats:
    """Returns Fisher's z of one profile, (L), with each of several, (K x L), detrended: (K)."""
    return _z(detrend(predictor), detrend(outcomes))


def _z(a: Floats, b: Floats) -> Floats:
    """Returns Fisher's z of profiles whose trend is removed, over the last axis."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    with np.errstate(invalid="ignore"):
        return _fisher_z(
            np.where(norms > 0, (a * b).sum(-1), np.nan) / np.where(norms > 0, norms, 1)
        )


def _fisher_z(r: Floats | float) -> Any:
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


def effect_across(families: Sequence[FamilyEffect], *, name: str, level: float = 0.95) -> Across:
    """Returns the mean effect across families.

    Args:
        families: One entry a checkpoint; those of one family are averaged. Those whose effect has
            no interval count as precise as the least precise other one.
        name: What the effect is.
        level: Coverage of the interval.

    Example:
        >>> effect = Estimate(value=1.5, low=1.0, high=2.0, unit="bits", n=8)
        >>> both = [FamilyEffect(family=f, estimate=effect) for f in ("opt", "bloom")]
        >>> effect_across(both, name="gain").estimate.value
        1.5
    """
    unit = families[0].estimate.unit if families else ""
    told = grouped([f for f in families if f.estimate.value is not None])
    left_out = {f.family: str(f.estimate.reason) for f in families if f.family not in told}
    m = len(told)
    if m < 2:
        return too_few(name, unit, level, m, left_out)
    kept = [_averaged(models) for models in told.values()]
    values = np.array([f.estimate.value for f in kept], dtype=np.float64)
    variances = _variances(kept)
    mean, low, high, p = random_effects(values, variances, level)

    def against(sesoi: float) -> Against:
        short = sesoi - values
        return random_effects(short, variances, level)[3], {"sign flip": sign_flip_p(short)}

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
        opposite=_opposite((f.family, f.estimate) for f in kept),
        n=m,
        left_out=left_out,
        against=against,
    )  # fmt: skip


def _averaged(models: Sequence[FamilyEffect]) -> FamilyEffect:
    """Returns the effect of a family as the mean of its checkpoints.

    Checkpoints are scored on the same text, so what text adds to their errors does not average
    out: the mean's standard error counts as the mean of theirs. What they differ by beyond that
    does, and is added.
    """
    if len(models) == 1:
        return models[0]
    values = np.array([f.estimate.value for f in models], dtype=np.float64)
    within, level = _variances(models), models[0].estimate.level
    known = any(f.estimate.low is not None for f in models)
    between = max(0.0, float(values.var(ddof=1) - within.mean())) if known else 0.0
    error = np.sqrt(np.sqrt(within).mean() ** 2 + between / len(models))
    half = float(ndtri((1 + level) / 2) * error)
    value, n = float(values.mean()), len(models)
    pooled = replace(
        models[0].estimate, value=value, low=None, high=None, reason=f"mean of {n} checkpoints"
    )
    if known:
        pooled = replace(pooled, low=value - half, high=value + half)
    return FamilyEffect(family=models[0].family, estimate=pooled)


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
    located speaks neither for the window nor against it. Ends are Clopper & Pearson's (1934). Of
    several checkpoints most must: more than half to hit, more than half to lie outside. Without a
    block, those count that tell where they peak then.

    Args:
        families: One entry a checkpoint.
        window: Relative depths that count.
        name: What is located.
        level: Coverage of the interval.

    Example:
        >>> place = Estimate(value=0.75, low=0.7, high=0.8, unit="depth")
        >>> peak = Peak(place=place, block=9, share=0.9)
        >>> names = ("opt", "bloom", "llama")
        >>> peaks = [FamilyPeak(family=name, peak=peak, n_blocks=12) for name in names]
        >>> found = window_across(peaks, (0.65, 0.85))
        >>> found.estimate.value, round(found.p, 4)
        (1.0, 0.0046)
    """
    empty = {f.family for f in families if window_share(f.n_blocks, window) == 0}
    units = grouped([f for f in families if window_share(f.n_blocks, window) > 0])
    left_out = {name: "no block lies in the window" for name in empty if name not in units}
    m = len(units)
    if m == 0:
        return too_few(name, "share of families", level, 0, left_out)
    # A family whose checkpoints differ in depth may hit as easily as the one with most in it.
    mass = np.array([max(window_share(f.n_blocks, window) for f in u) for u in units.values()])
    places = [[f.peak.place for f in models] for models in units.values()]
    estimate, possible = _hit_rate(places, window, level)

    def against(sesoi: float) -> Against:
        return float(stats.binom.cdf(possible, m, sesoi)), {}

    def leave_out() -> Mapping[str, Estimate]:
        told = [[f.peak.without for f in models] for models in units.values()]
        names = dict.fromkeys(name for models in told for w in models for name in w)
        return {
            name: _hit_rate(
                [
                    [w.get(name, place) for w, place in zip(ws, at, strict=True)]
                    for ws, at in zip(told, places, strict=True)
                ],
                window,
                level,
            )[0]
            for name in names
        }

    return Across(
        name=name,
        estimate=estimate,
        p=hits_p(round((estimate.value or 0.0) * m), mass),
        minima={"binomial": float(prod(mass))},
        concurring={},
        agreeing=float(np.mean([_most(_lies(p, window)[1] for p in at) for at in places])),
        opposite=(),
        n=m,
        left_out=left_out,
        chance=float(mass.mean()),
        against=against,
        leave_out=leave_out,
    )


def _hit_rate(
    places: Sequence[Sequence[Estimate]], window: tuple[float, float], level: float
) -> tuple[Estimate, int]:
    """Returns the share of families that hit, and how many may do; a list of places a family."""
    found = [[_lies(place, window) for place in models] for models in places]
    hits = sum(_most(hit for hit, _, _ in models) for models in found)
    possible = sum(not _most(outside for _, _, outside in models) for models in found)
    m, tail = len(places), (1 - level) / 2
    estimate = Estimate(
        value=hits / m,
        low=float(stats.beta.ppf(tail, hits, m - hits + 1)) if hits else 0.0,
        high=float(stats.beta.isf(tail, possible + 1, m - possible)) if possible < m else 1.0,
        unit="share of families", level=level, n=m,
        method=f"exact binomial over {m} families, unlocated peaks counted both ways",
    )  # fmt: skip
    return estimate, possible


def _lies(place: Estimate, window: tuple[float, float]) -> tuple[bool, bool, bool]:
    """Returns whether a place is a hit, its interval wholly inside, and wholly outside."""
    ends = np.array([place.low, place.value, place.high], dtype=np.float64)
    low_in, hit, high_in = in_window(ends, window)
    slack = 1e-9
    outside = ends[2] < window[0] - slack or ends[0] > window[1] + slack
    return bool(hit), bool(low_in and high_in), bool(outside)


def _most(held: Iterable[bool]) -> bool:
    """Returns whether more than half do."""
    all_of_them = list(held)
    return 2 * sum(all_of_them) > len(all_of_them)


def both_ends_across(
    families: Sequence[FamilyEnds],
    *,
    name: str = "mean percentile of both ends",
    level: float = 0.95,
) -> Across:
    """Returns how far out the first and the last block lie together, by Stouffer's method.

    Args:
        families: One entry a checkpoint; percentiles of one family are averaged.
        name: What is compared.
        level: Coverage of the interval of the mean percentile, a t over families.

    Example:
        >>> out = np.array([9.0, 1.0, 2.0, 8.0])
        >>> ends = [FamilyEnds(family=name, outlyingness=out) for name in ("opt", "bloom")]
        >>> round(both_ends_across(ends).estimate.value, 3)
        0.917
    """
    units = grouped([f for f in families if np.isfinite(f.outlyingness).all()])
    left_out = {
        f.family: "some block's outlyingness is undefined"
        for f in families
        if f.family not in units
    }
    unit, m = "percentile among pairs of blocks", len(units)
    if m < 2:
        return replace(too_few(name, unit, level, m, left_out), chance=CHANCE_OF_ENDS)
    percentiles = np.array(
        [np.mean([both_ends_percentile(f.outlyingness) for f in u]) for u in units.values()],
        dtype=np.float64,
    )
    mean, low, high, _ = random_effects(percentiles, np.ones(m), level)
    # The best percentile there is lies half a pair under 1.
    best = np.array(
        [1 - max(smallest_p_both_ends(len(f.outlyingness)) for f in u) / 2 for u in units.values()]
    )

    def against(sesoi: float) -> Against:
        short = sesoi - percentiles
        return random_effects(short, np.ones(m), level)[3], {"sign flip": sign_flip_p(short)}

    return Across(
        name=name,
        estimate=Estimate(
            value=mean, low=max(low, 0.0), high=min(high, 1.0), unit=unit, level=level, n=m,
            method=f"t over {m} families",
        ),
        p=stouffer_p(percentiles),
        minima={"Stouffer": stouffer_p(best)},
        concurring={},
        agreeing=float((percentiles > CHANCE_OF_ENDS).mean()),
        opposite=tuple(
            name for name, x in zip(units, percentiles, strict=True) if x < (1 - level) / 2
        ),
        n=m,
        left_out=left_out,
        chance=CHANCE_OF_ENDS,
        against=against,
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
    sizes = np.array([len(f.predictor) for f in families])
    found = np.empty((len(families), len(families)))
    for n in np.unique(sizes).tolist():
        r, mine = depths(n), np.flatnonzero(sizes == n).tolist()
        x = detrend(np.stack([families[i].predictor for i in mine]))
        y = detrend(np.stack([np.interp(r, depths(len(f.outcome)), f.outcome) for f in families]))
        norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)
        found[mine] = _fisher_z(x @ y.T / np.where(norms > 0, norms, np.inf))
    return found


class _OfFamily(Protocol):
    @property
    def family(self) -> str: ...


T = TypeVar("T", bound=_OfFamily)


def grouped(entries: Sequence[T]) -> dict[str, list[T]]:
    """Returns entries by family, in the order of first appearance.

    Example:
        >>> ends = [FamilyEnds(family=name, outlyingness=np.ones(4)) for name in ("a", "b", "a")]
        >>> {name: len(models) for name, models in grouped(ends).items()}
        {'a': 2, 'b': 1}
    """
    found: dict[str, list[T]] = {}
    for one in entries:
        found.setdefault(one.family, []).append(one)
    return found


def _shares(sizes: Sequence[int]) -> Floats:
    """Returns how much each entry counts for its family, (M x E): an equal share."""
    return np.repeat(np.eye(len(sizes)) / np.array(sizes)[:, None], sizes, axis=1)


def _opposite(told: Iterable[tuple[str, Estimate]]) -> tuple[str, ...]:
    """Returns families all of whose checkpoints are significantly opposite."""
    found: dict[str, list[bool]] = {}
    for family, estimate in told:
        found.setdefault(family, []).append(estimate.high is not None and estimate.high < 0)
    return tuple(family for family, all_of_them in found.items() if all(all_of_them))
