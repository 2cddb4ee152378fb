"""How T-005 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from bitgap.experiments.t005_gateway_structure import EXPERIMENT, ID, NULL, UNIT
from bitgap.experiments.t005_gateway_structure.controls import controls
from bitgap.records import Control, Estimate, Finding, Floats, Observations, Verdict
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.outlyingness import (
    FEWEST_LAYERS,
    decorrelated,
    outlyingness,
    pair_p,
    pair_percentile,
    prediction_t,
)
from bitgap.stats.profiles import smallest_p_both_ends
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.2: both ends stand out among all pairs of blocks, and each among the interior."""
    arrays, facts = observations.arrays, observations.facts
    n, sesoi = facts["n_blocks"], thresholds.of("H2.2")["sesoi"]
    if n < FEWEST_LAYERS:
        return _unjudged(observations, thresholds)
    t = prediction_t(arrays["measures"])
    z, spectral = decorrelated(t), facts["spectral"]
    entries = [m for m in range(t.shape[1]) if m not in spectral]
    theta, outlying, interval = _standing(z, thresholds)
    checks = controls(arrays, facts, t, sesoi, thresholds)
    ends = _ends(outlying, thresholds)
    return Finding(
        experiment=ID,
        hypothesis="H2.2",
        title=EXPERIMENT.title,
        primary="percentile_of_ends",
        estimates={
            "percentile_of_ends": theta,
            **ends,
            "percentile_by_spectra": _standing(decorrelated(t[:, spectral]), thresholds)[0],
            "percentile_by_entries": _standing(decorrelated(t[:, entries]), thresholds)[0],
        },
        seed_measure=_seed_measure(arrays["origin"]),
        controls=tuple(checks),
        verdict=_verdict(theta, outlying, ends, checks, thresholds),
        sentence=_sentence(theta, ends, sesoi),
        tables={
            "outlying": [
                {"block": block, "value": float(outlying[block]), "what": "outlyingness",
                 "low": float(interval[0, block]), "high": float(interval[1, block])}
                for block in range(n)
            ],
            "heat": _heat(t, facts),
            "heat_of": "mean t over kinds of matrix",
            "t_of_ends": _t_of_ends(t, facts),
        },
        thresholds_hash=thresholds.hash,
    )  # fmt: skip


def _standing(z: Floats, thresholds: Thresholds) -> tuple[Estimate, Floats, Floats]:
    """Returns the ends' percentile, outlyingness (L), and its interval (2 x L), over columns."""
    n_layers, columns = z.shape[-1], z.reshape(-1, z.shape[-1])
    pair, n = (0, n_layers - 1), len(columns)
    outlying = outlyingness(columns, np.ones((1, n)))
    drawn = outlyingness(columns, bootstrap_weights(n, thresholds.draws, 0))
    tail = (1 - thresholds.level) / 2
    low, high = np.quantile(pair_percentile(drawn, pair), [tail, 1 - tail])
    theta = Estimate(
        value=float(pair_percentile(outlying, pair)[0]),
        low=float(low),
        high=float(high),
        unit=UNIT,
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over {n} columns, {thresholds.draws} draws: what hangs on "
        f"the choice of measures",
    )
    return theta, outlying[0], np.quantile(drawn, [tail, 1 - tail], axis=0)


def _ends(outlying: Floats, thresholds: Thresholds) -> dict[str, Estimate]:
    """Returns for each end the share of interior blocks that stand out less."""
    interior, why = outlying[1:-1], "a rank among few blocks; see the pair's interval"
    return {
        f"{name}_above_interior": Estimate(
            value=float((interior < outlying[end]).mean()),
            unit="share of interior blocks",
            level=thresholds.level,
            n=len(interior),
            reason=why,
        )
        for name, end in (("first", 0), ("last", -1))
    }


def _verdict(
    theta: Estimate,
    outlying: Floats,
    ends: Mapping[str, Estimate],
    checks: list[Control],
    thresholds: Thresholds,
) -> Verdict:
    n, sesoi = len(outlying), thresholds.of("H2.2")["sesoi"]
    standing = _standing_ends(ends, sesoi)
    part = Part(
        name="percentile of both ends",
        estimate=theta,
        sesoi=sesoi,
        p=pair_p(outlying, (0, n - 1)),
        p_minimum=smallest_p_both_ends(n),
    )
    named = " and ".join(standing) or "neither end"
    missing = f"of the ends, {named} alone is above {sesoi:.0%} of interior blocks"
    # Of a percentile the null value is the middle, not 0.
    above = theta.low is not None and theta.low > NULL
    extra = (
        above,
        f"the interval {theta.low:.2f} to {theta.high:.2f} holds the middle of all pairs",
    )
    if len(standing) < 2:
        extra = (False, missing)
    verdict = judge_parts([part], checks, alpha=thresholds.alpha, extra=extra)
    if len(standing) != 1 or verdict.label == "supported" or verdict.reason == missing:
        return verdict
    # One end that stands out is no gateway pair, and no evidence that there is none either.
    return replace(verdict, label="inconclusive", reason=f"{missing}; {verdict.reason}")


def _standing_ends(ends: Mapping[str, Estimate], sesoi: float) -> list[str]:
    values = {"the first block": ends["first_above_interior"].value,
              "the last block": ends["last_above_interior"].value}  # fmt: skip
    return [name for name, value in values.items() if value is not None and value >= sesoi]


def _unjudged(observations: Observations, thresholds: Thresholds) -> Finding:
    """Returns the finding on a model with too few blocks to see a trend in."""
    arrays, facts = observations.arrays, observations.facts
    n, declared = facts["n_blocks"], thresholds.of("H2.2")
    gate = f"{n} blocks: too few interior ones to see a trend in; {FEWEST_LAYERS} needed"
    none = Estimate(value=None, unit=UNIT, reason=gate)
    part = Part(name="percentile of both ends", estimate=none, sesoi=declared["sesoi"], p=None,
                p_minimum=1.0)  # fmt: skip
    values = arrays["measures"]
    spread = values.std(-1, keepdims=True)
    centred = (values - values.mean(-1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return Finding(
        experiment=ID,
        hypothesis="H2.2",
        title=EXPERIMENT.title,
        primary="percentile_of_ends",
        estimates={"percentile_of_ends": none},
        seed_measure=_seed_measure(arrays["origin"]),
        controls=(),
        verdict=judge_parts([part], [], alpha=thresholds.alpha, gate=gate),
        sentence=f"Not testable here: {gate}.",
        tables={
            "outlying": [],
            "heat": _heat(np.nan_to_num(centred), facts),
            "heat_of": "mean z over kinds of matrix",
        },
        thresholds_hash=thresholds.hash,
    )


def _seed_measure(origin: Floats) -> dict[str, Estimate]:
    """Returns the origin's: values over .01σ₁, σ₁/σ_min and the z of kurtosis at the ends."""
    above, condition, kurtosis = origin
    n_layers, why = len(above), "the origin gave no uncertainty"
    ends, middle = [0, n_layers - 1], slice(1, n_layers - 1)
    inside = max(n_layers - 2, 0)
    made = {
        "values_above_1_percent_at_ends": (above[ends].mean(), "singular values", why),
        "condition_at_ends": (condition[ends].mean(), "σ₁/σ_min", why),
    }
    if inside:
        made |= {
            "values_above_1_percent_inside": (above[middle].mean(), "singular values", why),
            "condition_inside": (condition[middle].mean(), "σ₁/σ_min", why),
        }
    if inside >= 2 and (spread := kurtosis[middle].std(ddof=1)) > 0:
        p = 2 * float(stats.t.sf(2 / np.sqrt(1 + 1 / inside), inside - 1))
        told = f"|z| > 2 against {inside} middle blocks has p = {p:.2f}, not .05"
        for name, end in (("first", 0), ("last", -1)):
            z = (kurtosis[end] - kurtosis[middle].mean()) / spread
            made[f"kurtosis_z_{name}"] = (z, "standard deviations of middle blocks", told)
    return {
        name: Estimate(value=float(value), unit=unit, n=n_layers, reason=reason)
        for name, (value, unit, reason) in made.items()
    }


def _sentence(theta: Estimate, ends: Mapping[str, Estimate], sesoi: float) -> str:
    standing = _standing_ends(ends, sesoi)
    if len(standing) == 2:
        told = "The first and the last block stand out from the blocks between by their weights"
    elif standing:
        told = f"Of the ends only {standing[0]} stands out by its weights"
    else:
        told = "Neither end stands out from the blocks between by its weights"
    return f"{told}; together they are at percentile {theta.value:.2f} of all pairs of blocks."


def _heat(t: Floats, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    mean = t.mean(0)
    return [
        {"block": block, "measure": name.replace("_", " "), "t": float(mean[m, block])}
        for m, name in enumerate(facts["measures"])
        for block in range(t.shape[-1])
    ]


def _t_of_ends(t: Floats, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "measure": name, "first": float(t[k, m, 0]), "last": float(t[k, m, -1])}
        for k, kind in enumerate(facts["kinds"])
        for m, name in enumerate(facts["measures"])
    ]
