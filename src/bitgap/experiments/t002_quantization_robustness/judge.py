"""How T-002 judges what was measured: pure, no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.disparity.formulas import original_disparity
from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.error_budget import (
    block_damage,
    error_share,
    logarithm,
    sensitivity,
)
from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t002_quantization_robustness import EXPERIMENT
from bitgap.experiments.t002_quantization_robustness.controls import GAUGE, controls
from bitgap.quant.schemes import largest_level
from bitgap.records import Control, Estimate, Finding, Floats, Observations
from bitgap.stats.profiles import ProfileCorrelation, correlate_profiles
from bitgap.stats.verdicts import Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.2: both correlations, and an LMG share of t² of at least one half."""
    declared, arrays, facts = thresholds.of("H1.2"), observations.arrays, observations.facts
    languages = eligible_languages(observations, ["single", "noise"], readable=["single"])
    displayed = languages.displayed
    single, noise = unpack_scores(observations, "single"), unpack_scores(observations, "noise")
    damage = block_damage(single, displayed)
    alpha = sensitivity(noise, displayed, facts["params"]["noise"], facts["params"]["noise_seeds"])
    ones = np.ones((1, single.n_sentences))
    log_t2, log_k = np.log(arrays["t2"]), logarithm(damage(ones))[0]
    variance = correlate_profiles(arrays["log_variance_fixed"], -log_t2, thresholds.level)
    reaches = correlate_profiles(log_t2, log_k, thresholds.level)
    share = error_share(damage, alpha, log_t2, single.n_sentences, thresholds)
    nothing_protected = unpack_scores(observations, "protect")
    checks = [
        *controls(observations, thresholds),
        halves(nothing_protected, 0, languages.eligible, thresholds),
    ]
    verdict = judge_parts(
        [
            variance.part("r(log variance, −log RE)", declared["sesoi"]),
            reaches.part("r(log RE, log k)", declared["sesoi"]),
        ],
        checks,
        alpha=thresholds.alpha,
        gate=languages.gate_reason,
        extra=(
            share.value is not None and share.value >= declared["lmg_share"],
            f"the share of t² in log k is {_format(share, '.2f')}, under {declared['lmg_share']}",
        ),
    )
    return EXPERIMENT.finding(
        thresholds,
        primary="variance_and_error",
        estimates={
            "variance_and_error": variance.estimate,
            "error_and_damage": reaches.estimate,
            "lmg_share_of_error": share,
            "excess_over_crest_law": _excess(observations),
        },
        original_measure=_original_measure(observations),
        controls=checks,
        verdict=verdict,
        sentence=_sentence(variance, reaches, share, checks) + languages.sentence,
        tables={
            "blocks": _table(observations, log_k, logarithm(alpha(ones))[0]),
            "law": 1 / (12 * largest_level(facts["bits"]) ** 2),
            "left_out": languages.left_out,
        },
    )


def _excess(observations: Observations) -> Estimate:
    """Returns the mean of log RE − log(C²/12q²): 0 where the high-resolution law holds."""
    excess = _excesses(observations)
    why = "a property of the weights alone; no sampling"
    return Estimate(value=float(excess.mean()), unit="nats", n=len(excess), reason=why)


def _excesses(observations: Observations) -> Floats:
    arrays, q = observations.arrays, largest_level(observations.facts["bits"])
    return np.log(arrays["t2"]) - np.log(arrays["crest"] / (12 * q**2))


def _original_measure(observations: Observations) -> dict[str, Estimate]:
    """Returns the origin's links: plain Pearson of raw variance, 4-bit error and D_original."""
    arrays = observations.arrays
    variance, error = np.exp(arrays["log_variance_raw"]), arrays["re_tensor"]
    d_original = original_disparity(unpack_scores(observations, "protect"))[1:]
    why = "the origin gave no uncertainty; not detrended"
    n = len(error)
    return {
        "r_variance_and_tensor_error": _pearson(variance, error, why),
        "r_tensor_error_and_original_disparity": _pearson(error, d_original, why),
        "r_variance_and_original_disparity": _pearson(variance, d_original, why),
        "mean_tensor_error": Estimate(
            value=float(error.mean()), unit="relative squared error", n=n, reason=why
        ),
    }


def _pearson(x: Floats, y: Floats, why: str) -> Estimate:
    defined = len(x) > 2 and np.isfinite([x, y]).all() and np.ptp(x) > 0 and np.ptp(y) > 0
    if not defined:
        why = "a profile is undefined or does not vary"
    value = float(np.corrcoef(x, y)[0, 1]) if defined else None
    return Estimate(value=value, unit="correlation over blocks", n=len(x), reason=why)


def _sentence(
    variance: ProfileCorrelation,
    reaches: ProfileCorrelation,
    share: Estimate,
    checks: list[Control],
) -> str:
    gauge = next(c for c in checks if c.name == GAUGE)
    caveat = (
        "variance moves with the gauge and damage does not, so variance can predict but never cause"
        if gauge.passed
        else "the gauge intervention did not pass, so nothing is said of what variance does"
    )
    return (
        f"Weight variance predicts robustness with r = {_format(variance.estimate, '+.2f')}, "
        f"relative error predicts damage with r = {_format(reaches.estimate, '+.2f')}, and error "
        f"size explains {_format(share, '.0%')} of how damage differs between blocks; {caveat}."
    )


def _format(estimate: Estimate, form: str) -> str:
    return "undefined" if estimate.value is None else format(estimate.value, form)


def _table(observations: Observations, log_k: Floats, log_alpha: Floats) -> list[dict[str, Any]]:
    arrays = observations.arrays
    log_t2, to_db = np.log(arrays["t2"]), 10 / np.log(10)
    names = ("kurtosis", "re_tensor", "re_channel", "re_clipped", "log_variance_raw",
             "log_variance_fixed")  # fmt: skip
    return block_rows({
        "log_k": log_k,
        "log_alpha": log_alpha,
        "log_t2": log_t2,
        "nonlinearity": log_k - log_alpha - log_t2,
        "relative_error": arrays["t2"],
        "sqnr_db": -log_t2 * to_db,
        "crest": arrays["crest"],
        "excess": _excesses(observations),
        "clipping_gain_db": (log_t2 - np.log(arrays["re_clipped"])) * to_db,
        **{name: arrays[name] for name in names},
    })  # fmt: skip
