"""Where one set of blocks stands among the others of its size: the share of them that it beats.

Ranks are bounded and jump, so their interval is the percentile range of the draws (a rank that is 1
in every draw has the interval [1, 1], and no BCa). Resampling adds noise to what is compared, which
pulls extreme ranks towards the middle; the interval is widened to hold the estimate where it did.
Where only a random sample of the sets was scored, the share among all of them is uncertain for that
as well, and the interval holds both. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bitgap.records import Estimate, Floats, Units
from bitgap.stats.bootstrap import (
    LEVEL,
    MAX_UNDEFINED,
    bootstrap_weights,
    expanded_level,
    how_expanded,
    n_sentences,
    n_units,
    percentile_ends,
)

SHARE = "share of other sets"


def share_beaten(values: Floats, mine: int) -> Floats:
    """Returns the share of the other sets with a larger value than one has, (... x T) to (...).

    Args:
        values: Of every set, less being better; NaN counts as worse than any value.
        mine: Place of the set; the share is NaN where its own value is.

    Example:
        >>> share_beaten(np.array([3.0, 1.0, 2.0, 4.0, np.nan]), 2)
        array(0.75)
    """
    own = values[..., mine, None]
    with np.errstate(invalid="ignore"):
        worse = (values > own) | np.isnan(values)
    worse[..., mine] = False
    share = worse.sum(-1) / max(values.shape[-1] - 1, 1)
    return np.where(np.isfinite(own[..., 0]), share, np.nan)


def share_draws(
    values: Callable[[Floats], Floats], mine: int, units: Units, *, draws: int, seed: int,
    of_all: int | None = None,
) -> Floats:  # fmt: skip
    """Returns draws of the share of the other sets that one beats, (B).

    Args:
        values: From weights to values of every set, (W x T).
        mine: Place of the set.
        units: Number of sentences, or each sentence's document, (N): what is resampled.
        draws: How many, B.
        seed: Of the draws.
        of_all: How many other sets there are, if those given are a random sample of them: the share
            among all is then drawn from what the sample leaves possible (Beta of k + 1/2 and
            m − k + 1/2, for k of m sampled sets beaten; Jeffreys 1946), narrower the more of all
            are in the sample.

    Example:
        >>> kl = np.array([[1.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
        >>> share_draws(lambda w: w @ kl.T, 0, 2, draws=3, seed=0)
        array([1., 1., 1.])
        >>> drawn = share_draws(lambda w: w @ kl.T, 0, 2, draws=3, seed=0, of_all=99)
        >>> bool((drawn < 1).all())  # two sets that were beaten say little of 97 others
        True
    """
    shares = share_beaten(values(bootstrap_weights(units, draws, seed)), mine)
    if of_all is None:
        return shares
    m = values(np.ones((1, n_sentences(units)))).shape[-1] - 1
    if m >= of_all:
        return shares
    rng, known = np.random.default_rng([seed, m]), np.isfinite(shares)
    beaten = np.where(known, shares, 0.0) * m
    drawn: Floats = np.asarray(rng.beta(beaten + 0.5, m - beaten + 0.5), dtype=np.float64)
    # Of a finite number the part that was not sampled alone is uncertain.
    rest = (of_all - m) / of_all
    return np.where(known, (1 - rest) * shares + rest * drawn, np.nan)


def share_estimate(
    values: Callable[[Floats], Floats], mine: int, units: Units, *, draws: int, seed: int = 0,
    level: float = LEVEL, of_all: int | None = None, unit: str = SHARE,
) -> Estimate:  # fmt: skip
    """Returns the share of the other sets that one beats, with its interval.

    Arguments as for :func:`share_draws`, and the level of the interval and the name of its unit.

    Example:
        >>> kl = np.random.default_rng(0).gamma(4, 1, (20, 30))
        >>> found = share_estimate(lambda w: w @ kl.T, 3, 30, draws=500)
        >>> found.low <= found.value <= found.high
        True
        >>> found.method
        'percentile bootstrap over sentences, 500 draws, expanded for 30 sentences'
    """
    n, what = n_sentences(units), "sentence" if isinstance(units, int) else "document"
    every = values(np.ones((1, n)))[0]
    point = float(share_beaten(every, mine))
    if not np.isfinite(point):
        return Estimate(value=None, unit=unit, level=level, n=n, reason="undefined on this text")
    if n_units(units) < 2:
        why = f"one {what} has no spread"
        return Estimate(value=point, unit=unit, level=level, n=n, reason=why)
    drawn = share_draws(values, mine, units, draws=draws, seed=seed, of_all=of_all)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < (1 - MAX_UNDEFINED) * draws:
        why = f"undefined in {1 - len(defined) / draws:.1%} of the draws"
        return Estimate(value=point, unit=unit, level=level, n=n, reason=why)
    low, high = percentile_ends(defined, expanded_level(level, units))
    sampled = of_all is not None and len(every) - 1 < of_all
    also = f" and over a random {len(every) - 1} of {of_all} sets" if sampled else ""
    return Estimate(
        value=point,
        low=min(float(low), point),
        high=max(float(high), point),
        unit=unit,
        level=level,
        n=n,
        method=f"percentile bootstrap over {what}s{also}, {draws} draws, "
        f"{how_expanded(n_units(units), what)}",
    )
