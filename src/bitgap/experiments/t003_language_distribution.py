"""T-003 · H1.3: do blocks whose protection evens out languages act differently on them?

Prediction: critical blocks differ more across languages. Method: rounding changes weights, and
knows no language; it acts differently on languages only as their inputs lie differently to ΔW. For
every linear the relative error of its outputs is e = E‖ΔW x‖²/E‖W x‖², in full precision, and e_lλ
is the mean over block l's linears, which no rescaling of a matrix moves. B_l is the mean over
languages of log2(e_lλ/e_l,en). θ is the correlation over blocks, detrended in depth, of B with the
benefit of protecting a block: its Shapley value in the game −|D| of the layer map. Languages that
collapse or lie below resolution under some mask enter neither. Support also needs the link to −G of
the same sign, as D alone may fall because the reference gets worse. Two descriptions beside it: the
share of the variance of log var(x), per sentence, that is the language's (parallel two-way random
effects, p by permuting languages within sentence), and the share of the state's variance that lies
between languages' means, estimated from products of different sentences so that scatter within a
language adds nothing. Position 0 and attention sinks are left out of both.

Sources: Shrout & Fleiss 1979 (shares of variance), Sun 2024 and Xiao 2024 (sinks). Unit and
direction: a correlation, −1 to 1; above 0 supports H1.3. Cost: two forward passes, one of them
shared; the masks are those of the layer map, and controls on a few sentences come on top. Refuted
if the interval of θ lies below the smallest effect of interest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import Bools
from bitgap.experiments.charts import lines, matrix, side_by_side
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.kept_scores import facts_of, keep, scores_of, told_left_out
from bitgap.experiments.language_controls import (
    bias_profile,
    controls,
    local_bias,
    local_errors,
    measure_controls,
)
from bitgap.experiments.language_shares import by_block, described, state_shares
from bitgap.languages import language
from bitgap.layer_map import (
    LARGEST_FACTORIAL,
    Design,
    benefits,
    counted_languages,
    make_design,
    score_map,
)
from bitgap.quant.plan import Plan
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import estimate, estimates
from bitgap.stats.profiles import (
    ProfileCorrelation,
    correlate_profiles,
    depths,
    smallest_p_of_correlation,
)
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-003"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = True
    """Whether all masks are scored where L allows it; as the layer map does."""
    control_sentences: int = 12
    """Sentences the twin and the plantings are run on; a planted error shows on few."""
    planted_strength: float = 0.2
    """Root mean square of P2's error over that of the state: larger than rounding's own."""
    planted_seeds: int = 20
    """How often P2 is planted, each time elsewhere; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures errors at every linear by language, and what protecting each block is worth.

    Arrays: the sums of :func:`bitgap.lab.linear_inputs.linear_inputs` under ``linear_``, float32;
    kept scores (:mod:`~bitgap.experiments.kept_scores`) of the layer map's text and of its masks as
    the part ``map``, float32; and those of
    :func:`bitgap.experiments.language_shares.state_shares` and
    :func:`bitgap.experiments.language_controls.measure_controls`.
    """
    from bitgap.lab.linear_inputs import linear_inputs

    n = lab.n_blocks
    rounded = Plan(tuple(scheme for _ in range(n)))
    part = lab.first(params.map_sentences)
    complete = params.complete and n <= LARGEST_FACTORIAL
    design = make_design(n, seed=lab.settings.seed, complete=complete)
    scores = score_map(part, scheme, design)
    masks = keep(scores, {"map": design.plans(scheme)})
    twins, absent = measure_controls(
        lab,
        scheme,
        n_sentences=params.control_sentences,
        n_plantings=params.planted_seeds,
        strength=params.planted_strength,
    )
    sums = linear_inputs(lab, rounded)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **masks,
            # Seven digits of each sentence; their sums are made in float64.
            **{name: masks[name].astype(np.float32) for name in ("map_kl", "map_nll")},
            **{f"linear_{name}": values.astype(np.float32) for name, values in sums.items()},
            **state_shares(lab),
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "complete": complete,
            "seed": lab.settings.seed,
            "kin": [_kin(code) for code in lab.languages],
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
    )


def _kin(code: str) -> dict[str, str]:
    found = language(code)
    return {"script": found.script, "genus": found.genus, "family": found.family}


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.3: r(B, benefit for −|D|) ≥ .5 clearly, with −G of the same sign."""
    declared, arrays, facts = thresholds.of("H1.3"), observations.arrays, observations.facts
    design = make_design(facts["n_blocks"], seed=facts["seed"], complete=facts["complete"])
    scores = scores_of(observations, "map")
    counts, row = counted_languages(scores, design), facts["languages"].index(facts["reference"])
    gate, left_out = _gate(counts, row, facts["languages"])
    # Where too few languages may enter, errors are still shown, of all of them, beside the gate.
    shown = counts if gate is None else np.ones_like(counts)
    worth = benefits(scores, design)
    if gate is None and not np.isfinite(worth["disparity"]).all():
        gate = "D has no value under some mask, so protecting a block has no worth for it"
    bias = bias_profile(arrays, "linear_", shown, row)
    link = correlate_profiles(bias, worth["disparity"], thresholds.level)
    with_gap = correlate_profiles(bias, worth["gap"], thresholds.level)
    checks = controls(observations, worth["disparity"], link, shown, thresholds)
    part = Part(
        name="r(B, benefit)",
        estimate=link.estimate,
        sesoi=declared["sesoi"],
        p=link.p,
        p_minimum=smallest_p_of_correlation(link.dof),
    )
    return Finding(
        experiment=ID,
        hypothesis="H1.3",
        title=EXPERIMENT.title,
        primary="bias_and_benefit",
        estimates={
            "bias_and_benefit": link.estimate,
            "bias_and_gap_benefit": with_gap.estimate,
            "mean_bias": _mean_bias(observations, shown, row, thresholds),
            **described(arrays, thresholds.level),
        },
        seed_measure=_seed_measure(arrays["variance"]),
        controls=tuple(checks),
        verdict=judge_parts(
            [part], checks, alpha=thresholds.alpha, gate=gate, extra=_agree(link, with_gap)
        ),
        sentence=_sentence(link, declared["sesoi"], gate) + told_left_out(left_out),
        tables={
            "blocks": _blocks(observations, worth, shown, row, design, thresholds),
            "errors": _errors(observations, row),
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _gate(counts: Bools, row: int, languages: list[str]) -> tuple[str | None, dict[str, str]]:
    """Returns why there is no D under every mask, or None, and which languages are left out."""
    why = "collapsed or below resolution under some mask"
    left_out = {code: why for code, ok in zip(languages, counts, strict=True) if not ok}
    others = counts.sum() - counts[row]
    if counts[row] and others:
        return None, left_out
    told = f"the reference {languages[row]}" if not counts[row] else "every other language"
    return f"no Shapley values of D: {told} is {why}", left_out


def _agree(link: ProfileCorrelation, with_gap: ProfileCorrelation) -> tuple[bool, str]:
    """Returns whether D and G tell the same, and what is told if not."""
    d, g = link.estimate.value, with_gap.estimate.value
    if d is not None and g is not None and d * g > 0:
        return True, ""
    told = "undefined" if g is None else f"{g:+.2f}"
    return False, f"the link to −G is {told}, not of the same sign as that to −|D|"


def _mean_bias(
    observations: Observations, shown: Bools, row: int, thresholds: Thresholds
) -> Estimate:
    """Returns B averaged over blocks, with its interval over sentences."""
    arrays = observations.arrays
    error, output = arrays["linear_error"], arrays["linear_output"]
    block = arrays["linear_block"].astype(np.int64)

    def mean(weights: Floats) -> Floats:
        return local_bias(local_errors(error, output, block, weights), shown, row).mean(-1)

    return estimate(mean, error.shape[-1], unit="log2 ratio", **_how(thresholds))


def _how(thresholds: Thresholds) -> dict[str, Any]:
    return {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}


def _seed_measure(variance: Floats) -> dict[str, Estimate]:
    """Returns the origin's Var_λ[acts.var()]: how it grows with depth, and its largest value."""
    why, values = "the origin gave no uncertainty", variance.var(1)
    r = depths(len(values))
    varies = len(values) > 2 and np.ptp(values) > 0
    return {
        "largest_variance_of_variances": Estimate(
            value=float(values.max()), unit="squared state units^2", reason=why
        ),
        "depth_of_largest": Estimate(
            value=float(r[values.argmax()]), unit="relative depth", reason=why
        ),
        "correlation_with_depth": Estimate(
            value=float(np.corrcoef(r, values)[0, 1]) if varies else None,
            unit="correlation over layers", reason=why if varies else "it does not vary",
        ),
    }  # fmt: skip


def _sentence(link: ProfileCorrelation, sesoi: float, gate: str | None) -> str:
    found = link.estimate
    if gate is not None:
        return f"Not testable here: {gate}."
    if found.value is None or found.low is None or found.high is None:
        return f"The link has no interval: {found.reason}."
    told = f"(r {found.value:+.2f}, between {found.low:+.2f} and {found.high:+.2f})"
    what = "blocks whose rounding errors fall more on other languages than on the reference"
    if found.low > 0 and found.value >= sesoi:
        return f"Protecting {what} evens out languages more than protecting others {told}."
    if found.high < sesoi:
        return f"Protecting {what} evens out languages no more than protecting others {told}."
    return f"Whether protecting {what} evens out languages more is open {told}."


def _blocks(
    observations: Observations,
    worth: Mapping[str, Floats],
    shown: Bools,
    row: int,
    design: Design,
    thresholds: Thresholds,
) -> list[dict[str, Any]]:
    arrays = observations.arrays
    error, output = arrays["linear_error"], arrays["linear_output"]
    block, n = arrays["linear_block"].astype(np.int64), error.shape[-1]

    def profile(weights: Floats) -> Floats:
        return local_bias(local_errors(error, output, block, weights), shown, row)

    bias = estimates(profile, n, unit="log2 ratio", **_how(thresholds))
    shares = by_block(arrays)
    return [
        {
            "block": i,
            "bias": bias[i].value,
            "bias_low": bias[i].low,
            "bias_high": bias[i].high,
            "benefit_disparity": _number(worth["disparity"][i]),
            "benefit_gap": _number(worth["gap"][i]),
            "benefit_damage": _number(worth["damage"][i]),
            **{name: _number(values[i]) for name, values in shares.items()},
            "seed_variance": _number(arrays["variance"][i].var()),
        }
        for i in range(design.n_blocks)
    ]


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _errors(observations: Observations, row: int) -> list[dict[str, Any]]:
    """Returns log2 of every language's error over the reference's, by block."""
    arrays, codes = observations.arrays, observations.facts["languages"]
    ones = np.ones((1, arrays["linear_error"].shape[-1]))
    block = arrays["linear_block"].astype(np.int64)
    found = local_errors(arrays["linear_error"], arrays["linear_output"], block, ones)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(found) - np.log2(found[:, row : row + 1])
    return [
        {"block": i, "language": codes[a], "log2_ratio": float(logs[i, a])}
        for i, a in np.ndindex(*logs.shape)
        if np.isfinite(logs[i, a])
    ]


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns errors by block and language, beside B and what protection is worth."""
    heat = matrix(
        finding.tables["errors"],
        title="Error at a block's linears against the reference's",
        x="block",
        y="language",
        value="log2_ratio",
        x_title="block",
        y_title="language",
        name="log2 ratio",
        signed=True,
    )
    rows = [
        {"block": row["block"], "series": name, "value": row[key]}
        for row in finding.tables["blocks"]
        for name, key in (
            ("bias B towards other languages", "bias"),
            ("benefit: taken off |D|", "benefit_disparity"),
        )
        if row[key] is not None
    ]
    if not rows:
        return heat
    profiles = lines(
        rows,
        title="Error bias, and what protecting the block is worth for |D|",
        x="block",
        y="value",
        series="series",
        x_title="block",
        y_title="log2 ratio",
        rules={"": 0.0},
    )
    return side_by_side(heat, profiles)


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H1.3",
    title="Language distribution",
    question="Do critical layers differ more across languages?",
    phase=1,
    value="high",
    cost=Cost(block_evaluations=lambda n: 2 * n, head_evaluations=lambda n: 0),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
