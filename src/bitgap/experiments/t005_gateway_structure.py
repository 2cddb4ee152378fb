"""T-005 · H2.2: are the first and last blocks structurally distinct?

Prediction: both ends of the stack stand out by their weights alone. Method: every matrix, fused
ones split into queries, keys and values and norm gains folded in, gets its stable rank, entropy
effective rank (Roy & Vetterli 2007), σ₁ over σ at 99 % of the energy, tail exponent (Clauset 2009;
only of 50 eigenvalues or more, and where a power law is not rejected at p = .1; after Martin &
Mahoney 2021), distance to Marchenko & Pastur's law (1967), kurtosis and crest factor C². Each
block is compared with what a robust line through its five nearest interior blocks on one side
predicts, in units of that prediction's error: monotone drift makes ends extreme without making them
special, and smooth drift makes them harder to foretell than what lies between. Measures that say
the same are decorrelated, and a block's outlyingness is the mean of log(1 + z²) over kinds of
matrix and measures, so that no one column decides. θ is the percentile of the less outlying end
among the less outlying blocks of all pairs.

Unit and direction: a percentile from 0 to 1, high supports H2.2. Cost: weights only; no text is
read. The interval resamples columns (kind × measure): how far the answer hangs on what was
measured; another training run is not in it. For support it must lie above the middle of all pairs,
and each end must stand out more than nine tenths of interior blocks; one alone is inconclusive, and
named. Refuted in this model if the interval lies below .9
and ends that were made fragile (P1) were found. Not testable below 8 blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from bitgap.experiments.charts import lines, matrix, side_by_side
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.gateway_controls import controls, measure_controls
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

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-005"
UNIT = "percentile among pairs of blocks"
NULL = 0.5
"""The ends' percentile where they are like any two blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    tail_draws: int = 50
    """Samples that decide whether a tail is a power law; p = .1 is then known to about .04."""
    twins: int = 20
    """Random-init and shuffled twins each; of few, twice too many at the top would not be seen."""
    planted_factor: float = 64.0
    """Scale of the planted o-columns of P1; as in T-002, where it makes rounding errors explode."""
    planted_width: int = 128
    """Columns that one outlier is planted in each of; the groups of the method's primary scheme."""
    planted_seeds: int = 20
    """How often P1 is planted at both ends, in other columns each time; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights; of the scheme only its groups matter, for crest factors.

    Arrays: ``measures`` (kinds x measures x L), natural logarithms but for the exponent, NaN where
    there is none; ``origin`` (3 x L), the origin's measures of attention matrices; and those of
    :func:`bitgap.experiments.gateway_controls.measure_controls`.
    """
    from bitgap.lab.weight_spectra import MEASURES, SPECTRAL, BlockMatrices

    n, seed, draws = lab.n_blocks, lab.settings.seed, params.tail_draws
    matrices = BlockMatrices(lab.decoder, scheme)
    measures, origin = [], []
    for block in range(n):
        own = matrices.of(block)
        measures.append(matrices.measures(own, draws, seed))
        origin.append(matrices.origin(own))
    arrays: dict[str, Any] = {
        "measures": np.ascontiguousarray(np.array(measures).transpose(1, 2, 0)),
        "origin": np.ascontiguousarray(np.array(origin).T),
    }
    absent: dict[str, str] = {}
    if n >= FEWEST_LAYERS:
        twins, absent = measure_controls(
            matrices,
            n,
            n_twins=params.twins,
            n_plantings=params.planted_seeds,
            factor=params.planted_factor,
            width=params.planted_width,
            draws=draws,
            seed=seed,
        )
        arrays |= {name: np.ascontiguousarray(values) for name, values in twins.items()}
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "kinds": matrices.kinds,
            "measures": list(MEASURES),
            "spectral": [MEASURES.index(name) for name in SPECTRAL],
            "params": asdict(params),
            **absent,
        },
    )


# -- judgement ------------------------------------------------------------------------------------


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


# -- what is told ---------------------------------------------------------------------------------


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


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns how far measures lie from what nearby blocks predict, and outlyingness by block."""
    heat = matrix(
        finding.tables["heat"],
        title="How far each measure lies from what nearby blocks predict",
        x="block",
        y="measure",
        value="t",
        x_title="block",
        y_title="measure",
        name=finding.tables["heat_of"],
        signed=True,
    )
    rows = finding.tables["outlying"]
    if not rows:
        return heat
    standing = lines(
        rows,
        title="How far each block stands out (bars: by choice of measures)",
        x="block",
        y="value",
        series="what",
        x_title="block",
        y_title="outlyingness, mean log(1 + z²)",
        interval=("low", "high"),
    )
    return side_by_side(heat, standing)


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H2.2",
    title="Gateway structure",
    question="Are the first and last blocks structurally distinct?",
    phase=1,
    value="high",
    cost=Cost(block_evaluations=lambda n: 0, head_evaluations=lambda n: 0),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
