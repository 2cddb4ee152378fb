"""How T-006 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.experiments.t006_error_cancellation import EXPERIMENT
from bitgap.experiments.t006_error_cancellation.controls import CLIPPED, controls
from bitgap.experiments.t006_error_cancellation.statistic import (
    NullDraws,
    cancellation,
    correlations,
    minus_rho,
    null_draws,
)
from bitgap.records import Bools, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_p, bootstrap_weights, estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

_SYNERGY = (
    "explains synergy only if both agree in sign: errors that cancel (above 0 here) make joint "
    "protection of both blocks pay more than its parts (above 0 there)"
)


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.3: −ρ ≥ .10 clearly, among the lowest pairs, and a share of .05 cancelled."""
    declared, arrays = thresholds.of("H2.3"), observations.arrays
    languages = eligible_languages(observations, ["scored"], readable=["scored"])
    gate, displayed = languages.gate_reason, languages.displayed
    if observations.facts["n_blocks"] < 2:
        gate = "1 block: the first and the last are the same"
    gram = arrays["gram"][displayed].astype(np.float64)
    theta, share = estimates(cancellation(gram), gram.shape[1], unit="-rho", **thresholds.how)
    share = replace(share, unit="share of both damages")
    null, rho = null_draws(observations, thresholds.level), correlations(gram)
    rank, n_pairs = _rank(rho)
    checks = controls(observations, displayed, theta, null, thresholds)
    clipped = next((check.estimate for check in checks if check.name == CLIPPED), None)
    return EXPERIMENT.finding(
        thresholds,
        primary="minus_rho",
        estimates={
            "minus_rho": theta,
            "cancelled_share": share,
            **({"minus_rho_clipped": clipped} if clipped else {}),
            **_remainders(observations, displayed, thresholds),
        },
        original_measure=_original_measure(arrays["moments"]),
        controls=checks,
        verdict=judge_parts(
            [_part(theta, gram, null, declared["sesoi"], thresholds)],
            checks,
            alpha=thresholds.alpha,
            gate=gate,
            extra=_further_conditions(rank, n_pairs, share, declared),
        ),
        sentence=_sentence(theta, share, clipped, declared["sesoi"]) + languages.sentence,
        tables={
            "pairs": _pair_rows(rho),
            "rank_from_below": rank,
            "n_pairs": n_pairs,
            "decomposition": _decomposition(observations, displayed),
            "languages": _by_language(observations, thresholds),
            "read_with": {"synergy": _SYNERGY},
            "left_out": languages.left_out,
        },
    )


def _part(
    theta: Estimate, gram: Floats, null: NullDraws | None, sesoi: float, thresholds: Thresholds
) -> Part:
    """Returns the part whose p is the larger of the bootstrap's and the null draws'."""
    p, smallest = None, 1 / (1 + thresholds.draws)
    if null is not None and theta.value is not None:
        draws = cancellation(gram)(bootstrap_weights(gram.shape[1], thresholds.draws, 0))[:, 0]
        p, smallest = max(bootstrap_p(draws), null.p(theta.value)), max(smallest, null.p(1.0))
    return Part(name="-rho(0, last)", estimate=theta, sesoi=sesoi, p=p, p_minimum=smallest)


def _rank(rho: Floats) -> tuple[int | None, int]:
    """Returns the rank of ρ of the first and last among all pairs, lowest first, and their number.

    None where a correlation is undefined.
    """
    values = rho[np.triu_indices(len(rho), 1)]
    defined = len(values) and np.isfinite(values).all()
    return int((values <= rho[0, -1]).sum()) if defined else None, len(values)


def _further_conditions(
    rank: int | None, n_pairs: int, share: Estimate, declared: Mapping[str, Any]
) -> tuple[bool, str]:
    """Returns whether the two further conditions for support hold, and which does not."""
    percentile, least = declared["percentile"], declared["cancelled_share"]
    if rank is None or rank > percentile * n_pairs:
        return False, (
            f"the first and the last block are number {rank} from below of {n_pairs} pairs, not "
            f"in the lowest {percentile:.0%}"
        )
    if share.value is None or share.value < least:
        value = "undefined" if share.value is None else f"{share.value:.3f}"
        return False, f"the cancelled share is {value}, under {least:g}"
    return True, ""


def _decomposition(observations: Observations, displayed: Bools) -> list[dict[str, Any]]:
    """Returns observed damage as sum, covariance and remainder, bits per reference character."""
    facts, arrays = observations.facts, observations.arrays
    reference = facts["languages"].index(facts["reference"])
    characters = float(arrays["characters"][reference].sum())
    bits = 1 / (np.log(2) * characters * int(displayed.sum()))  # of nats summed over the text
    total = 0.5 * arrays["gram"][displayed].astype(np.float64).sum((0, 1)) * bits
    observed = unpack_scores(observations, "scored").kl_nats[:2, displayed].sum((1, 2)) * bits
    both = sorted({0, len(total) - 1})
    rows = list[dict[str, Any]]()
    for name, quadratic, damage in (
        ("all blocks", total, observed[0]),
        ("first and last", total[np.ix_(both, both)], observed[1]),
    ):
        single = float(np.trace(quadratic))
        values = {
            "sum of single damages": single,
            "covariance": float(quadratic.sum()) - single,
            "remainder": float(damage - quadratic.sum()),
        }
        rows += [{"plan": name, "part": part, "bits": value} for part, value in values.items()]
    return rows


def _remainders(
    observations: Observations, displayed: Bools, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns the share of observed damage that the quadratic form does not show."""
    gram = observations.arrays["gram"][displayed].astype(np.float64).sum(0)  # (N x L x L)
    kl = unpack_scores(observations, "scored").kl_nats[:, displayed].sum(1)  # (plans x N)
    both = np.unique([0, gram.shape[-1] - 1])
    quadratic = 0.5 * np.stack(
        [gram.sum((1, 2)), gram[:, both][:, :, both].sum((1, 2)), np.trace(gram, axis1=1, axis2=2)]
    )
    observed = np.stack([kl[0], kl[1], kl[2:].sum(0)])

    def remainder(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - (weights @ quadratic.T) / (weights @ observed.T)

    unit = "share of observed damage"
    names = ("remainder_all", "remainder_first_and_last", "remainder_single")
    shares = estimates(remainder, gram.shape[0], unit=unit, **thresholds.how)
    return dict(zip(names, shares, strict=True))


def _by_language(observations: Observations, thresholds: Thresholds) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    grams = observations.arrays["gram"].astype(np.float64)
    for code, gram in zip(observations.facts["languages"], grams, strict=True):
        theta = minus_rho(gram[None], thresholds)
        rows.append(
            {"language": code, "minus_rho": theta.value, "low": theta.low, "high": theta.high}
        )
    return rows


def _original_measure(moments: Floats) -> dict[str, Estimate]:
    """Returns the origin's: Pearson r of the raw logit errors, over tokens and vocabulary."""
    n = moments[0, 0]
    mean = moments[0, 1:] / n
    spread = moments[1:, 1:] / n - np.outer(mean, mean)
    power = spread[0, 0] * spread[1, 1]
    why = "the origin gave no uncertainty; millions of entries make any r 'significant'"
    return {
        "pearson_of_logit_errors": Estimate(
            value=float(spread[0, 1] / np.sqrt(power)) if power > 0 else None,
            unit="correlation over tokens and vocabulary",
            n=int(n),
            reason=why if power > 0 else "an error is constant",
        )
    }


def _sentence(theta: Estimate, share: Estimate, clipped: Estimate | None, sesoi: float) -> str:
    if theta.value is None or theta.low is None or theta.high is None or share.value is None:
        return "The correlation of the two errors has no interval on this text."
    if theta.low > 0 and theta.value >= sesoi:
        start = "Errors of the first and the last block cancel"
    elif theta.high < 0:
        start = "Errors of the first and the last block add to each other"
    elif theta.high < sesoi:
        start = "Errors of the first and the last block have next to nothing in common"
    else:
        start = "Whether errors of the first and the last block cancel is open"
    numbers = f"(rho {-theta.value:+.3f}, {max(share.value, 0):.1%} of their damage cancelled)"
    with_clipped = (
        f", where with clipped scales rho is {-(clipped.value or 0.0):+.3f}" if clipped else ""
    )
    return f"{start} {numbers}{with_clipped}; this {_SYNERGY}."


def _pair_rows(rho: Floats) -> list[dict[str, Any]]:
    return [
        {"block": i, "other": j, "rho": float(value)}
        for (i, j), value in np.ndenumerate(rho)
        if i != j and np.isfinite(value)
    ]
