"""How strong a plant must be for the judged statistic to come out as large as declared.

A control that finds a huge effect says nothing of a small one. What guards a refutation is
therefore planted in the judged statistic itself, at so many times its smallest effect of interest
(``planted_strength`` of the thresholds); how strong the plant must be for that is found by trying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

TOLERANCE = 0.1
"""Distance from what is wanted that will do, as a share of what the plant is to add."""
_ROUNDS = 8
_LARGEST_STEP = 4.0
"""By how much strength grows where a plant does not show yet."""


def strengths_for(
    statistic: Callable[[Mapping[int, float]], Mapping[int, float]],
    n: int,
    *,
    without: float,
    wanted: float,
    start: float,
    rounds: int = _ROUNDS,
) -> list[float]:
    """Returns for each planting the strength at which its statistic is about what is wanted.

    Of two errors that are planted at a strength s, power and inner product go as s², so between a
    statistic without a plant, θ(0), and with one, θ(s), the next strength to try is

        s' = s √((wanted − θ(0)) / (θ(s) − θ(0)))

    which is exact for a parabola and converges where the statistic saturates, or where the plant
    crosses errors that are there already. Below 0 a strength means the opposite plant, for a
    statistic that is too large without one.

    Args:
        statistic: From strengths of some plantings, by number, to their θ.
        n: How many plantings.
        without: θ(0).
        wanted: The value that is to be reached.
        start: Size of the strength to begin with, above 0.
        rounds: Most strengths that are tried for a planting.

    Returns:
        (n) strengths, the best of those tried; 0 where the statistic is as large without a plant.
    """
    missing = wanted - without
    if not np.isfinite(missing) or abs(missing) <= TOLERANCE * abs(wanted):
        return [0.0] * n
    trying = dict.fromkeys(range(n), start if missing > 0 else -start)
    best, closest = dict(trying), dict.fromkeys(trying, np.inf)
    for _ in range(rounds):
        for i, value in statistic(trying).items():
            risen = (value - without) / missing
            if abs(risen - 1) < closest[i]:
                best[i], closest[i] = trying[i], abs(risen - 1)
            trying[i] *= _step(risen)
        trying = {i: s for i, s in trying.items() if closest[i] > TOLERANCE}
        if not trying:
            break
    return [best[i] for i in range(n)]


def _step(risen: float) -> float:
    """Returns what a strength is multiplied by, whose plant made so much of what it is to make."""
    if not np.isfinite(risen):
        return 1 / _LARGEST_STEP
    return risen**-0.5 if risen > _LARGEST_STEP**-2 else _LARGEST_STEP
