"""A correlation over blocks planted in the statistic itself. Pure numpy.

Where an interval lies under the SESOI, was there nothing, or is this design blind? A correlation of
known size is planted in the profiles that were measured, as often as a control is planted, and
judged as the experiment judges its own: a design that misses what is twice as large as what matters
cannot say that there is nothing. Twelve blocks often miss it; then they refute nothing, which is
right.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.controls import clear, detection, not_run
from bitgap.records import Control, Estimate, Floats
from bitgap.stats.profiles import correlate_profiles, detrend
from bitgap.stats.verdicts import PLANTED_SIGN, Part, Thresholds

WITHOUT_FIRST = "without block 0"
"""Name of what is left of a correlation without the block at which profiles often peak."""

LARGEST_PLANT = 0.95
"""Of a correlation of 1 nothing of the model would be left."""

_TINY = 1e-9


def planted_strength(sesoi: float, thresholds: Thresholds) -> float:
    """Returns the correlation that is planted: twice the SESOI as declared, on Fisher's z scale.

    Correlations add up there: twice a SESOI of .5 is .8, which twelve blocks find in about half of
    the plantings, and not 1. :data:`LARGEST_PLANT` at most.
    """
    twice = np.tanh(thresholds.planted_strength * np.arctanh(sesoi))
    return float(min(twice, LARGEST_PLANT))


def planted_profiles(x: Floats, y: Floats, strength: float, n: int, seed: int = 0) -> Floats:
    """Returns outcomes whose true correlation with the predictor is known, (n x L).

    What the predictor leaves of the outcome, trend removed, is the model's own noise. It is put
    elsewhere in depth at random (rotated, read backwards, turned over), which keeps its spikes and
    its smoothness and parts it from the predictor, and takes the predictor in:

        y' = trend of y + sd · (ρ z(x) + √(1−ρ²) z(noise))

    with z standardised after detrending and sd the outcome's own around its trend. So ρ is what a
    long profile would show; one of L blocks shows ρ and what chance makes of it.

    Args:
        x: Predictor, (L), of which a trend in depth leaves something.
        y: Outcome, (L), likewise; a larger one supports where the predictor is larger.
        strength: ρ, from 0 to 1.
        n: How often.
        seed: Of the places.
    """
    a, b = detrend(x), detrend(y)
    noise = b - a * (a @ b) / (a @ a)
    if noise.std() <= _TINY * b.std():
        # An outcome that is its predictor has no noise of its own; its values stand in for it.
        noise = b
    rng = np.random.default_rng(seed)
    left = _standardised(np.array([_moved(noise, rng) for _ in range(n)]))
    mixed = strength * _standardised(a) + np.sqrt(1 - strength**2) * left
    return y - b + b.std() * mixed


def _moved(noise: Floats, rng: np.random.Generator) -> Floats:
    turned = np.roll(noise, int(rng.integers(len(noise))))[:: int(rng.choice([1, -1]))]
    return turned * rng.choice([1.0, -1.0])


def _standardised(values: Floats) -> Floats:
    left = detrend(values)
    deviation = left.std(axis=-1, keepdims=True)
    return left / np.where(deviation > 0, deviation, 1.0)


def planted_correlation(
    x: Floats,
    y: Floats,
    sesoi: float,
    thresholds: Thresholds,
    *,
    what: str = "correlation",
    seeds: int = 20,
) -> Control:
    """Returns the positive control of a detrended correlation of two profiles over blocks.

    It is found where it would pass as an effect: at least the SESOI, interval above 0. It guards
    refutations; what was found needs no proof that it would be.

    Args:
        x: Predictor, (L).
        y: Outcome, (L), with the sign in which a positive correlation supports.
        sesoi: Smallest effect of interest.
        thresholds: With the size of a plant, the share that must be found, and the level.
        what: The correlation, for the control's name, such as ``r(log RE, log k)``.
        seeds: How often it is planted.
    """
    strength = planted_strength(sesoi, thresholds)
    name = f"{PLANTED_SIGN}: {what} of {strength:.2g}"
    own = correlate_profiles(x, y, thresholds.level)
    if own.estimate.value is None:
        return not_run(name, "positive", f"nothing can be planted: {own.estimate.reason}")
    found = [
        clear(correlate_profiles(x, made, thresholds.level).estimate, sesoi)
        for made in planted_profiles(x, y, strength, seeds)
    ]
    sought = f"at least {sesoi:g} and clearly above 0 over {len(x)} blocks"
    return detection(name, found, sought, thresholds)


def guarded(part: Part, x: Floats, y: Floats, thresholds: Thresholds) -> Part:
    """Returns a correlation's part with what is planted in its own profiles as its own control.

    Args:
        part: Of the correlation.
        x: Predictor, (L).
        y: Outcome, (L), with the sign in which a positive correlation supports.
        thresholds: What was declared.
    """
    planted = planted_correlation(x, y, part.sesoi, thresholds, what=part.name)
    return replace(part, controls=(*part.controls, planted))


def without_first(part: Part, name: str) -> dict[str, Estimate]:
    """Returns a part's estimate without block 0 as ``<name>_without_block_0``; none if unknown."""
    left = part.without.get(WITHOUT_FIRST)
    return {} if left is None else {f"{name}_without_block_0": left}


def told_without_first(part: Part) -> str:
    """Returns `` (+.03 without block 0)`` for a sentence on a part; empty if unknown."""
    left = part.without.get(WITHOUT_FIRST)
    return "" if left is None or left.value is None else f" ({left.value:+.2f} without block 0)"
