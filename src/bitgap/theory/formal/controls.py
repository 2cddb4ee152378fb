"""Controls of the formal model: each could have come out the other way.

* *positive*: the origin's model planted into measured responses must be found. What common slopes
  explain is taken off first and the rest paired with other families' predictors, which keeps its
  smoothness and noise and leaves no true link; then α = β = γ per SD is added, of the size at which
  slopes known exactly would gain twice the smallest effect of interest over position.
* *negative*: with other families' responses, the two predictors that are a model's own (variance
  and bottleneck) must not gain the smallest effect of interest over all that is the same in every
  model (position and boundary); nor may random smooth features in place of all three pass as an
  effect; and two halves of the languages must agree (A/A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.controls import clear, covers_zero, detection, not_run
from bitgap.records import Control, ControlKind, Floats, Integers
from bitgap.stats.pooling import pairings
from bitgap.stats.verdicts import Thresholds
from bitgap.theory.formal.inference import (
    UNIT,
    Moments,
    Swaps,
    gain_estimate,
    gains,
    moments,
    terms,
)
from bitgap.theory.formal.rows import LADDER, ORIGINAL_TERMS, FamilyRows, ModelRows

PLANTINGS = 20
"""How often the effect is planted."""
TIMES_SESOI = 2.0
"""Size of the planted gain, in smallest effects of interest."""
SEED = 0
"""Of the pairings that are drawn."""

POSITIVE = "planted α = β = γ"
SWAPPED = "model swap: another family's predictors"
SMOOTH = "random smooth features in place of the origin's"
HALVES = "A/A: two halves of the languages"

_SIZES = np.geomspace(1e-3, 1e3, 241)
"""Slopes that are tried, in root mean squares of the response."""


def formal_controls(
    families: Sequence[FamilyRows],
    swaps: Swaps | None,
    smooth: Moments | None,
    sesoi: float,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns all controls.

    Args:
        families: That have a response, M.
        swaps: F1 and F3 of them; None for fewer than two families.
        smooth: Moments of draws of random smooth features, (B x M); None likewise.
        sesoi: Smallest gain of interest.
        thresholds: With level and shares.
    """
    kinds: dict[str, ControlKind] = {
        POSITIVE: "positive", SWAPPED: "negative", SMOOTH: "negative", HALVES: "negative",
    }  # fmt: skip
    if swaps is None or smooth is None or len(families) < 3:
        why = f"{len(families)} families; a held-out one needs two others to be swapped among"
        return [not_run(name, kind, why) for name, kind in kinds.items()]
    return [
        _planted(families, sesoi, thresholds),
        _swapped(families, sesoi),
        _smooth(swaps.lower, smooth, sesoi, thresholds),
        _halves(families, thresholds),
    ]


def _derangements(m: int, n: int) -> Integers:
    """Returns up to n pairings in which every family has another's response, (n x M)."""
    ways = pairings(m)
    apart = ways[(ways != np.arange(m)).all(1)]
    return np.random.default_rng(SEED).permutation(apart)[:n]


def _planted(families: Sequence[FamilyRows], sesoi: float, thresholds: Thresholds) -> Control:
    found = found_at(families, TIMES_SESOI * sesoi, sesoi, thresholds.level)
    sought = f"a gain of {TIMES_SESOI * sesoi:g} in R², found as {sesoi:g} at least and above 0"
    return detection(POSITIVE, found, sought, thresholds)


def found_at(families: Sequence[FamilyRows], gain: float, sesoi: float, level: float) -> list[bool]:
    """Returns in which of the plantings a gain of some size in R² is found.

    Args:
        families: Whose noise and predictors the planting is done with, three or more.
        gain: That is planted.
        sesoi: The estimate must reach, with an interval above 0.
        level: Of the interval.
    """
    left = _unexplained(families)
    swaps = Swaps.of(left, terms(LADDER["F1"]), terms(ORIGINAL_TERMS))
    between = between_rungs(families, LADDER["F1"], ORIGINAL_TERMS)
    orders = _derangements(len(families), PLANTINGS)
    orders = orders[np.arange(PLANTINGS) % len(orders)]
    found = list[bool]()
    for order in orders:
        paired = swaps.paired(order)
        slope = planted_slope(*paired, between, gain)
        if slope is None:
            found.append(False)
            continue
        parts = gains(*plant(*paired, between, slope))
        found.append(clear(gain_estimate(parts, level)[0], sesoi))
    return found


def _unexplained(families: Sequence[FamilyRows]) -> list[FamilyRows]:
    """Returns rows less what the origin's terms explain with slopes common to all families."""
    slopes = moments(families, terms(ORIGINAL_TERMS)).slopes()[0]

    def one(model: ModelRows) -> ModelRows:
        left = model.response - (model.design(ORIGINAL_TERMS) @ slopes)[:, None]
        return replace(model, response=left, forecast=None)

    return [FamilyRows(family=f.family, models=tuple(map(one, f.models))) for f in families]


def planted_slope(lower: Moments, upper: Moments, between: Floats, gain: float) -> float | None:
    """Returns the smallest slope, the same per SD of all terms of the upper rung, with a gain.

    The gain is R² of those slopes themselves, without error of estimation, less R²_LOFO of the
    lower rung once they are in the response; a lower rung that is worse than the mean counts as
    the mean, or an effect of next to nothing would have the gain.

    Args:
        lower: Moments of the rung to be beaten, M families.
        upper: Of the rung that is planted.
        between: X_lower'X_upper/L, (M x K x J).
        gain: Wanted.

    Returns:
        None where no slope makes it, as where the lower rung says all that the upper one does.
    """
    sizes = _SIZES * np.sqrt(lower.power.mean())
    low, high = plant(lower, upper, between, sizes)
    slopes = np.broadcast_to(sizes[:, None, None] * per_spread(upper), high.cross.shape)
    reached = np.flatnonzero(high.r2(slopes) - np.maximum(low.r2_lofo(), 0.0) >= gain)
    return float(sizes[reached[0]]) if len(reached) else None


def plant(
    lower: Moments, upper: Moments, between: Floats, slope: Floats | float
) -> tuple[Moments, Moments]:
    """Returns both rungs' moments once the response has a slope on all terms of the upper one.

    Args:
        lower: Moments of the rung to be beaten, M families.
        upper: Of the rung that is planted, J terms.
        between: X_lower'X_upper/L, (M x K x J).
        slope: Per SD of each term, :func:`per_spread`; one, or several as leading axes, (...).
    """
    b, unit = np.asarray(slope, dtype=np.float64)[..., None], per_spread(upper)
    own = upper.gram @ unit
    power = lower.power + 2 * b * (upper.cross @ unit) + b**2 * (own @ unit)
    crosses = (lower.cross + b[..., None] * (between @ unit), upper.cross + b[..., None] * own)
    return Moments(lower.gram, crosses[0], power), Moments(upper.gram, crosses[1], power)


def per_spread(upper: Moments) -> Floats:
    """Returns one over each term's SD over families, (J): the same slope for all, per SD."""
    spread = np.sqrt(np.diagonal(upper.gram, axis1=-2, axis2=-1).mean(-2))
    return 1 / np.where(spread > 0, spread, np.inf)


def between_rungs(
    families: Sequence[FamilyRows], lower: Sequence[str], upper: Sequence[str]
) -> Floats:
    """Returns X_lower'X_upper/L of every family, the mean over its models, (M x K x J)."""
    return np.stack(
        [
            np.mean([m.design(lower).T @ m.design(upper) / len(m.r) for m in f.models], axis=0)
            for f in families
        ]
    )


def _swapped(families: Sequence[FamilyRows], sesoi: float) -> Control:
    common = (*LADDER["F1"], "boundary")
    swaps = Swaps.of(families, terms(common), terms((*common, "variance", "bottleneck")))
    orders = _derangements(len(families), 1000)
    mean = float(swaps.gains(orders).mean())
    true = float(swaps.gains(np.arange(len(families))).mean())
    return Control(
        name=SWAPPED,
        kind="negative",
        passed=mean < sesoi,
        detail=(
            f"variance and bottleneck of another family gain {mean:.3f} in R² over position and "
            f"boundary, under {sesoi:g} expected; a family's own gain {true:.3f}"
        ),
    )


def _smooth(lower: Moments, smooth: Moments, sesoi: float, thresholds: Thresholds) -> Control:
    position = Moments(lower.gram[None], lower.cross[None], lower.power)
    parts = gains(position, smooth)
    passed_as = [clear(gain_estimate(p, thresholds.level)[0], sesoi) for p in parts]
    share = float(np.mean(passed_as))
    return Control(
        name=SMOOTH,
        kind="negative",
        passed=share <= thresholds.alpha,
        detail=f"{share:.1%} of {len(parts)} draws pass as an effect, {thresholds.alpha:.0%} may",
    )


def _halves(families: Sequence[FamilyRows], thresholds: Thresholds) -> Control:
    if any(m.halves is None for f in families for m in f.models):
        why = "a model has fewer than four languages, which makes no halves with a spread"
        return not_run(HALVES, "negative", why)
    parts = list[Floats]()
    for first in (0, 1):
        half = [_half(f, first) for f in families]
        parts.append(gains(*(moments(half, terms(LADDER[name])) for name in ("F1", "F3"))))
    found, _ = gain_estimate(parts[0] - parts[1], thresholds.level)
    detail = f"the difference of their gains ({UNIT}) should cover 0"
    return covers_zero(HALVES, found, detail)


def _half(family: FamilyRows, which: int) -> FamilyRows:
    def one(model: ModelRows) -> ModelRows:
        assert model.halves is not None, "looked at before"
        return replace(model, response=model.halves[which], forecast=None)

    return FamilyRows(family=family.family, models=tuple(one(m) for m in family.models))
