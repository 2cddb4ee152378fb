"""How T-008 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.peak_window import is_hit, judge_window
from bitgap.experiments.protocol.scores import left_out_sentence
from bitgap.experiments.t008_morphology import EXPERIMENT, PRIMARY
from bitgap.experiments.t008_morphology.causal import (
    SPREAD,
    causal_controls,
    contrast_estimates,
    contrast_p,
    window_of,
)
from bitgap.experiments.t008_morphology.controls import BY_TYPES, probe_controls
from bitgap.experiments.t008_morphology.probed import Probed
from bitgap.experiments.t008_morphology.tables import (
    original_measure,
    readout,
    rich_less_other,
    sentence,
    tables,
)
from bitgap.records import Control, Estimate, Finding, Observations, Verdict
from bitgap.stats.bootstrap import bootstrap_weights, percentile_estimate
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

NO_WORDS = "no language of the text has tagged words enough for a probe"


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.2 in this model: where number is told best, and whether rounding there costs it."""
    arrays, facts = observations.arrays, observations.facts
    damage_checks = causal_controls(observations, thresholds)
    causal, contrast = _causal(observations, damage_checks, thresholds)
    if f"{PRIMARY}_hits" not in arrays:
        checks = probe_controls(observations, np.ones((1, 1)), thresholds)
        return EXPERIMENT.untestable(
            thresholds,
            NO_WORDS,
            primary="peak_depth",
            unit="relative depth",
            part="peak",
            estimates=contrast,
            original_measure=original_measure(facts),
            controls=(*checks, *damage_checks),
            tables=tables(observations, None, None, thresholds),
        )
    probed = Probed.of(arrays)
    weights = bootstrap_weights(probed.n_units, thresholds.draws, 0)
    sites, drawn = probed.selectivity()[0], probed.selectivity(weights)
    profile, draws = sites[1:] - sites[0], drawn[:, 1:] - drawn[:, :1]
    peak = locate_peak(draws, profile, thresholds.level)
    height = percentile_estimate(
        profile[peak.block],
        draws[:, peak.block],
        unit="selectivity above the embedding's",
        level=thresholds.level,
        n=len(draws),
        method=BY_TYPES.format(thresholds.draws),
    )
    checks = probe_controls(observations, weights, thresholds)
    verdict = judge_window(
        peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.2", gate=_gate(height),
        also=causal,
    )  # fmt: skip
    hit = is_hit(peak, thresholds.window)
    if hit and verdict.label == "refuted" and causal.label == "refuted":
        reason = f"encoded, not used: {causal.reason}"
        verdict = replace(verdict, label="inconclusive", reason=reason)
    return EXPERIMENT.finding(
        thresholds,
        primary="peak_depth",
        estimates={
            "peak_depth": peak.place,
            "peak_height": height,
            **contrast,
            "rich_less_other": rich_less_other(probed, facts, peak, weights, thresholds),
            **readout(arrays, thresholds),
        },
        original_measure=original_measure(facts),
        controls=(*checks, *damage_checks),
        verdict=verdict,
        sentence=sentence(peak, contrast["contrast_d_z"], hit, facts)
        + left_out_sentence(facts["left_out"]),
        tables=tables(observations, profile, draws, thresholds),
    )


def _causal(
    observations: Observations, checks: Sequence[Control], thresholds: Thresholds
) -> tuple[Verdict, dict[str, Estimate]]:
    """Returns the engine's verdict on the causal part, and its estimates."""
    arrays, facts = observations.arrays, observations.facts
    rich = np.array(facts["item_rich"], dtype=bool)
    inside = window_of(facts["n_blocks"], thresholds.window)
    if "margin" not in arrays or rich.all() or not rich.any() or not inside.any():
        why = "no minimal pairs enough in both morphologically rich and other languages"
        why = why if inside.any() else "no block lies in the window"
        contrast, p = {"contrast_d_z": Estimate(value=None, unit=SPREAD, reason=why)}, None
    else:
        theta, size = contrast_estimates(arrays["margin"], rich, thresholds)
        contrast = {"contrast_d_z": size, "contrast": theta}
        p = contrast_p(arrays["margin"], rich, thresholds)
    part = Part(
        name="causal contrast, d_z",
        estimate=contrast["contrast_d_z"],
        sesoi=thresholds.of("H3.2")["d_z"],
        p=p,
        p_minimum=1 / (1 + thresholds.draws),
    )
    return judge_parts([part], checks, alpha=thresholds.alpha), contrast


def _gate(height: Estimate) -> str | None:
    assert height.value is not None and height.low is not None
    if height.low > 0:
        return None
    return (
        f"nothing to locate: the best block's selectivity is {height.value:+.3f} "
        f"[{height.low:+.3f}, {height.high:+.3f}] above the embedding's"
    )
