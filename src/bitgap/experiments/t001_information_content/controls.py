"""The controls that could make T-001's numbers worthless.

===============  ================================================  ===============================
shuffled labels  every token is given another's label              must have no information
random           fresh weights as the class draws them             must show no such correlation
activations ×10  all states multiplied by ten                      information must stay
smaller probe    fewer types and components                        must not contradict
noise            in every block, less where variance is more       the correlation must pass
planted          a correlation of .55 in the profiles themselves   must be found
===============  ================================================  ===============================

All but the last use a smaller probe of the current token alone, since they repeat the profile many
times; what it says of the model itself is a control too, as usable information is always some
reader's. Noise is planted in the standardised principal components that the probe reads, with one
signal-to-noise ratio in all of them: whether a probe sees information that is
there. Whether so many blocks show a correlation of the size that matters, the last one tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.experiments.protocol.controls import RANDOM_TWIN, clear, detection, must_not_show
from bitgap.records import Control, Estimate, Floats, Units
from bitgap.stats.bootstrap import estimate
from bitgap.stats.profiles import correlate_profiles
from bitgap.stats.verdicts import Thresholds

_SAME = 1e-3
"""Bits up to which a profile is the same: the probe's tolerance, far below what text resolves."""


def controls(
    arrays: Mapping[str, NDArray[Any]], theta: Estimate, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of T-001.

    Args:
        arrays: As T-001 measures them.
        theta: The correlation by the large probe.
        thresholds: What was declared.
    """
    sesoi = thresholds.of("H1.1")["sesoi"]
    untrained = correlate_profiles(
        arrays["random_variance"], arrays["random_bits"], thresholds.level
    )
    return [
        _shuffled(arrays, thresholds),
        must_not_show(
            RANDOM_TWIN,
            untrained.estimate,
            sesoi,
            "in an untrained twin variance should not go with usable information",
        ),
        _scaled(arrays, thresholds),
        _smaller(arrays, theta, thresholds),
        _planted(arrays, sesoi, thresholds),
    ]


def _shuffled(arrays: Mapping[str, NDArray[Any]], thresholds: Thresholds) -> Control:
    bits, tokens = arrays["shuffled_bits"].sum(0), arrays["small_tokens"].sum(0)
    used = tokens > 0

    def mean(weights: Floats) -> Floats:
        return (weights @ bits[used]) / np.maximum(weights @ tokens[used], 1)

    told = units_of_text(arrays)
    units = int(used.sum()) if isinstance(told, int) else told[used]
    usable = estimate(mean, units, unit="bits per token", **thresholds.how)
    value = usable.low if usable.low is not None else usable.value
    return Control(
        name="shuffled labels",
        kind="negative",
        passed=None if value is None else value <= 0,
        detail="labels dealt out at random should give no usable information; less than none is "
        "what a probe loses by fitting noise",
        estimate=usable,
    )


def _scaled(arrays: Mapping[str, Floats], thresholds: Thresholds) -> Control:
    plain, scaled = (
        bits_per_token(arrays[name], arrays["small_tokens"])
        for name in ("small_bits", "scaled_bits")
    )
    moved = float(np.abs(scaled - plain).max())
    variance = arrays["log_variance_fixed"]
    r, other = (
        correlate_profiles(variance, bits, thresholds.level).estimate.value
        for bits in (plain, scaled)
    )
    correlations = "undefined" if r is None or other is None else f"{r:+.4f} and {other:+.4f}"
    return Control(
        name="activations times ten",
        kind="invariance",
        passed=moved <= _SAME,
        detail=f"usable information should stay: it moved by up to {moved:.1g} bits, the "
        f"correlation was {correlations}",
    )


def _smaller(arrays: Mapping[str, Floats], theta: Estimate, thresholds: Thresholds) -> Control:
    bits = bits_per_token(arrays["small_bits"], arrays["small_tokens"])
    smaller = correlate_profiles(arrays["log_variance_fixed"], bits, thresholds.level).estimate
    agree = None
    if theta.value is not None and smaller.high is not None:
        agree = theta.value <= smaller.high
    return Control(
        name="a smaller probe",
        kind="invariance",
        passed=agree,
        detail="the interval of the correlation by a probe of fewer types and components should "
        "not lie under what the large one found",
        estimate=smaller,
    )


def _planted(arrays: Mapping[str, Floats], sesoi: float, thresholds: Thresholds) -> Control:
    variance = arrays["log_variance_fixed"]
    detected = [
        clear(correlate_profiles(variance, bits, thresholds.level).estimate, sesoi)
        for bits in arrays["planted_bits"]
    ]
    name = "planted: noise in each block that falls with its variance"
    return detection(name, detected, "the correlation should pass", thresholds)


def units_of_text(arrays: Mapping[str, NDArray[Any]]) -> Units:
    """Returns what is resampled: each test sentence's document where known, else their number."""
    documents = arrays.get("documents")
    return int(arrays["tokens"].shape[1]) if documents is None else documents


def bits_per_token(bits: Floats, tokens: Floats) -> Floats:
    """Returns the mean over test tokens, (L), of bits summed over those of sentences, (L x N)."""
    return bits.sum(1) / np.maximum(tokens.sum(1), 1)
