"""T-010 · H4.1: does disparity follow a rate–distortion law in bits?

Prediction: disparity = a·2^(−b·bits)·(1 − c·p), with p the share of blocks protected. Theory says
otherwise: weight error falls by 6.02 dB a bit, so damage K falls by two in log2, but the same error
meets every language and cancels from their ratio. Method: bits by shares by orders of protection
(by what protecting a block is worth in damage, its reverse, and random ones) are scored, a language
that collapsed or lies below resolution in a cell is left out of that cell, and the abscissa is
actual bits per weight: an fp16 scale for every group counted, protected blocks at 16 bits. θ is
minus the slope per bit of mean log2(K_λ/K_ref), over all cells, within designs (a set of protected
blocks) and languages; with nothing protected alone it is told beside it. Five models (constant, the
form above, the parameter-free Σ α t² of the unprotected blocks, the form with languages' own a and
c, a saturating one) are compared by log density where one number of bits is held out at a time.

Sources: Cover & Thomas 2006, Gersho & Gray 1992, Young 2025 (Radio), Kumar 2024. Unit and
direction: log2 ratio per bit, > 0 if H4.1 holds; supported also needs the form above within 2 SE of
the best model and c clearly above 0. Cost: some 500 plans on some sentences; the layer map's masks
and T-002's noise come on top where they were not run. Refuted if the interval of θ lies below .5
while damage itself falls by 1.5 to 2.5 a bit: rate–distortion then governs damage, not its ratio.
That the curve is a bound is never tested by fitting; the frontier of quantizers is shown beside the
Gaussian D(R) instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.experiments.charts import lines, side_by_side
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.kept_scores import facts_of, keep, told_left_out
from bitgap.experiments.rate_controls import frontier_rows, measure_controls, rate_controls
from bitgap.experiments.rate_fits import DAMAGE, RATIO, Fits, seed_fit
from bitgap.experiments.rate_sweep import (
    FEWEST_BITS,
    NONE,
    Sweep,
    at_bits,
    designs,
    evened_mean,
    in_slices,
    log_damages,
    protection_orders,
    rate_of,
    sweep_plans,
)
from bitgap.experiments.weight_controls import noise_plans
from bitgap.lab.tree import PlanTree
from bitgap.layer_map import LARGEST_FACTORIAL, make_design, score_map
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import largest_level, parse_scheme
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, few_estimates
from bitgap.stats.rate_models import seed_form
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-010"

_BOUND = (
    "not testable by fitting: a curve through what was reached is no lower bound on what can be"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    """Numbers of bits swept; the method's."""
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5)
    """Shares of blocks protected beside none; the method's."""
    random_orders: int = 20
    """Random orders of protection; the method's number."""
    sentences: int = 16
    """Sentences the sweep is scored on: slopes over six bits are sharp on few."""
    map_sentences: int = 16
    """Sentences that blocks are ranked on; those of the layer map, so that it is shared."""
    complete: bool = True
    """Whether all masks are scored where L allows it; as the layer map does."""
    noise: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Relative sizes of the noise that sensitivity comes from; T-002's, so that it is shared."""
    noise_seeds: int = 4
    """Draws of the noise for each size; T-002's, so that it is shared."""
    control_sentences: int = 8
    """Sentences the untrained twin is scored on; a slope that counts shows on few."""
    frontier_rows: int = 32
    """Rows of each matrix that clipping is searched on; thousands of groups show its error."""
    planted_seeds: int = 20
    """How often a slope is planted, each time in another language; the method's number."""
    exponent_range: tuple[float, float] = (1.5, 2.5)
    """Where K's exponent must lie for a flat ratio to refute; the method's, about theory's 2."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures the sweep, sensitivities, weight errors and what the controls need.

    Arrays: kept scores (:mod:`~bitgap.experiments.kept_scores`) of the parts ``cells`` (B x designs
    plans) and ``noise`` (L·T·S: block, size, draw), on the sweep's sentences; ``levels``, the B
    numbers of bits; ``kept`` (designs x L), 1 where protected; ``rate`` (P), bits per weight;
    ``t2`` (B x L), relative weight errors; ``worth`` (L), nats that protecting a block saves; and
    those of :func:`bitgap.experiments.rate_controls.measure_controls`.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    from bitgap.lab.weights import relative_errors

    n, part = lab.n_blocks, lab.first(params.sentences)
    schemes = [at_bits(scheme, b) for b in params.bits]
    worth = _worth(lab, scheme, params)
    orders = protection_orders(worth, params.random_orders, lab.settings.seed)
    made = designs(orders, params.shares)
    sets = [kept for _, kept in made]
    plans = sweep_plans(scheme, n, params.bits, sets)
    scores = part.score(plans, ID)
    noisy = noise_plans(n, params.noise, params.noise_seeds, lab.settings.seed)
    # On all the text, where T-002 has scored them already; of it the sweep's sentences are taken.
    noise = lab.score(noisy, ID).select(sentences=range(scores.n_sentences))
    twins = measure_controls(
        lab, scheme, params.bits, n_sentences=params.control_sentences, n_rows=params.frontier_rows
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **keep(scores, {"cells": plans}),
            **{k: v for k, v in keep(noise, {"noise": noisy}).items() if k.startswith("noise")},
            "levels": np.array(params.bits),
            "kept": np.array([np.isin(np.arange(n), s) for s in sets]).astype(np.int64),
            "rate": rate_of(lab.decoder, scheme, params.bits, sets),
            "t2": np.array([relative_errors(lab.decoder, name) for name in schemes]),
            "worth": worth,
            **twins,
        },
        facts={
            "scheme": scheme,
            "bits": getattr(parse_scheme(scheme), "bits", None),
            "n_blocks": n,
            "orders": [name for name, _ in made],
            "params": asdict(params),
            **facts_of(scores),
        },
    )


def _worth(lab: Lab, scheme: str, params: Params) -> Floats:
    """Returns what protecting each block is worth, (L): its Shapley value of −K over languages."""
    complete = params.complete and lab.n_blocks <= LARGEST_FACTORIAL
    design = make_design(lab.n_blocks, seed=lab.settings.seed, complete=complete)
    scores = score_map(lab.first(params.map_sentences), scheme, design)
    return design.shapley(-scores.kl_nats.sum((1, 2)))


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H4.1: a slope of at least .5 a bit, the origin's form not beaten, and c above 0."""
    sweep, facts = Sweep.of(observations), observations.facts
    fits, sesoi = Fits(sweep), thresholds.of("H4.1")["sesoi"]
    statistic = _statistic(sweep)
    found = _estimates(statistic, sweep.scores.n_sentences, thresholds) | fits.gap_form()
    theta, exponent = found["minus_slope"], found["exponent"]
    checks = rate_controls(observations, sweep, theta, thresholds)
    part = _part(theta, sesoi, statistic, sweep.scores.n_sentences, thresholds)
    holds, told = fits.seed_form_holds()
    rises = found["c"].low is not None and found["c"].low > 0
    extra = (holds and rises, told if not holds else "c is not clearly above 0")
    verdict = judge_parts(
        [part],
        checks,
        alpha=thresholds.alpha,
        gate=_gate(sweep),
        extra=extra,
        enough=_informative(theta, exponent, sesoi, facts["params"]["exponent_range"]),
    )
    return Finding(
        experiment=ID,
        hypothesis="H4.1",
        title=EXPERIMENT.title,
        primary="minus_slope",
        estimates=found,
        seed_measure=seed_fit(sweep),
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(theta, exponent, verdict.label) + told_left_out(sweep.left_out),
        tables={
            "cells": _cell_rows(sweep, fits),
            "models": fits.rows(),
            "frontier": frontier_rows(observations),
            "curves": fits.curves(),
            "left_out": sweep.left_out,
            "dropped": {"collapsed": int(sweep.collapsed.sum()),
                        "below resolution": int(sweep.faint.sum()),
                        "of": int(sweep.collapsed.size)},
            "fundamental_bound": _BOUND,
            "seed_form": {"within_2_se": holds, "c_above_0": rises},
        },
        thresholds_hash=thresholds.hash,
    )  # fmt: skip


_UNITS = {
    "minus_slope": "log2 ratio per bit",
    "minus_slope_unprotected": "log2 ratio per bit",
    "exponent": "log2 damage per bit",
    "exponent_unprotected": "log2 damage per bit",
    "exponent_per_doubling": "log2 damage per log2 of levels",
    "log2_a": "log2 ratio",
    "b": "1 per bit",
    "c": "1 per share protected",
    "log2_a_damage": "log2 nats",
    "b_damage": "1 per bit",
    "c_damage": "1 per share protected",
    "order_saving": "log2 damage",
}


def _statistic(sweep: Sweep) -> Statistic:
    """Returns weights -> (W x 12), the estimates of :data:`_UNITS` in order."""
    kl, every = sweep.scores.kl_nats, np.ones(len(sweep.bits), bool)
    alone, rows = sweep.of_order(NONE), np.flatnonzero(sweep.paired.any(1))
    cell, language = np.nonzero(sweep.usable)
    # Weight error goes with 1/q², and q = 2^(bits−1) − 1 more than doubles with each of few bits.
    finer = replace(sweep, bits=np.log2([largest_level(int(b)) for b in sweep.bits]))

    def of_few(weights: Floats) -> Floats:
        logs = log_damages(kl, weights)
        ratio = evened_mean(sweep.ratios(logs), sweep.paired)[:, rows]
        slopes = [of(logs, cells) for of in (sweep.minus_slopes, sweep.exponents)
                  for cells in (every, alone)]  # fmt: skip
        return np.column_stack([
            *slopes,
            finer.exponents(logs, every),
            seed_form(ratio, sweep.bits[rows], sweep.share[rows]),
            seed_form(logs[:, cell, language], sweep.bits[cell], sweep.share[cell]),
            sweep.order_saving(logs),
        ])  # fmt: skip

    return lambda weights: in_slices(of_few, weights, kl[..., 0].size)


def _estimates(statistic: Statistic, n: int, thresholds: Thresholds) -> dict[str, Estimate]:
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    found = few_estimates(statistic, n, unit="per bit", **how)
    return {
        name: replace(estimate, unit=unit)
        for (name, unit), estimate in zip(_UNITS.items(), found, strict=True)
    }


def _part(
    theta: Estimate, sesoi: float, statistic: Statistic, n: int, thresholds: Thresholds
) -> Part:
    """Returns the part with a bootstrap p, never under 2^−N: N sentences may agree by chance."""
    draws = statistic(bootstrap_weights(n, thresholds.draws, 0))[:, 0]
    smallest = max(1 / (1 + thresholds.draws), 0.5**n)
    p = max((1 + int((~(draws > 0)).sum())) / (1 + thresholds.draws), smallest)
    return Part(name="fall of the log2 damage ratio per bit", estimate=theta, sesoi=sesoi, p=p,
                p_minimum=smallest)  # fmt: skip


def _gate(sweep: Sweep) -> str | None:
    if sweep.paired.any():
        return None
    told = ", ".join(f"{code} ({why})" for code, why in sweep.left_out.items())
    return f"no language has {FEWEST_BITS} numbers of bits to be compared at: {told}"


def _informative(
    theta: Estimate, exponent: Estimate, sesoi: float, wanted: tuple[float, float]
) -> tuple[bool, str]:
    """Returns whether a flat ratio would say something, and why it would not.

    It would not where damage itself falls otherwise than the theory of rate and distortion has it.
    """
    flat = theta.high is not None and 0 <= theta.high < sesoi
    if not flat or (exponent.value is not None and wanted[0] <= exponent.value <= wanted[1]):
        return True, ""
    shown = "undefined" if exponent.value is None else f"{exponent.value:.2f}"
    return False, (
        f"the ratio is flat in bits, but the exponent of damage itself is {shown}, outside "
        f"[{wanted[0]:g}, {wanted[1]:g}]"
    )


def _sentence(theta: Estimate, exponent: Estimate, label: str) -> str:
    if theta.value is None or exponent.value is None:
        return "No slope of disparity in bits is defined on this text."
    told = (
        f"damage falls by {exponent.value:.2f} in log2 a bit, its ratio between languages by "
        f"{theta.value:+.2f}"
    )
    says = {
        "supported": "Disparity falls with bits as the origin's form has it",
        "refuted": "Rate–distortion governs damage, not its ratio",
    }.get(label, "Whether disparity falls with bits is not settled here")
    if label == "refuted" and theta.high is not None and theta.high < 0:
        says = "Disparity rises with bits"
    return f"{says}: {told}; that this is a bound cannot be tested by fitting."


def _cell_rows(sweep: Sweep, fits: Fits) -> list[dict[str, Any]]:
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log2(np.where(sweep.damage > 0, sweep.damage, np.nan))
    means = evened_mean(logs, sweep.usable)
    ratios = evened_mean(sweep.ratios(logs), sweep.paired)
    gaps = np.full(len(means), np.nan)
    if "G" in fits.targets:
        gaps[sweep.paired.any(1)] = fits.targets["G"].values
    columns = {"mean_log2_damage": means, "log2_ratio": ratios, "gap": gaps}
    return [
        {
            "bits": int(sweep.bits[i]),
            "bits_per_weight": float(sweep.rate[i]),
            "share": float(sweep.share[i]),
            "order": sweep.orders[sweep.design[i]],
            "dropped": int((sweep.collapsed | sweep.faint)[i].sum()),
        }
        | {k: float(v[i]) if np.isfinite(v[i]) else None for k, v in columns.items()}
        for i in range(len(sweep.bits))
    ]


# -- figure ---------------------------------------------------------------------------------------


# Codes of the models compared, told in words.
_MODEL_NAMES = {
    "M0": "M0: constant",
    "M1": "M1: the origin's form",
    "M2": "M2: second-order budget",
    "M3": "M3: M1, each language its own",
    "M4": "M4: M1 that saturates",
}


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns damage and its ratio against actual bits per weight, models overlaid."""
    charts = []
    for target, title, unit in (
        (DAMAGE, "Damage against rate (grey: some blocks protected)", "mean log2 K"),
        (RATIO, "Its ratio between languages against rate", "mean log2(K/K of the reference)"),
    ):
        mine = [row for row in finding.tables["curves"] if row["target"] == target]
        faint = [row | {"series": f"design {row['design']}"} for row in mine if row["design"]]
        rows = [row for row in mine if not row["design"]]
        if rows:
            charts.append(
                lines([row | {"series": _MODEL_NAMES.get(row["series"], row["series"])}
                       for row in rows], title=title, x="bits_per_weight", y="value",
                      series="series", x_title="bits per weight, scales and protected blocks "
                      "counted", y_title=unit, faint=faint, blocks=False)
            )  # fmt: skip
    return side_by_side(*charts)


def _plans(n: int) -> list[Plan]:
    """Returns the sweep's plans for orders as good as any: how many share a prefix is by chance."""
    params = Params()
    made = designs(
        protection_orders(-np.arange(n, dtype=float), params.random_orders, 0), params.shares
    )
    return sweep_plans("rtn4-g128", n, params.bits, [kept for _, kept in made])


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H4.1",
    title="Rate and distortion",
    question="Does disparity follow a rate-distortion law in bits?",
    phase=3,
    value="high",
    cost=Cost(
        block_evaluations=lambda n: PlanTree(_plans(n)).work().block_evaluations,
        head_evaluations=lambda n: len(_plans(n)),
        sentences=Params().sentences,
    ),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
