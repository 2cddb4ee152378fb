"""Two plans compared on the same sentences, and the rule by which one is better."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bitgap.disparity.formulas import (
    Sums,
    below_resolution,
    collapsed,
    damage_bits,
    disparity,
    gap,
    harm_max,
    harm_mean,
    log_damage,
    spread_draws,
    usable,
)
from bitgap.disparity.gates import (
    LOG,
    LOG_UNITS,
    PER_TEXT,
    Quantities,
    covers_zero,
    estimate_all,
    estimate_spreads,
    interval,
    reasons_left_out,
    select_plans,
    span,
    void,
    why_no_disparity,
    why_no_spread,
)
from bitgap.disparity.records import Claim, Comparison
from bitgap.records import Bools, Estimate, Floats, Scores
from bitgap.stats.bootstrap import DRAWS


def compare(
    scores: Scores, plan_a: str, plan_b: str, *, seed: int, draws: int = DRAWS
) -> Comparison:
    """Returns what changes from one plan to another, and whether the second is better.

    S, D and G are formed over the languages usable under *both* plans, H over those that collapse
    under neither, so that no change comes from a change of languages. The claim is of S: its change
    must have an interval without 0, and the same sign per token and per text, or nothing is
    established. The burden is on ``better``: S must fall, and no point estimate of the guards may
    be above 0. Changes of D and G are described.

    Args:
        scores: Scores that hold both plans.
        plan_a: Canonical text of the plan one comes from.
        plan_b: Canonical text of the plan one goes to.
        seed: Seed of the bootstrap, 0 or more.
        draws: Bootstrap draws, 2 or more, of the same sentences for both plans.

    Raises:
        UsageError: If a plan was not scored, there is no sentence, or seed or draws cannot be.

    Example:
        >>> change = compare(SCORES, "rtn4-g128", "rtn4-g128 protect 0", seed=0)
        >>> change.claim, change.better
        ('inconclusive', False)
        >>> change.spread_change.high < 0  # eight sentences do not show it
        False
        >>> round(change.spread_change.value, 3)
        -0.132
    """
    pair = select_plans(scores, [plan_a, plan_b], seed, draws)
    gone = collapsed(pair)
    reasons = reasons_left_out(pair, gone[0] | gone[1], np.logical_or(*below_resolution(pair)))
    counted = np.logical_and(*usable(pair))
    changes = _changes(pair, counted, ~(gone[0] | gone[1]), seed, draws)
    if changes["spread_change"].value is None:
        why = why_no_spread(pair, reasons)
        for name in ("spread_change", "spread_per_text_change"):
            changes[name] = void(changes[name], why)
    if changes["disparity_change"].value is None:
        why = why_no_disparity(pair, reasons)
        for name in ("disparity_change", "disparity_per_token_change", "gap_change"):
            changes[name] = void(changes[name], why)
    within = _changes_within(pair, counted, seed, draws)
    claim, why = _claim(changes["spread_change"], changes["spread_per_text_change"])
    newly = [code for code, a, b in zip(pair.languages, *gone, strict=True) if b and not a]
    failed = _failed(changes, scores.reference, newly)
    failed = failed if claim == "falls" else (f"S is not shown to fall: {why}", *failed)
    return Comparison(
        plan_a=plan_a,
        plan_b=plan_b,
        reference=scores.reference,
        languages=tuple(within),
        left_out=reasons,
        **changes,
        log_damage_change=within,
        claim=claim,
        claim_reason=why,
        better=not failed,
        failed=failed,
    )


def _changes(
    pair: Scores, counted: Bools, sound: Bools, seed: int, draws: int
) -> dict[str, Estimate]:
    def reference_damage(sums: Sums) -> Floats:
        return damage_bits(sums)[..., sums.reference]

    def change(formula: Callable[[Sums], Floats], sums: Sums) -> Floats:
        per_plan = formula(sums)
        return per_plan[:, 1:] - per_plan[:, :1]

    formulas = {
        "disparity_change": (partial(disparity, languages=counted), LOG),
        "disparity_per_token_change": (partial(disparity, per="token", languages=counted), LOG),
        "gap_change": (partial(gap, languages=counted), PER_TEXT),
        "reference_damage_change": (reference_damage, PER_TEXT),
        "harm_mean_change": (partial(harm_mean, languages=sound), PER_TEXT),
        "harm_max_change": (partial(harm_max, languages=sound), PER_TEXT),
    }
    quantities = {name: (partial(change, formula), u) for name, (formula, u) in formulas.items()}
    of_s = partial(spread_draws, languages=counted)
    spreads: Quantities = {
        "spread_change": (partial(change, of_s), LOG_UNITS),
        "spread_per_text_change": (partial(change, partial(of_s, per="text")), LOG_UNITS),
    }
    found = estimate_all(quantities, pair, seed, draws)
    found |= estimate_spreads(spreads, pair, seed, draws)
    return {name: one for name, (one,) in found.items()}


def _changes_within(pair: Scores, counted: Bools, seed: int, draws: int) -> dict[str, Estimate]:
    def change(sums: Sums) -> Floats:
        logs = log_damage(sums)[..., counted]
        return logs[:, 1] - logs[:, 0]

    codes = [code for code, counts in zip(pair.languages, counted, strict=True) if counts]
    found = estimate_all({"change": (change, LOG)}, pair, seed, draws)["change"]
    return dict(zip(codes, found, strict=True))


def _claim(token: Estimate, text: Estimate) -> tuple[Claim, str]:
    """Returns what may be said of S, from its change per token and per text."""
    ends = interval(token)
    if token.value is None or ends is None:
        return "inconclusive", f"the change of S cannot be judged: {token.reason}"
    if covers_zero(ends):
        return "inconclusive", f"the interval of S's change, {span(ends)}, includes 0"
    if not text.value or (token.value > 0) != (text.value > 0):
        return "inconclusive", (
            f"not established: S changes by {token.value:+.3g} per token but by "
            f"{text.value or 0:+.3g} per text"
        )
    return (
        "falls" if token.value < 0 else "rises",
        f"S changes by {token.value:+.3g} {span(ends)}, and per text with the same sign",
    )


def _failed(
    changes: dict[str, Estimate], reference: str, newly_collapsed: list[str]
) -> tuple[str, ...]:
    guards = {
        "reference_damage_change": f"damage to {reference}",
        "harm_mean_change": "mean harm",
        "harm_max_change": "largest harm",
    }
    broken = (_guard(what, changes[name]) for name, what in guards.items())
    collapses = (f"{code} collapses under the second plan" for code in newly_collapsed)
    return (*filter(None, broken), *collapses)


def _guard(what: str, change: Estimate) -> str | None:
    if change.value is None:
        return f"{what} cannot be judged: {change.reason}"
    if change.value <= 0:
        return None
    ends = interval(change)
    doubt = "" if ends and ends[0] > 0 else ", though the interval does not exclude 0"
    return f"{what} rises by {change.value:.3g} {change.unit}{doubt}"
