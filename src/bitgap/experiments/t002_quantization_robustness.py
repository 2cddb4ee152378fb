"""T-002 · H1.2: are blocks of high weight variance more robust to rounding?

Prediction: relative rounding error is lower where weight variance is high. Note the sign: a block
that is more robust gains *less* from protection, so H1.2 contradicts the finding it is meant to
explain. Method: a matrix's relative error RE = ‖ΔW‖²/‖W‖² obeys RE = C²/(12q²) with C² the
effective crest factor² (Gersho & Gray 1992), which no rescaling changes. A block's RE is the mean
over its matrices: a ratio pooled over them changes when one is rescaled against another, as raw
variance does, so variance is compared after gauge fixing. Gaussian ΔW of relative size t in one
block gives the sensitivity α_l, the slope of damage on t²; then log k_l = log α_l + log t_l² +
non-linearity splits the damage of a block into how hard it is hit and how much it matters, with
Lindeman–Merenda–Gold shares of the variance over blocks. θ (both must pass): r(log variance,
−log RE) and r(log RE, log k_l), profiles detrended in depth. Damage is averaged over languages, so
no language label can move θ; languages that collapse or lie below resolution are left out of it.

Sources: Banner 2019, Malinovskii 2025 (linearity of damage in t²), Zhang 2025. Unit: correlation
over blocks, > 0 supports. Cost: L single-block plans, 3·seeds·L noisy half-passes, and the L + 1
plans that protect one block, shared with the map; controls on a few sentences come on top.
Supported also needs an LMG share of t² of at least .5. Refuted if either correlation's interval
lies below .5. If the gauge intervention leaves damage unchanged, "predicts" is all that may be
said, never "causes".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import seed_disparity
from bitgap.errors import UsageError
from bitgap.experiments import controls, weight_controls
from bitgap.experiments.charts import bars, points, side_by_side
from bitgap.experiments.error_budget import block_damage, error_share, logarithm, sensitivity
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.kept_scores import (
    closed,
    countable,
    facts_of,
    keep,
    scores_of,
    told_left_out,
)
from bitgap.experiments.weight_controls import GAUGE, SEED_SCHEME, noise_plans, only
from bitgap.lab.tree import PlanTree, Work
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import largest_level, parse_scheme
from bitgap.records import Control, Estimate, Finding, Floats, Observations
from bitgap.stats.profiles import (
    ProfileCorrelation,
    correlate_profiles,
    smallest_p_of_correlation,
)
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-002"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    noise: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Relative sizes t of injected noise; the range in which damage was seen to be quadratic."""
    noise_seeds: int = 4
    """Draws of the noise for each size; four bring the slope's error under the layers' spread."""
    control_sentences: int = 12
    """Sentences the twins are scored on; a planted factor of 64 shows on few."""
    planted_factor: float = 64.0
    """Scale of the planted o-columns of P1; a power of two, so full precision is unchanged."""
    planted_seeds: int = 20
    """How often P1 is planted, each time in a block chosen at random; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights, single-block damage and sensitivity to noise.

    Arrays: kept scores (:mod:`~bitgap.experiments.kept_scores`) of the parts ``single`` (L plans,
    only block l rounded), ``protect`` (L+1, nothing protected and then only block l) and ``noise``
    (L·T·S: block, size, draw); by block, (L): ``t2`` relative error, ``re_tensor`` (the origin's:
    4 bits per tensor, pooled), ``re_channel``, ``re_clipped``, ``crest`` C², ``kurtosis``,
    ``log_variance_raw`` and ``log_variance_fixed``; and those of
    :func:`bitgap.experiments.weight_controls.measure`.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    bits, parts = _bits(scheme), _plans(lab.n_blocks, scheme, params, lab.settings.seed)
    scores = lab.score([plan for plans in parts.values() for plan in plans], ID)
    twins, absent = weight_controls.measure(
        lab,
        scheme,
        n_sentences=params.control_sentences,
        n_plantings=params.planted_seeds,
        factor=params.planted_factor,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**keep(scores, parts), **_weights(lab, scheme, bits), **twins},
        facts={
            "scheme": scheme,
            "bits": bits,
            "n_blocks": lab.n_blocks,
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
    )


def _plans(n: int, scheme: str, params: Params, seed: int) -> dict[str, list[Plan]]:
    return {
        "single": [only(scheme, n, j) for j in range(n)],
        "protect": [Plan.uniform(scheme, n, kept) for kept in [(), *((j,) for j in range(n))]],
        "noise": noise_plans(n, params.noise, params.noise_seeds, seed),
    }


def _bits(scheme: str) -> int:
    bits = getattr(parse_scheme(scheme), "bits", None)
    if bits is None:
        raise UsageError(
            f"{ID} compares rounding errors, and {scheme!r} does not round to a number of bits; "
            f"give a scheme such as rtn4-g128"
        )
    return int(bits)


def _weights(lab: Lab, scheme: str, bits: int) -> dict[str, Floats]:
    from bitgap.lab.weights import crest_factors, kurtoses, relative_errors
    from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance

    grain = getattr(parse_scheme(scheme), "granularity", "tensor")
    return {
        "t2": relative_errors(lab.decoder, scheme),
        "re_tensor": relative_errors(lab.decoder, SEED_SCHEME, pooled=True),
        "re_channel": relative_errors(lab.decoder, f"rtn{bits}-channel"),
        "re_clipped": relative_errors(lab.decoder, f"rtn{bits}-{grain}-mse"),
        "crest": crest_factors(lab.decoder, scheme),
        "kurtosis": kurtoses(lab.decoder),
        "log_variance_raw": raw_log_variance(lab.decoder),
        "log_variance_fixed": gauge_fixed_log_variance(lab.decoder),
    }


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.2: both correlations, and an LMG share of t² of at least one half."""
    declared, arrays, facts = thresholds.of("H1.2"), observations.arrays, observations.facts
    counts, left_out = countable(observations, ["single", "noise"], readable=["single"])
    gate = closed(counts, left_out)
    # Where no language may enter, the numbers are still shown, of all of them, beside the gate.
    shown = counts if gate is None else np.ones_like(counts)
    single, noise = scores_of(observations, "single"), scores_of(observations, "noise")
    damage = block_damage(single, shown)
    alpha = sensitivity(noise, shown, facts["params"]["noise"], facts["params"]["noise_seeds"])
    ones = np.ones((1, single.n_sentences))
    log_t2, log_k = np.log(arrays["t2"]), logarithm(damage(ones))[0]
    variance = correlate_profiles(arrays["log_variance_fixed"], -log_t2, thresholds.level)
    reaches = correlate_profiles(log_t2, log_k, thresholds.level)
    share = error_share(damage, alpha, log_t2, single.n_sentences, thresholds)
    checks = weight_controls.controls(observations, declared["sesoi"], thresholds)
    nothing_protected = scores_of(observations, "protect")
    checks.append(controls.halves(nothing_protected, 0, counts, thresholds))
    verdict = judge_parts(
        [
            _part("r(log variance, −log RE)", variance, declared["sesoi"]),
            _part("r(log RE, log k)", reaches, declared["sesoi"]),
        ],
        checks,
        alpha=thresholds.alpha,
        gate=gate,
        extra=(
            share.value is not None and share.value >= declared["lmg_share"],
            f"the share of t² in log k is {_told(share, '.2f')}, under {declared['lmg_share']}",
        ),
    )
    return Finding(
        experiment=ID,
        hypothesis="H1.2",
        title=EXPERIMENT.title,
        primary="variance_and_error",
        estimates={
            "variance_and_error": variance.estimate,
            "error_and_damage": reaches.estimate,
            "lmg_share_of_error": share,
            "excess_over_crest_law": _excess(observations),
        },
        seed_measure=_seed_measure(observations),
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(variance, reaches, share, checks) + told_left_out(left_out),
        tables={
            "blocks": _table(observations, log_k, logarithm(alpha(ones))[0]),
            "law": 1 / (12 * largest_level(facts["bits"]) ** 2),
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _part(name: str, found: ProfileCorrelation, sesoi: float) -> Part:
    return Part(
        name=name,
        estimate=found.estimate,
        sesoi=sesoi,
        p=found.p,
        p_minimum=smallest_p_of_correlation(found.dof),
    )


def _excess(observations: Observations) -> Estimate:
    """Returns the mean of log RE − log(C²/12q²): 0 where the high-resolution law holds."""
    excess = _excesses(observations)
    why = "a property of the weights alone; no sampling"
    return Estimate(value=float(excess.mean()), unit="nats", n=len(excess), reason=why)


def _excesses(observations: Observations) -> Floats:
    arrays, q = observations.arrays, largest_level(observations.facts["bits"])
    return np.log(arrays["t2"]) - np.log(arrays["crest"] / (12 * q**2))


def _seed_measure(observations: Observations) -> dict[str, Estimate]:
    """Returns the origin's links: plain Pearson of raw variance, 4-bit tensor error and D_seed."""
    arrays = observations.arrays
    variance, error = np.exp(arrays["log_variance_raw"]), arrays["re_tensor"]
    d_seed = seed_disparity(scores_of(observations, "protect"))[1:]
    why = "the origin gave no uncertainty; not detrended"
    n = len(error)
    return {
        "r_variance_and_tensor_error": _pearson(variance, error, why),
        "r_tensor_error_and_seed_disparity": _pearson(error, d_seed, why),
        "r_variance_and_seed_disparity": _pearson(variance, d_seed, why),
        "mean_tensor_error": Estimate(
            value=float(error.mean()), unit="relative squared error", n=n, reason=why
        ),
    }


def _pearson(x: Floats, y: Floats, why: str) -> Estimate:
    defined = len(x) > 2 and np.isfinite([x, y]).all() and np.ptp(x) > 0 and np.ptp(y) > 0
    if not defined:
        why = "a profile is undefined or does not vary"
    value = float(np.corrcoef(x, y)[0, 1]) if defined else None
    return Estimate(value=value, unit="correlation over layers", n=len(x), reason=why)


def _sentence(
    variance: ProfileCorrelation,
    reaches: ProfileCorrelation,
    share: Estimate,
    checks: list[Control],
) -> str:
    gauge = next(c for c in checks if c.name == GAUGE)
    caveat = (
        "variance moves with the gauge and damage does not, so variance can predict but never cause"
        if gauge.passed
        else "the gauge intervention did not pass, so nothing is said of what variance does"
    )
    return (
        f"Weight variance predicts robustness with r = {_told(variance.estimate, '+.2f')}, "
        f"relative error predicts damage with r = {_told(reaches.estimate, '+.2f')}, and error "
        f"size explains {_told(share, '.0%')} of how damage differs between blocks; {caveat}."
    )


def _told(estimate: Estimate, form: str) -> str:
    return "undefined" if estimate.value is None else format(estimate.value, form)


def _table(
    observations: Observations, log_k: Floats, log_alpha: Floats
) -> list[dict[str, float | int | None]]:
    arrays = observations.arrays
    log_t2, to_db = np.log(arrays["t2"]), 10 / np.log(10)
    columns = {
        "log_k": log_k,
        "log_alpha": log_alpha,
        "log_t2": log_t2,
        "nonlinearity": log_k - log_alpha - log_t2,
        "relative_error": arrays["t2"],
        "sqnr_db": -log_t2 * to_db,
        "crest": arrays["crest"],
        "excess": _excesses(observations),
        "clipping_gain_db": (log_t2 - np.log(arrays["re_clipped"])) * to_db,
        **{
            name: arrays[name]
            for name in ("kurtosis", "re_tensor", "re_channel", "re_clipped",
                         "log_variance_raw", "log_variance_fixed")
        },
    }  # fmt: skip
    return [
        {"block": block}
        | {
            name: float(values[block]) if np.isfinite(values[block]) else None
            for name, values in columns.items()
        }
        for block in range(observations.facts["n_blocks"])
    ]


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns log k = log α + log t² + rest, stacked by block, and error against crest factor²."""
    parts = {
        "log_alpha": "sensitivity log α",
        "log_t2": "error log t²",
        "nonlinearity": "non-linearity",
    }
    blocks = finding.tables["blocks"]
    whole = [row for row in blocks if all(row[key] is not None for key in parts)]
    means = {key: float(np.mean([row[key] for row in whole])) if whole else 0.0 for key in parts}
    stacked = bars(
        [
            {"block": row["block"], "value": row[key] - means[key], "part": name}
            for row in whole
            for key, name in parts.items()
        ],
        title="Why a block's damage differs from the mean block's",
        x="block",
        y="value",
        part="part",
        y_title="against the mean block, nats of log k",
    )
    crests = [row["crest"] for row in blocks]
    law = [{"crest": c, "relative_error": c * finding.tables["law"]}
           for c in (min(crests), max(crests))]  # fmt: skip
    scatter = points(
        [{key: row[key] for key in ("block", "crest", "relative_error")} for row in blocks],
        title="Error follows the crest factor (dashed: C²/12q²)",
        x="crest",
        y="relative_error",
        label="block",
        x_title="crest factor² C²",
        y_title="relative squared error t²",
        law=law,
    )
    return side_by_side(stacked, scatter)


def _work(n: int) -> Work:
    params = EXPERIMENT.params
    parts = _plans(n, "rtn4-g128", params, 0)
    return PlanTree([plan for plans in parts.values() for plan in plans]).work()


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H1.2",
    title="Quantization robustness",
    question="Are blocks of high weight variance more robust to rounding, and does that decide "
    "their damage?",
    phase=2,
    value="high",
    cost=Cost(
        block_evaluations=lambda n: _work(n).block_evaluations,
        head_evaluations=lambda n: _work(n).head_evaluations,
    ),
    version=2,
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
