"""The controls of T-010, and what its quantizers reach beside a Gaussian's rate–distortion bound.

=============  ==================================================  =============================
random         fresh weights as the class draws them               S must not fall
random orders  blocks protected in random order                    must agree with all orders
halves         halves of the reference's text                      must not differ
bound          Gaussian weights in the place of the model's        no error may beat D(R)
planted fall   languages pushed apart, the more the fewer levels   its fall of S must be found
=============  ==================================================  =============================

The fall is planted in S itself: what languages' own slopes differ by is taken off and S made the
same in every cell; then damages are multiplied by 2^(s·z_λ·(x_max − x)), with x = log2 q, z drawn
over languages with mean 0 and standard deviation 1, and s such that S falls by twice the smallest
effect on the text as it is. Text is then drawn again, and the fall must be clear there.

The bound is asserted of a Gaussian resample and not of the weights: D(R) of a Gaussian is an upper
bound on D(R) of any source of its variance, so other weights may lie below it rightly. (Shannon's
lower bound would need their entropy power.) Pure numpy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq

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
from bitgap.experiments.protocol.scores import units_of
from bitgap.experiments.t010_rate_distortion.plans import NONE
from bitgap.experiments.t010_rate_distortion.sweep import (
    Sweep,
    in_slices,
    log2,
    log_damages,
    log_levels,
    slope_weights,
    spread_of,
)
from bitgap.records import Control, Estimate, Floats, Observations, Units
from bitgap.stats.bootstrap import Statistic, drawn_again, estimates
from bitgap.stats.rate_models import gaussian_distortion, lloyd_max_distortion
from bitgap.stats.verdicts import Thresholds

QUANTIZERS = ("absmax", "mse")
_PLANTED_DRAWS = 500  # for each of twenty plantings; their ends need no third digit
_DECIBEL = 10 * math.log10(2) * 2  # of a bit: 6.02 dB


def rate_controls(
    observations: Observations, sweep: Sweep, theta: Estimate, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of T-010.

    Args:
        observations: As T-010 measures them.
        sweep: Its cells.
        theta: Fall of S per log2 q.
        thresholds: What was declared.
    """
    sesoi, units = thresholds.of("H4.1")["sesoi"], units_of(observations)
    operating = (sweep.bits == observations.facts["bits"]) & sweep.of_order(NONE)
    plan = int(operating.argmax())  # the first where no cell is at the operating point
    return [
        _untrained(observations, sweep.bits_min, sesoi, thresholds),
        _random_orders(sweep, theta, sesoi, units, thresholds),
        halves(sweep.scores, plan, sweep.languages, thresholds),
        _bound(observations),
        _planted(sweep, units, int(observations.facts["params"]["planted_seeds"]), thresholds),
    ]


def _estimate(fall: Statistic, size: int, units: Units, thresholds: Thresholds) -> Estimate:
    """Returns a fall of S, of weights -> (W), with its interval; ``size`` numbers a weighting."""

    def statistic(weights: Floats) -> Floats:
        return in_slices(lambda part: fall(part)[:, None], weights, size)

    return estimates(statistic, units, unit="S per log2 q", **thresholds.how)[0]


def fall_of_spread(logs: Floats, log_q: Floats) -> Floats:
    """Returns −slope per log2 q of S where nothing is protected, (...).

    Args:
        logs: log2 of damage per token, (... x B x A).
        log_q: log2 of the largest level, (B).
    """
    return -(spread_of(logs) @ slope_weights(log_q, np.zeros(len(log_q), dtype=np.int64)))


def _untrained(
    observations: Observations, bits_min: int, sesoi: float, thresholds: Thresholds
) -> Control:
    arrays = observations.arrays
    if "random_kl" not in arrays:
        return not_run(RANDOM_TWIN, "negative", absent(observations.facts, "random"))
    judged = arrays["levels"] >= bits_min
    kl, tokens = arrays["random_kl"][judged], arrays["random_tokens"]
    log_q = log_levels(arrays["levels"][judged])

    def fall(weights: Floats) -> Floats:
        sums = np.einsum("wn,ban->wba", weights, kl)
        return fall_of_spread(log2(sums / (weights @ tokens.T)[:, None]), log_q)

    # Of few sentences of its own; each counts for itself.
    slope = _estimate(fall, kl[..., 0].size, kl.shape[-1], thresholds)
    if slope.value is None:
        return not_run(RANDOM_TWIN, "negative", f"its fall of S is undefined: {slope.reason}")
    detail = "S of an untrained twin should not fall with bits"
    return must_not_show(RANDOM_TWIN, slope, sesoi, detail)


def _random_orders(
    sweep: Sweep, theta: Estimate, sesoi: float, units: Units, thresholds: Thresholds
) -> Control:
    name, cells = "blocks protected in random order", sweep.of_order("random")
    if not cells.any():
        return not_run(name, "negative", "no random order was measured")

    def fall(weights: Floats) -> Floats:
        return sweep.fall(sweep.spread(log_damages(sweep.scores, weights)), cells)

    slope = _estimate(fall, sweep.scores.kl_nats[..., 0].size, units, thresholds)
    return must_agree(
        name,
        slope,
        theta,
        sesoi,
        "S should fall under random orders exactly where it falls under all, or it is a matter of "
        "which blocks and not of bits",
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


def _planted(sweep: Sweep, units: Units, n_plantings: int, thresholds: Thresholds) -> Control:
    """Returns the positive control: S that falls by twice the SESOI, found on text drawn again."""
    name = "a fall of S of twice the smallest effect"
    sesoi, strength = thresholds.of("H4.1")["sesoi"], thresholds.planted_strength
    thresholds = replace(thresholds, draws=min(thresholds.draws, _PLANTED_DRAWS))
    if not sweep.languages.any() or sweep.scores.n_sentences < 2:
        return not_run(name, "positive", "no language may be compared, or on one sentence only")
    rng, detected = np.random.default_rng(0), list[bool]()
    for _ in range(n_plantings):
        factors = planted_factors(sweep, strength * sesoi, rng)
        detected.append(clear(_recovered(sweep, factors, units, rng, thresholds), sesoi))
    return detection(name, detected, "the fall should be clear", thresholds)


def planted_factors(sweep: Sweep, fall: float, rng: np.random.Generator) -> Floats:
    """Returns log2 of what damages are multiplied by, (judged cells x languages), so that S falls
    by a given number per log2 q on the whole text.

    Args:
        sweep: The cells.
        fall: Of S, per log2 q.
        rng: Of which languages are pushed where.
    """
    x, design = sweep.log_q[sweep.cells], sweep.design[sweep.cells]
    ones = np.ones((1, sweep.scores.n_sentences))
    logs = log_damages(sweep.scores, ones)[0][sweep.cells][:, sweep.languages]
    weights = slope_weights(x, design)
    own = weights @ logs
    straight = logs - np.outer(x - x.mean(), own - own.mean())
    mean, spread = straight.mean(1, keepdims=True), spread_of(straight)
    alike = np.where(spread > 0, spread.mean() / np.where(spread > 0, spread, 1), 1)[:, None]
    level = mean + (straight - mean) * alike - logs
    z = np.asarray(rng.normal(size=logs.shape[1]), dtype=np.float64)
    z = (z - z.mean()) / z.std()
    pushed = np.outer(x.max() - x, z)

    def missing(size: float) -> float:
        return float(-(weights @ spread_of(logs + level + size * pushed)) - fall)

    # However languages lie, S falls by some 1 for each of ``size`` once that is large.
    return level + brentq(missing, 0.0, 16.0 * fall) * pushed


def _recovered(
    sweep: Sweep,
    factors: Floats,
    units: Units,
    rng: np.random.Generator,
    thresholds: Thresholds,
) -> Estimate:
    """Returns what is estimated of a planted fall, on text drawn again."""
    drawn, of_drawn = drawn_again(units, rng)
    judged = np.flatnonzero(sweep.languages)
    kl = sweep.scores.kl_nats[sweep.cells][:, judged][..., drawn]
    tokens = sweep.scores.counts.tokens[judged][:, drawn]
    weights = slope_weights(sweep.log_q[sweep.cells], sweep.design[sweep.cells])
    flat = kl.reshape(-1, kl.shape[-1])

    def fall(draws: Floats) -> Floats:
        sums = (draws @ flat.T).reshape(len(draws), *kl.shape[:2])
        logs = log2(sums / (draws @ tokens.T)[:, None]) + factors
        return -(spread_of(logs) @ weights)

    return _estimate(fall, kl[..., 0].size, of_drawn, thresholds)


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
