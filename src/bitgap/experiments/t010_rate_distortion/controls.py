"""The controls of T-010, and what its quantizers reach beside a Gaussian's rate–distortion bound.

=============  ==================================================  =============================
random         fresh weights as the class draws them               must show no slope of the ratio
random orders  blocks protected in random order                    must agree with all orders
halves         even and odd sentences of the reference             must not differ
bound          Gaussian weights in the place of the model's        no error may beat D(R)
planted slope  one language's damage times 2^(s·(b̄ − bits))         its slope must be found
=============  ==================================================  =============================

The bound is asserted of a Gaussian resample and not of the weights: D(R) of a Gaussian is an upper
bound on D(R) of any source of its variance, so other weights may lie below it rightly. (Shannon's
lower bound would need their entropy power.) Pure numpy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    detection,
    halves,
    must_agree,
    must_not_show,
    not_run,
)
from bitgap.experiments.t010_rate_distortion.plans import NONE
from bitgap.experiments.t010_rate_distortion.sweep import (
    Sweep,
    anywhere,
    in_slices,
    log_damages,
    mean_over,
    slope_weights,
)
from bitgap.records import Control, Estimate, Floats, Integers, Observations
from bitgap.stats.bootstrap import Statistic, few_estimates
from bitgap.stats.rate_models import gaussian_distortion, lloyd_max_distortion
from bitgap.stats.verdicts import Thresholds

QUANTIZERS = ("absmax", "mse")
_DECIBEL = 10 * math.log10(2) * 2  # of a bit: 6.02 dB


def rate_controls(
    observations: Observations, sweep: Sweep, theta: Estimate, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of T-010.

    Args:
        observations: As T-010 measures them.
        sweep: Its cells.
        theta: −slope of the mean log2 ratio per bit.
        thresholds: What was declared.
    """
    sesoi = thresholds.of("H4.1")["sesoi"]
    operating = (sweep.bits == observations.facts["bits"]) & sweep.of_order(NONE)
    plan = int(operating.argmax())  # the first where no cell is at the operating point
    return [
        _untrained(observations, sesoi, thresholds),
        _random_orders(sweep, theta, sesoi, thresholds),
        halves(sweep.scores, plan, anywhere(sweep.usable), thresholds),
        _bound(observations),
        _planted(sweep, sesoi, int(observations.facts["params"]["planted_seeds"]), thresholds),
    ]


def _estimate(minus_slope: Statistic, kl: Floats, thresholds: Thresholds) -> Estimate:
    """Returns −slope per bit, of weights -> (W), on damage (cells x A x N) with its interval."""

    def statistic(weights: Floats) -> Floats:
        return in_slices(lambda part: minus_slope(part)[:, None], weights, kl[..., 0].size)

    unit = "log2 ratio per bit"
    return few_estimates(statistic, kl.shape[-1], unit=unit, **thresholds.how)[0]


def ratio_slope(kl: Floats, bits: Floats, reference: int, weights: Floats) -> Floats:
    """Returns −slope per bit of the mean log2 ratio where nothing is protected, (W).

    Args:
        kl: (B x A x N).
        bits: (B).
        reference: Row of the reference.
        weights: (W x N).
    """
    logs = log_damages(kl, weights)
    ratios = logs - logs[..., [reference]]
    mask = np.ones(kl.shape[:2], bool)
    slopes = (ratios * slope_weights(bits, np.zeros(len(bits), int), mask)).sum(-2)
    return mean_over(-slopes, np.arange(int(kl.shape[1])) != reference)


def _untrained(observations: Observations, sesoi: float, thresholds: Thresholds) -> Control:
    arrays = observations.arrays
    if "random_kl" not in arrays:
        return not_run(RANDOM_TWIN, "negative", absent(observations.facts, "random"))
    kl, bits = arrays["random_kl"], arrays["levels"].astype(float)
    slope = _estimate(lambda w: ratio_slope(kl, bits, 0, w), kl, thresholds)
    if slope.value is None:
        return not_run(RANDOM_TWIN, "negative", f"its slope is undefined: {slope.reason}")
    detail = "an untrained twin should show no fall of disparity with bits"
    return must_not_show(RANDOM_TWIN, slope, sesoi, detail)


def _random_orders(sweep: Sweep, theta: Estimate, sesoi: float, thresholds: Thresholds) -> Control:
    name, cells = "blocks protected in random order", sweep.of_order("random")
    if not cells.any():
        return not_run(name, "negative", "no random order was measured")
    kl = sweep.scores.kl_nats[cells]
    part = replace(
        sweep,
        scores=sweep.scores.select(plans=[sweep.scores.plans[i] for i in np.flatnonzero(cells)]),
        bits=sweep.bits[cells],
        rate=sweep.rate[cells],
        design=sweep.design[cells],
    )
    every = np.ones(len(part.bits), bool)
    slope = _estimate(lambda w: part.minus_slopes(log_damages(kl, w), every), kl, thresholds)
    return must_agree(
        name,
        slope,
        theta,
        sesoi,
        "the slope should be there under random orders exactly where it is there under all, "
        "or it is a matter of which blocks and not of bits",
    )


def _bound(observations: Observations) -> Control:
    name = "Gaussian weights against D(R)"
    if "frontier_least" not in observations.arrays:
        return not_run(name, "invariance", absent(observations.facts, "frontier"))
    least = float(observations.arrays["frontier_least"].min())
    return Control(
        name=name,
        kind="invariance",
        passed=least >= 1,
        detail=f"no rounding of a Gaussian resample may err less than 2^(−2R) at its rate R, with "
        f"scales counted; the least ratio is {least:.2f}",
    )


def _planted(sweep: Sweep, sesoi: float, n_plantings: int, thresholds: Thresholds) -> Control:
    """Returns the positive control: a slope of twice the SESOI in one language at a time.

    The language's own slope is taken off first and sentences are drawn again, so that what is
    sought is known and what finds it has a text of its own.
    """
    name = "a slope of twice the smallest effect, in one language"
    others = np.flatnonzero(anywhere(sweep.paired))
    if not len(others) or sweep.scores.n_sentences < 2:
        return not_run(name, "positive", "no language may be compared, or on one sentence only")
    rng, n, detected = np.random.default_rng(0), sweep.scores.n_sentences, list[bool]()
    for _ in range(n_plantings):
        row = int(rng.choice(others))
        slope = _recovered(sweep, row, rng.choice(n, n), 2 * sesoi, thresholds)
        detected.append(clear(slope, sesoi))
    return detection(name, detected, "the slope should be clear", thresholds)


def _recovered(
    sweep: Sweep, row: int, drawn: Integers, slope: float, thresholds: Thresholds
) -> Estimate:
    """Returns what is estimated of a slope planted in one language, on sentences drawn again."""
    mask = sweep.paired[:, row]
    kl, bits = sweep.scores.kl_nats[:, [sweep.reference, row]][mask], sweep.bits[mask]
    coefficients = slope_weights(bits, sweep.design[mask], np.ones((mask.sum(), 1), bool))[:, 0]

    def minus_slope(values: Floats, weights: Floats) -> Floats:
        logs = log_damages(values, weights)
        return -((logs[..., 1] - logs[..., 0]) @ coefficients)

    own = minus_slope(kl, np.ones((1, kl.shape[-1])))[0]
    planted = kl[..., drawn]
    planted[:, 1] *= np.exp2((slope - own) * (bits.mean() - bits))[:, None]
    return _estimate(lambda w: minus_slope(planted, w), planted, thresholds)


def frontier_rows(observations: Observations) -> list[dict[str, Any]]:
    """Returns rate and distortion of each quantizer beside D(R) and the Lloyd–Max quantizer."""
    arrays = observations.arrays
    if "frontier_rate" not in arrays:
        return []
    rows = list[dict[str, Any]]()
    for q, clip in enumerate(QUANTIZERS):
        for j, b in enumerate(arrays["levels"]):
            rate = float(arrays["frontier_rate"][q, j])
            error, gaussian = (
                float(arrays[f"frontier_{name}"][q, j]) for name in ("error", "gaussian")
            )
            rows.append({
                "quantizer": clip,
                "bits": int(b),
                "bits_per_weight": rate,
                "distortion": error,
                "distortion_of_gaussian": gaussian,
                "bound_of_gaussian": float(gaussian_distortion(rate)),
                "lloyd_max": lloyd_max_distortion(int(b)),
                "over_bound_db": _over(error, rate),
                "gaussian_over_bound_db": _over(gaussian, rate),
            })  # fmt: skip
    return rows


def _over(distortion: float, rate: float) -> float | None:
    """Returns how far a distortion lies above D(R), dB; None where nothing was lost."""
    return 10 * math.log10(distortion) + _DECIBEL * rate if distortion > 0 else None
