"""How many families a question would need, at the effect and the spread that were seen; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from bitgap.records import Estimate

POWER = 0.8
MOST = 1000
"""Families up to which is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What it would take to decide a question."""

    families: int | None
    """None where it takes more than :data:`MOST`."""
    towards: Literal["supported", "refuted"]
    """What the effect seen would be decided as."""
    effect: float
    """Mean over families, on the scale below."""
    spread: float
    """SD between families on it."""
    scale: Literal["as it is", "Fisher z"]


def families_needed(estimate: Estimate, sesoi: float) -> Needed | None:
    """Returns how many families decide a question, with a power of :data:`POWER`.

    The effect and its SD between families are taken to be those seen: the SD is half the interval
    times √M over Student's quantile. An effect of at least the smallest of interest counts as
    decided where the interval lies above 0 and the estimate reaches that size; a smaller one where
    the interval lies under that size. Both are Student's over families, the first bounded from
    below by Bonferroni. What one has seen is a poor guide to what is there (Gelman & Carlin 2014):
    the number is an order of magnitude, for planning.

    Args:
        estimate: Over M families, with an interval; correlations are taken through Fisher's z.
        sesoi: Smallest effect of interest.

    Returns:
        None where there is no interval of Student's over families, or fewer than three of them.
    """
    value, low, high, m = estimate.value, estimate.low, estimate.high, estimate.n
    if value is None or low is None or high is None or m < 3 or not high > low:
        return None
    if "t over" not in estimate.method:
        return None
    of_r = "Fisher" in estimate.method
    if of_r:
        value, low, high, sesoi = (float(np.arctanh(x)) for x in (value, low, high, sesoi))
    half = (high - low) / 2
    spread = half * np.sqrt(m) / float(stats.t.ppf((1 + estimate.level) / 2, m - 1))
    supports = value >= sesoi
    found = least_families(value, float(spread), sesoi, estimate.level)
    return Needed(
        families=found,
        towards="supported" if supports else "refuted",
        effect=value,
        spread=float(spread),
        scale="Fisher z" if of_r else "as it is",
    )


def least_families(effect: float, spread: float, sesoi: float, level: float) -> int | None:
    """Returns the least number of families with the power asked for, or None above the most.

    Args:
        effect: True mean over families.
        spread: True SD between them.
        sesoi: Smallest effect of interest.
        level: Of the interval.
    """
    m = np.arange(2, MOST + 1)
    root = np.sqrt(m) / spread
    least = stats.t.ppf((1 + level) / 2, m - 1)
    if effect >= sesoi:
        above = stats.nct.sf(least, m - 1, effect * root)
        power = above + stats.norm.cdf((effect - sesoi) * root) - 1
    else:
        power = stats.nct.sf(least, m - 1, (sesoi - effect) * root)
    enough = np.flatnonzero(power >= POWER)
    return int(m[enough[0]]) if len(enough) else None
