"""How T-006 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.effects import bounded_p, bounded_p_equivalence
from bitgap.experiments.protocol.scores import eligible_languages, units_of, unpack_scores
from bitgap.experiments.t006_error_cancellation import EXPERIMENT
from bitgap.experiments.t006_error_cancellation.controls import (
    controls_of_rounding,
    other_pairs_control,
    shared_controls,
)
from bitgap.experiments.t006_error_cancellation.plans import rule_of
from bitgap.experiments.t006_error_cancellation.statistic import (
    NullDraws,
    cancellation,
    correlations,
    minus_rho,
    null_draws,
)
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Bools, Control, Estimate, Finding, Floats, Observations, Units
from bitgap.stats.bootstrap import bootstrap_weights, estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

_SYNERGY = (
    "explains synergy only if both agree in sign: errors that cancel (above 0 here) make joint "
    "protection of both blocks pay more than its parts (above 0 there)"
)


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.3: −ρ ≥ .10 clearly under both rules for scales, each by its own controls.

    Support needs a place among the lowest pairs and a share of .05 cancelled besides.
    """
    declared, arrays = thresholds.of("H2.3"), observations.arrays
    languages = eligible_languages(observations, ["scored"], readable=["scored"])
    gate, displayed = languages.gate_reason, languages.displayed
    if observations.facts["n_blocks"] < 2:
        gate = "1 block: the first and the last are the same"
    units = units_of(observations)
    gram = arrays["gram"][displayed].astype(np.float64)
    tokens = arrays["tokens"][displayed].astype(np.float64)
    null, rho = null_draws(observations, thresholds.level), correlations(gram)
    rank, n_pairs = _rank(rho)
    parts = [
        _OneRule.of(observations, row, rule, displayed, null, thresholds)
        for row, rule in enumerate(_rules(observations))
    ]
    checks = [
        *shared_controls(observations, null, thresholds),
        halves(unpack_scores(observations, "scored"), 0, languages.eligible, thresholds),
    ]
    pairs = other_pairs_control(gram, units, thresholds)
    per_token = minus_rho(gram, units, thresholds, tokens)
    further = _further_conditions(rank, n_pairs, parts, per_token, declared)
    return EXPERIMENT.finding(
        thresholds,
        primary="minus_rho",
        estimates={
            "minus_rho": parts[0].theta,
            "cancelled_share": parts[0].share,
            **_of_other(parts, thresholds.level),
            "minus_rho_per_token": per_token,
            **_remainders(observations, displayed, thresholds),
        },
        original_measure=_original_measure(arrays["moments"]),
        controls=[*(c for part in parts for c in part.controls), pairs, *checks],
        verdict=judge_parts(
            [part.part for part in parts],
            [pairs, *checks],
            alpha=thresholds.alpha,
            gate=gate,
            extra=further,
        ),
        sentence=_sentence(parts, per_token, declared["sesoi"]) + languages.sentence,
        tables={
            "pairs": _pair_rows(rho),
            "rank_from_below": rank,
            "n_pairs": n_pairs,
            "decomposition": _decomposition(observations, displayed),
            "languages": _by_language(observations, units, thresholds),
            "read_with": {"synergy": _SYNERGY},
            "left_out": languages.left_out,
        },
    )


@dataclass(frozen=True)
class _OneRule:
    """What is judged under one rule for scales.

    Attributes:
        rule: What it is called.
        theta: −ρ of the first and the last block's error.
        share: What of both damages cancels.
        controls: Those that guard this part.
        part: The part of the verdict.
    """

    rule: str
    theta: Estimate
    share: Estimate
    controls: tuple[Control, ...]
    part: Part

    @classmethod
    def of(
        cls,
        observations: Observations,
        row: int,
        rule: str,
        displayed: Bools,
        null: NullDraws | None,
        thresholds: Thresholds,
    ) -> _OneRule:
        """Returns it of the scheme's own rule, row 0, or of the other."""
        arrays, units = observations.arrays, units_of(observations)
        gram = arrays[("gram", "other_gram")[row]][displayed].astype(np.float64)
        of = cancellation(gram)
        theta, share = estimates(of, units, unit="-rho", **thresholds.how)
        controls = controls_of_rounding(observations, row, rule, displayed, thresholds)
        tokens = arrays["tokens"][displayed].astype(np.float64)
        weights = bootstrap_weights(units, thresholds.draws, 0)
        draws, per_token = of(weights)[:, 0], cancellation(gram, tokens)(weights)[:, 0]
        sesoi = thresholds.of("H2.3")["sesoi"]
        p, smallest = bounded_p(draws, units)
        if null is not None and theta.value is not None:
            p, smallest = max(p, null.p(theta.value)), max(smallest, null.p(1.0))
        part = Part(
            name=f"-rho(0, last) with {rule}",
            estimate=theta,
            sesoi=sesoi,
            # Without draws of the null there is no valid p.
            p=None if null is None or theta.value is None else p,
            p_minimum=smallest,
            p_equivalence=bounded_p_equivalence(draws, sesoi, units),
            concurring={"per token": bounded_p_equivalence(per_token, sesoi, units)},
            controls=tuple(controls),
        )
        return cls(rule, theta, replace(share, unit="share of both damages"), part.controls, part)


def _rules(observations: Observations) -> list[str]:
    """Returns what the rules for scales are called that were measured, the scheme's own first."""
    scheme = observations.facts["scheme"]
    if "other_gram" not in observations.arrays:
        return [rule_of(scheme)]
    other = "absmax scales" if parse_scheme(scheme).name.endswith("-mse") else "clipped scales"
    return [rule_of(scheme), other]


def _of_other(parts: Sequence[_OneRule], level: float) -> dict[str, Estimate]:
    """Returns the estimates under the other rule; without a value where there is none."""
    if len(parts) > 1:
        return {"minus_rho_other": parts[1].theta, "cancelled_share_other": parts[1].share}
    none = Estimate(value=None, unit="-rho", level=level, reason=_one_rule(parts[0].rule))
    return {"minus_rho_other": none, "cancelled_share_other": replace(none, unit="share")}


def _one_rule(scheme: str) -> str:
    return f"{scheme} has one rule for its scales, and support needs two"


def _rank(rho: Floats) -> tuple[int | None, int]:
    """Returns the rank of ρ of the first and last among all pairs, lowest first, and their number.

    None where a correlation is undefined.
    """
    values = rho[np.triu_indices(len(rho), 1)]
    defined = len(values) and np.isfinite(values).all()
    return int((values <= rho[0, -1]).sum()) if defined else None, len(values)


def _further_conditions(
    rank: int | None,
    n_pairs: int,
    parts: Sequence[_OneRule],
    per_token: Estimate,
    declared: Mapping[str, Any],
) -> tuple[bool, str]:
    """Returns whether the further conditions for support hold, and which does not."""
    percentile, least = declared["percentile"], declared["cancelled_share"]
    if rank is None or rank > percentile * n_pairs:
        return False, (
            f"the first and the last block are number {rank} from below of {n_pairs} pairs, not "
            f"in the lowest {percentile:.0%}"
        )
    for part in parts:
        if part.share.value is None or part.share.value < least:
            value = "undefined" if part.share.value is None else f"{part.share.value:.3f}"
            return False, f"the cancelled share with {part.rule} is {value}, under {least:g}"
    if len(parts) < 2:
        return False, _one_rule(parts[0].rule)
    turns = _sign_turns(parts[0].theta, per_token)
    return turns is None, turns or ""


def _sign_turns(per_text: Estimate, per_token: Estimate) -> str | None:
    """Returns why the sign is not established, where it hangs on the unit."""
    if per_text.value is None or per_token.value is None or per_text.value * per_token.value > 0:
        return None
    text, token = -per_text.value, -per_token.value
    return f"not established: rho is {text:+.3f} per text and {token:+.3f} per token"


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
    shares = estimates(remainder, units_of(observations), unit=unit, **thresholds.how)
    return dict(zip(names, shares, strict=True))


def _by_language(
    observations: Observations, units: Units, thresholds: Thresholds
) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    grams = observations.arrays["gram"].astype(np.float64)
    for code, gram in zip(observations.facts["languages"], grams, strict=True):
        theta = minus_rho(gram[None], units, thresholds)
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


def _sentence(parts: Sequence[_OneRule], per_token: Estimate, sesoi: float) -> str:
    own = parts[0]
    if any(part.theta.low is None or part.theta.value is None for part in parts):
        return "The correlation of the two errors has no interval on this text."
    said = [_said(part.theta, sesoi) for part in parts]
    turns = _sign_turns(own.theta, per_token)
    if turns is not None and said[0] != _SAID["nothing"]:
        start = f"Whether errors of the first and the last block cancel is {turns}"
    elif len(set(said)) == 1:
        start = f"Errors of the first and the last block {said[0]}"
    else:
        both = ", ".join(f"{s} with {part.rule}" for s, part in zip(said, parts, strict=True))
        start = f"What errors of the first and the last block do hangs on the scales: they {both}"
    numbers = ", ".join(f"{-(part.theta.value or 0.0):+.3f} with {part.rule}" for part in parts)
    share = own.share.value or 0.0
    # Errors that add have a negative share: more than both apart, of which nothing is cancelled.
    what = (
        f"{share:.1%} of their damage cancelled"
        if share >= 0
        else f"{-share:.1%} more damage than both apart"
    )
    return f"{start} (rho {numbers}; {what}); this {_SYNERGY}."


_SAID = {
    "cancel": "cancel",
    "little": "cancel by less than was declared to matter",
    "add": "add to each other",
    "nothing": "have next to nothing in common",
    "open": "cancel or do not: it is open",
}


def _said(theta: Estimate, sesoi: float) -> str:
    assert theta.value is not None
    assert theta.low is not None
    assert theta.high is not None
    if theta.low > 0 and theta.value >= sesoi:
        return _SAID["cancel"]
    if theta.low > 0 and theta.high < sesoi:
        return _SAID["little"]
    if theta.high < 0:
        return _SAID["add"]
    return _SAID["nothing"] if theta.high < sesoi else _SAID["open"]


def _pair_rows(rho: Floats) -> list[dict[str, Any]]:
    return [
        {"block": i, "other": j, "rho": float(value)}
        for (i, j), value in np.ndenumerate(rho)
        if i != j and np.isfinite(value)
    ]
