"""How T-002 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from bitgap.experiments.protocol.planted_profile import (
    guarded,
    told_without_first,
    without_first,
)
from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t002_quantization_robustness import EXPERIMENT
from bitgap.experiments.t002_quantization_robustness.controls import GAUGE, controls
from bitgap.experiments.t002_quantization_robustness.plans import BITS, TENSOR
from bitgap.quant.schemes import largest_level, parse_scheme
from bitgap.records import Control, Estimate, Finding, Floats, Observations
from bitgap.stats.profiles import ProfileCorrelation, correlate_profiles
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


@dataclass(frozen=True, slots=True)
class _Links:
    """Both correlations under one way to round, and whether there is anything to explain.

    Attributes:
        log_t2: Relative error, (L).
        log_k: Damage, (L).
        variance: r(log variance, −log RE).
        reaches: r(log RE, log k).
        spread: SD of log RE over blocks, over that of log k; None where a block has no logarithm.
    """

    log_t2: Floats
    log_k: Floats
    variance: ProfileCorrelation
    reaches: ProfileCorrelation
    spread: float | None

    @classmethod
    def of(cls, log_variance: Floats, log_t2: Floats, log_k: Floats, level: float) -> _Links:
        known = bool(np.isfinite([log_t2, log_k]).all()) and np.ptp(log_k) > 0
        return cls(
            log_t2=log_t2,
            log_k=log_k,
            variance=correlate_profiles(log_variance, -log_t2, level),
            reaches=correlate_profiles(log_t2, log_k, level),
            spread=float(log_t2.std() / log_k.std()) if known else None,
        )

    def nothing_to_explain(self, least: float) -> str | None:
        """Returns why error cannot be what decides damage, or None."""
        if self.spread is None or self.spread >= least:
            return None
        return (
            f"nothing to explain: over blocks log relative error has a standard deviation of "
            f"{self.log_t2.std():.2g} and log damage one of {self.log_k.std():.2g}"
        )


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.2 with one scale a tensor: both correlations, and half of log k for t²."""
    declared, arrays, facts = thresholds.of("H1.2"), observations.arrays, observations.facts
    languages = eligible_languages(observations, ["tensor", "noise"], readable=["tensor"])
    displayed = languages.displayed
    tensor, noise = unpack_scores(observations, "tensor"), unpack_scores(observations, "noise")
    damage = block_damage(tensor, displayed)
    alpha = sensitivity(noise, displayed, facts["params"]["noise"], facts["params"]["noise_seeds"])
    ones, variances = np.ones((1, tensor.n_sentences)), arrays["log_variance_fixed"]
    links = _Links.of(
        variances, np.log(arrays["tensor_t2"]), logarithm(damage(ones))[0], thresholds.level
    )
    grouped_damage = block_damage(unpack_scores(observations, "single"), displayed)
    grouped = _Links.of(
        variances, np.log(arrays["t2"]), logarithm(grouped_damage(ones))[0], thresholds.level
    )
    share = error_share(damage, alpha, links.log_t2, tensor.units, thresholds)
    checks = [
        *controls(observations, thresholds),
        halves(unpack_scores(observations, "tensor_all"), 0, languages.eligible, thresholds),
    ]
    parts = _parts(links, variances, declared["sesoi"], thresholds)
    gate = languages.gate_reason or links.nothing_to_explain(declared["error_spread_min"])
    verdict = judge_parts(
        parts,
        checks,
        alpha=thresholds.alpha,
        gate=gate,
        extra=(
            share.value is not None and share.value >= declared["lmg_share"],
            f"the share of t² in log k is {_format(share, '.2f')}, under {declared['lmg_share']}",
        ),
    )
    alone = grouped.nothing_to_explain(declared["error_spread_min"])
    return EXPERIMENT.finding(
        thresholds,
        primary="variance_and_error",
        estimates={
            "variance_and_error": links.variance.estimate,
            "error_and_damage": links.reaches.estimate,
            **without_first(parts[0], "variance_and_error"),
            **without_first(parts[1], "error_and_damage"),
            "lmg_share_of_error": share,
            "error_spread": _spread(links),
            "variance_and_error_of_scheme": grouped.variance.estimate,
            "error_and_damage_of_scheme": grouped.reaches.estimate,
            "error_spread_of_scheme": _spread(grouped),
            "excess_over_crest_law": _excess(observations),
        },
        original_measure=_original_measure(observations),
        controls=[*checks, *(c for part in parts for c in part.controls)],
        verdict=verdict,
        sentence=_sentence(parts, share, checks, gate)
        + _beside(facts["scheme"], grouped, alone)
        + languages.sentence,
        tables={
            "blocks": _table(observations, links, grouped, logarithm(alpha(ones))[0]),
            "law": 1 / (12 * largest_level(BITS) ** 2),
            "left_out": languages.left_out,
        },
    )


def _parts(links: _Links, variances: Floats, sesoi: float, thresholds: Thresholds) -> list[Part]:
    """Returns both links as parts, each guarded by what is planted in its own profiles."""
    variance = links.variance.part("r(log variance, −log RE)", sesoi)
    reaches = links.reaches.part("r(log RE, log k)", sesoi)
    return [
        guarded(variance, variances, -links.log_t2, thresholds),
        guarded(reaches, links.log_t2, links.log_k, thresholds),
    ]


def _spread(links: _Links) -> Estimate:
    return Estimate(
        value=links.spread,
        unit="SD of log RE over SD of log k",
        n=len(links.log_t2),
        reason="a property of these blocks; none is sampled",
    )


def _excess(observations: Observations) -> Estimate:
    """Returns the mean of log RE − log(C²/12q²): 0 where the high-resolution law holds."""
    excess = _excesses(observations)
    why = "a property of the weights alone; no sampling"
    return Estimate(value=float(excess.mean()), unit="nats", n=len(excess), reason=why)


def _excesses(observations: Observations) -> Floats:
    arrays, q = observations.arrays, largest_level(BITS)
    return np.log(arrays["tensor_t2"]) - np.log(arrays["crest"] / (12 * q**2))


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
    parts: Sequence[Part], share: Estimate, checks: Sequence[Control], gate: str | None
) -> str:
    if gate is not None:
        return f"Not testable here: {gate}."
    gauge = next(c for c in checks if c.name == GAUGE)
    caveat = (
        "variance moves with the gauge and damage does not, so variance can predict but never cause"
        if gauge.passed
        else "the gauge intervention did not pass, so nothing is said of what variance does"
    )
    predicts, decides = (
        f"r = {_format(part.estimate, '+.2f')}{told_without_first(part)}" for part in parts
    )
    return (
        f"With one scale a tensor and {BITS} bits weight variance predicts robustness with "
        f"{predicts}, relative error predicts damage with {decides}, and error size explains "
        f"{_format(share, '.0%')} of how damage differs between blocks; {caveat}."
    )


def _beside(scheme: str, grouped: _Links, nothing: str | None) -> str:
    """Returns a sentence on the run's scheme, a space before it; empty where it is the same."""
    if scheme == TENSOR:
        return ""
    if nothing is not None:
        why = "" if getattr(parse_scheme(scheme), "group", "tensor") == "tensor" else (
            ", because rounding in groups makes relative error nearly the same in every block"
        )  # fmt: skip
        return f" At {scheme} there is {nothing}{why}."
    return (
        f" At {scheme} the two are {_format(grouped.variance.estimate, '+.2f')} and "
        f"{_format(grouped.reaches.estimate, '+.2f')}."
    )


def _format(estimate: Estimate, form: str) -> str:
    return "undefined" if estimate.value is None else format(estimate.value, form)


def _table(
    observations: Observations, links: _Links, grouped: _Links, log_alpha: Floats
) -> list[dict[str, Any]]:
    arrays, to_db = observations.arrays, 10 / np.log(10)
    names = ("kurtosis", "re_tensor", "re_channel", "re_clipped", "log_variance_raw",
             "log_variance_fixed")  # fmt: skip
    return block_rows({
        "log_k": links.log_k,
        "log_alpha": log_alpha,
        "log_t2": links.log_t2,
        "nonlinearity": links.log_k - log_alpha - links.log_t2,
        "relative_error": arrays["tensor_t2"],
        "sqnr_db": -links.log_t2 * to_db,
        "crest": arrays["crest"],
        "excess": _excesses(observations),
        "clipping_gain_db": (links.log_t2 - np.log(arrays["re_clipped"])) * to_db,
        "log_k_of_scheme": grouped.log_k,
        "log_t2_of_scheme": grouped.log_t2,
        **{name: arrays[name] for name in names},
    })  # fmt: skip
