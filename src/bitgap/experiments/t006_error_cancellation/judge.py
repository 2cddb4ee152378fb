"""How T-006 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.scores import (
    closed,
    countable,
    scores_of,
    told_left_out,
)
from bitgap.experiments.t006_error_cancellation import _SYNERGY, EXPERIMENT, ID
from bitgap.experiments.t006_error_cancellation.controls import CLIPPED, controls, how, minus_rho
from bitgap.experiments.t006_error_cancellation.statistic import (
    NullDraws,
    cancellation,
    correlations,
    null_draws,
)
from bitgap.records import Bools, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights, estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


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
