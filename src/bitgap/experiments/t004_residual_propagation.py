"""T-004 · H2.1: do errors of the first block travel, so that protecting L0 makes L_last worth it?

Prediction: with the last block protected, protecting block 0 as well brings the final state closer
to full precision than protecting any other block would, and makes the last block's protection worth
more. Method: the state after every block is compared with full precision under {last} and under
{j, last} for every j, as a signal-to-noise ratio of states standardised dimension by dimension (so
that no massive dimension decides), position 0 and sinks left out. θ1 is the gain of protecting 0
over the mean gain of protecting another block, in dB, at the last block's output. θ2 is how much
more the last block's protection saves when 0 is protected than when another block is, in units of
K(∅): the interaction I_j = [K({j}) − K({j,last})] − [K(∅) − K({last})], I_0 less the mean I_j. Both
must pass (intersection–union). Amplification A(j→l) comes from Gaussian noise of one relative size
in block j alone. Damage and error are summed over languages, so no language label can move θ;
languages that collapse or lie below resolution under any mask are left out of all of it.

Sources: Arai & Ichikawa 2025 (error propagation), Basu 2026 (per-layer error ratio), Murphy 2024
(debiased CKA). Unit and direction: dB and share of K(∅), both > 0 if H2.1 holds. Cost: streams of
L + 1 plans and of L noisy ones, and 2L scored plans, shared with the map; controls on a few
sentences come on top. Refuted if either interval lies below its smallest effect of interest: errors
of block 0 then travel like any other's, or the last block's protection does not hang on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import Bools
from bitgap.experiments.charts import lines, matrix, side_by_side
from bitgap.experiments.controls import halves
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.kept_scores import (
    closed,
    countable,
    facts_of,
    keep,
    scores_of,
    told_left_out,
)
from bitgap.experiments.propagation_controls import (
    controls,
    interaction_contrast,
    masks,
    measure_controls,
    scored_sets,
    snr_contrast,
)
from bitgap.lab.tree import PlanTree
from bitgap.quant.plan import Plan
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-004"

FEWEST_BLOCKS = 4
"""Below it there are no two blocks between the first and the last to compare block 0 with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    noise: float = 0.05
    """Relative size of the injected noise; inside the range where damage is quadratic (T-002)."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state; effects a few times the SESOI."""
    planted_seeds: int = 20
    """How often P3 is planted, each time in another direction; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures errors of the state by depth, and damage of the 2L masks.

    Arrays, with J = L masks ({last}, then {j, last} for j = 0 … L−2): those of
    :func:`bitgap.lab.propagation.state_errors` under ``state_``; ``amplification`` (L x L+1),
    relative error after block l per unit after block j; kept scores
    (:mod:`~bitgap.experiments.kept_scores`) of the part ``masks`` (2L plans: ∅, {last}, {j},
    {j, last}); and those of :func:`bitgap.experiments.propagation_controls.measure_controls`.
    """
    from bitgap.lab.propagation import amplification, state_errors

    n = lab.n_blocks
    plans = [Plan.uniform(scheme, n, kept) for kept in scored_sets(n, range(n - 1))]
    scores = lab.score(plans, ID)
    errors = state_errors(lab, masks(scheme, n, range(n - 1)))
    twins: dict[str, Any] = {}
    absent: dict[str, str] = {}
    if n >= FEWEST_BLOCKS:
        twins, absent = measure_controls(
            lab,
            scheme,
            n_sentences=params.control_sentences,
            n_plantings=params.planted_seeds,
            strength=params.planted_strength,
        )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **keep(scores, {"masks": plans}),
            **{f"state_{name}": values for name, values in errors.items()},
            "amplification": amplification(lab, params.noise),
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
    )


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.1: θ1 ≥ 1 dB and θ2 ≥ .02 K(∅), both clearly."""
    n_blocks = observations.facts["n_blocks"]
    counts, left_out = countable(observations, ["masks"], readable=["masks"])
    gate = closed(counts, left_out)
    # Where no language may enter, the numbers are still shown, of all of them, beside the gate.
    shown = counts if gate is None else np.ones_like(counts)
    if n_blocks < FEWEST_BLOCKS:
        gate = f"{n_blocks} blocks: block 0 cannot be compared with others; {FEWEST_BLOCKS} needed"
        return _unjudged(observations, shown, left_out, gate, thresholds)
    declared, arrays = thresholds.of("H2.1"), observations.arrays
    scores = scores_of(observations, "masks")
    snr = snr_contrast(arrays["state_error"][:, -2, shown], arrays["state_tokens"][-2, shown])
    interaction = interaction_contrast(scores.kl_nats[:, shown], n_blocks - 1)
    n = scores.n_sentences
    theta1 = _first(snr, n, "dB", thresholds)
    theta2 = _first(interaction, n, "share of K(none)", thresholds)
    checks = controls(observations, snr, theta1, shown, thresholds)
    checks.append(halves(scores, 0, counts, thresholds))
    parts = [
        _part("SNR contrast of block 0", theta1, declared["sesoi"], snr, n, thresholds),
        _part("interaction of block 0 with the last", theta2, declared["sesoi_interaction"],
              interaction, n, thresholds),
    ]  # fmt: skip
    return Finding(
        experiment=ID,
        hypothesis="H2.1",
        title=EXPERIMENT.title,
        primary="snr_contrast",
        estimates={
            "snr_contrast": theta1,
            "interaction": theta2,
            **_variants(arrays, shown, n, thresholds),
        },
        seed_measure=_seed_measure(arrays),
        controls=tuple(checks),
        verdict=judge_parts(parts, checks, alpha=thresholds.alpha, gate=gate),
        sentence=_sentence(theta1, theta2, parts) + told_left_out(left_out),
        tables={
            **_tables(observations, shown),
            "blocks": _blocks(arrays, snr, interaction, n),
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _unjudged(
    observations: Observations,
    shown: Bools,
    left_out: Mapping[str, str],
    gate: str,
    thresholds: Thresholds,
) -> Finding:
    """Returns the finding on a model with too few blocks for either contrast."""
    none = Estimate(value=None, unit="dB", reason=gate)
    part = Part(name="SNR contrast of block 0", estimate=none, p=None, p_minimum=1.0,
                sesoi=thresholds.of("H2.1")["sesoi"])  # fmt: skip
    return Finding(
        experiment=ID,
        hypothesis="H2.1",
        title=EXPERIMENT.title,
        primary="snr_contrast",
        estimates={"snr_contrast": none},
        seed_measure=_seed_measure(observations.arrays),
        controls=(),
        verdict=judge_parts([part], [], alpha=thresholds.alpha, gate=gate),
        sentence=f"Not testable here: {gate}.",
        tables={**_tables(observations, shown), "blocks": [], "left_out": left_out},
        thresholds_hash=thresholds.hash,
    )


def _first(contrast: Statistic, n: int, unit: str, thresholds: Thresholds) -> Estimate:
    """Returns block 0's contrast with its interval."""
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    return estimates(lambda w: contrast(w)[:, :1], n, unit=unit, **how)[0]


def _part(
    name: str, theta: Estimate, sesoi: float, contrast: Statistic, n: int, thresholds: Thresholds
) -> Part:
    """Returns the part with a bootstrap p: the share of draws not above 0 (Phipson & Smyth)."""
    draws = contrast(bootstrap_weights(n, thresholds.draws, 0))[:, 0]
    smallest = 1 / (1 + thresholds.draws)
    p = (1 + int((~(draws > 0)).sum())) * smallest
    return Part(name=name, estimate=theta, sesoi=sesoi, p=p, p_minimum=smallest)


def _variants(
    arrays: Mapping[str, Floats], shown: Bools, n: int, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns θ1 as the head sees the state, and with position-0-like sinks left in."""
    tokens, real = arrays["state_tokens"], arrays["tokens"][shown]
    after_norm = snr_contrast(arrays["state_error"][:, -1, shown], tokens[-1, shown])
    with_sinks = snr_contrast(arrays["state_error_with_sinks"][:, -2, shown], real)
    return {
        "snr_contrast_after_norm": _first(after_norm, n, "dB", thresholds),
        "snr_contrast_with_sinks": _first(with_sinks, n, "dB", thresholds),
    }


def _seed_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    why, unit = "the origin gave no uncertainty", "mean cosine with full precision"
    names = ("cosine_last", "cosine_0_and_last")
    return {
        name: Estimate(value=float(value), unit=unit, reason=why)
        for name, value in zip(names, arrays["state_cosine"], strict=False)
    }


def _sentence(theta1: Estimate, theta2: Estimate, parts: list[Part]) -> str:
    if theta1.value is None or theta2.value is None:
        return "The contrast is undefined on this text."
    travels = theta1.low is not None and theta1.low > 0 and theta1.value >= parts[0].sesoi
    conditional = theta2.low is not None and theta2.low > 0 and theta2.value >= parts[1].sesoi
    told = f"({theta1.value:+.2f} dB; interaction {theta2.value:+.3f} of the damage)"
    if travels and conditional:
        return f"Errors of block 0 travel, and protecting the last pays more without them {told}."
    if travels:
        return (
            f"Errors of block 0 travel further than others', but protecting the last block does "
            f"not depend on it {told}."
        )
    return f"Errors of block 0 reach the last state no more than those of other blocks {told}."


def _blocks(
    arrays: Mapping[str, Floats], snr: Statistic, interaction: Statistic, n: int
) -> list[dict[str, Any]]:
    ones = np.ones((1, n))
    columns = {
        "snr_contrast_db": snr(ones)[0],
        "interaction": interaction(ones)[0],
        "cka": arrays["state_cka"][1:],
    }
    return [
        {"block": j}
        | {name: float(v[j]) if np.isfinite(v[j]) else None for name, v in columns.items()}
        for j in range(len(columns["cka"]))
    ]


def _tables(observations: Observations, shown: Bools) -> dict[str, Any]:
    arrays, n_blocks = observations.arrays, observations.facts["n_blocks"]
    error = arrays["state_error"][:, :, shown].sum((2, 3))
    tokens = arrays["state_tokens"][:, shown].sum((1, 2))
    with np.errstate(divide="ignore"):
        db = -10 * np.log10(error / tokens)
    names = [f"last ({n_blocks - 1})", *(f"{j} and last" for j in range(n_blocks - 1))]
    return {
        "snr": [
            {"mask": name, "depth": depth, "snr_db": float(db[j, depth])}
            for j, name in enumerate(names)
            for depth in range(n_blocks + 1)
            # Before its first rounded block a mask has no error, and the ratio no value.
            if np.isfinite(db[j, depth])
        ],
        "amplification": [
            {"injected": j, "depth": depth, "ratio": float(arrays["amplification"][j, depth])}
            for j in range(n_blocks)
            for depth in range(j, n_blocks + 1)
        ],
    }


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns signal-to-noise ratio by depth for some masks, and the amplification matrix."""
    rows = list(finding.tables["snr"])
    names = list(dict.fromkeys(row["mask"] for row in rows))
    shown = {*names[:2], *names[len(names) // 2 : len(names) // 2 + 1], *names[-1:]}
    norm = max((row["depth"] for row in rows), default=None)
    travelling = lines(
        [row | {"mask": _protected(row["mask"])} for row in rows if row["mask"] in shown],
        title="How errors travel, by protected blocks",
        x="depth",
        y="snr_db",
        series="mask",
        x_title="output of block",
        y_title="signal-to-noise ratio, dB",
        norm=norm,
    )
    amplified = matrix(
        finding.tables["amplification"],
        title="Error from noise in one block on its way",
        x="depth",
        y="injected",
        value="ratio",
        x_title="output of block",
        y_title="block with noise",
        name="relative error, 1 at its own output",
        norm=norm,
    )
    return side_by_side(travelling, amplified)


def _protected(mask: str) -> str:
    """Returns what a mask keeps as people write blocks, such as ``L0 and the last``."""
    first = mask.split(" and ")[0]
    return f"L{first} and the last protected" if first.isdigit() else "the last protected"


def _block_evaluations(n: int) -> int:
    fp, scheme = Plan.uniform("fp", n), "rtn4-g128"
    scored = [Plan.uniform(scheme, n, kept) for kept in scored_sets(n, range(n - 1))]
    noisy = [Plan.uniform("noise0.05-s0", n, set(range(n)) - {j}) for j in range(n)]
    streams = ([fp], [fp, *masks(scheme, n, range(n - 1))], [fp, *noisy])
    return sum(PlanTree(plans).work().block_evaluations for plans in (scored, *streams))


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H2.1",
    title="Residual propagation",
    question="Do errors of the first block travel, so that protecting it makes the last block's "
    "protection worth more?",
    phase=2,
    value="high",
    cost=Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 2 * n),
    version=2,
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
