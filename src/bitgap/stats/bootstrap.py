"""The paired bootstrap over sentences.

Sentence ids are resampled jointly across languages and plans, so whatever they share cancels in a
contrast (Koehn 2004). Every statistic here is a function of sums over sentences, so a resample is a
row of weights, how often each sentence counts, and all resampled sums are one matrix product. A
statistic is therefore a function from weights (W x N) to values (W x ...).

Intervals are BCa (Efron 1987): bias-corrected by where the estimate falls among its draws, and
accelerated by the jackknife. Over the numbers of sentences that are used they cover too little, as
some sentences hold many times the damage of others; so every interval is taken at a higher level
(:func:`expanded_level`), by which it covers what it says. How often it does is measured:
``docs/coverage.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from bitgap.records import Estimate, Floats, Integers, Units

DRAWS = 2000
"""Draws of an interval that is reported: the Monte-Carlo error of an end is then some 3 % of it."""
LEVEL = 0.95
MAX_UNDEFINED = 0.01
"""Share of draws that may be undefined before the interval is withheld."""
HEAVY_TAILS = 9.0
"""Excess kurtosis that intervals allow for in what a sentence adds to a statistic: that of damage
per token, at 3 and 4 bits on NTREX, is 7 to 12 in Hebrew, where it is heaviest, and under 2 in
English and German."""
_UNSEEN = 24.0
"""Units at which half of it is allowed for: tails are in no sample that they are longer than."""
_ROUNDING = 1e-12
"""Relative spread of draws up to which they differ by rounding only."""
Statistic = Callable[[Floats], Floats]


def n_units(units: Units) -> int:
    """Returns how many units are resampled.

    Example:
        >>> n_units(8), n_units(np.array([0, 0, 0, 1, 1]))
        (8, 2)
    """
    return units if isinstance(units, int) else len(np.unique(units))


def n_sentences(units: Units) -> int:
    """Returns how many sentences the units hold.

    Example:
        >>> n_sentences(8), n_sentences(np.array([0, 0, 0, 1, 1]))
        (8, 5)
    """
    return units if isinstance(units, int) else len(units)


def spread_over(units: Units, weights: Floats) -> Floats:
    """Returns weights of units, (W x units), as weights of the sentences they hold, (W x N).

    Example:
        >>> spread_over(np.array([7, 7, 9]), np.array([[0.0, 2.0]]))
        array([[0., 0., 2.]])
    """
    if isinstance(units, int):
        return weights
    return weights[:, np.unique(units, return_inverse=True)[1]]


def bootstrap_weights(units: Units, draws: int, seed: int) -> Floats:
    """Returns how often each sentence is drawn, (draws x N).

    Sentences of one document come or stay away together: as many documents are drawn as there are.
    Where every sentence is a unit of its own, rows sum to N.

    Args:
        units: A number of sentences, or each sentence's document, (N).
        draws: How many.
        seed: Of the draws.

    Example:
        >>> bootstrap_weights(3, 2, seed=0)
        array([[1., 1., 1.],
               [0., 0., 3.]])
        >>> bootstrap_weights(np.array([0, 0, 1]), 2, seed=1)
        array([[1., 1., 1.],
               [2., 2., 0.]])
    """
    rng, n = np.random.default_rng(seed), n_units(units)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    return spread_over(units, drawn)


def drawn_again(units: Units, rng: np.random.Generator) -> tuple[Integers, Units]:
    """Returns a text drawn from a text: (numbers of its sentences, units of the new text).

    As many units are drawn as there are, with replacement; each copy is a unit of its own, so that
    the new text can be resampled as the old one is.

    Args:
        units: A number of sentences, or each sentence's document, (N).
        rng: Of the draw.

    Example:
        >>> drawn_again(np.array([7, 7, 9]), np.random.default_rng(1))
        (array([0, 1, 2]), array([0, 0, 1]))
    """
    n = n_units(units)
    drawn = rng.choice(n, n)
    if isinstance(units, int):
        return drawn, units
    of_sentence = np.unique(units, return_inverse=True)[1]
    members = [np.flatnonzero(of_sentence == one) for one in drawn]
    return np.concatenate(members), np.repeat(np.arange(n), [len(m) for m in members])


def jackknife_weights(units: Units) -> Floats:
    """Returns the ways to leave one unit out, (units x N).

    Example:
        >>> jackknife_weights(3)
        array([[0., 1., 1.],
               [1., 0., 1.],
               [1., 1., 0.]])
    """
    n = n_units(units)
    return spread_over(units, np.ones((n, n)) - np.eye(n))


def bca(point: Floats, draws: Floats, jackknife: Floats, level: float = LEVEL) -> Floats:
    """Returns the BCa interval of each statistic, (2 x ...).

    NaN where the draws do not vary, or the estimate or a leave-one-out estimate is undefined.

    Source: Efron 1987, eqs. 2.3 and 6.6.

    Args:
        point: Estimates, (...).
        draws: Resampled estimates, (B x ...); NaN where undefined.
        jackknife: Leave-one-out estimates, (n x ...).
        level: Coverage aimed at.

    Example:
        >>> x = np.arange(8.0)
        >>> draws, left_out = bootstrap_weights(8, 999, 0) @ x / 8, jackknife_weights(8) @ x / 7
        >>> bca(x.mean(), draws, left_out).round(2)
        array([1.88, 4.88])
    """
    shape = np.shape(point)
    columns = zip(
        np.ravel(point),
        draws.reshape(len(draws), -1).T,
        jackknife.reshape(len(jackknife), -1).T,
        strict=True,
    )
    ends = [_bca_one(p, b, j, level) for p, b, j in columns]
    return np.array(ends).T.reshape(2, *shape)


def _bca_one(point: float, draws: Floats, jackknife: Floats, level: float) -> tuple[float, float]:
    draws = np.sort(draws[np.isfinite(draws)])
    if not (_vary(draws) and np.isfinite(point) and np.isfinite(jackknife).all()):
        return np.nan, np.nan
    # Draws that differ from the estimate by rounding only are ties, and ties count half.
    same = _ROUNDING * float(np.abs(draws).max())
    less, at_most = float((draws < point - same).sum()), float((draws <= point + same).sum())
    below = (less + at_most) / 2
    # An estimate outside all its draws would have infinite bias; half a draw is the resolution.
    z0 = ndtri(np.clip(below / len(draws), 0.5 / len(draws), 1 - 0.5 / len(draws)))
    away = jackknife.mean() - jackknife
    spread = (away**2).sum() ** 1.5
    a = (away**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = z0 + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.asarray(np.quantile(draws, ndtr(z0 + z / (1 - a * z))), dtype=np.float64)
    return float(low), float(high)


def _vary(finite: Floats) -> bool:
    if len(finite) < 2:
        return False
    return bool(np.ptp(finite) > _ROUNDING * np.abs(finite).max())


def estimates(
    statistic: Statistic,
    units: Units,
    *,
    unit: str,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    as_of: int | None = None,
) -> list[Estimate]:
    """Returns each statistic with its BCa interval, expanded so that it covers its level.

    Args:
        statistic: From weights (W x n) to values (W x k), NaN where undefined.
        units: Number of sentences, or each sentence's document, (N): what is resampled.
        unit: Of the values.
        seed: Of the draws; the same seed resamples the same sentences.
        draws: How many.
        level: Coverage aimed at.
        as_of: How many units the interval is expanded for; those that are resampled when None, and
            fewer where the statistic compares parts of the text.

    Example:
        >>> x = np.arange(8.0)
        >>> one, = estimates(lambda w: (w @ x / 8)[:, None], 8, unit="bits", seed=0)
        >>> one.value, round(one.low, 2), round(one.high, 2)
        (3.5, 1.09, 5.91)
    """
    n = n_sentences(units)
    what = "sentence" if isinstance(units, int) else "document"
    point = np.atleast_1d(statistic(np.ones((1, n)))[0])
    if n_units(units) < 2:
        return [_without_interval(p, unit, level, n, f"one {what} has no spread") for p in point]
    resampled = statistic(bootstrap_weights(units, draws, seed)).reshape(draws, -1)
    left_out = statistic(jackknife_weights(units)).reshape(n_units(units), -1)
    undefined = 1 - np.isfinite(resampled).mean(0)
    holds = [bool(np.isfinite(column).all()) for column in left_out.T]
    few = as_of or n_units(units)
    lows, highs = bca(point, resampled, left_out, expanded_level(level, few))
    method = f"BCa bootstrap over {what}s, {draws} draws, {how_expanded(few, what)}"
    out = list[Estimate]()
    for value, low, high, missing, ok in zip(point, lows, highs, undefined, holds, strict=True):
        if missing > MAX_UNDEFINED:
            why = f"undefined in {missing:.1%} of the draws"
            out.append(_without_interval(value, unit, level, n, why))
        elif not (np.isfinite(low) and np.isfinite(high)):
            why = "the draws do not vary" if ok else f"undefined without one of the {what}s"
            out.append(_without_interval(value, unit, level, n, why))
        else:
            out.append(
                Estimate(
                    value=float(value), low=float(low), high=float(high),
                    unit=unit, level=level, n=n, method=method,
                )
            )  # fmt: skip
    return out


def estimate(statistic: Statistic, units: Units, **how: object) -> Estimate:
    """Returns one statistic with its interval; arguments as for :func:`estimates`.

    Example:
        >>> x = np.arange(8.0)
        >>> estimate(lambda w: w @ x / w.sum(1), 8, unit="bits", seed=0).value
        3.5
    """
    return estimates(lambda w: statistic(w).reshape(len(w), 1), units, **how)[0]  # type: ignore[arg-type]


def expanded_level(level: float, units: Units) -> float:
    """Returns the nominal level at which a bootstrap over so many sentences covers ``level``.

    Resamples of n sentences vary by (n − 1)/n too little, and a variance that n units tell is known
    as by ν degrees of freedom, n − 1 if what they add is normal, and with an excess kurtosis κ

        ν = 2 / (κ/n + 2/(n − 1))

    so that normal quantiles are widened to Student's t of ν. Damage has heavy tails
    (:data:`HEAVY_TAILS`), and of few units a part of them is allowed for, κ/n = 9/(n + 24).
    Sources: Hesterberg 2015, section 5.3; the variance of a variance, Cho & Cho 2008; that part,
    and that it is enough, by simulation (``docs/coverage.md``).

    Args:
        level: Coverage aimed at.
        units: Number of sentences, or each sentence's document, (N).

    Example:
        >>> [round(expanded_level(0.95, n), 3) for n in (4, 8, 64, 1000)]
        [1.0, 0.998, 0.968, 0.952]
    """
    n = n_units(units)
    if n < 2:
        return level
    freedom = 2 / (HEAVY_TAILS / (n + _UNSEEN) + 2 / (n - 1))
    z = stdtrit(freedom, (1 + level) / 2) * np.sqrt(n / (n - 1))
    return float(min(2 * ndtr(z) - 1, 1 - 1e-9))  # of two sentences, the whole range of draws


COVERED = ((4, 0.85), (6, 0.91), (8, 0.94), (12, 0.94))
"""Of so many units or fewer, the share of 95 % intervals that held the truth, of the statistic that
did worst (``docs/coverage.md``)."""


def how_expanded(n: int, what: str) -> str:
    """Returns, for the record, for how many units an interval was expanded; if few, what it covers.

    Args:
        n: How many units.
        what: One of them, ``sentence`` or ``document``.

    Example:
        >>> how_expanded(64, "sentence")
        'expanded for 64 sentences'
        >>> how_expanded(6, "document")
        'expanded for 6 documents, of which 95 % intervals hold the truth in some 91 %'
    """
    said = f"expanded for {n} {what}s"
    for few, share in COVERED:
        if n <= few:
            return f"{said}, of which 95 % intervals hold the truth in some {100 * share:.0f} %"
    return said


def central_range(draws: Floats, units: Units, *, level: float = LEVEL) -> Floats:
    """Returns the expanded percentile interval of each column of draws, (2 x ...).

    For numbers that are read off a table by the thousand, and for ranks, which have no useful
    jackknife. Over four sentences no such interval covers more than some 88 %, as no resample
    leaves the range of the sentences. NaN of one sentence, which has no spread, and where more than
    :data:`MAX_UNDEFINED` of the draws are undefined.

    Source: Hesterberg 2015, section 5.3.

    Args:
        draws: Resampled values, (B x ...); NaN where undefined.
        units: Number of sentences that were resampled, or each sentence's document, (N).
        level: Coverage aimed at.

    Example:
        >>> central_range(bootstrap_weights(8, 999, 0) @ np.arange(8.0) / 8, 8).round(2)
        array([1.08, 6.  ])
    """
    tail = (1 - expanded_level(level, units)) / 2
    columns = draws.reshape(len(draws), -1)
    defined = np.isfinite(columns)
    whole = defined.all(0)
    ends = np.full((2, columns.shape[1]), np.nan)
    if n_units(units) < 2:
        return ends.reshape(2, *draws.shape[1:])
    if whole.any():
        ends[:, whole] = np.quantile(columns[:, whole], [tail, 1 - tail], axis=0)
    for i in np.flatnonzero(~whole & (defined.mean(0) >= 1 - MAX_UNDEFINED)):
        ends[:, i] = np.quantile(columns[defined[:, i], i], [tail, 1 - tail])
    return ends.reshape(2, *draws.shape[1:])


def _without_interval(value: float, unit: str, level: float, n: int, reason: str) -> Estimate:
    if not np.isfinite(value):
        return Estimate(value=None, unit=unit, level=level, n=n, reason="undefined on this text")
    return Estimate(value=float(value), unit=unit, level=level, n=n, reason=reason)


def percentile_ends(draws: Floats, level: float = LEVEL) -> Floats:
    """Returns the percentile interval of each column of draws, (2 x ...).

    Args:
        draws: Resampled estimates, (B x ...).
        level: Coverage aimed at.

    Example:
        >>> percentile_ends(np.arange(101.0))
        array([ 2.5, 97.5])
    """
    tail = (1 - level) / 2
    return np.quantile(draws, [tail, 1 - tail], axis=0)


def percentile_estimate(
    value: float, draws: Floats, *, unit: str, level: float, n: int, method: str
) -> Estimate:
    """Returns one statistic with the percentile interval of its draws.

    Args:
        value: On the whole text.
        draws: Resampled, all of them defined, (B).
        unit: Of both.
        level: Coverage aimed at.
        n: Number of resampled units.
        method: What was resampled and how often, for the record.

    Example:
        >>> how = {"unit": "bits", "level": 0.9, "n": 8, "method": "101 draws"}
        >>> percentile_estimate(50, np.arange(101.0), **how).high
        95.0
    """
    low, high = percentile_ends(draws, level)
    return Estimate(
        value=float(value), low=float(low), high=float(high), unit=unit, level=level, n=n,
        method=method,
    )  # fmt: skip


def bootstrap_p(draws: Floats) -> float:
    """Returns the one-sided p of "above 0": (1 + draws not above 0) / (1 + B).

    An undefined draw is not above 0. Source: Phipson & Smyth 2010.

    Args:
        draws: Resampled estimates, (B).

    Example:
        >>> bootstrap_p(np.array([1.0, 2.0, -1.0]))
        0.5
    """
    return (1 + int((~(draws > 0)).sum())) / (1 + len(draws))


def bootstrap_p_equivalence(draws: Floats, sesoi: float) -> float:
    """Returns the one-sided p of "at least the SESOI": (1 + draws not under it) / (1 + B).

    The null hypothesis that a refutation must reject. An undefined draw is not under it. Source:
    Phipson & Smyth 2010.

    Args:
        draws: Resampled estimates, (B).
        sesoi: Smallest effect of interest, in their unit.

    Example:
        >>> bootstrap_p_equivalence(np.array([0.0, 0.1, 0.6]), 0.5)
        0.5
    """
    return (1 + int((~(draws < sesoi)).sum())) / (1 + len(draws))
