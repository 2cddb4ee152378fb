"""How T-010 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.effects import bounded_p
from bitgap.experiments.protocol.scores import left_out_sentence, units_of
from bitgap.experiments.t010_rate_distortion import EXPERIMENT
from bitgap.experiments.t010_rate_distortion.controls import frontier_rows, rate_controls
from bitgap.experiments.t010_rate_distortion.entropy import (
    ENTROPIES,
    entropy_coefficients,
    entropy_rows,
    where_known,
)
from bitgap.experiments.t010_rate_distortion.fits import Fits, original_fit, shown_spread
from bitgap.experiments.t010_rate_distortion.plans import NONE
from bitgap.experiments.t010_rate_distortion.sweep import (
    FEWEST_BITS,
    FEWEST_LANGUAGES,
    Sweep,
    evened_mean,
    in_slices,
    log2,
    log_damages,
    log_tokens,
    spread_of,
)
from bitgap.records import Estimate, Finding, Floats, Observations, Units, finite
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, estimates, n_units
from bitgap.stats.rate_models import original_form
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H4.1: S falls by .5 or more per log2 q, the origin's form is not beaten, c is above
    0.
    """
    declared = thresholds.of("H4.1")
    sweep, units = Sweep.of(observations, declared["bits_min"]), units_of(observations)
    fits, sesoi = Fits(sweep), declared["sesoi"]
    statistic = sweep_statistic(sweep)
    estimates = where_known(_estimates(statistic, units, thresholds), sweep, thresholds)
    estimates |= fits.gap_form()
    theta, c = (estimates[name] for name in ("spread_fall", "c"))
    checks = rate_controls(observations, sweep, theta, thresholds)
    draws = statistic(bootstrap_weights(units, thresholds.draws, 0))
    part = _part(theta, draws[:, 0], draws[:, 1], sesoi, units)
    holds, standing = fits.original_form_holds()
    rises = c.low is not None and c.low > 0
    verdict = judge_parts(
        [part],
        checks,
        alpha=thresholds.alpha,
        gate=_gate(sweep),
        extra=_further(estimates["spread_fall_text"], (holds, standing), rises),
        enough=_informative(estimates, sesoi, declared["exponent"]),
    )
    entropy = entropy_rows(sweep, estimates, thresholds)
    return EXPERIMENT.finding(
        thresholds,
        primary="spread_fall",
        estimates=estimates,
        original_measure=original_fit(sweep),
        controls=checks,
        verdict=verdict,
        sentence=_sentence(estimates, verdict.label, entropy) + left_out_sentence(sweep.left_out),
        tables={
            "cells": _cell_rows(sweep, fits),
            "models": fits.rows(),
            "frontier": frontier_rows(observations),
            "curves": fits.curves(),
            "entropy_term": entropy,
            "without_language": _without_each(sweep),
            "left_out": sweep.left_out,
            "bits_judged": [int(b) for b in sweep.levels],
            "bits_left_out": sweep.levels_left_out,
            "dropped": {
                "collapsed": int(sweep.collapsed.sum()),
                "below resolution": int(sweep.unresolved.sum()),
                "of": int(sweep.collapsed.size),
            },
            "fundamental_bound": BOUND,
            "seed_form": {"within_2_se": holds, "c_above_0": rises},
        },
    )


BOUND = "not testable by fitting: a curve through what was reached is no lower bound on what can be"
UNITS = {
    "spread_fall": "S per log2 q",
    "spread_fall_text": "S per log2 q",
    "spread_fall_unprotected": "S per log2 q",
    "ratio_fall": "log2 ratio per log2 q",
    "exponent": "log2 damage per log2 q",
    "exponent_unprotected": "log2 damage per log2 q",
    "log2_a": "S",
    "b": "1 per log2 q",
    "c": "1 per share protected",
    "log2_a_damage": "log2 bits per token",
    "b_damage": "1 per log2 q",
    "c_damage": "1 per share protected",
    "order_saving": "log2 damage",
    **{name: "log2 damage per bit of entropy" for name in ENTROPIES},
}


def sweep_statistic(sweep: Sweep) -> Statistic:
    """Returns weights -> (W x estimates), those of :data:`UNITS` in order."""
    every, alone = np.ones(len(sweep.bits), bool), sweep.of_order(NONE)
    rows, log_q, share = np.flatnonzero(sweep.cells), sweep.log_q, sweep.share

    def of_few(weights: Floats) -> Floats:
        logs = log_damages(sweep.scores, weights)
        per_text = logs + log_tokens(sweep.scores, weights)
        spread = sweep.spread(logs)
        mean = _mean(logs[..., sweep.languages])
        ratio = _mean((logs - logs[..., [sweep.reference]])[..., sweep.compared])
        # Where languages are many, their mean has the same form as all of them, each at its level.
        return np.column_stack([
            sweep.fall(spread, every),
            sweep.fall(sweep.spread(per_text), every),
            sweep.fall(spread, alone),
            sweep.fall(ratio, every),
            sweep.fall(mean, every),
            sweep.fall(mean, alone),
            original_form(spread[:, rows], log_q[rows], share[rows]),
            original_form(mean[:, rows], log_q[rows], share[rows]),
            sweep.order_saving(mean),
            entropy_coefficients(sweep, logs, weights),
        ])  # fmt: skip

    return lambda weights: in_slices(of_few, weights, sweep.scores.kl_nats[..., 0].size)


def _mean(logs: Floats) -> Floats:
    """Returns the mean over languages, NaN of none."""
    return logs.mean(-1) if logs.shape[-1] else np.full(logs.shape[:-1], np.nan)


def _estimates(statistic: Statistic, units: Units, thresholds: Thresholds) -> dict[str, Estimate]:
    every = estimates(statistic, units, unit="per log2 q", **thresholds.how)
    return {
        name: replace(estimate, unit=unit)
        for (name, unit), estimate in zip(UNITS.items(), every, strict=True)
    }


def _part(theta: Estimate, draws: Floats, per_text: Floats, sesoi: float, units: Units) -> Part:
    """Returns the fall of S as a part of the verdict; per text it must lie under the SESOI too
    where per token it does.
    """
    n = n_units(units)
    p, smallest = bounded_p(draws, n)
    return Part(
        name="fall of S per log2 q",
        estimate=theta,
        sesoi=sesoi,
        p=p,
        p_minimum=smallest,
        p_equivalence=bounded_p(sesoi - draws, n)[0],
        concurring={"fall of S per text": bounded_p(sesoi - per_text, n)[0]},
    )


def _gate(sweep: Sweep) -> str | None:
    if sweep.languages.any():
        return None
    reasons = ", ".join(f"{code} ({why})" for code, why in sweep.left_out.items())
    return (
        f"no {FEWEST_LANGUAGES} languages have {FEWEST_BITS} numbers of bits, {sweep.bits_min} or "
        f"more, to be compared at: {reasons}"
    )


def _further(per_text: Estimate, form: tuple[bool, str], rises: bool) -> tuple[bool, str]:
    """Returns whether what support asks beside θ holds, and what of it does not."""
    if per_text.value is None or per_text.value <= 0:
        return False, "not established: S falls per token and does not per text"
    if not form[0]:
        return form
    return rises, "c is not clearly above 0"


def _informative(
    estimates: Mapping[str, Estimate], sesoi: float, wanted: Sequence[float]
) -> tuple[bool, str]:
    """Returns whether the fall of S can be concluded from, and why not.

    It cannot where it turns round with the unit, nor, where it is too small, where damage itself
    does not fall as the theory of rate and distortion has it: what bends damage bends its spread.
    """
    theta, per_text = estimates["spread_fall"], estimates["spread_fall_text"]
    if turns_round(theta, per_text):
        return False, (
            f"not established: S falls by {theta.value:+.2f} per log2 q per token and by "
            f"{per_text.value:+.2f} per text, clearly in opposite directions"
        )
    exponent = estimates["exponent"].value
    small = theta.high is not None and theta.high < sesoi
    if not small or (exponent is not None and wanted[0] <= exponent <= wanted[1]):
        return True, ""
    value = "undefined" if exponent is None else f"{exponent:.2f}"
    return False, (
        f"S does not fall by {sesoi:g} per log2 q, but the exponent of damage itself is {value}, "
        f"outside [{wanted[0]:g}, {wanted[1]:g}]"
    )


def turns_round(per_token: Estimate, per_text: Estimate) -> bool:
    """Returns whether two versions of an effect are clearly of opposite sign."""

    def side(estimate: Estimate) -> int:
        if estimate.low is None or estimate.high is None:
            return 0
        return int(estimate.low > 0) - int(estimate.high < 0)

    return side(per_token) * side(per_text) < 0


def _sentence(
    estimates: Mapping[str, Estimate], label: str, entropy: Sequence[Mapping[str, Any]]
) -> str:
    theta, per_text = estimates["spread_fall"], estimates["spread_fall_text"]
    exponent = estimates["exponent"]
    if theta.value is None or exponent.value is None or per_text.value is None:
        return "No fall of the gap between languages with bits is defined on this text."
    slopes = (
        f"with each doubling of the levels damage falls by {exponent.value:.2f} in log2, its "
        f"spread over languages by {theta.value:+.2f} per token and {per_text.value:+.2f} per text"
    )
    conclusion = {
        "supported": "The gap falls with bits as the origin's form has it",
        "refuted": "Rate–distortion governs damage, not its ratio between languages",
        "small": "The gap falls with bits, by less than was declared to matter",
    }.get(label, "Whether the gap falls with bits is not settled here")
    if turns_round(theta, per_text):
        conclusion = "That the gap falls with bits is not established, as it hangs on the unit"
    elif label == "refuted" and theta.high is not None and theta.high < 0:
        conclusion = "The gap rises with bits"
    found = [row["entropy"] for row in entropy if row["label"] == "supported"]
    term = f"; damage at a rate rises with a language's entropy {' and '.join(found)}"
    return (
        f"{conclusion}: {slopes}{term if found else ''}; that this is a bound cannot be tested by "
        f"fitting."
    )


def _without_each(sweep: Sweep) -> dict[str, float | None]:
    """Returns the fall of S per log2 q with each judged language left out, by its code."""
    logs = log_damages(sweep.scores, np.ones((1, sweep.scores.n_sentences)))[0]
    every, rows = np.ones(len(sweep.bits), bool), np.flatnonzero(sweep.languages)
    return {
        sweep.scores.languages[row]: finite(
            sweep.fall(spread_of(logs[:, rows[rows != row]]), every)
        )
        for row in rows
    }


def _cell_rows(sweep: Sweep, fits: Fits) -> list[dict[str, Any]]:
    logs = log2(sweep.damage)
    means = evened_mean(logs, sweep.readable)
    pairs = sweep.readable & sweep.readable[:, [sweep.reference]]
    pairs[:, sweep.reference] = False
    ratios = evened_mean(logs - logs[:, [sweep.reference]], pairs)
    gaps = np.full(len(means), np.nan)
    if "G" in fits.targets:
        gaps[sweep.cells] = fits.targets["G"].values
    columns = {
        "mean_log2_damage": means,
        "spread": shown_spread(sweep),
        "log2_ratio": ratios,
        "gap": gaps,
    }
    return [
        {
            "bits": int(sweep.bits[i]),
            "log2_q": float(sweep.log_q[i]),
            "judged": bool(sweep.cells[i]),
            "bits_per_weight": float(sweep.rate[i]),
            "share": float(sweep.share[i]),
            "order": sweep.orders[sweep.design[i]],
            "dropped": int((~sweep.readable)[i].sum()),
        }
        | {name: finite(values[i]) for name, values in columns.items()}
        for i in range(len(sweep.bits))
    ]
