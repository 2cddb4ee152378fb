"""How many sets of its size a set beats: a share, its interval, and what p it carries. Pure numpy.

A rank is bounded and jumps, so its interval is the plain percentile range of its draws (a rank that
is 1 in every draw has the interval [1, 1], and no BCa). Draws pull extreme ranks towards the
middle, since resampling adds noise to what is compared; the interval is widened to hold the
estimate where they pulled it away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from bitgap.quant.sets import mask_of
from bitgap.records import Bools, Estimate, Floats, Integers, finite
from bitgap.stats.bootstrap import (
    MAX_UNDEFINED,
    Statistic,
    bootstrap_weights,
    expanded_level,
    percentile_ends,
)
from bitgap.stats.verdicts import Thresholds

UNIT = "share of other triples"


def row_of(triples: Integers, blocks: Sequence[int]) -> int:
    """Returns the row of a set of blocks among triples' masks, (T)."""
    return int(np.flatnonzero(triples == mask_of(blocks))[0])


def rank_share(values: Callable[[Floats], Floats], row: int) -> Statistic:
    """Returns weights -> (W x 1): share of the other sets with a larger value than one has.

    Args:
        values: From weights to (W x T), lower being better; NaN counts as worse than any value, and
            the share of a set whose own value is NaN is NaN.
        row: Of the set.
    """

    def statistic(weights: Floats) -> Floats:
        every = values(weights)
        own = every[:, row : row + 1]
        with np.errstate(invalid="ignore"):
            worse = (every > own) | np.isnan(every)
        worse[:, row] = False
        share = worse.sum(1) / max(every.shape[1] - 1, 1)
        return np.where(np.isfinite(own[:, 0]), share, np.nan)[:, None]

    return statistic


def log_disparity(kl: Floats, displayed: Bools, reference: int) -> Callable[[Floats], Floats]:
    """Returns weights -> D, (W x T); NaN where the reference or every other language is left out.

    The reference's characters are in every K and cancel.

    Args:
        kl: Damage, (T x A x N).
        displayed: Languages that enter, (A).
        reference: Row of the reference.
    """
    others = displayed.copy()
    others[reference] = False

    def d(weights: Floats) -> Floats:
        if not (displayed[reference] and others.any()):
            return np.full((len(weights), len(kl)), np.nan)
        sums = np.einsum("tan,wn->wta", kl, weights, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log2(np.where(sums > 0, sums, np.nan))
        return (logs[..., others] - logs[..., reference, None]).mean(-1)

    return d


def share_estimate(statistic: Statistic, n: int, thresholds: Thresholds) -> Estimate:
    """Returns the share with its percentile interval.

    Args:
        statistic: Of :func:`rank_share`.
        n: Number of sentences.
        thresholds: With draws and level.
    """
    level, point = thresholds.level, float(statistic(np.ones((1, n)))[0, 0])
    estimate = partial(Estimate, value=finite(point), unit=UNIT, level=level, n=n)
    if not np.isfinite(point):
        return estimate(reason="undefined on this text")
    if n < 2:
        return estimate(reason="one sentence has no spread")
    draws = statistic(bootstrap_weights(n, thresholds.draws, 0))[:, 0]
    defined = draws[np.isfinite(draws)]
    if len(defined) < (1 - MAX_UNDEFINED) * len(draws):
        share = 1 - len(defined) / len(draws)
        return estimate(reason=f"undefined in {share:.1%} of the draws")
    low, high = percentile_ends(defined, expanded_level(level, n))
    return estimate(
        low=min(float(low), point),
        high=max(float(high), point),
        method=f"percentile bootstrap over sentences, {thresholds.draws} draws, expanded for {n} "
        "sentences",
    )


def share_p(share: Estimate, n_sets: int) -> tuple[float, float]:
    """Returns the chance that a set picked blindly is as good as this one may be bad, and 1/n.

    At the interval's worse end (1 − low)(n − 1) other sets are at least as good; with the set
    itself that is the share of all n. Without an interval p is 1.
    """
    if share.low is None:
        return 1.0, 1 / n_sets
    return (1 + (1 - share.low) * (n_sets - 1)) / n_sets, 1 / n_sets
