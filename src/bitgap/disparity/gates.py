"""What may enter a number, and the words for what may not; shared by audit and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.disparity.formulas import (
    RESOLUTION,
    Sums,
    unigram_tokens_needed,
    unigrams_known,
)
from bitgap.errors import UsageError
from bitgap.records import Bools, Estimate, Floats, Scores, defined
from bitgap.stats.bootstrap import estimates
from bitgap.stats.spreads import inverted_estimates

Quantities = Mapping[str, tuple[Callable[[Sums], Floats], str]]
"""Formula and unit of each quantity, by field name."""

PER_TEXT = "bits per reference character"
LOG = "log2 ratio"
LOG_UNITS = "log2 units"
"""Unit of S, a spread of logarithms, and of what lies off their mean."""


def select_plans(scores: Scores, plans: Sequence[str], seed: int, draws: int) -> Scores:
    """Returns the scores of some plans, with NaN for every infinity.

    Raises:
        UsageError: If a plan was not scored, there is no sentence, or seed or draws cannot be.

    Example:
        >>> select_plans(SCORES, ["fp"], 0, 2).plans
        ('fp',)
    """
    for plan in plans:
        if plan not in scores.plans:
            some = ", ".join(repr(text) for text in scores.plans[:4])
            raise UsageError(
                f"plan {plan!r} was not scored; there are {len(scores.plans)} plans, such as "
                f"{some}: ask for one of them by its canonical text, or score it first"
            )
    if scores.n_sentences == 0:
        raise UsageError("there is no sentence in these scores; select at least one")
    if seed < 0 or draws < 2:
        raise UsageError(f"seed is {seed} and draws are {draws}; give a seed >= 0 and draws >= 2")
    mine = scores.select(plans=plans)
    # A model ruined by rounding can give infinities; NaN says the same without their arithmetic.
    return replace(mine, nll_nats=defined(mine.nll_nats), kl_nats=defined(mine.kl_nats))


def reasons_left_out(scores: Scores, gone: Bools, faint: Bools) -> dict[str, str]:
    """Returns why languages count neither in S nor in D, by code.

    Args:
        scores: With the languages.
        gone: Who collapsed, (A).
        faint: Whose damage is below resolution, (A).

    Example:
        >>> he = np.array([False, False, True])
        >>> reasons_left_out(SCORES, he, ~he & False)
        {'he': 'he collapsed: no better than add-one unigrams'}
    """
    reasons: dict[str, str] = {}
    weak = why_not_known(scores)
    for code, is_gone, is_faint in zip(scores.languages, gone, faint, strict=True):
        if is_gone:
            rule = " of this text alone, a weaker rule" if code in weak else ""
            reasons[code] = f"{code} collapsed: no better than add-one unigrams{rule}"
        elif is_faint:
            reasons[code] = (
                f"{code} is below resolution: KL per token is under {RESOLUTION:.0f} times the "
                "numerical floor"
            )
    return reasons


def why_not_known(scores: Scores) -> dict[str, str]:
    """Returns why what the model had learned of a language is not known, by code.

    Example:
        >>> why_not_known(replace(SCORES, unigram_tokens=np.array([60_000, 9_000, 0])))["he"]
        'not known: unigrams of he rest on no other text, 50,000 tokens are needed'
    """
    needed, known = unigram_tokens_needed(scores.vocabulary), unigrams_known(scores)
    counted = np.zeros(len(known)) if scores.unigram_tokens is None else scores.unigram_tokens
    found: dict[str, str] = {}
    for code, n in ((scores.languages[i], int(counted[i])) for i in np.flatnonzero(~known)):
        rest = f"{n:,} tokens of other text" if n else "no other text"
        found[code] = f"not known: unigrams of {code} rest on {rest}, {needed:,} tokens are needed"
    return found


def weaker_rule(scores: Scores) -> str | None:
    """Returns by which weaker rule languages were judged collapsed or not, or None.

    Example:
        >>> weaker_rule(SCORES)
        >>> weaker_rule(replace(SCORES, unigram_tokens=None))[:44]
        'What the model had learned is not known of a'
    """
    weak = list(why_not_known(scores))
    if not weak:
        return None
    needed = unigram_tokens_needed(scores.vocabulary)
    of_whom = "any language" if len(weak) == len(scores.languages) else ", ".join(weak)
    return (
        f"What the model had learned is not known of {of_whom}: that takes unigrams of {needed:,} "
        f"tokens of other text a language (--unigrams). Who collapsed is judged there by a weaker "
        f"rule, unigrams of fewer tokens or of the other sentences of this text, which are easier "
        f"to beat"
    )


def why_no_disparity(scores: Scores, reasons: Mapping[str, str]) -> str:
    """Returns why no D can be formed, in words.

    Example:
        >>> why_no_disparity(SCORES, {"en": "en collapsed"})
        'there is no reference: en collapsed'
    """
    if scores.reference in reasons:
        return f"there is no reference: {reasons[scores.reference]}"
    if len(scores.languages) == 1:
        return "only the reference was scored"
    return "no other language is left: " + "; ".join(reasons.values())


def why_no_spread(scores: Scores, reasons: Mapping[str, str]) -> str:
    """Returns why no S can be formed, in words.

    Example:
        >>> why_no_spread(SCORES, {"en": "en collapsed", "de": "de collapsed"})
        'fewer than two languages are left: en collapsed; de collapsed'
    """
    if len(scores.languages) == 1:
        return "one language has no spread"
    return "fewer than two languages are left: " + "; ".join(reasons.values())


def estimate_all(
    quantities: Quantities, scores: Scores, seed: int, draws: int
) -> dict[str, list[Estimate]]:
    """Returns each quantity with its interval, all from the same draws of sentences or documents.

    Intervals are BCa, expanded where there are few units, as those of few sentences cover too
    seldom otherwise (:func:`bitgap.stats.bootstrap.expanded_level`).

    Args:
        quantities: Formulas give (W x k); k estimates come back of each.
        scores: What the formulas are of.
        seed: Seed of the draws.
        draws: How many.

    Example:
        >>> quantities = {"U": (lambda sums: sums.length[:, 0, 0, None], "characters")}
        >>> estimate_all(quantities, SCORES, seed=0, draws=99)["U"][0].value
        365.0
    """
    formulas = [formula for formula, _ in quantities.values()]
    once = Sums(scores, np.ones((1, scores.n_sentences)))
    parts = [formula(once)[0] for formula in formulas]
    defined = np.isfinite(np.concatenate(parts))

    def statistic(weights: Floats) -> Floats:
        sums = Sums(scores, weights)
        return np.concatenate([formula(sums) for formula in formulas], -1)[:, defined]

    how: dict[str, Any] = {"unit": "", "seed": seed, "draws": draws}
    found = iter(estimates(statistic, scores.units, **how) if defined.any() else ())
    missing = Estimate(value=None, unit="", n=scores.n_sentences, reason="undefined on this text")
    return {
        name: [replace(next(found) if np.isfinite(v) else missing, unit=unit) for v in values]
        for (name, (_, unit)), values in zip(quantities.items(), parts, strict=True)
    }


def estimate_spreads(
    quantities: Quantities, scores: Scores, seed: int, draws: int
) -> dict[str, list[Estimate]]:
    """Returns spreads, or differences of them, with intervals that allow for noise.

    Args:
        quantities: Formulas of :func:`bitgap.disparity.formulas.spread_draws`, (W x k).
        scores: What the formulas are of.
        seed: Seed of the draws; those of :func:`estimate_all`.
        draws: How many.

    Example:
        >>> from bitgap.disparity.formulas import spread_draws
        >>> found = estimate_spreads({"S": (spread_draws, "log2 units")}, SCORES, seed=0, draws=99)
        >>> round(found["S"][0].value, 3), found["S"][7].reason
        (0.509, 'undefined on this text')
    """
    found: dict[str, list[Estimate]] = {}
    for name, (formula, unit) in quantities.items():

        def statistic(weights: Floats, formula: Callable[[Sums], Floats] = formula) -> Floats:
            return formula(Sums(scores, weights))

        found[name] = inverted_estimates(statistic, scores.units, unit=unit, seed=seed, draws=draws)
    return found


def void(estimate: Estimate, reason: str) -> Estimate:
    """Returns the estimate without its numbers, for a reason.

    Example:
        >>> damage = Estimate(value=2.0, low=1.0, high=3.0, unit="bits", n=4)
        >>> void(damage, "the reference collapsed").value
    """
    return replace(estimate, value=None, low=None, high=None, reason=reason)


def note(estimate: Estimate, remark: str) -> Estimate:
    """Returns the estimate with a remark added to its reason.

    Example:
        >>> damage = Estimate(value=2.0, low=1.0, high=3.0, unit="bits", n=4)
        >>> note(damage, "left out: he").reason
        'left out: he'
    """
    return replace(estimate, reason="; ".join(filter(None, (estimate.reason, remark))))


def interval(estimate: Estimate) -> tuple[float, float] | None:
    """Returns low and high, or None where there is no interval.

    Example:
        >>> interval(Estimate(value=2.0, low=1.0, high=3.0, unit="bits", n=4))
        (1.0, 3.0)
    """
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high


def covers_zero(ends: tuple[float, float]) -> bool:
    """Returns whether an interval includes 0.

    Example:
        >>> covers_zero((-0.1, 0.2))
        True
    """
    return ends[0] <= 0 <= ends[1]


def span(ends: tuple[float, float]) -> str:
    """Returns an interval in words, such as ``[-0.1, 0.2]``.

    Example:
        >>> span((-0.1, 0.23456))
        '[-0.1, 0.235]'
    """
    return f"[{ends[0]:.3g}, {ends[1]:.3g}]"
