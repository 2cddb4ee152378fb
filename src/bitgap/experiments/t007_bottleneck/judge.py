"""How T-007 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.peak_window import is_hit, judge_window
from bitgap.experiments.t007_bottleneck import EXPERIMENT, ID, WANTED_PER_DIMENSION
from bitgap.experiments.t007_bottleneck.controls import controls, minimum_of
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import estimates
from bitgap.stats.dimension import (
    participation_ratios,
)
from bitgap.stats.profiles import Peak, depths, locate_peak
from bitgap.stats.verdicts import Thresholds


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.1 in this model: a minimum whose interval lies in the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    lowest, draws = minimum_of(arrays["products"], arrays["traces"], thresholds)
    checks = controls(arrays, facts, lowest, thresholds)
    ratios = participation_ratios(arrays["products"], arrays["traces"])
    n_units = arrays["traces"].shape[1]
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    dimensions = estimates(ratios, n_units, unit="dimensions (participation ratio)", **how)
    point = ratios(np.ones((1, n_units)))[0]
    verdict = judge_window(
        lowest, facts["n_blocks"], checks, thresholds, hypothesis="H3.1", what="minimum"
    )
    return Finding(
        experiment=ID,
        hypothesis="H3.1",
        title=EXPERIMENT.title,
        primary="minimum_depth",
        estimates={
            "minimum_depth": lowest.place,
            "minimum_dimension": dimensions[lowest.layer],
            "maximum_depth": locate_peak(draws, point, thresholds.level).place,
        },
        seed_measure=_seed_measure(arrays, facts),
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(lowest, dimensions, facts, thresholds.window),
        tables={
            "profile": _table(arrays, facts, dimensions),
            "window": list(thresholds.window),
            "scales": list(facts["params"]["scales"]),
            "minimum_by_language": dict(
                zip(facts["languages"], _minima(arrays["by_language"]), strict=True)
            ),
        },
        thresholds_hash=thresholds.hash,
    )


def _minima(by_language: Floats) -> list[int | None]:
    return [
        int(np.nanargmin(column)) if np.isfinite(column).any() else None for column in by_language.T
    ]


def _seed_measure(arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> dict[str, Estimate]:
    """Returns where the fewest components hold 95 % of the variance, and how many they are."""
    why, counts = "the origin gave no uncertainty", arrays["components_95"]
    place = float(depths(facts["n_blocks"])[counts.argmin()])
    return {
        "minimum_of_components_95": Estimate(value=place, unit="relative depth", reason=why),
        "components_95_there": Estimate(
            value=float(counts.min()), unit="components for 95 % of the variance", reason=why
        ),
    }


def _sentence(
    lowest: Peak,
    dimensions: list[Estimate],
    facts: Mapping[str, Any],
    window: tuple[float, float],
) -> str:
    where = "inside" if is_hit(lowest, window) else "outside"
    value = dimensions[lowest.layer].value
    wanted = WANTED_PER_DIMENSION * facts["width"]
    few = f" ({facts['n_tokens']} tokens, fewer than the {wanted} asked for)"
    filled = "undefined" if value is None else f"{value:.1f} of {facts['width']}"
    return (
        f"States fill the fewest dimensions, {filled}, at block {lowest.layer} of "
        f"{facts['n_blocks'] - 1}, {where} the window around three quarters of the depth"
        f"{few if facts['n_tokens'] < wanted else ''}."
    )


def _table(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], dimensions: list[Estimate]
) -> list[dict[str, Any]]:
    rows = []
    for block, dimension in enumerate(dimensions):
        scales = zip(facts["params"]["scales"], arrays["gride"][block], strict=True)
        rows.append(
            {
                "block": block,
                "participation_ratio": dimension.value,
                "low": dimension.low,
                "high": dimension.high,
                "plain_ratio": _number(arrays["plain"][block]),
                "rank_me": _number(arrays["rank_me"][block]),
                "components_95": int(arrays["components_95"][block]),
                "gride": {str(k): _number(value) for k, value in scales},
                "by_language": {
                    code: _number(value)
                    for code, value in zip(
                        facts["languages"], arrays["by_language"][block], strict=True
                    )
                },
            }
        )
    return rows


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def profile(finding: Finding) -> list[float | None]:
    """Returns −log of the participation ratio by block, so that a bottleneck is high."""
    ratios = [row["participation_ratio"] for row in finding.tables["profile"]]
    return [None if ratio is None or ratio <= 0 else -float(np.log(ratio)) for ratio in ratios]
