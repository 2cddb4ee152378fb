"""The controls that could make a part of T-004 worthless. Pure numpy.

Each guards one part. What must not show without an effect is a condition for support, and says
nothing against a refutation; what was planted guards a refutation.

====  ===========  =================================================  ============================
part  control      what                                               must
====  ===========  =================================================  ============================
a     matched      Gaussian ΔW of each block's own rounding error     agree with rounding
a     travelling   noise in block 0 that makes a gain of 2 dB         be found
b     matched      as above                                           agree with rounding
b     random       fresh weights as the class draws them              show no interaction
b     cancelling   ±δ in both rounded ends (P3), I_0 = .04 K(∅)       be found
====  ===========  =================================================  ============================

The gain of an untrained twin is shown and is no control: that what is protected is closer holds of
any residual net. It is not what H2.1 hangs on, and how specific the gain is stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.controls import RANDOM_TWIN, absent, not_run
from bitgap.experiments.protocol.effects import control_units, planted, twin_control
from bitgap.experiments.t004_residual_propagation.statistic import (
    first_of,
    interaction,
    snr_gain,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations, Units
from bitgap.stats.bootstrap import Statistic, estimate
from bitgap.stats.verdicts import Thresholds

MATCHED = "Gaussian noise of each block's rounding error"
_EXACTLY = (
    "a condition for support: it should be clear under noise of the same size exactly where it is "
    "under rounding, or it is a matter of how errors lie and not of where"
)


def of_block_0(statistic: Statistic, units: Units, unit: str, thresholds: Thresholds) -> Estimate:
    """Returns block 0's value with its interval over sentences or documents."""
    return estimate(first_of(statistic), units, unit=unit, **thresholds.how)


def controls_of_gain(
    observations: Observations, theta: Estimate, languages: Bools, thresholds: Thresholds
) -> tuple[Control, ...]:
    """Returns the controls of part (a).

    Args:
        observations: As T-004 measures them.
        theta: The gain in dB.
        languages: Those it is summed over, (A).
        thresholds: What was declared.
    """
    arrays, sesoi = observations.arrays, thresholds.of("H2.1")["sesoi"]
    name = "noise in block 0 that travels"

    def found(error: Floats) -> Estimate:
        tokens = arrays["travelling_tokens"]
        units = control_units(observations, tokens.shape[-1])
        return of_block_0(snr_gain(error, tokens), units, "dB", thresholds)

    return (
        twin_control(
            observations,
            "matched",
            f"{MATCHED}, gain",
            lambda _: gain_of_twin(observations, "matched", languages, thresholds),
            theta=theta,
            sesoi=sesoi,
            detail=_EXACTLY,
        ),
        planted(name, [found(error) for error in arrays["travelling_error"]], sesoi, thresholds)
        if "travelling_error" in arrays
        else not_run(name, "positive", absent(observations.facts, "travelling")),
    )


def gain_of_twin(
    observations: Observations, twin: str, languages: Bools, thresholds: Thresholds
) -> Estimate:
    """Returns the gain in dB of a twin, whose own total error it is measured against."""
    arrays = observations.arrays
    error, tokens = arrays[f"{twin}_error"][:, languages], arrays[f"{twin}_tokens"][languages]
    units = control_units(observations, tokens.shape[-1])
    return of_block_0(snr_gain(error, tokens), units, "dB", thresholds)


def controls_of_interaction(
    observations: Observations, theta: Estimate, languages: Bools, thresholds: Thresholds
) -> tuple[Control, ...]:
    """Returns the controls of part (b).

    Args:
        observations: As T-004 measures them.
        theta: The interaction over K(∅).
        languages: Those it is averaged over, (A).
        thresholds: What was declared.
    """
    arrays, sesoi = observations.arrays, thresholds.of("H2.1")["sesoi_interaction"]
    p3 = "P3: errors of the first and last block that cancel"

    def of_twin(twin: str, given: Mapping[str, Any]) -> Estimate:
        return _interaction(observations, given[f"{twin}_kl"][:, languages], thresholds)

    return (
        twin_control(
            observations,
            "matched",
            f"{MATCHED}, interaction",
            lambda given: of_twin("matched", given),
            theta=theta,
            sesoi=sesoi,
            detail=_EXACTLY,
        ),
        twin_control(
            observations,
            "random",
            RANDOM_TWIN,
            lambda given: of_twin("random", given),
            sesoi=sesoi,
            detail="a condition for support: protecting the last block of an untrained twin "
            "should not pay more after block 0, as a share of the twin's own damage",
        ),
        planted(
            p3,
            [_interaction(observations, kl, thresholds) for kl in arrays["cancelling_kl"]],
            sesoi,
            thresholds,
        )
        if "cancelling_kl" in arrays
        else not_run(p3, "positive", absent(observations.facts, "cancelling")),
    )


def _interaction(observations: Observations, kl: Floats, thresholds: Thresholds) -> Estimate:
    units = control_units(observations, kl.shape[-1])
    return of_block_0(interaction(kl, 1), units, "share of K(none)", thresholds)
