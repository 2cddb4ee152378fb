"""False positives and power of the three tests of a correlation across families, each by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from bitgap.stats.families import FamilyProfiles, correlation_across
from validation.counts import Count
from validation.truth_table import KINDS, profile

ALPHA = 0.05
SLOPE = 0.7
"""Correlation that is planted for the power."""
TESTS = ("t", "sign flip", "model swap")


def rates(
    families: int, layers: int, kind: str, *, slope: float, n: int, seed: int
) -> Mapping[str, Count]:
    """Returns how often each test is under α on families of a known correlation.

    Args:
        families: M.
        layers: L.
        kind: How profiles go with depth, of :data:`validation.truth_table.KINDS`.
        slope: Correlation of predictor and outcome; 0 for none.
        n: How many times.
        seed: Of the profiles.
    """
    rng = np.random.default_rng([seed, families, layers, KINDS.index(kind), int(100 * slope)])
    hits: Counter[str] = Counter()
    for _ in range(n):
        across = correlation_across([_family(rng, i, layers, kind, slope) for i in range(families)])
        ps = {"t": across.p, **across.concurring}
        hits.update(name for name, p in ps.items() if p is not None and p < ALPHA)
    return {name: Count(hits[name], n) for name in TESTS}


def _family(
    rng: np.random.Generator, i: int, layers: int, kind: str, slope: float
) -> FamilyProfiles:
    x, own = profile(kind, rng, layers), profile(kind, rng, layers)
    return FamilyProfiles(
        family=str(i), predictor=x, outcome=slope * x + np.sqrt(1 - slope**2) * own
    )
