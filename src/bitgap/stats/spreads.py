"""Intervals of a spread: what true spread would give the one that was seen.

A standard deviation over languages adds up squares, so noise enlarges it, and resampling adds the
noise once more. Where the spread is small against its noise, percentile intervals lie wholly above
the truth and BCa, whose correction is of the median, is far off as well. Instead the test is
inverted (Garthwaite & Buckland 1996; Carpenter 1999): for each resample, the spread t that the
truth would have to have, along the direction seen, for that resample's errors to give what was
seen. With deviations o_λ from the mean, S² = mean o², and errors e = o* − o of a resample,

    mean (t·o/S + e)² = S²,   so   t = −c + √(c² − d + S²),   c = mean e·o/S,  d = mean e²,

and 0 where no spread is small enough. Quantiles of t are the interval's ends. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bitgap.records import Estimate, Floats, Integers, Units
from bitgap.stats.bootstrap import (
    LEVEL,
    MAX_UNDEFINED,
    bootstrap_weights,
    central_range,
    how_expanded,
    n_sentences,
    n_units,
)


def inverted_spread(off: Floats, drawn: Floats, counts: Integers) -> Floats:
    """Returns for each draw the spread that the truth would have to have, (W x P).

    Where a draw is the text itself, that is the spread seen.

    Args:
        off: Deviations from the mean of those that count, 0 for others, (P x A).
        drawn: The same of resamples, (W x P x A).
        counts: How many count, (P).

    Example:
        >>> off, two = np.array([[-1.0, 1.0]]), np.array([2])
        >>> inverted_spread(off, np.array([[[-1.0, 1.0]], [[-1.5, 1.5]]]), two)
        array([[1. ],
               [0.5]])
    """
    n = np.maximum(counts, 1)
    s2 = (off**2).sum(-1) / n
    s = np.sqrt(s2)
    along = off / np.where(s > 0, s, 1.0)[:, None]
    errors = drawn - off
    c = (errors * along).sum(-1) / n
    left = c**2 - (errors**2).sum(-1) / n + s2
    t = np.sqrt(np.maximum(left, 0.0)) - c
    # NaN of an undefined draw stays; where even no spread gives more than was seen, it is 0.
    return np.where(left < 0, 0.0, np.maximum(t, 0.0)) + 0.0 * left


def inverted_estimates(
    statistic: Callable[[Floats], Floats],
    units: Units,
    *,
    unit: str,
    seed: int,
    draws: int,
    level: float = LEVEL,
) -> list[Estimate]:
    """Returns spreads, or differences of spreads, with their intervals.

    The interval is expanded where units are few, and widened to hold the estimate where noise puts
    that outside.

    Args:
        statistic: From weights (W x n) to draws of :func:`inverted_spread`, or differences of such,
            (W x k); of the text itself it gives what was seen.
        units: Number of sentences, or each sentence's document, (N): what is resampled.
        unit: Of the values.
        seed: Of the draws.
        draws: How many.
        level: Coverage aimed at.

    Example:
        >>> logs = np.random.default_rng(0).normal(size=(3, 40)) + np.array([[0.0], [1.0], [2.0]])
        >>> def spread(w):
        ...     means = w @ logs.T / w.sum(1, keepdims=True)
        ...     off = means - means.mean(1, keepdims=True)
        ...     seen = logs.mean(1) - logs.mean()
        ...     return inverted_spread(seen[None], off[:, None], np.array([3]))
        >>> one, = inverted_estimates(spread, 40, unit="log2 units", seed=0, draws=500)
        >>> one.low < 0.816 < one.high
        True
    """
    n, few, what = n_sentences(units), n_units(units), "document"
    what = "sentence" if isinstance(units, int) else what
    point = np.atleast_1d(statistic(np.ones((1, n)))[0])
    resampled = statistic(bootstrap_weights(units, draws, seed)).reshape(draws, -1)
    lows, highs = central_range(resampled, units, level=level)
    method = f"test-inversion bootstrap over {what}s, {draws} draws, {how_expanded(few, what)}"
    missing = 1 - np.isfinite(resampled).mean(0)
    out: list[Estimate] = []
    for value, low, high, share in zip(point, lows, highs, missing, strict=True):
        reason = None
        if not np.isfinite(value):
            reason = "undefined on this text"
        elif few < 2:
            reason = f"one {what} has no spread"
        elif share > MAX_UNDEFINED:
            reason = f"undefined in {share:.1%} of the draws"
        seen, known = bool(np.isfinite(value)), reason is None
        out.append(
            Estimate(
                value=float(value) if seen else None,
                low=min(float(low), float(value)) if known else None,
                high=max(float(high), float(value)) if known else None,
                unit=unit,
                level=level,
                n=n,
                method=method if known else "",
                reason=reason,
            )
        )
    return out
