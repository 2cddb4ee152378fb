"""How T-005 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from bitgap.experiments.t005_gateway_structure import EXPERIMENT
from bitgap.experiments.t005_gateway_structure.controls import controls
from bitgap.records import Control, Estimate, Finding, Floats, Observations, Verdict
from bitgap.stats.bootstrap import (
    bootstrap_p_equivalence,
    bootstrap_weights,
    percentile_ends,
    percentile_estimate,
)
from bitgap.stats.outlyingness import (
    FEWEST_BLOCKS,
    decorrelated,
    outlyingness,
    pair_p,
    pair_percentile,
    prediction_t,
)
from bitgap.stats.profiles import smallest_p_both_ends
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

_PRIMARY, _UNIT = "percentile_of_ends", "percentile among pairs of blocks"
_PART = "percentile of both ends"
_BEYOND = "difference of percentiles"


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.2: both ends stand out among all pairs of blocks, and each among the interior."""
    arrays, facts = observations.arrays, observations.facts
    original = _original_measure(arrays["origin"])
    if facts["n_blocks"] < FEWEST_BLOCKS:
        return _untestable(observations, original, thresholds)
    t, spectral = prediction_t(arrays["measures"]), facts["spectral"]
    entries = [m for m in range(t.shape[1]) if m not in spectral]
    theta, outlying, interval = _percentile(t, thresholds)
    ends, beyond = (
        _ends(outlying, thresholds),
        _beyond_twins(t, arrays.get("random", ()), thresholds),
    )
    standing = _standing_ends(ends, thresholds.of("H2.2")["sesoi"])
    checks = controls(observations, t, thresholds)
    return EXPERIMENT.finding(
        thresholds,
        primary=_PRIMARY,
        estimates={
            _PRIMARY: theta,
            "percentile_beyond_twins": beyond,
            **ends,
            "percentile_by_spectra": _percentile(t[:, spectral], thresholds)[0],
            "percentile_by_entries": _percentile(t[:, entries], thresholds)[0],
        },
        original_measure=original,
        controls=checks,
        verdict=_verdict(
            _part(arrays["measures"], theta, outlying, thresholds),
            beyond,
            standing,
            checks,
            thresholds,
        ),
        sentence=_sentence(theta, beyond, standing, thresholds.of("H2.2")["chance"]),
        tables={
            "outlying": [
                {"block": block, "value": value, "what": "outlyingness", "low": low, "high": high}
                for block, (value, low, high) in enumerate(
                    zip(outlying.tolist(), *interval.tolist(), strict=True)
                )
            ],
            "heat": _heat(t, facts),
            "heat_of": "mean t over kinds of matrix",
            "t_of_ends": _t_of_ends(t, facts),
        },
    )


def _percentile(t: Floats, thresholds: Thresholds) -> tuple[Estimate, Floats, Floats]:
    """Returns the ends' percentile, outlyingness (L), and its interval (2 x L), over columns."""
    columns = _columns(t)
    n, outlying = len(columns), outlyingness(columns, np.ones((1, len(columns))))
    draws = outlyingness(columns, bootstrap_weights(n, thresholds.draws, 0))
    pair = (0, columns.shape[1] - 1)
    theta = percentile_estimate(
        pair_percentile(outlying, pair)[0],
        pair_percentile(draws, pair),
        unit=_UNIT,
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over {n} columns, {thresholds.draws} draws: what hangs on "
        f"the choice of measures",
    )
    return theta, outlying[0], percentile_ends(draws, thresholds.level)


def _columns(t: Floats) -> Floats:
    """Returns decorrelated t of every kind and measure, (columns x L)."""
    return decorrelated(t).reshape(-1, t.shape[-1])


def _drawn(t: Floats, weights: Floats) -> Floats:
    """Returns the ends' percentile by weighted columns, (W)."""
    columns = _columns(t)
    return pair_percentile(outlyingness(columns, weights), (0, columns.shape[1] - 1))


def _beyond_twins(t: Floats, twins: Sequence[Floats] | Floats, thresholds: Thresholds) -> Estimate:
    """Returns the ends' percentile less the mean of random-init twins', in place.

    The same blocks by the same columns; columns are resampled for model and twins at once, and
    twins among themselves.
    """
    n, n_draws, r = t.shape[0] * t.shape[1], thresholds.draws, len(twins)
    if not r:
        why = "no twin was measured"
        return Estimate(value=None, unit=_BEYOND, level=thresholds.level, reason=why)
    weights = np.concatenate([np.ones((1, n)), bootstrap_weights(n, n_draws, 0)])
    of_twins = np.array([_drawn(prediction_t(twin), weights) for twin in twins])  # (R x 1+B)
    mixed = np.concatenate([np.ones((1, r)), bootstrap_weights(r, n_draws, 1)]) / r
    values = _drawn(t, weights) - (mixed * of_twins.T).sum(1)
    return percentile_estimate(
        values[0],
        values[1:],
        unit=_BEYOND,
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over {n} columns and {r} twins, {n_draws} draws",
    )


def _ends(outlying: Floats, thresholds: Thresholds) -> dict[str, Estimate]:
    """Returns for each end the share of interior blocks that stand out less."""
    interior = outlying[1:-1]
    return {
        f"{name}_above_interior": Estimate(
            value=float((interior < outlying[end]).mean()),
            unit="share of interior blocks",
            level=thresholds.level,
            n=len(interior),
            reason="a rank among few blocks; see the pair's interval",
        )
        for name, end in (("first", 0), ("last", -1))
    }


def _standing_ends(ends: Mapping[str, Estimate], sesoi: float) -> list[str]:
    """Returns the names of the ends that stand out more than enough interior blocks."""
    shares = {name: ends[f"{name}_above_interior"].value for name in ("first", "last")}
    return [f"the {name} block" for name, s in shares.items() if s is not None and s >= sesoi]


def _part(measures: Floats, theta: Estimate, outlying: Floats, thresholds: Thresholds) -> Part:
    """Returns the part, with the percentile without any one interior block."""
    n, declared = len(outlying), thresholds.of("H2.2")
    columns = measures.shape[0] * measures.shape[1]
    draws = _drawn(prediction_t(measures), bootstrap_weights(columns, thresholds.draws, 0))
    # Without an end there is no pair of ends.
    inside = range(1, n - 1) if n > FEWEST_BLOCKS else ()
    return Part(
        name=_PART,
        estimate=theta,
        sesoi=declared["sesoi"],
        p=pair_p(outlying, (0, n - 1)),
        p_minimum=smallest_p_both_ends(n),
        p_equivalence=bootstrap_p_equivalence(draws, declared["sesoi"]),
        chance=declared["chance"],
        without={
            f"without block {i}": _percentile(
                prediction_t(np.delete(measures, i, axis=-1)), thresholds
            )[0]
            for i in inside
        },
    )


def _verdict(
    part: Part,
    beyond: Estimate,
    standing: Sequence[str],
    checks: Sequence[Control],
    thresholds: Thresholds,
) -> Verdict:
    missing = (
        f"of the ends, {' and '.join(standing) or 'neither end'} alone is above {part.sesoi:.0%} "
        f"of interior blocks"
    )
    extra = (
        beyond.low is not None and beyond.low > 0,
        f"the percentile is not clearly above that of untrained twins ({beyond.reason})"
        if beyond.low is None
        else f"the percentile exceeds that of untrained twins by {beyond.value:.2f} "
        f"[{beyond.low:.2f}, {beyond.high:.2f}], not clearly",
    )
    if len(standing) < 2:
        extra = (False, missing)
    verdict = judge_parts([part], checks, alpha=thresholds.alpha, extra=extra)
    if len(standing) != 1 or verdict.label == "supported" or verdict.reason == missing:
        return verdict
    # One end that stands out is no gateway pair, and no evidence that there is none either.
    return replace(verdict, label="inconclusive", reason=f"{missing}; {verdict.reason}")


def _untestable(
    observations: Observations, original: Mapping[str, Estimate], thresholds: Thresholds
) -> Finding:
    """Returns the finding on a model with too few blocks to see a trend in."""
    values, facts = observations.arrays["measures"], observations.facts
    spread = values.std(-1, keepdims=True)
    centred = (values - values.mean(-1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return EXPERIMENT.untestable(
        thresholds,
        f"{facts['n_blocks']} blocks: too few interior ones to see a trend in; {FEWEST_BLOCKS} "
        f"needed",
        primary=_PRIMARY,
        unit=_UNIT,
        part=_PART,
        original_measure=original,
        tables={
            "outlying": [],
            "heat": _heat(np.nan_to_num(centred), facts),
            "heat_of": "mean z over kinds of matrix",
        },
    )


def _original_measure(origin: Floats) -> dict[str, Estimate]:
    """Returns the origin's: values over .01σ₁, σ₁/σ_min and the z of kurtosis at the ends."""
    above, condition, kurtosis = origin
    n_blocks, why = len(above), "the origin gave no uncertainty"
    inside = slice(1, n_blocks - 1)
    numbers: dict[str, tuple[float, str, str]] = {}
    for place, blocks in (("at_ends", [0, n_blocks - 1]), ("inside", inside)):
        if above[blocks].size:
            numbers |= {
                f"values_above_1_percent_{place}": (above[blocks].mean(), "singular values", why),
                f"condition_{place}": (condition[blocks].mean(), "σ₁/σ_min", why),
            }
    n_inside = len(kurtosis[inside])
    if n_inside >= 2 and (spread := kurtosis[inside].std(ddof=1)) > 0:
        p = 2 * float(stats.t.sf(2 / np.sqrt(1 + 1 / n_inside), n_inside - 1))
        caveat = f"|z| > 2 against {n_inside} middle blocks has p = {p:.2f}, not .05"
        for name, end in (("first", 0), ("last", -1)):
            z = (kurtosis[end] - kurtosis[inside].mean()) / spread
            numbers[f"kurtosis_z_{name}"] = (z, "standard deviations of middle blocks", caveat)
    return {
        name: Estimate(value=float(value), unit=unit, n=n_blocks, reason=reason)
        for name, (value, unit, reason) in numbers.items()
    }


def _sentence(theta: Estimate, beyond: Estimate, standing: Sequence[str], chance: float) -> str:
    if len(standing) == 2:
        start = "The first and the last block stand out from the blocks between by their weights"
    elif standing:
        start = f"Of the ends only {standing[0]} stands out by its weights"
    else:
        start = "Neither end stands out from the blocks between by its weights"
    trained = ""
    if beyond.value is not None and theta.value is not None:
        trained = f" (of untrained twins {theta.value - beyond.value:.2f}, by chance {chance:g})"
    return (
        f"{start}; together they are at percentile {theta.value:.2f} of all pairs of "
        f"blocks{trained}."
    )


def _heat(t: Floats, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"block": block, "measure": name.replace("_", " "), "t": value}
        for name, values in zip(facts["measures"], t.mean(0).tolist(), strict=True)
        for block, value in enumerate(values)
    ]


def _t_of_ends(t: Floats, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "measure": name, "first": float(t[k, m, 0]), "last": float(t[k, m, -1])}
        for k, kind in enumerate(facts["kinds"])
        for m, name in enumerate(facts["measures"])
    ]
