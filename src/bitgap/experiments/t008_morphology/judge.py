"""How T-008 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.peak_window import (
    is_hit,
    judge_window,
    nothing_to_locate,
    told_without,
)
from bitgap.experiments.protocol.scores import left_out_sentence
from bitgap.experiments.t008_morphology import EXPERIMENT, PRIMARY
from bitgap.experiments.t008_morphology.causal import (
    SPREAD,
    causal_controls,
    contrast_estimates,
    contrast_p,
    equivalence_p,
    window_of,
    without_each_block,
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
from bitgap.records import Bools, Control, Estimate, Finding, Observations, Verdict
from bitgap.stats.best_block import p_best_by_draws
from bitgap.stats.bootstrap import bootstrap_weights, percentile_estimate
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.2 in this model: where number is told best, and whether rounding there costs it."""
    arrays, facts = observations.arrays, observations.facts
    damage_checks = causal_controls(observations, thresholds)
    causal, contrast = _causal(observations, damage_checks, thresholds)
    kept, gate = enough_words(observations, thresholds)
    if kept is None:
        checks = probe_controls(observations, None, None, np.ones((1, 1)), thresholds)
        return EXPERIMENT.untestable(
            thresholds,
            gate,
            primary="peak_depth",
            unit="relative depth",
            part="peak",
            estimates=contrast,
            original_measure=original_measure(facts),
            controls=(*checks, *damage_checks),
            tables=tables(observations, None, None, None, thresholds),
        )
    probed = Probed.of(arrays).only(kept).renumbered()
    weights = bootstrap_weights(probed.n_units, thresholds.draws, 0)
    sites, drawn = probed.selectivity()[0], probed.selectivity(weights)
    profile, draws = sites[1:] - sites[0], drawn[:, 1:] - drawn[:, :1]
    peak = locate_peak(draws, profile, thresholds.level)
    height = percentile_estimate(
        profile[peak.block],
        draws[:, peak.block],
        unit="selectivity above the embedding's",
        level=thresholds.level,
        n=probed.n_units,
        method=BY_TYPES.format(thresholds.draws) + "; of one block, chosen",
    )
    checks = probe_controls(observations, kept, peak, weights, thresholds)
    gate = nothing_to_locate(
        height, p_best_by_draws(profile, draws), thresholds.alpha,
        what="selectivity", above="the embedding's",
    )  # fmt: skip
    verdict = judge_window(
        peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.2", gate=gate,
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
        sentence=(
            f"Where number is told best cannot be said here: {gate}."
            if gate
            else sentence(peak, contrast["contrast_d_z"], hit, facts)
        )
        + left_out_sentence({**facts["left_out"], **_too_few(observations, kept, thresholds)}),
        tables={
            **tables(observations, probed, profile, draws, thresholds),
            "without": told_without(peak),
        },
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
        equivalence, without = None, dict[str, Estimate]()
    else:
        theta, size = contrast_estimates(arrays["margin"], rich, thresholds)
        contrast = {"contrast_d_z": size, "contrast": theta}
        p = contrast_p(arrays["margin"], rich, thresholds)
        equivalence = equivalence_p(arrays["margin"], rich, thresholds)
        without = without_each_block(arrays["margin"], rich, thresholds)
    part = Part(
        name="causal contrast, d_z",
        estimate=contrast["contrast_d_z"],
        sesoi=thresholds.of("H3.2")["d_z"],
        p=p,
        p_minimum=1 / (1 + thresholds.draws),
        p_equivalence=equivalence,
        without=without,
    )
    return judge_parts([part], checks, alpha=thresholds.alpha), contrast


def enough_words(observations: Observations, thresholds: Thresholds) -> tuple[Bools | None, str]:
    """Returns which words are of languages that have enough of them, (n), or why there are none."""
    arrays, facts = observations.arrays, observations.facts
    least = int(thresholds.of("H3.2")["words_min"])
    if f"{PRIMARY}_hits" not in arrays:
        return None, (
            f"no language of the text has tagged words with {PRIMARY} enough for a probe; "
            f"{least:,} of a language are needed (--treebanks)"
        )
    probed = Probed.of(arrays)
    kept = probed.with_enough(least)
    if kept.any():
        return kept, ""
    have = ", ".join(
        f"{facts['word_languages'][code]} {(probed.languages == code).sum():,}"
        for code in probed.codes
    )
    return None, (
        f"no language has {least:,} tagged words with {PRIMARY}: {have}; give treebanks that have "
        f"(--treebanks)"
    )


def _too_few(observations: Observations, kept: Bools, thresholds: Thresholds) -> dict[str, str]:
    """Returns the languages whose words are too few to be probed, and how many there are."""
    every, least = Probed.of(observations.arrays), int(thresholds.of("H3.2")["words_min"])
    codes, counts = np.unique(every.languages[~kept], return_counts=True)
    names = observations.facts["word_languages"]
    return {
        f"{names[int(code)]} words": f"{n:,} of the {least:,} that are needed"
        for code, n in zip(codes, counts, strict=True)
    }
