"""How T-003 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.disparity.layer_map import (
    Design,
    benefits,
    counted_languages,
    make_design,
)
from bitgap.experiments.protocol.scores import scores_of, told_left_out
from bitgap.experiments.t003_language_distribution import EXPERIMENT, ID
from bitgap.experiments.t003_language_distribution.controls import controls
from bitgap.experiments.t003_language_distribution.shares import by_block, described
from bitgap.experiments.t003_language_distribution.statistic import bias_profile
from bitgap.lab.local_errors import local_bias, local_errors
from bitgap.records import Bools, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import estimate, estimates
from bitgap.stats.profiles import (
    ProfileCorrelation,
    correlate_profiles,
    depths,
    smallest_p_of_correlation,
)
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.3: r(B, benefit for −|D|) ≥ .5 clearly, with −G of the same sign."""
    declared, arrays, facts = thresholds.of("H1.3"), observations.arrays, observations.facts
    design = make_design(facts["n_blocks"], seed=facts["seed"], complete=facts["complete"])
    scores = scores_of(observations, "map")
    counts, row = counted_languages(scores, design), facts["languages"].index(facts["reference"])
    gate, left_out = _gate(counts, row, facts["languages"])
    # Where too few languages may enter, errors are still shown, of all of them, beside the gate.
    shown = counts if gate is None else np.ones_like(counts)
    worth = benefits(scores, design)
    if gate is None and not np.isfinite(worth["disparity"]).all():
        gate = "D has no value under some mask, so protecting a block has no worth for it"
    bias = bias_profile(arrays, "linear_", shown, row)
    link = correlate_profiles(bias, worth["disparity"], thresholds.level)
    with_gap = correlate_profiles(bias, worth["gap"], thresholds.level)
    checks = controls(observations, worth["disparity"], link, shown, thresholds)
    part = Part(
        name="r(B, benefit)",
        estimate=link.estimate,
        sesoi=declared["sesoi"],
        p=link.p,
        p_minimum=smallest_p_of_correlation(link.dof),
    )
    return Finding(
        experiment=ID,
        hypothesis="H1.3",
        title=EXPERIMENT.title,
        primary="bias_and_benefit",
        estimates={
            "bias_and_benefit": link.estimate,
            "bias_and_gap_benefit": with_gap.estimate,
            "mean_bias": _mean_bias(observations, shown, row, thresholds),
            **described(arrays, thresholds.level),
        },
        seed_measure=_seed_measure(arrays["variance"]),
        controls=tuple(checks),
        verdict=judge_parts(
            [part], checks, alpha=thresholds.alpha, gate=gate, extra=_agree(link, with_gap)
        ),
        sentence=_sentence(link, declared["sesoi"], gate) + told_left_out(left_out),
        tables={
            "blocks": _blocks(observations, worth, shown, row, design, thresholds),
            "errors": _errors(observations, row),
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _gate(counts: Bools, row: int, languages: list[str]) -> tuple[str | None, dict[str, str]]:
    """Returns why there is no D under every mask, or None, and which languages are left out."""
    why = "collapsed or below resolution under some mask"
    left_out = {code: why for code, ok in zip(languages, counts, strict=True) if not ok}
    others = counts.sum() - counts[row]
    if counts[row] and others:
        return None, left_out
    told = f"the reference {languages[row]}" if not counts[row] else "every other language"
    return f"no Shapley values of D: {told} is {why}", left_out


def _agree(link: ProfileCorrelation, with_gap: ProfileCorrelation) -> tuple[bool, str]:
    """Returns whether D and G tell the same, and what is told if not."""
    d, g = link.estimate.value, with_gap.estimate.value
    if d is not None and g is not None and d * g > 0:
        return True, ""
    told = "undefined" if g is None else f"{g:+.2f}"
    return False, f"the link to −G is {told}, not of the same sign as that to −|D|"


def _mean_bias(
    observations: Observations, shown: Bools, row: int, thresholds: Thresholds
) -> Estimate:
    """Returns B averaged over blocks, with its interval over sentences."""
    arrays = observations.arrays
    error, output = arrays["linear_error"], arrays["linear_output"]
    block = arrays["linear_block"].astype(np.int64)

    def mean(weights: Floats) -> Floats:
        return local_bias(local_errors(error, output, block, weights), shown, row).mean(-1)

    return estimate(mean, error.shape[-1], unit="log2 ratio", **_how(thresholds))


def _how(thresholds: Thresholds) -> dict[str, Any]:
    return {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}


def _seed_measure(variance: Floats) -> dict[str, Estimate]:
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
            unit="correlation over layers", reason=why if varies else "it does not vary",
        ),
    }  # fmt: skip


def _sentence(link: ProfileCorrelation, sesoi: float, gate: str | None) -> str:
    found = link.estimate
    if gate is not None:
        return f"Not testable here: {gate}."
    if found.value is None or found.low is None or found.high is None:
        return f"The link has no interval: {found.reason}."
    told = f"(r {found.value:+.2f}, between {found.low:+.2f} and {found.high:+.2f})"
    what = "blocks whose rounding errors fall more on other languages than on the reference"
    if found.low > 0 and found.value >= sesoi:
        return f"Protecting {what} evens out languages more than protecting others {told}."
    if found.high < sesoi:
        return f"Protecting {what} evens out languages no more than protecting others {told}."
    return f"Whether protecting {what} evens out languages more is open {told}."


def _blocks(
    observations: Observations,
    worth: Mapping[str, Floats],
    shown: Bools,
    row: int,
    design: Design,
    thresholds: Thresholds,
) -> list[dict[str, Any]]:
    arrays = observations.arrays
    error, output = arrays["linear_error"], arrays["linear_output"]
    block, n = arrays["linear_block"].astype(np.int64), error.shape[-1]

    def profile(weights: Floats) -> Floats:
        return local_bias(local_errors(error, output, block, weights), shown, row)

    bias = estimates(profile, n, unit="log2 ratio", **_how(thresholds))
    shares = by_block(arrays)
    return [
        {
            "block": i,
            "bias": bias[i].value,
            "bias_low": bias[i].low,
            "bias_high": bias[i].high,
            "benefit_disparity": _number(worth["disparity"][i]),
            "benefit_gap": _number(worth["gap"][i]),
            "benefit_damage": _number(worth["damage"][i]),
            **{name: _number(values[i]) for name, values in shares.items()},
            "seed_variance": _number(arrays["variance"][i].var()),
        }
        for i in range(design.n_blocks)
    ]


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _errors(observations: Observations, row: int) -> list[dict[str, Any]]:
    """Returns log2 of every language's error over the reference's, by block."""
    arrays, codes = observations.arrays, observations.facts["languages"]
    ones = np.ones((1, arrays["linear_error"].shape[-1]))
    block = arrays["linear_block"].astype(np.int64)
    found = local_errors(arrays["linear_error"], arrays["linear_output"], block, ones)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(found) - np.log2(found[:, row : row + 1])
    return [
        {"block": i, "language": codes[a], "log2_ratio": float(logs[i, a])}
        for i, a in np.ndindex(*logs.shape)
        if np.isfinite(logs[i, a])
    ]
