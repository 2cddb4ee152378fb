"""The controls that could make the two contrasts of T-004 worthless.

=============  ====================================================  ===========================
early blocks   blocks 1 and 2 in the place of block 0                must gain less than block 0
matched        Gaussian ΔW of each block's own rounding error        must agree with rounding
random         fresh weights as the class draws them                 must show no contrast
cancelling     ±δ in the rounded first and last block (P3)           both contrasts must show
=============  ====================================================  ===========================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    detection,
    must_agree,
    must_exceed,
    must_not_show,
    not_run,
)
from bitgap.experiments.t004_residual_propagation.statistic import (
    interaction_contrast,
    snr_contrast,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import Statistic, estimate
from bitgap.stats.verdicts import Thresholds


def controls(
    observations: Observations,
    snr: Statistic,
    theta1: Estimate,
    languages: Bools,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-004.

    Args:
        observations: As T-004 measures them.
        snr: The contrast θ1 comes from.
        theta1: Its estimate for block 0.
        languages: Those θ1 is summed over, (A).
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    n, sesoi = arrays["masks_kl"].shape[-1], thresholds.of("H2.1")["sesoi"]

    def over_rivals(weights: Floats) -> Floats:
        contrast = snr(weights)
        return contrast[:, 0] - contrast[:, 1:3].max(1)

    rival = estimate(over_rivals, n, unit="dB", **thresholds.how)

    def contrast_of(twin: str) -> Estimate:
        error, tokens = arrays[f"{twin}_error"][:, languages], arrays[f"{twin}_tokens"][languages]
        return of_block_0(snr_contrast(error, tokens), error.shape[-1], "dB", thresholds)

    return [
        must_exceed(
            "early-interior blocks",
            rival,
            "block 0 should gain more than blocks 1 and 2, or it is depth and not a gateway",
        ),
        must_agree(
            "Gaussian noise of each block's rounding error",
            contrast_of("matched"),
            theta1,
            sesoi,
            "the contrast should be there under noise of the same size exactly where it is there "
            "under rounding, or it is a matter of how errors lie and not of where",
        ),
        must_not_show(
            RANDOM_TWIN,
            contrast_of("random"),
            sesoi,
            "an untrained twin should show no contrast of block 0",
        ),
        _planted(arrays, facts, thresholds),
    ]


def of_block_0(contrast: Statistic, n: int, unit: str, thresholds: Thresholds) -> Estimate:
    """Returns block 0's contrast with its interval over n sentences."""
    return estimate(lambda w: contrast(w)[:, 0], n, unit=unit, **thresholds.how)


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_kl" not in arrays:
        return not_run(name, "positive", absent(facts, "cancelling"))
    declared, tokens = thresholds.of("H2.1"), arrays["cancelling_tokens"]
    detected = list[bool]()
    for kl, error in zip(arrays["cancelling_kl"], arrays["cancelling_error"], strict=True):
        contrasts = (
            (snr_contrast(error, tokens), declared["sesoi"]),
            (interaction_contrast(kl, len(error) - 1), declared["sesoi_interaction"]),
        )
        detected.append(
            all(
                clear(of_block_0(contrast, kl.shape[-1], "contrast", thresholds), sesoi)
                for contrast, sesoi in contrasts
            )
        )
    return detection(name, detected, "both contrasts should pass", thresholds)
