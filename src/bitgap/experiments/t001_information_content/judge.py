"""How T-001 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.planted_profile import (
    guarded,
    told_without_first,
    without_first,
)
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t001_information_content import EXPERIMENT, LABELS
from bitgap.experiments.t001_information_content.controls import controls, units_of_text
from bitgap.records import Estimate, Finding, Floats, Observations, Units
from bitgap.stats.bootstrap import Statistic, estimate
from bitgap.stats.profiles import correlate_profiles, detrend
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.1: the correlation of gauge-fixed log variance with usable information."""
    arrays = observations.arrays
    profile = usable_profile(arrays["bits"], arrays["tokens"])
    bits = profile(np.ones((1, arrays["tokens"].shape[1])))[0]  # (labels x L)
    variance = arrays["log_variance_fixed"]
    theta = correlate_profiles(variance, bits.mean(0), thresholds.level)
    units = units_of_text(arrays)
    mean = estimate(
        lambda w: profile(w).mean((1, 2)),
        units,
        unit="bits per token, mean over blocks",
        **thresholds.how,
    )
    resampled = _by_sentence(profile, variance, units, thresholds)
    checks = controls(arrays, theta.estimate, thresholds)
    part = guarded(
        theta.part("r(log variance, usable information)", thresholds.of("H1.1")["sesoi"]),
        variance,
        bits.mean(0),
        thresholds,
    )
    beside = {
        "variance_and_current_token": bits[0],
        "variance_and_previous_token": bits[1],
        "variance_and_surviving_bits": arrays["rate_bits"],
        "variance_and_embedding": arrays["embedding_r2"],
        "variance_and_decoder": arrays["decoder_r2"],
        "variance_and_rank": arrays["rank_me"],
    }
    return EXPERIMENT.finding(
        thresholds,
        primary="variance_and_information",
        estimates={
            "variance_and_information": theta.estimate,
            **without_first(part, "variance_and_information"),
            "variance_and_information_by_sentence": resampled,
            "usable_bits": mean,
            **{
                name: correlate_profiles(variance, values, thresholds.level).estimate
                for name, values in beside.items()
            },
        },
        original_measure=_original_measure(arrays),
        controls=[*checks, *part.controls],
        verdict=judge_parts(
            [part],
            checks,
            alpha=thresholds.alpha,
            gate=_gate(mean),
            extra=(
                resampled.low is not None and resampled.low > 0,
                "the correlation is not clearly above 0 when sentences are resampled",
            ),
        ),
        sentence=_sentence(part, mean),
        tables={"blocks": _table(arrays, bits), "width": observations.facts["width"]},
    )


def usable_profile(bits: Floats, tokens: Floats) -> Statistic:
    """Returns weights (W x N) -> usable bits per token, (W x labels x L).

    Args:
        bits: Sums over test tokens, (labels x L x N).
        tokens: How many, (L x N).
    """

    def statistic(weights: Floats) -> Floats:
        counts = weights @ tokens.T
        sums = np.einsum("wn,yln->wyl", weights, bits)
        return sums / np.where(counts > 0, counts, np.nan)[:, None]

    return statistic


def _by_sentence(
    profile: Statistic, variance: Floats, units: Units, thresholds: Thresholds
) -> Estimate:
    """Returns the correlation with an interval from test sentences: what text alone leaves open."""
    wanted = detrend(variance)

    def correlation(weights: Floats) -> Floats:
        bits = profile(weights).mean(1)
        left = bits - bits @ trend
        above = left @ wanted
        below = np.sqrt((left**2).sum(1) * (wanted**2).sum())
        return above / np.where(below > 0, below, np.nan)

    # Detrending is linear: the columns of this matrix are what it takes from each block.
    trend = np.eye(len(variance)) - np.array([detrend(row) for row in np.eye(len(variance))])
    unit = "correlation over blocks, detrended in depth"
    return estimate(correlation, units, unit=unit, **thresholds.how)


def _gate(mean: Estimate) -> str | None:
    if mean.value is None:
        return "usable information is undefined on this text"
    low = mean.value if mean.low is None else mean.low
    if low > 0:
        return None
    return f"the probe reads nothing: {mean.value:+.3f} bits per token, not clearly above 0"


def _original_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Returns the origin's link: plain Pearson of raw variance and histogram entropy."""
    why = "the origin gave no uncertainty; not detrended, and scaled states move it"
    variance, entropy = np.exp(arrays["log_variance_raw"]), arrays["histogram_bits"]
    n, varies = len(entropy), np.ptp(variance) > 0 and np.ptp(entropy) > 0 and len(entropy) > 2
    r = float(np.corrcoef(variance, entropy)[0, 1]) if varies else None
    return {
        "r_raw_variance_and_histogram_entropy": Estimate(
            value=r, unit="correlation over blocks", n=n, reason=why
        ),
        "mean_histogram_entropy": Estimate(
            value=float(entropy.mean()), unit="bits per unit", n=n, reason=why
        ),
    }


def _sentence(part: Part, mean: Estimate) -> str:
    r = part.estimate.value
    correlation = "undefined" if r is None else f"r = {r:+.2f}{told_without_first(part)}"
    bits = "undefined" if mean.value is None else f"{mean.value:.2f} bits per token"
    return (
        f"A probe reads {bits} about the current and the previous token off an average block, and "
        f"across blocks weight variance goes with it by {correlation}."
    )


def _table(arrays: Mapping[str, Floats], bits: Floats) -> list[dict[str, Any]]:
    names = ("rate_bits", "embedding_r2", "decoder_r2", "rank_me", "renyi2_bits", "prompt_bits",
             "knn_nats", "histogram_bits", "log_variance_fixed", "log_variance_raw")  # fmt: skip
    usable = {f"usable_bits_{name}": values for name, values in zip(LABELS, bits, strict=True)}
    return block_rows({**usable, **{name: arrays[name] for name in names}})


def mean_usable_bits(row: Mapping[str, Any]) -> float | None:
    """Returns a block's usable bits per token, the mean of both labels, from its row."""
    values = [row[f"usable_bits_{name}"] for name in LABELS]
    return None if None in values else float(np.mean(values))


def profile(finding: Finding) -> list[float | None]:
    """Returns what the experiment says of every block, for its link with what protection saves."""
    return [mean_usable_bits(row) for row in finding.tables["blocks"]]
