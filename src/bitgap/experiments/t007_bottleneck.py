"""T-007 · H3.1: is dimensionality lowest near three quarters of the depth?

Prediction: states fill the fewest dimensions at r ≈ .75, where languages would share a bottleneck.
Method: tokens are sampled equally of every language, 20 a dimension where the text has as many,
sinks left out and massive values clipped. Dimension is the participation ratio (tr Σ)²/tr Σ² of all
languages' states together, both traces from pairs of different sentences, since the plain ratio
is too low at few tokens and words of one sentence are no independent draws; this is what averaging
over every way to halve the sentences gives. Its profile is that of block outputs. RankMe (Garrido
2023), components for 95 % of the variance, and, of sentence means, TwoNN (Facco 2017) and GRIDE by
scale (Denti 2022) stand beside it; intrinsic ones are biased low and only their profile is to be
read. θ is whether the minimum lies at r in [.65, .85], with the interval from sentences resampled
jointly over languages and blocks. States are centred once and not in every resample, which matters
at order one over the number of sentences. The positive control projects one block's states to few
dimensions (P4).

Unit and direction: a layer position r between 0 and 1; a hit supports H3.1. Cost: one forward pass,
shared, no head; shuffled text and the random twin's, on a few sentences, come on top. Refuted in
this model if the interval of the minimum's place lies wholly outside the window, as a minimum at
an end does; an interval that holds both interior and end is never support. One model's p is the
window's share of blocks, so one model cannot support. Prior, adverse: dimension peaks in early
middle layers, then falls (Valeriani 2023; Cheng 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.bottleneck_controls import (
    block_products,
    controls,
    measure_controls,
    minimum_of,
)
from bitgap.experiments.charts import lines
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.window_hit import is_hit, judge_window
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import estimates
from bitgap.stats.dimension import (
    components_for,
    covariance_eigenvalues,
    gride,
    neighbour_distances,
    participation_ratio,
    participation_ratios,
    rank_me,
    unit_products,
)
from bitgap.stats.profiles import Peak, depths, locate_peak
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.activations import Activations
    from bitgap.lab.lab import Lab

ID = "T-007"

FEWEST_SENTENCES = 3
"""Below it there are too few pairs of different sentences to resample."""
WANTED_PER_DIMENSION = 20
"""Tokens a dimension that the method asks for; fewer are used, and said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    most_units: int = 96
    """Groups that sentences are put in for resampling; more only make the stored arrays larger."""
    points: int = 512
    """Sentence means whose neighbours are looked at; fixed, since TwoNN and GRIDE move with n."""
    scales: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Neighbours k of GRIDE, which compares the 2k-th with the k-th; doubling, as is usual."""
    control_sentences: int = 48
    """Sentences that the random twin sees; as many as T-009's, so that one pass serves both."""
    shuffled_sentences: int = 12
    """Sentences of the shuffled text; their pairs are unbiased however few they are."""
    planted_seeds: int = 20
    """How often P4 is planted, at each block in turn; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures dimension by depth in full precision; the scheme plays no part.

    Arrays, with S units (sentences, or groups of them): ``products`` (L x S x S) and ``traces``
    (L x S) of all languages together (:func:`bitgap.stats.dimension.unit_products`);
    ``by_language`` (L x A), the ratio in each alone; ``plain``, ``rank_me`` and ``components_95``
    (L); ``gride`` (L x scales), of sentence means, NaN where undefined; and those of
    :func:`bitgap.experiments.bottleneck_controls.measure_controls`.

    Raises:
        UsageError: If there are too few sentences.
    """
    if lab.corpus.n_sentences < FEWEST_SENTENCES:
        raise UsageError(
            f"{ID} compares different sentences, and there are {lab.corpus.n_sentences}; give at "
            f"least {FEWEST_SENTENCES}"
        )
    found = lab.activations()
    products = block_products(found, params.most_units)
    twins, told = measure_controls(
        lab,
        products,
        most_units=params.most_units,
        n_sentences=params.control_sentences,
        n_shuffled=params.shuffled_sentences,
        n_plantings=params.planted_seeds,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**products, **_spectra(found, params), **_intrinsic(lab, found, params), **twins},
        facts={
            "languages": list(lab.languages),
            "n_blocks": lab.n_blocks,
            "width": lab.decoder.width,
            "n_tokens": len(found.token),
            "params": asdict(params),
            **told,
        },
    )


def _spectra(found: Activations, params: Params) -> dict[str, Floats]:
    """Returns the estimators beside the primary one, and that one language by language."""
    n_units = min(params.most_units, int(found.sentence.max()) + 1)
    ones = np.ones((1, n_units))
    out: dict[str, list[Any]] = {
        name: [] for name in ("plain", "rank_me", "components_95", "by_language")
    }
    for site in range(1, len(found.states) - 1):
        rows, states = found.at(site)
        eigenvalues = covariance_eigenvalues(states)
        out["plain"].append(participation_ratio(states))
        out["rank_me"].append(rank_me(eigenvalues))
        out["components_95"].append(components_for(eigenvalues, 0.95))
        alone = []
        for language in range(len(found.languages)):
            mine = found.language[rows] == language
            centred = states[mine] - states[mine].mean(0)
            made = unit_products(centred, found.sentence[rows][mine] % n_units, n_units)
            alone.append(participation_ratios(made[0][None], made[1][None])(ones)[0, 0])
        out["by_language"].append(alone)
    return {name: np.array(values, dtype=np.float64) for name, values in out.items()}


def _intrinsic(lab: Lab, found: Activations, params: Params) -> dict[str, Floats]:
    """Returns ``gride`` (L x scales) of a fixed number of sentence means of all languages."""
    pooled = np.asarray(found.pooled[1:])  # (L x A x N x d)
    flat = pooled.reshape(len(pooled), -1, pooled.shape[-1])
    rng = np.random.default_rng(lab.settings.seed)
    chosen = np.sort(rng.permutation(flat.shape[1])[: params.points])
    wanted = [k for k in params.scales if 2 * k < len(chosen)]
    out = np.full((len(flat), len(params.scales)), np.nan)
    for block, states in enumerate(flat):
        if not wanted:
            break
        distances = neighbour_distances(states[chosen].astype(np.float64), 2 * max(wanted))
        for column, scale in enumerate(wanted):
            value = gride(distances, scale)
            out[block, column] = np.nan if value is None else value
    return {"gride": out}


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.1 in this model: a minimum whose interval lies in the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    lowest, draws = minimum_of(arrays["products"], arrays["traces"], thresholds)
    checks = controls(arrays, facts, lowest, thresholds)
    ratios = participation_ratios(arrays["products"], arrays["traces"])
    n_units = arrays["traces"].shape[1]
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    dimensions = estimates(ratios, n_units, unit="dimensions (participation ratio)", **how)
    point = ratios(np.ones((1, n_units)))[0]
    verdict = judge_window(
        lowest, facts["n_blocks"], checks, thresholds, hypothesis="H3.1", what="minimum"
    )
    return Finding(
        experiment=ID,
        hypothesis="H3.1",
        title=EXPERIMENT.title,
        primary="minimum_depth",
        estimates={
            "minimum_depth": lowest.place,
            "minimum_dimension": dimensions[lowest.layer],
            "maximum_depth": locate_peak(draws, point, thresholds.level).place,
        },
        seed_measure=_seed_measure(arrays, facts),
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(lowest, dimensions, facts, thresholds.window),
        tables={
            "profile": _table(arrays, facts, dimensions),
            "window": list(thresholds.window),
            "scales": list(facts["params"]["scales"]),
            "minimum_by_language": dict(
                zip(facts["languages"], _minima(arrays["by_language"]), strict=True)
            ),
        },
        thresholds_hash=thresholds.hash,
    )


def _minima(by_language: Floats) -> list[int | None]:
    return [
        int(np.nanargmin(column)) if np.isfinite(column).any() else None for column in by_language.T
    ]


def _seed_measure(arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> dict[str, Estimate]:
    """Returns where the fewest components hold 95 % of the variance, and how many they are."""
    why, counts = "the origin gave no uncertainty", arrays["components_95"]
    place = float(depths(facts["n_blocks"])[counts.argmin()])
    return {
        "minimum_of_components_95": Estimate(value=place, unit="relative depth", reason=why),
        "components_95_there": Estimate(
            value=float(counts.min()), unit="components for 95 % of the variance", reason=why
        ),
    }


def _sentence(
    lowest: Peak,
    dimensions: list[Estimate],
    facts: Mapping[str, Any],
    window: tuple[float, float],
) -> str:
    where = "inside" if is_hit(lowest, window) else "outside"
    value = dimensions[lowest.layer].value
    wanted = WANTED_PER_DIMENSION * facts["width"]
    few = f" ({facts['n_tokens']} tokens, fewer than the {wanted} asked for)"
    filled = "undefined" if value is None else f"{value:.1f} of {facts['width']}"
    return (
        f"States fill the fewest dimensions, {filled}, at block {lowest.layer} of "
        f"{facts['n_blocks'] - 1}, {where} the window around three quarters of the depth"
        f"{few if facts['n_tokens'] < wanted else ''}."
    )


def _table(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], dimensions: list[Estimate]
) -> list[dict[str, Any]]:
    rows = []
    for block, dimension in enumerate(dimensions):
        scales = zip(facts["params"]["scales"], arrays["gride"][block], strict=True)
        rows.append(
            {
                "block": block,
                "participation_ratio": dimension.value,
                "low": dimension.low,
                "high": dimension.high,
                "plain_ratio": _number(arrays["plain"][block]),
                "rank_me": _number(arrays["rank_me"][block]),
                "components_95": int(arrays["components_95"][block]),
                "gride": {str(k): _number(value) for k, value in scales},
                "by_language": {
                    code: _number(value)
                    for code, value in zip(
                        facts["languages"], arrays["by_language"][block], strict=True
                    )
                },
            }
        )
    return rows


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns four dimension profiles, each relative to its mean over blocks, window shaded."""
    table, window = finding.tables["profile"], finding.tables["window"]
    first = str(finding.tables["scales"][0]) if finding.tables["scales"] else None
    columns = {
        "participation ratio": [row["participation_ratio"] for row in table],
        "RankMe": [row["rank_me"] for row in table],
        "components for 95 %": [row["components_95"] for row in table],
        "TwoNN of sentence means": [row["gride"].get(first) for row in table],
    }
    rows: list[dict[str, Any]] = []
    for name, values in columns.items():
        if any(value is None for value in values):
            continue
        mean = float(np.mean(values))
        for row, value in zip(table, values, strict=True):
            point = {"block": row["block"], "value": value / mean, "measure": name}
            if name == "participation ratio" and row["low"] is not None:
                point |= {end: row[end] / mean for end in ("low", "high")}
            rows.append(point)
    n = len(table) - 1
    return lines(
        rows,
        title="Dimensions that states fill, relative to each measure's mean",
        x="block",
        y="value",
        series="measure",
        x_title="output of block",
        y_title="dimension over its mean over blocks",
        band=(window[0] * n, window[1] * n),
        interval=("low", "high") if any("low" in row for row in rows) else None,
    )


def _log_dimension(finding: Finding) -> list[float | None]:
    """Returns −log of the participation ratio by block, so that a bottleneck is high."""
    ratios = [row["participation_ratio"] for row in finding.tables["profile"]]
    return [None if ratio is None or ratio <= 0 else -float(np.log(ratio)) for ratio in ratios]


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H3.1",
    title="Bottleneck",
    question="Is dimensionality lowest near three quarters of the depth?",
    phase=1,
    value="high",
    cost=Cost(block_evaluations=lambda n: n, head_evaluations=lambda n: 0),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
    profile=_log_dimension,
)
