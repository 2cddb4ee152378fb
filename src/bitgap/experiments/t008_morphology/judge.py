"""How T-008 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.peak_window import is_hit, judge_window
from bitgap.experiments.protocol.scores import told_left_out
from bitgap.experiments.t008_morphology import EXPERIMENT, ID, NO_WORDS
from bitgap.experiments.t008_morphology.causal import (
    causal_controls,
    contrast_estimates,
    contrast_p,
    window_of,
)
from bitgap.experiments.t008_morphology.controls import PRIMARY, probe_controls
from bitgap.experiments.t008_morphology.tables import (
    height,
    readout,
    rich_less_other,
    seed_measure,
    sentence,
    tables,
)
from bitgap.records import Control, Estimate, Finding, Floats, Observations, Verdict
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.probes import (
    selectivity,
)
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.2 in this model: where number is told best, and whether rounding there costs it."""
    arrays, facts = observations.arrays, observations.facts
    damage_checks = causal_controls(observations, thresholds)
    causal, contrast = _causal(observations, damage_checks, thresholds)
    if f"{PRIMARY}_hits" not in arrays:
        return _unjudged(observations, contrast, damage_checks, thresholds)
    weights = bootstrap_weights(int(arrays[f"{PRIMARY}_units"].max()) + 1, thresholds.draws, 0)
    profile, draws = _profile(arrays, weights)
    peak = locate_peak(draws, profile, thresholds.level)
    at_peak = height(peak, profile, draws, thresholds)
    checks = probe_controls(observations, weights, thresholds)
    verdict = judge_window(
        peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.2", gate=_gate(at_peak),
        also=causal,
    )  # fmt: skip
    hit = is_hit(peak, thresholds.window)
    if hit and verdict.label == "refuted" and causal.label == "refuted":
        reason = f"encoded, not used: {causal.reason}"
        verdict = replace(verdict, label="inconclusive", reason=reason)
    return Finding(
        experiment=ID,
        hypothesis="H3.2",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates={
            "peak_depth": peak.place,
            "peak_height": at_peak,
            **contrast,
            "rich_less_other": rich_less_other(arrays, facts, peak, weights, thresholds),
            **readout(arrays, facts, thresholds),
        },
        seed_measure=seed_measure(facts),
        controls=(*checks, *damage_checks),
        verdict=verdict,
        sentence=sentence(peak, contrast["contrast_d_z"], hit, facts)
        + told_left_out(facts["left_out"]),
        tables=tables(observations, profile, draws, thresholds),
        thresholds_hash=thresholds.hash,
    )


def _profile(arrays: Mapping[str, Any], weights: Floats) -> tuple[Floats, Floats]:
    """Returns selectivity above the embedding's over blocks, (L), and its draws, (B x L)."""
    statistic, n = selectivity(
        arrays[f"{PRIMARY}_hits"], arrays[f"{PRIMARY}_control_hits"], arrays[f"{PRIMARY}_units"],
        arrays[f"{PRIMARY}_languages"],
    )  # fmt: skip
    draws, point = statistic(weights), statistic(np.ones((1, n)))[0]
    return point[1:] - point[0], draws[:, 1:] - draws[:, :1]


def _causal(
    observations: Observations, checks: Sequence[Control], thresholds: Thresholds
) -> tuple[Verdict, dict[str, Estimate]]:
    """Returns the engine's verdict on the causal part, and its estimates."""
    arrays, facts = observations.arrays, observations.facts
    name, sesoi = "causal contrast, d_z", thresholds.of("H3.2")["d_z"]
    rich = np.array(facts["item_rich"], dtype=bool)
    smallest = 1 / (1 + thresholds.draws)
    inside = window_of(facts["n_blocks"], thresholds.window)
    if "margin" not in arrays or rich.all() or not rich.any() or not inside.any():
        why = "no minimal pairs enough in both morphologically rich and other languages"
        why = why if inside.any() else "no block lies in the window"
        none = Estimate(value=None, unit="standard deviations of items", reason=why)
        found, p = {"contrast_d_z": none}, None
    else:
        theta, size = contrast_estimates(arrays["margin"], rich, thresholds)
        found = {"contrast_d_z": size, "contrast": theta}
        p = contrast_p(arrays["margin"], rich, thresholds)
    part = Part(name=name, estimate=found["contrast_d_z"], sesoi=sesoi, p=p, p_minimum=smallest)
    return judge_parts([part], checks, alpha=thresholds.alpha), found


def _gate(height: Estimate) -> str | None:
    assert height.value is not None and height.low is not None
    if height.low > 0:
        return None
    return (
        f"nothing to locate: the best block's selectivity is {height.value:+.3f} "
        f"[{height.low:+.3f}, {height.high:+.3f}] above the embedding's"
    )


def _unjudged(
    observations: Observations,
    contrast: Mapping[str, Estimate],
    damage_checks: Sequence[Control],
    thresholds: Thresholds,
) -> Finding:
    """Returns the finding where there is no word to probe."""
    none = Estimate(value=None, unit="relative depth", reason=NO_WORDS)
    part = Part(name="peak", estimate=none, p=None, p_minimum=1.0, sesoi=0.5)
    checks = (*probe_controls(observations, np.ones((1, 1)), thresholds), *damage_checks)
    return Finding(
        experiment=ID,
        hypothesis="H3.2",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates={"peak_depth": none, **contrast},
        seed_measure=seed_measure(observations.facts),
        controls=checks,
        verdict=judge_parts([part], checks, alpha=thresholds.alpha, gate=NO_WORDS),
        sentence=f"Not testable here: {NO_WORDS}.",
        tables=tables(observations, None, None, thresholds),
        thresholds_hash=thresholds.hash,
    )
