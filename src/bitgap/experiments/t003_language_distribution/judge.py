"""How T-003 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.disparity.layer_map import counted_languages, shapley_of_games
from bitgap.experiments.protocol.scores import Eligibility, unpack_scores
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t003_language_distribution import EXPERIMENT
from bitgap.experiments.t003_language_distribution.controls import controls
from bitgap.experiments.t003_language_distribution.shares import by_block, described
from bitgap.experiments.t003_language_distribution.statistic import (
    bias_profile,
    block_errors,
    log2_ratios,
)
from bitgap.lab.local_errors import local_bias
from bitgap.records import Bools, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import estimate, estimates
from bitgap.stats.mask_design import Design
from bitgap.stats.profiles import ProfileCorrelation, correlate_profiles, depths
from bitgap.stats.verdicts import Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.3: r(B, benefit for −|D|) ≥ .5 clearly, with −G of the same sign."""
    declared, arrays, facts = thresholds.of("H1.3"), observations.arrays, observations.facts
    design = Design(facts["n_blocks"], tuple(observations.arrays["masks"].tolist()))
    scores = unpack_scores(observations, "map")
    counts, row = counted_languages(scores, design), facts["languages"].index(facts["reference"])
    languages = _eligibility(counts, row, facts["languages"])
    gate, displayed = languages.gate_reason, languages.displayed
    shapley = shapley_of_games(scores, design)
    if gate is None and not np.isfinite(shapley["disparity"]).all():
        gate = "D has no value under some mask, so protecting a block has no Shapley value for it"
    bias = bias_profile(arrays, "linear_", displayed, row)
    link = correlate_profiles(bias, shapley["disparity"], thresholds.level)
    with_gap = correlate_profiles(bias, shapley["gap"], thresholds.level)
    checks = controls(observations, shapley["disparity"], link, displayed, thresholds)
    part = link.part("r(B, benefit)", declared["sesoi"])
    return EXPERIMENT.finding(
        thresholds,
        primary="bias_and_benefit",
        estimates={
            "bias_and_benefit": link.estimate,
            "bias_and_gap_benefit": with_gap.estimate,
            "mean_bias": mean_bias(arrays, displayed, row, thresholds),
            **described(arrays, thresholds.level),
        },
        original_measure=_original_measure(arrays["variance"]),
        controls=checks,
        verdict=judge_parts(
            [part], checks, alpha=thresholds.alpha, gate=gate, extra=_agree(link, with_gap)
        ),
        sentence=_sentence(link, declared["sesoi"], gate) + languages.sentence,
        tables={
            "blocks": _blocks(arrays, shapley, displayed, row, thresholds),
            "errors": _errors(observations, row),
            "left_out": languages.left_out,
        },
    )


def _eligibility(counts: Bools, row: int, languages: list[str]) -> Eligibility:
    """Returns who enters: the reference and another, or there is no D under every mask."""
    why = "collapsed or below resolution under some mask"
    left_out = {code: why for code, ok in zip(languages, counts, strict=True) if not ok}
    missing = f"the reference {languages[row]}" if not counts[row] else "every other language"
    complete = counts[row] and counts.sum() > 1
    gate = None if complete else f"no Shapley values of D: {missing} is {why}"
    return Eligibility(eligible=counts, left_out=left_out, gate_reason=gate)


def _agree(link: ProfileCorrelation, with_gap: ProfileCorrelation) -> tuple[bool, str]:
    """Returns whether D and G tell the same, and what is told if not."""
    d, g = link.estimate.value, with_gap.estimate.value
    if d is not None and g is not None and d * g > 0:
        return True, ""
    value = "undefined" if g is None else f"{g:+.2f}"
    return False, f"the link to −G is {value}, not of the same sign as that to −|D|"


def mean_bias(
    arrays: Mapping[str, Floats], languages: Bools, row: int, thresholds: Thresholds
) -> Estimate:
    """Returns B averaged over blocks, with its interval over sentences."""
    errors, n = block_errors(arrays), arrays["linear_error"].shape[-1]
    return estimate(
        lambda w: local_bias(errors(w), languages, row).mean(-1),
        n,
        unit="log2 ratio",
        **thresholds.how,
    )


def _original_measure(variance: Floats) -> dict[str, Estimate]:
    """Returns the origin's Var_λ[acts.var()]: how it grows with depth, and its largest value."""
    why, values = "the origin gave no uncertainty", variance.var(1)
    r = depths(len(values))
    varies = len(values) > 2 and np.ptp(values) > 0
    return {
        "largest_variance_of_variances": Estimate(
            value=float(values.max()), unit="squared state units^2", reason=why
        ),
        "depth_of_largest": Estimate(
            value=float(r[values.argmax()]), unit="relative depth", reason=why
        ),
        "correlation_with_depth": Estimate(
            value=float(np.corrcoef(r, values)[0, 1]) if varies else None,
            unit="correlation over blocks", reason=why if varies else "it does not vary",
        ),
    }  # fmt: skip


def _sentence(link: ProfileCorrelation, sesoi: float, gate: str | None) -> str:
    r = link.estimate
    if gate is not None:
        return f"Not testable here: {gate}."
    if r.value is None or r.low is None or r.high is None:
        return f"The link has no interval: {r.reason}."
    values = f"(r {r.value:+.2f}, between {r.low:+.2f} and {r.high:+.2f})"
    what = "blocks whose rounding errors fall more on other languages than on the reference"
    if r.low > 0 and r.value >= sesoi:
        return f"Protecting {what} evens out languages more than protecting others {values}."
    if r.high < sesoi:
        return f"Protecting {what} evens out languages no more than protecting others {values}."
    return f"Whether protecting {what} evens out languages more is open {values}."


def _blocks(
    arrays: Mapping[str, Floats],
    shapley: Mapping[str, Floats],
    languages: Bools,
    row: int,
    thresholds: Thresholds,
) -> list[dict[str, Any]]:
    errors, n = block_errors(arrays), arrays["linear_error"].shape[-1]
    bias = estimates(
        lambda w: local_bias(errors(w), languages, row), n, unit="log2 ratio", **thresholds.how
    )
    rows = block_rows({
        "benefit_disparity": shapley["disparity"],
        "benefit_gap": shapley["gap"],
        "benefit_damage": shapley["damage"],
        **by_block(arrays),
        "original_variance": arrays["variance"].var(1),
    })  # fmt: skip
    return [
        {"block": row["block"], "bias": b.value, "bias_low": b.low, "bias_high": b.high} | row
        for row, b in zip(rows, bias, strict=True)
    ]


def _errors(observations: Observations, row: int) -> list[dict[str, Any]]:
    """Returns log2 of every language's error over the reference's, by block."""
    arrays, codes = observations.arrays, observations.facts["languages"]
    ones = np.ones((1, arrays["linear_error"].shape[-1]))
    logs = log2_ratios(block_errors(arrays)(ones)[0], row)
    return [
        {"block": i, "language": codes[a], "log2_ratio": float(logs[i, a])}
        for i, a in np.ndindex(*logs.shape)
        if np.isfinite(logs[i, a])
    ]
