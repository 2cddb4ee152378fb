"""The two contrasts of T-004, and the controls that could make them worthless.

=============  ====================================================  ===========================
early blocks   blocks 1 and 2 in the place of block 0                must gain less than block 0
matched        Gaussian ΔW of each block's own rounding error        must agree with rounding
random         fresh weights as the class draws them                 must show no contrast
cancelling     ±δ in the rounded first and last block (P3)           both contrasts must show
=============  ====================================================  ===========================

Contrasts are functions from bootstrap weights (W x N) to (W x J), one column for each block j, less
the mean of the other columns. Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.experiments.protocol.controls import (
    absent,
    clear,
    detection,
    not_run,
)
from bitgap.experiments.t004_residual_propagation.statistic import (
    interaction_contrast,
    snr_contrast,
)
from bitgap.quant.plan import Plan
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import Statistic, estimates
from bitgap.stats.verdicts import Thresholds


def scored_sets(n_blocks: int, others: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns the protected sets that θ2 needs: ∅, {last}, every {j}, every {j, last}."""
    last = n_blocks - 1
    return [(), (last,), *((j,) for j in others), *((j, last) for j in others)]


def masks(scheme: str, n_blocks: int, others: Sequence[int]) -> list[Plan]:
    """Returns the plans that θ1 needs: {last}, then every {j, last}."""
    last = n_blocks - 1
    return [
        Plan.uniform(scheme, n_blocks, kept) for kept in [(last,), *((j, last) for j in others)]
    ]


def controls(
    observations: Observations,
    snr: Statistic,
    theta1: Estimate,
    shown: Bools,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-004.

    Args:
        observations: With the arrays of :func:`measure_controls`.
        snr: The contrast θ1 comes from.
        theta1: Its estimate for block 0.
        shown: Languages θ1 is summed over, (A).
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level, "unit": "dB"}
    n = arrays["masks_kl"].shape[-1]
    rival = estimates(lambda w: snr(w)[:, :1] - snr(w)[:, 1:3].max(1, keepdims=True), n, **how)[0]
    early = Control(
        name="early-interior blocks",
        kind="negative",
        passed=rival.low is not None and rival.low > 0,
        detail="block 0 should gain more than blocks 1 and 2, or it is depth and not a gateway",
        estimate=rival,
    )
    sesoi = thresholds.of("H2.1")["sesoi"]
    return [
        early,
        _matched_control(arrays, facts, theta1, shown, sesoi, how),
        _random_control(arrays, facts, shown, sesoi, how),
        _planted(arrays, facts, thresholds),
    ]


def _contrast_of(
    arrays: Mapping[str, Floats], name: str, shown: Bools, how: Mapping[str, Any]
) -> Estimate:
    contrast = snr_contrast(arrays[f"{name}_error"][:, shown], arrays[f"{name}_tokens"][shown])
    n = arrays[f"{name}_error"].shape[-1]
    return estimates(lambda w: contrast(w)[:, :1], n, **how)[0]


def _matched_control(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    theta1: Estimate,
    shown: Bools,
    sesoi: float,
    how: Mapping[str, Any],
) -> Control:
    name = "Gaussian noise of each block's rounding error"
    if "matched_error" not in arrays:
        return not_run(name, "negative", absent(facts, "matched"))
    found = _contrast_of(arrays, "matched", shown, how)
    return Control(
        name=name,
        kind="negative",
        passed=clear(found, sesoi) == clear(theta1, sesoi),
        detail="the contrast should be there under noise of the same size exactly where it is "
        "there under rounding, or it is a matter of how errors lie and not of where",
        estimate=found,
    )


def _random_control(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    shown: Bools,
    sesoi: float,
    how: Mapping[str, Any],
) -> Control:
    name = "random-init twin"
    if "random_error" not in arrays:
        return not_run(name, "negative", absent(facts, "random"))
    found = _contrast_of(arrays, "random", shown, how)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="an untrained twin should show no contrast of block 0",
        estimate=found,
    )


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_kl" not in arrays:
        return not_run(name, "positive", absent(facts, "cancelling"))
    declared, tokens = thresholds.of("H2.1"), arrays["cancelling_tokens"]
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level, "unit": "contrast"}
    found = []
    for kl, error in zip(arrays["cancelling_kl"], arrays["cancelling_error"], strict=True):
        contrasts = (
            (snr_contrast(error, tokens), declared["sesoi"]),
            (interaction_contrast(kl, len(error) - 1), declared["sesoi_interaction"]),
        )
        found.append(
            all(
                clear(estimates(lambda w, c=c: c(w)[:, :1], kl.shape[-1], **how)[0], sesoi)
                for c, sesoi in contrasts
            )
        )
    return detection(name, found, "both contrasts should pass", thresholds)
