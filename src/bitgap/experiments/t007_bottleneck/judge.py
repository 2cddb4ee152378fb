"""How T-007 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.protocol.peak_window import is_hit, judge_window, told_without
from bitgap.experiments.t007_bottleneck import EXPERIMENT
from bitgap.experiments.t007_bottleneck.controls import (
    controls,
    lowest_blocks,
    minimum_of,
    resampled,
)
from bitgap.records import Estimate, Finding, Floats, Observations, finite
from bitgap.stats.bootstrap import estimates
from bitgap.stats.dimension import participation_ratios
from bitgap.stats.profiles import Peak, depths, locate_peak
from bitgap.stats.verdicts import Thresholds

WANTED_PER_DIMENSION = 20
"""Tokens a dimension that the method asks for; fewer are used, and the sentence names both."""


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.1 in this model: a minimum whose interval lies in the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    lowest, point, draws = minimum_of(arrays["products"], arrays["traces"], thresholds)
    checks = controls(observations, lowest, thresholds)
    ratios = participation_ratios(arrays["products"], arrays["traces"])
    unit = "dimensions (participation ratio)"
    dimensions = estimates(ratios, resampled(observations), unit=unit, **thresholds.how)
    return EXPERIMENT.finding(
        thresholds,
        primary="minimum_depth",
        estimates={
            "minimum_depth": lowest.place,
            "minimum_dimension": dimensions[lowest.block],
            "maximum_depth": locate_peak(draws, point, thresholds.level).place,
        },
        original_measure=_original_measure(arrays["components_95"]),
        controls=checks,
        verdict=judge_window(
            lowest, facts["n_blocks"], checks, thresholds, hypothesis="H3.1", what="minimum"
        ),
        sentence=_sentence(lowest, dimensions, facts, thresholds.window),
        tables={
            "profile": _table(observations, dimensions),
            "window": list(thresholds.window),
            "without": told_without(lowest),
            "scales": list(facts["params"]["scales"]),
            **{
                f"minimum_{name}": dict(
                    zip(facts["languages"], lowest_blocks(arrays[name]), strict=True)
                )
                for name in ("by_language", "without_language")
            },
        },
    )


def _original_measure(components: Floats) -> dict[str, Estimate]:
    """Returns where the fewest components hold 95 % of the variance, and how many they are."""
    numbers = {
        "minimum_of_components_95": (
            depths(len(components))[components.argmin()],
            "relative depth",
        ),
        "components_95_there": (components.min(), "components for 95 % of the variance"),
    }
    return {
        name: Estimate(value=float(value), unit=unit, reason="the origin gave no uncertainty")
        for name, (value, unit) in numbers.items()
    }


def _sentence(
    lowest: Peak,
    dimensions: Sequence[Estimate],
    facts: Mapping[str, Any],
    window: tuple[float, float],
) -> str:
    where = "inside" if is_hit(lowest, window) else "outside"
    value = dimensions[lowest.block].value
    wanted = WANTED_PER_DIMENSION * facts["width"]
    few = f" ({facts['n_tokens']} tokens, fewer than the {wanted} asked for)"
    filled = "undefined" if value is None else f"{value:.1f} of {facts['width']}"
    return (
        f"States fill the fewest dimensions, {filled}, at block {lowest.block} of "
        f"{facts['n_blocks'] - 1}, {where} the window around three quarters of the depth"
        f"{few if facts['n_tokens'] < wanted else ''}."
    )


def _table(observations: Observations, dimensions: Sequence[Estimate]) -> list[dict[str, Any]]:
    arrays, facts = observations.arrays, observations.facts
    scales = [str(scale) for scale in facts["params"]["scales"]]
    return [
        {
            "block": block,
            "participation_ratio": dimension.value,
            "low": dimension.low,
            "high": dimension.high,
            "plain_ratio": finite(arrays["plain"][block]),
            "rank_me": finite(arrays["rank_me"][block]),
            "components_95": int(arrays["components_95"][block]),
            "gride": dict(zip(scales, map(finite, arrays["gride"][block]), strict=True)),
            **{
                name: dict(zip(facts["languages"], map(finite, arrays[name][block]), strict=True))
                for name in ("by_language", "without_language")
            },
        }
        for block, dimension in enumerate(dimensions)
    ]


def profile(finding: Finding) -> list[float | None]:
    """Returns −log of the participation ratio by block, so that a bottleneck is high."""
    ratios = [row["participation_ratio"] for row in finding.tables["profile"]]
    return [None if ratio is None or ratio <= 0 else -float(np.log(ratio)) for ratio in ratios]
