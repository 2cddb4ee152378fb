"""How T-010 judges what was measured: pure, no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.effects import bounded_p
from bitgap.experiments.protocol.scores import left_out_sentence
from bitgap.experiments.t010_rate_distortion import EXPERIMENT
from bitgap.experiments.t010_rate_distortion.controls import frontier_rows, rate_controls
from bitgap.experiments.t010_rate_distortion.fits import Fits, original_fit
from bitgap.experiments.t010_rate_distortion.plans import NONE
from bitgap.experiments.t010_rate_distortion.sweep import (
    FEWEST_BITS,
    Sweep,
    evened_mean,
    in_slices,
    log2,
    log_damages,
)
from bitgap.quant.schemes import largest_level
from bitgap.records import Estimate, Finding, Floats, Observations, finite
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, few_estimates
from bitgap.stats.rate_models import original_form
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H4.1: a slope of at least .5 a bit, the origin's form not beaten, and c above 0."""
    sweep, facts = Sweep.of(observations), observations.facts
    fits, sesoi = Fits(sweep), thresholds.of("H4.1")["sesoi"]
    statistic, n = sweep_statistic(sweep), sweep.scores.n_sentences
    estimates = _estimates(statistic, n, thresholds) | fits.gap_form()
    theta, exponent, c = (estimates[name] for name in ("minus_slope", "exponent", "c"))
    checks = rate_controls(observations, sweep, theta, thresholds)
    p, smallest = bounded_p(statistic(bootstrap_weights(n, thresholds.draws, 0))[:, 0], n)
    name = "fall of the log2 damage ratio per bit"
    part = Part(name=name, estimate=theta, sesoi=sesoi, p=p, p_minimum=smallest)
    holds, standing = fits.original_form_holds()
    rises = c.low is not None and c.low > 0
    extra = (holds and rises, standing if not holds else "c is not clearly above 0")
    verdict = judge_parts(
        [part],
        checks,
        alpha=thresholds.alpha,
        gate=_gate(sweep),
        extra=extra,
        enough=_informative(theta, exponent, sesoi, facts["params"]["exponent_range"]),
    )
    return EXPERIMENT.finding(
        thresholds,
        primary="minus_slope",
        estimates=estimates,
        original_measure=original_fit(sweep),
        controls=checks,
        verdict=verdict,
        sentence=_sentence(theta, exponent, verdict.label) + left_out_sentence(sweep.left_out),
        tables={
            "cells": _cell_rows(sweep, fits),
            "models": fits.rows(),
            "frontier": frontier_rows(observations),
            "curves": fits.curves(),
            "left_out": sweep.left_out,
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
    "minus_slope": "log2 ratio per bit",
    "minus_slope_unprotected": "log2 ratio per bit",
    "exponent": "log2 damage per bit",
    "exponent_unprotected": "log2 damage per bit",
    "exponent_per_doubling": "log2 damage per log2 of levels",
    "log2_a": "log2 ratio",
    "b": "1 per bit",
    "c": "1 per share protected",
    "log2_a_damage": "log2 nats",
    "b_damage": "1 per bit",
    "c_damage": "1 per share protected",
    "order_saving": "log2 damage",
}


def sweep_statistic(sweep: Sweep) -> Statistic:
    """Returns weights -> (W x 12), the estimates of :data:`UNITS` in order."""
    kl, every = sweep.scores.kl_nats, np.ones(len(sweep.bits), bool)
    alone, rows = sweep.of_order(NONE), np.flatnonzero(sweep.paired.any(1))
    cell, language = np.nonzero(sweep.usable)
    # Weight error goes with 1/q², and q = 2^(bits−1) − 1 more than doubles with each of few bits.
    finer = replace(sweep, bits=np.log2([largest_level(int(b)) for b in sweep.bits]))

    def of_few(weights: Floats) -> Floats:
        logs = log_damages(kl, weights)
        ratio = evened_mean(sweep.ratios(logs), sweep.paired)[:, rows]
        return np.column_stack([
            sweep.minus_slopes(logs, every),
            sweep.minus_slopes(logs, alone),
            sweep.exponents(logs, every),
            sweep.exponents(logs, alone),
            finer.exponents(logs, every),
            original_form(ratio, sweep.bits[rows], sweep.share[rows]),
            original_form(logs[:, cell, language], sweep.bits[cell], sweep.share[cell]),
            sweep.order_saving(logs),
        ])  # fmt: skip

    return lambda weights: in_slices(of_few, weights, kl[..., 0].size)


def _estimates(statistic: Statistic, n: int, thresholds: Thresholds) -> dict[str, Estimate]:
    every = few_estimates(statistic, n, unit="per bit", **thresholds.how)
    return {
        name: replace(estimate, unit=unit)
        for (name, unit), estimate in zip(UNITS.items(), every, strict=True)
    }


def _gate(sweep: Sweep) -> str | None:
    if sweep.paired.any():
        return None
    reasons = ", ".join(f"{code} ({why})" for code, why in sweep.left_out.items())
    return f"no language has {FEWEST_BITS} numbers of bits to be compared at: {reasons}"


def _informative(
    theta: Estimate, exponent: Estimate, sesoi: float, wanted: tuple[float, float]
) -> tuple[bool, str]:
    """Returns whether a flat ratio would say something, and why it would not.

    It would not where damage itself falls otherwise than the theory of rate and distortion has it.
    """
    flat = theta.high is not None and 0 <= theta.high < sesoi
    if not flat or (exponent.value is not None and wanted[0] <= exponent.value <= wanted[1]):
        return True, ""
    value = "undefined" if exponent.value is None else f"{exponent.value:.2f}"
    return False, (
        f"the ratio is flat in bits, but the exponent of damage itself is {value}, outside "
        f"[{wanted[0]:g}, {wanted[1]:g}]"
    )


def _sentence(theta: Estimate, exponent: Estimate, label: str) -> str:
    if theta.value is None or exponent.value is None:
        return "No slope of disparity in bits is defined on this text."
    slopes = (
        f"damage falls by {exponent.value:.2f} in log2 a bit, its ratio between languages by "
        f"{theta.value:+.2f}"
    )
    conclusion = {
        "supported": "Disparity falls with bits as the origin's form has it",
        "refuted": "Rate–distortion governs damage, not its ratio",
    }.get(label, "Whether disparity falls with bits is not settled here")
    if label == "refuted" and theta.high is not None and theta.high < 0:
        conclusion = "Disparity rises with bits"
    return f"{conclusion}: {slopes}; that this is a bound cannot be tested by fitting."


def _cell_rows(sweep: Sweep, fits: Fits) -> list[dict[str, Any]]:
    logs = log2(sweep.damage)
    means = evened_mean(logs, sweep.usable)
    ratios = evened_mean(sweep.ratios(logs), sweep.paired)
    gaps = np.full(len(means), np.nan)
    if "G" in fits.targets:
        gaps[sweep.paired.any(1)] = fits.targets["G"].values
    columns = {"mean_log2_damage": means, "log2_ratio": ratios, "gap": gaps}
    return [
        {
            "bits": int(sweep.bits[i]),
            "bits_per_weight": float(sweep.rate[i]),
            "share": float(sweep.share[i]),
            "order": sweep.orders[sweep.design[i]],
            "dropped": int((sweep.collapsed | sweep.unresolved)[i].sum()),
        }
        | {name: finite(values[i]) for name, values in columns.items()}
        for i in range(len(sweep.bits))
    ]
