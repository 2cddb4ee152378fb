"""How T-003 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.disparity.formulas import Sums, spread_draws
from bitgap.experiments.protocol.planted_profile import (
    guarded,
    told_without_first,
    without_first,
)
from bitgap.experiments.protocol.scores import (
    Eligibility,
    eligible_languages,
    units_of,
    unpack_scores,
)
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t003_language_distribution import EXPERIMENT
from bitgap.experiments.t003_language_distribution.controls import controls
from bitgap.experiments.t003_language_distribution.shares import by_block, described
from bitgap.experiments.t003_language_distribution.statistic import (
    block_errors,
    errors_of,
    falls_of_spread,
    log2_ratios,
)
from bitgap.lab.local_errors import local_bias, local_inequality, local_spread
from bitgap.records import (
    Bools,
    Control,
    Estimate,
    Finding,
    Floats,
    Observations,
    PartVerdict,
    Scores,
)
from bitgap.stats.bootstrap import estimate, estimates
from bitgap.stats.profiles import ProfileCorrelation, correlate_profiles, depths
from bitgap.stats.spreads import inverted_estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

ORIGINAL_PREDICTOR = "the origin's own predictor"


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.3: r(U, fall of S) at least .5 clearly, of one sign per token and per text."""
    arrays, facts = observations.arrays, observations.facts
    row, level = facts["languages"].index(facts["reference"]), thresholds.level
    protect, languages = unpack_scores(observations, "protect"), _eligibility(observations, row)
    displayed = languages.displayed
    errors = errors_of(arrays)
    fall = falls_of_spread(protect, displayed)
    gate = languages.gate_reason
    if gate is None and not np.isfinite(fall).all():
        gate = "S has no value under some plan"
    inequality = local_inequality(errors, displayed, row)
    link = correlate_profiles(inequality, fall, level)
    per_text = correlate_profiles(inequality, falls_of_spread(protect, displayed, "text"), level)
    alone = correlate_profiles(local_spread(errors, displayed), fall, level)
    original = arrays["variance"][:, displayed].var(1)
    theirs = correlate_profiles(original, fall, level)
    sesoi = thresholds.of("H1.3")["sesoi"]
    part = guarded(link.part("r(U, fall of S)", sesoi), inequality, fall, thresholds)
    checks = controls(observations, protect, fall, link, languages, thresholds)
    one_sign = _one_sign(link, per_text)
    verdict = judge_parts([part], checks, alpha=thresholds.alpha, gate=gate, enough=one_sign)
    beside = _original_part(theirs, original, fall, checks, gate, thresholds)
    return EXPERIMENT.finding(
        thresholds,
        primary="inequality_and_fall",
        estimates={
            "inequality_and_fall": link.estimate,
            **without_first(part, "inequality_and_fall"),
            "inequality_and_fall_per_text": per_text.estimate,
            "spread_of_errors_and_fall": alone.estimate,
            "original_predictor_and_fall": theirs.estimate,
            "spread": _spread(protect, displayed, thresholds),
            "mean_inequality": mean_inequality(observations, displayed, row, thresholds),
            "mean_bias": mean_bias(observations, displayed, row, thresholds),
            **described(arrays, level),
        },
        original_measure=_original_measure(arrays["variance"]),
        controls=[*checks, *part.controls],
        verdict=replace(verdict, parts=(*verdict.parts, beside)),
        sentence=_sentence(part, gate, one_sign) + languages.sentence,
        tables={
            "blocks": _blocks(observations, protect, displayed, row, thresholds),
            "errors": _errors(observations, row),
            "left_out": languages.left_out,
        },
    )


def _eligibility(observations: Observations, row: int) -> Eligibility:
    """Returns who enters: the reference and another, or errors cannot be compared with it."""
    found = eligible_languages(observations, ["protect"], readable=["protect"])
    if found.gate_reason is not None:
        return found
    counts, codes = found.eligible, observations.facts["languages"]
    if counts[row] and counts.sum() > 1:
        return found
    out = f"the reference {codes[row]}" if not counts[row] else "every other language"
    why = ", ".join(f"{code} {reason}" for code, reason in found.left_out.items())
    return replace(found, gate_reason=f"{out} may not enter the verdict: {why}")


def _one_sign(per_token: ProfileCorrelation, per_text: ProfileCorrelation) -> tuple[bool, str]:
    """Returns whether the link is established: of one sign per token and per text; or why not."""
    token, text = per_token.estimate.value, per_text.estimate.value
    if token is None or (text is not None and token * text > 0):
        return True, ""
    shown = "undefined" if text is None else f"{text:+.2f}"
    return False, f"not established: r is {token:+.2f} with S per token and {shown} per text"


def _original_part(
    link: ProfileCorrelation,
    predictor: Floats,
    fall: Floats,
    checks: list[Control],
    gate: str | None,
    thresholds: Thresholds,
) -> PartVerdict:
    """Returns what the same rule says where the origin's own predictor takes the place of U.

    It enters no verdict and no adjustment of others' p; its own label falls to Holm in the
    hypothesis' place. Only controls that are no business of U's are its own.
    """
    asked = link.part("r(variance over languages of activation variance, fall of S)",
                      thresholds.of("H1.3")["sesoi"])  # fmt: skip
    shared = [c for c in checks if c.name.startswith("A/A")]
    part = guarded(asked, predictor, fall, thresholds)
    own = judge_parts([part], [*shared, *part.controls], alpha=thresholds.alpha, gate=gate)
    return PartVerdict(
        name=ORIGINAL_PREDICTOR,
        label=own.label,
        reason=own.reason,
        p=own.p,
        p_equivalence=own.p_equivalence,
    )


def _spread(protect: Scores, languages: Bools, thresholds: Thresholds) -> Estimate:
    """Returns S per token where nothing is protected, with its interval as everywhere for S."""
    nothing = protect.select(plans=protect.plans[:1])
    return inverted_estimates(
        lambda w: spread_draws(Sums(nothing, w), languages=languages),
        protect.units,
        unit="log2 units",
        **thresholds.how,
    )[0]


def mean_inequality(
    observations: Observations, languages: Bools, row: int, thresholds: Thresholds
) -> Estimate:
    """Returns U averaged over blocks, with its interval over sentences."""
    how = (languages, row, thresholds)
    return _over_blocks(local_inequality, "mean |log2 ratio|", observations, *how)


def mean_bias(
    observations: Observations, languages: Bools, row: int, thresholds: Thresholds
) -> Estimate:
    """Returns B, signed, averaged over blocks, with its interval over sentences."""
    return _over_blocks(local_bias, "log2 ratio", observations, languages, row, thresholds)


def _over_blocks(
    profile: Callable[[Floats, Bools, int], Floats],
    unit: str,
    observations: Observations,
    languages: Bools,
    row: int,
    thresholds: Thresholds,
) -> Estimate:
    """Returns the mean over blocks of a profile of local errors, (... x L x A) to (... x L)."""
    errors = block_errors(observations.arrays)
    return estimate(
        lambda w: profile(errors(w), languages, row).mean(-1),
        units_of(observations),
        unit=unit,
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


def _sentence(part: Part, gate: str | None, one_sign: tuple[bool, str]) -> str:
    r = part.estimate
    if gate is not None:
        return f"Not testable here: {gate}."
    what = "blocks whose rounding errors fall more unequally on languages"
    if not one_sign[0]:
        return f"Whether protecting {what} evens out damage more is {one_sign[1]}."
    if r.value is None or r.low is None or r.high is None:
        return f"The link has no interval: {r.reason}."
    values = f"(r {r.value:+.2f}, between {r.low:+.2f} and {r.high:+.2f})"
    values += told_without_first(part)
    if r.low > 0 and r.value >= part.sesoi:
        return f"Protecting {what} evens out damage more than protecting others {values}."
    if r.high < part.sesoi:
        return (
            f"Protecting {what} does not clearly even out damage more than protecting others "
            f"{values}."
        )
    return f"Whether protecting {what} evens out damage more is open {values}."


def _blocks(
    observations: Observations,
    protect: Scores,
    languages: Bools,
    row: int,
    thresholds: Thresholds,
) -> list[dict[str, Any]]:
    arrays = observations.arrays
    errors, whole = block_errors(arrays), errors_of(arrays)
    inequality = estimates(
        lambda w: local_inequality(errors(w), languages, row),
        units_of(observations),
        unit="mean |log2 ratio|",
        **thresholds.how,
    )
    rows = block_rows({
        "fall": falls_of_spread(protect, languages),
        "fall_per_text": falls_of_spread(protect, languages, "text"),
        "spread_of_errors": local_spread(whole, languages),
        "bias": local_bias(whole, languages, row),
        **by_block(arrays),
        "original_variance": arrays["variance"][:, languages].var(1),
    })  # fmt: skip
    return [
        {"block": row["block"], "inequality": u.value, "inequality_low": u.low,
         "inequality_high": u.high} | row
        for row, u in zip(rows, inequality, strict=True)
    ]  # fmt: skip


def _errors(observations: Observations, row: int) -> list[dict[str, Any]]:
    """Returns log2 of every language's error over the reference's, by block."""
    codes = observations.facts["languages"]
    logs = log2_ratios(errors_of(observations.arrays), row)
    return [
        {"block": i, "language": codes[a], "log2_ratio": float(logs[i, a])}
        for i, a in np.ndindex(*logs.shape)
        if np.isfinite(logs[i, a])
    ]
