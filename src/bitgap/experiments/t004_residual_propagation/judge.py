"""How T-004 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.scores import Eligibility, eligible_languages, unpack_scores
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t004_residual_propagation import EXPERIMENT, FEWEST_BLOCKS
from bitgap.experiments.t004_residual_propagation.controls import controls, of_block_0
from bitgap.experiments.t004_residual_propagation.statistic import (
    interaction_contrast,
    snr_contrast,
)
from bitgap.records import Bools, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import Statistic, bootstrap_weights
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.1: θ1 ≥ 1 dB and θ2 ≥ .02 K(∅), both clearly."""
    n_blocks = observations.facts["n_blocks"]
    languages = eligible_languages(observations, ["masks"], readable=["masks"])
    gate, displayed = languages.gate_reason, languages.displayed
    if n_blocks < FEWEST_BLOCKS:
        gate = f"{n_blocks} blocks: block 0 cannot be compared with others; {FEWEST_BLOCKS} needed"
        return _unjudged(observations, languages, gate, thresholds)
    declared, arrays = thresholds.of("H2.1"), observations.arrays
    scores = unpack_scores(observations, "masks")
    snr = snr_contrast(
        arrays["state_error"][:, -2, displayed], arrays["state_tokens"][-2, displayed]
    )
    interaction = interaction_contrast(scores.kl_nats[:, displayed], n_blocks - 1)
    n = scores.n_sentences
    theta1 = of_block_0(snr, n, "dB", thresholds)
    theta2 = of_block_0(interaction, n, "share of K(none)", thresholds)
    checks = [
        *controls(observations, snr, theta1, displayed, thresholds),
        halves(scores, 0, languages.eligible, thresholds),
    ]
    parts = [
        _part("SNR contrast of block 0", theta1, declared["sesoi"], snr, n, thresholds),
        _part("interaction of block 0 with the last", theta2, declared["sesoi_interaction"],
              interaction, n, thresholds),
    ]  # fmt: skip
    return EXPERIMENT.finding(
        thresholds,
        primary="snr_contrast",
        estimates={
            "snr_contrast": theta1,
            "interaction": theta2,
            **_variants(arrays, displayed, n, thresholds),
        },
        original_measure=_original_measure(arrays),
        controls=checks,
        verdict=judge_parts(parts, checks, alpha=thresholds.alpha, gate=gate),
        sentence=_sentence(theta1, theta2, parts) + languages.sentence,
        tables={
            **_tables(observations, displayed),
            "blocks": _blocks(arrays, snr, interaction, n),
            "left_out": languages.left_out,
        },
    )


def _unjudged(
    observations: Observations, languages: Eligibility, gate: str, thresholds: Thresholds
) -> Finding:
    """Returns the finding on a model with too few blocks for either contrast."""
    return EXPERIMENT.untestable(
        thresholds,
        gate,
        primary="snr_contrast",
        unit="dB",
        part="SNR contrast of block 0",
        original_measure=_original_measure(observations.arrays),
        tables={
            **_tables(observations, languages.displayed),
            "blocks": [],
            "left_out": languages.left_out,
        },
    )


def _part(
    name: str, theta: Estimate, sesoi: float, contrast: Statistic, n: int, thresholds: Thresholds
) -> Part:
    """Returns the part with a bootstrap p: the share of draws not above 0 (Phipson & Smyth)."""
    draws = contrast(bootstrap_weights(n, thresholds.draws, 0))[:, 0]
    smallest = 1 / (1 + thresholds.draws)
    p = (1 + int((~(draws > 0)).sum())) * smallest
    return Part(name=name, estimate=theta, sesoi=sesoi, p=p, p_minimum=smallest)


def _variants(
    arrays: Mapping[str, Floats], displayed: Bools, n: int, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns θ1 as the head sees the state, and with position-0-like sinks left in."""
    tokens, real = arrays["state_tokens"], arrays["tokens"][displayed]
    after_norm = snr_contrast(arrays["state_error"][:, -1, displayed], tokens[-1, displayed])
    with_sinks = snr_contrast(arrays["state_error_with_sinks"][:, -2, displayed], real)
    return {
        "snr_contrast_after_norm": of_block_0(after_norm, n, "dB", thresholds),
        "snr_contrast_with_sinks": of_block_0(with_sinks, n, "dB", thresholds),
    }


def _original_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    why, unit = "the origin gave no uncertainty", "mean cosine with full precision"
    names = ("cosine_last", "cosine_0_and_last")
    return {
        name: Estimate(value=float(value), unit=unit, reason=why)
        for name, value in zip(names, arrays["state_cosine"], strict=False)
    }


def _sentence(theta1: Estimate, theta2: Estimate, parts: list[Part]) -> str:
    if theta1.value is None or theta2.value is None:
        return "The contrast is undefined on this text."
    travels = theta1.low is not None and theta1.low > 0 and theta1.value >= parts[0].sesoi
    conditional = theta2.low is not None and theta2.low > 0 and theta2.value >= parts[1].sesoi
    values = f"({theta1.value:+.2f} dB; interaction {theta2.value:+.3f} of the damage)"
    if travels and conditional:
        return f"Errors of block 0 travel, and protecting the last pays more without them {values}."
    if travels:
        return (
            f"Errors of block 0 travel further than others', but protecting the last block does "
            f"not depend on it {values}."
        )
    return f"Errors of block 0 reach the last state no more than those of other blocks {values}."


def _blocks(
    arrays: Mapping[str, Floats], snr: Statistic, interaction: Statistic, n: int
) -> list[dict[str, Any]]:
    ones = np.ones((1, n))
    return block_rows({
        "snr_contrast_db": snr(ones)[0],
        "interaction": interaction(ones)[0],
        "cka": arrays["state_cka"][1:],
    })  # fmt: skip


def _tables(observations: Observations, displayed: Bools) -> dict[str, Any]:
    arrays, n_blocks = observations.arrays, observations.facts["n_blocks"]
    error = arrays["state_error"][:, :, displayed].sum((2, 3))
    tokens = arrays["state_tokens"][:, displayed].sum((1, 2))
    with np.errstate(divide="ignore"):
        db = -10 * np.log10(error / tokens)
    names = [f"last ({n_blocks - 1})", *(f"{j} and last" for j in range(n_blocks - 1))]
    return {
        "snr": [
            {"mask": name, "depth": depth, "snr_db": float(db[j, depth])}
            for j, name in enumerate(names)
            for depth in range(n_blocks + 1)
            # Before its first rounded block a mask has no error, and the ratio no value.
            if np.isfinite(db[j, depth])
        ],
        "amplification": [
            {"injected": j, "depth": depth, "ratio": float(arrays["amplification"][j, depth])}
            for j in range(n_blocks)
            for depth in range(j, n_blocks + 1)
        ],
    }
