"""T-006 · H2.3: do the rounding errors of the first and the last block cancel?

Prediction: the two errors correlate negatively, so each block's harm is partly undone by the
other's. Method: e_l is the change of log p when only block l is rounded, and two errors are
compared by the Fisher inner product ⟨a, b⟩ = Σ_tokens Cov_{p_fp}(a, b), which sees no shift of all
logits. To second order the damage of a set Q of rounded blocks is K(Q) = ½ Σ_{i,j∈Q} ⟨e_i, e_j⟩:
the diagonal is a sum of single damages, the rest is what cancels, and what K shows beyond both is
non-linearity, reported as the remainder. θ = −ρ of the first and the last error, the inner products
summed over languages and sentences. Support also needs ρ under the declared percentile of all
pairs, and a cancelled share −2⟨e_0, e_last⟩/(‖e_0‖² + ‖e_last‖²) as large as declared. p is the
larger of two: the share of bootstrap draws over sentences not above 0, and the chance that one more
draw of stochastic rounding (independent and unbiased, so ρ = 0 on average) would cancel as much, by
prediction with Student's t. Languages that collapse or lie below resolution under any plan scored
here are left out. The finding explains synergy only if both agree in sign.

Sources: Deng 2025 (CLADO), Dong 2019 (HAWQ) for pairs of errors to second order; Phipson & Smyth
2010 for p. Unit and direction: minus a correlation, −1 to 1; above 0 supports H2.3. Cost: one
stream of L + 3 plans and L + 2 scored ones; controls on a few sentences come on top. Refuted if the
interval of θ lies below the smallest effect of interest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import Bools
from bitgap.experiments.charts import bars, framed_ends, matrix, side_by_side
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.fisher_controls import (
    CLIPPED,
    NullDraws,
    cancellation,
    clipped_form,
    controls,
    correlations,
    how,
    measure_controls,
    minus_rho,
    null_draws,
)
from bitgap.experiments.kept_scores import (
    closed,
    countable,
    facts_of,
    keep,
    scores_of,
    told_left_out,
)
from bitgap.experiments.weight_controls import only
from bitgap.lab.tree import PlanTree
from bitgap.quant.plan import Plan
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights, estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-006"

_SYNERGY = (
    "explains synergy only if both agree in sign: errors that cancel (above 0 here) make joint "
    "protection of both blocks pay more than its parts (above 0 there)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    null_draws: int = 50
    """Draws of stochastic rounding; the method's number, fewer widen the prediction."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state; as T-004 plants it."""
    planted_seeds: int = 20
    """How often P3 is planted, each time in another direction; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def scored_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns ∅ (all rounded), the first and the last block rounded alone, then each block."""
    ends = {0, n_blocks - 1}
    pair = Plan(tuple(scheme if i in ends else "fp" for i in range(n_blocks)))
    blocks = Plan(tuple(scheme for _ in range(n_blocks)))
    return [blocks, pair, *(only(scheme, n_blocks, i) for i in range(n_blocks))]


def error_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns each block rounded alone, then the first and the last with clipped scales, if any."""
    clipped = clipped_form(scheme)
    ends = [only(clipped, n_blocks, i) for i in (0, n_blocks - 1)] if clipped else []
    return [*(only(scheme, n_blocks, i) for i in range(n_blocks)), *ends]


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures inner products of the errors of single blocks, and damage to compare with.

    Arrays: ``gram`` (A x N x L x L) and, with scales clipped to the least squared error where the
    scheme has that form, ``clipped_gram`` (A x N x 2 x 2, the first and the last block), float32,
    and ``moments`` (3 x 3), all of :func:`bitgap.lab.fisher.fisher_grams`; kept scores
    (:mod:`~bitgap.experiments.kept_scores`) of the part ``scored`` (L + 2 plans, as
    :func:`scored_plans`; block linears alone are rounded); and those of
    :func:`bitgap.experiments.fisher_controls.measure_controls`.
    """
    from bitgap.lab.fisher import fisher_grams

    n = lab.n_blocks
    plans = scored_plans(scheme, n)
    scores = lab.score(plans, ID)
    found = fisher_grams(lab, error_plans(scheme, n), flattened=(0, n - 1))
    # Seven digits of each product; their sums are made in float64.
    gram = found["gram"].astype(np.float32)
    clipped = {"clipped_gram": gram[..., n:, n:]} if clipped_form(scheme) else {}
    twins, absent = measure_controls(
        lab,
        scheme,
        n_sentences=params.control_sentences,
        n_draws=params.null_draws,
        n_plantings=params.planted_seeds,
        strength=params.planted_strength,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **keep(scores, {"scored": plans}),
            "gram": gram[..., :n, :n],
            **clipped,
            "moments": found["moments"],
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
    """Judges H2.3: −ρ ≥ .10 clearly, among the lowest pairs, and a share of .05 cancelled."""
    declared, facts = thresholds.of("H2.3"), observations.facts
    counts, left_out = countable(observations, ["scored"], readable=["scored"])
    gate = closed(counts, left_out)
    # Where no language may enter, the numbers are still shown, of all of them, beside the gate.
    shown = counts if gate is None else np.ones_like(counts)
    if facts["n_blocks"] < 2:
        gate = "1 block: the first and the last are the same"
    gram = observations.arrays["gram"][shown].astype(np.float64)
    theta, share = estimates(cancellation(gram), gram.shape[1], unit="-rho", **how(thresholds))
    share = replace(share, unit="share of both damages")
    null = null_draws(observations, thresholds.level)
    rank, n_pairs = _rank(correlations(gram))
    checks = controls(observations, shown, theta, null, thresholds)
    verdict = judge_parts(
        [_part(theta, gram, null, declared["sesoi"], thresholds)],
        checks,
        alpha=thresholds.alpha,
        gate=gate,
        extra=_extra(rank, n_pairs, share, declared),
    )
    other = next((check.estimate for check in checks if check.name == CLIPPED), None)
    clipped = {"minus_rho_clipped": other} if other else {}
    return Finding(
        experiment=ID,
        hypothesis="H2.3",
        title=EXPERIMENT.title,
        primary="minus_rho",
        estimates={
            "minus_rho": theta,
            "cancelled_share": share,
            **clipped,
            **_remainders(observations, shown, thresholds),
        },
        seed_measure=_seed_measure(observations.arrays["moments"]),
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(theta, share, clipped, declared["sesoi"]) + told_left_out(left_out),
        tables={
            "pairs": _pair_rows(correlations(gram)),
            "rank_from_below": rank,
            "n_pairs": n_pairs,
            "decomposition": _decomposition(observations, shown),
            "languages": _by_language(observations, thresholds),
            "read_with": {"synergy": _SYNERGY},
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _part(
    theta: Estimate, gram: Floats, null: NullDraws | None, sesoi: float, thresholds: Thresholds
) -> Part:
    """Returns the part whose p is the larger of the bootstrap's and the null draws'."""
    draws = cancellation(gram)(bootstrap_weights(gram.shape[1], thresholds.draws, 0))[:, 0]
    smallest = 1 / (1 + thresholds.draws)
    p: float | None = (1 + int((~(draws > 0)).sum())) * smallest
    if null is None or theta.value is None:
        p = None
    else:
        p, smallest = max(p, null.p(theta.value)), max(smallest, null.p(1.0))
    return Part(name="-rho(0, last)", estimate=theta, sesoi=sesoi, p=p, p_minimum=smallest)


def _rank(rho: Floats) -> tuple[int | None, int]:
    """Returns how manieth from below ρ of the first and last is among all pairs, and how many."""
    values = rho[np.triu_indices(len(rho), 1)]
    defined = len(values) and np.isfinite(values).all()
    return int((values <= rho[0, -1]).sum()) if defined else None, len(values)


def _extra(
    rank: int | None, n_pairs: int, share: Estimate, declared: Mapping[str, Any]
) -> tuple[bool, str]:
    """Returns whether the two further conditions for support hold, and what is told if not."""
    percentile, least = declared["percentile"], declared["cancelled_share"]
    if rank is None or rank > percentile * n_pairs:
        return False, (
            f"the first and the last block are number {rank} from below of {n_pairs} pairs, not "
            f"in the lowest {percentile:.0%}"
        )
    if share.value is None or share.value < least:
        shown = "undefined" if share.value is None else f"{share.value:.3f}"
        return False, f"the cancelled share is {shown}, under {least:g}"
    return True, ""


def _decomposition(observations: Observations, shown: Bools) -> list[dict[str, Any]]:
    """Returns observed damage as sum, covariance and remainder, bits per reference character."""
    gram, unit = observations.arrays["gram"][shown].astype(np.float64), _bits(observations, shown)
    total = 0.5 * gram.sum((0, 1)) * unit
    observed = scores_of(observations, "scored").kl_nats[:2, shown].sum((1, 2)) * unit
    both = sorted({0, len(total) - 1})
    rows = []
    for name, quadratic, seen in (
        ("all blocks", total, observed[0]),
        ("first and last", total[np.ix_(both, both)], observed[1]),
    ):
        single = float(np.trace(quadratic))
        values = {
            "sum of single damages": single,
            "covariance": float(quadratic.sum()) - single,
            "remainder": float(seen - quadratic.sum()),
        }
        rows += [{"plan": name, "part": part, "bits": value} for part, value in values.items()]
    return rows


def _bits(observations: Observations, shown: Bools) -> float:
    """Returns what turns nats summed over the text into mean bits per reference character."""
    facts, characters = observations.facts, observations.arrays["characters"]
    reference = facts["languages"].index(facts["reference"])
    return 1 / (np.log(2) * float(characters[reference].sum()) * int(shown.sum()))


def _remainders(
    observations: Observations, shown: Bools, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns the share of observed damage that the quadratic form does not show."""
    gram = observations.arrays["gram"][shown].astype(np.float64).sum(0)  # (N x L x L)
    observed = scores_of(observations, "scored").kl_nats[:, shown].sum(1)  # (plans x N)
    n_blocks = gram.shape[-1]
    both = np.unique([0, n_blocks - 1])
    quadratic = 0.5 * np.stack(
        [gram.sum((1, 2)), gram[:, both][:, :, both].sum((1, 2)), np.trace(gram, axis1=1, axis2=2)]
    )
    seen = np.stack([observed[0], observed[1], observed[2:].sum(0)])

    def remainder(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - (weights @ quadratic.T) / (weights @ seen.T)

    found = estimates(remainder, gram.shape[0], unit="share of observed damage", **how(thresholds))
    names = ("remainder_all", "remainder_first_and_last", "remainder_single")
    return dict(zip(names, found, strict=True))


def _by_language(observations: Observations, thresholds: Thresholds) -> list[dict[str, Any]]:
    gram = observations.arrays["gram"].astype(np.float64)
    rows = []
    for row, code in enumerate(observations.facts["languages"]):
        found = minus_rho(gram[row : row + 1], thresholds)
        rows.append(
            {"language": code, "minus_rho": found.value, "low": found.low, "high": found.high}
        )
    return rows


def _seed_measure(moments: Floats) -> dict[str, Estimate]:
    why = "the origin gave no uncertainty; millions of entries make any r 'significant'"
    n = moments[0, 0]
    mean = moments[0, 1:] / n
    spread = moments[1:, 1:] / n - np.outer(mean, mean)
    power = spread[0, 0] * spread[1, 1]
    value = float(spread[0, 1] / np.sqrt(power)) if power > 0 else None
    return {
        "pearson_of_logit_errors": Estimate(
            value=value, unit="correlation over tokens and vocabulary", n=int(n),
            reason=why if value is not None else "an error is constant",
        )
    }  # fmt: skip


def _sentence(
    theta: Estimate, share: Estimate, clipped: Mapping[str, Estimate], sesoi: float
) -> str:
    if theta.value is None or theta.low is None or theta.high is None or share.value is None:
        return "The correlation of the two errors has no interval on this text."
    told = f"(rho {-theta.value:+.3f}, {max(share.value, 0):.1%} of their damage cancelled)"
    if theta.low > 0 and theta.value >= sesoi:
        said = f"Errors of the first and the last block cancel {told}"
    elif theta.high < 0:
        said = f"Errors of the first and the last block add to each other {told}"
    elif theta.high < sesoi:
        said = f"Errors of the first and the last block have next to nothing in common {told}"
    else:
        said = f"Whether errors of the first and the last block cancel is open {told}"
    for found in clipped.values():
        said += f", where with clipped scales rho is {-(found.value or 0.0):+.3f}"
    return f"{said}; this {_SYNERGY}."


def _pair_rows(rho: Floats) -> list[dict[str, Any]]:
    n = len(rho)
    return [
        {"block": i, "other": j, "rho": float(rho[i, j])}
        for i in range(n)
        for j in range(n)
        if i != j and np.isfinite(rho[i, j])
    ]


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the matrix of correlations, and damage as sum, covariance and remainder."""
    parts = bars(
        finding.tables["decomposition"],
        title="Damage: what single blocks do, what pairs share, what neither shows",
        x="plan",
        y="bits",
        part="part",
        y_title="bits per English character",
    )
    parts["encoding"]["x"]["title"] = "blocks rounded together"
    if not finding.tables["pairs"]:
        return parts
    pairs = matrix(
        finding.tables["pairs"],
        title="Correlation of the errors of two blocks (below 0: they cancel)",
        x="other",
        y="block",
        value="rho",
        x_title="block",
        y_title="block",
        name="correlation ρ",
        signed=True,
        outlined=framed_ends(finding.tables["pairs"], "block", "other"),
    )
    return side_by_side(pairs, parts)


def _block_evaluations(n: int) -> int:
    scheme = "rtn4-g128"
    scored = scored_plans(scheme, n)
    streamed = [Plan.uniform("fp", n), *error_plans(scheme, n)]
    return sum(PlanTree(plans).work().block_evaluations for plans in (scored, streamed))


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H2.3",
    title="Error cancellation",
    question="Do errors of the first and last blocks cancel?",
    phase=2,
    value="high",
    cost=Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 2 * n + 5),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
