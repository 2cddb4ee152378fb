"""One plan's report: every quantity of method.md with its interval, gates closed, caveats told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from bitgap.disparity.formulas import (
    Sums,
    below_resolution,
    collapsed,
    damage_bits,
    delta_bits,
    disparity,
    fraction_of_bits,
    gap,
    harm_max,
    harm_mean,
    learned_bits,
    learned_share,
    log_from_mean,
    log_ratio,
    log_share_ratio,
    log_token_premium,
    mean_absolute_log_ratio,
    original_disparity,
    perplexity_increase,
    premium_disparity,
    share_disparity,
    spread_draws,
    token_premium,
    tokens_per_character,
    tokens_per_sentence,
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
    note,
    reasons_left_out,
    select_plans,
    span,
    void,
    weaker_rule,
    why_no_disparity,
    why_no_spread,
    why_not_known,
)
from bitgap.disparity.records import DisparityReport, LanguageDamage
from bitgap.records import Bools, Estimate, Floats, Scores, finite
from bitgap.stats.bootstrap import DRAWS

Table = dict[str, list[Estimate]]
"""Estimates by field name, one a language in the order of the scores."""
Summary = dict[str, Estimate]
"""Estimates by field name, over languages."""
ENOUGH_SENTENCES = 200
"""Sentences that method.md asks for; fewer earn a caveat."""
ENOUGH_LANGUAGES = 6
"""Languages that method.md asks for; fewer earn a caveat."""
SHARE_UNSETTLED = (
    "with a unigram model of fewer than 50,000 tokens a language neither its size nor its sign is "
    "established"
)
"""Why nothing is concluded from D_share of a report stored before it was asked for so many."""
_PER_LANGUAGE: Quantities = {
    "damage": (damage_bits, PER_TEXT),
    "damage_per_token": (partial(damage_bits, per="token"), "bits per token"),
    "damage_per_byte": (partial(damage_bits, per="byte"), "bits per byte"),
    "damage_per_character": (partial(damage_bits, per="character"), "bits per character"),
    "damage_fraction": (fraction_of_bits, "bits per bit"),
    "delta": (delta_bits, PER_TEXT),
    "log_ratio": (log_ratio, LOG),
    "log_ratio_per_token": (partial(log_ratio, per="token"), LOG),
    "log_token_premium": (log_token_premium, LOG),
    "token_premium": (token_premium, "tokens per reference token"),
    "tokens_per_character": (tokens_per_character, "tokens per character"),
    "tokens_per_sentence": (tokens_per_sentence, "tokens per sentence"),
    "learned": (learned_bits, PER_TEXT),
    "learned_share": (learned_share, "bits per bit"),
    "log_share_ratio": (log_share_ratio, LOG),
    "perplexity_increase": (perplexity_increase, "relative increase"),
}

# The reference against itself: no text could change these.
_BY_DEFINITION = {
    "log_ratio": 0.0,
    "log_ratio_per_token": 0.0,
    "log_token_premium": 0.0,
    "token_premium": 1.0,
    "log_share_ratio": 0.0,
}

_SPREADS = ("spread", "spread_per_text")
_OVER_COUNTED = (
    "disparity",
    "disparity_per_token",
    "token_premium",
    "disparity_per_byte",
    "disparity_per_character",
    "mean_absolute_log_ratio",
)

_STANDING_CAVEATS = (
    "Parallel meaning is not equal information (Poelman & de Lhoneux 2026): numbers that compare "
    "languages carry what translation adds or drops; changes from plan to plan within a language "
    "do not.",
    "S is over these very languages: another choice of languages has another S.",
    "KL is the volume of change, not its direction, and full precision may itself be poor "
    "(Nikolić 2026): read S beside G, and K beside what the model had learned.",
    "Intervals are over the sentences of this text, for this model; they say nothing of other "
    "languages or models.",
    "D_original is the origin's measure, kept for comparison; no verdict rests on it.",
)


def audit(scores: Scores, plan: str, *, seed: int, draws: int = DRAWS) -> DisparityReport:
    """Returns all that is to be said of one plan.

    Args:
        scores: Scores that hold the plan.
        plan: Its canonical text.
        seed: Seed of the bootstrap, 0 or more; one seed draws the same sentences every time.
        draws: Bootstrap draws, 2 or more.

    Raises:
        UsageError: If the plan was not scored, there is no sentence, or seed or draws cannot be.

    Example:
        >>> report = audit(SCORES, "rtn4-g128", seed=0)
        >>> s = report.spread
        >>> [round(x, 2) for x in (s.value, s.low, s.high)]
        [0.51, 0.0, 0.91]
    """
    mine = select_plans(scores, [plan], seed, draws)
    reasons = reasons_left_out(mine, collapsed(mine)[0], below_resolution(mine)[0])
    table = _language_table(mine, seed, draws)
    _gate_languages(mine, table, reasons)
    summary = _summarise(mine, table, seed, draws)
    _gate_summary(mine, summary, table, reasons)
    report = DisparityReport(
        plan=plan,
        reference=scores.reference,
        arithmetic=scores.arithmetic,
        n_sentences=scores.n_sentences,
        reference_characters=int(Sums(mine).length.item()),
        floor_bits=scores.floor_nats / math.log(2),
        languages=_language_records(mine, table, reasons),
        **summary,
        share_agrees=_same_sign(summary["disparity"], summary["share_disparity"]),
        unigram_tokens=(
            None if scores.unigram_tokens is None else int(scores.unigram_tokens.min())
        ),
        nothing_to_explain=_may_be_zero(summary["spread"]),
        left_out=reasons,
        caveats=(),
    )
    return replace(report, caveats=(*_STANDING_CAVEATS, *_caveats(report), *_of_unigrams(mine)))


def _language_table(scores: Scores, seed: int, draws: int) -> Table:
    def rows(formula: Callable[[Sums], Floats], sums: Sums) -> Floats:
        return formula(sums)[:, 0]

    quantities = {
        name: (partial(rows, formula), unit) for name, (formula, unit) in _PER_LANGUAGE.items()
    }
    counted = usable(scores)[0]
    off_mean = partial(log_from_mean, languages=counted)
    quantities["log_from_mean"] = (partial(rows, off_mean), LOG_UNITS)
    table = estimate_all(quantities, scores, seed, draws)
    row = scores.languages.index(scores.reference)
    for name, value in _BY_DEFINITION.items():
        table[name][row] = replace(
            table[name][row],
            value=value,
            low=value,
            high=value,
            method="by definition",
            reason=None,
        )
    return table


def _gate_languages(scores: Scores, table: Table, reasons: Mapping[str, str]) -> None:
    unknown = why_not_known(scores)
    unlearned = [
        unknown.get(code) or _why_unlearned(learned)
        for code, learned in zip(scores.languages, table["learned"], strict=True)
    ]
    blind = unlearned[scores.languages.index(scores.reference)]
    no_reference = reasons.get(scores.reference)
    for row, code in enumerate(scores.languages):
        out = reasons.get(code) or (no_reference and f"there is no reference: {no_reference}")
        unshared = unlearned[row] or (blind and f"there is no reference: {blind}")
        alone = reasons.get(code) or (
            why_no_spread(scores, reasons) if len(scores.languages) - len(reasons) < 2 else None
        )
        for name, why in (
            ("log_from_mean", alone),
            ("log_ratio", out),
            ("log_ratio_per_token", out),
            ("learned", unknown.get(code)),
            ("learned_share", unlearned[row]),
            ("log_share_ratio", out or unshared),
        ):
            if why:
                table[name][row] = void(table[name][row], why)


def _why_unlearned(learned: Estimate) -> str | None:
    ends = interval(learned)
    if ends is None:
        return f"whether M is above 0 cannot be judged: {learned.reason}"
    if ends[0] > 0:
        return None
    return f"the interval of M, {span(ends)}, is not above 0: no better than word frequencies"


def _language_records(
    scores: Scores, table: Table, reasons: Mapping[str, str]
) -> tuple[LanguageDamage, ...]:
    sums = Sums(scores)
    gone, faint = collapsed(scores)[0], below_resolution(scores)[0]
    return tuple(
        LanguageDamage(
            language=code,
            tokens=int(sums.tokens[0, row]),
            bytes=int(sums.bytes[0, row]),
            characters=int(sums.characters[0, row]),
            nll_fp_bits=finite(sums.nll_fp_bits[0, row]),
            nll_q_bits=finite(sums.nll_bits[0, row]),
            unigram_bits=finite(sums.unigram_bits[0, row]),
            kl_bits=finite(sums.kl_bits[0, row]),
            collapsed=bool(gone[row]),
            below_resolution=bool(faint[row]),
            left_out=reasons.get(code),
            **{name: column[row] for name, column in table.items()},
        )
        for row, code in enumerate(scores.languages)
    )


def _summarise(scores: Scores, table: Table, seed: int, draws: int) -> Summary:
    counted = usable(scores)
    learned: Bools = np.array([share.value is not None for share in table["learned_share"]])
    quantities: Quantities = {
        "mean_absolute_log_ratio": (partial(mean_absolute_log_ratio, languages=counted), LOG),
        "disparity": (partial(disparity, languages=counted), LOG),
        "disparity_per_token": (partial(disparity, per="token", languages=counted), LOG),
        "token_premium": (partial(premium_disparity, languages=counted), LOG),
        "disparity_per_byte": (partial(disparity, per="byte", languages=counted), LOG),
        "disparity_per_character": (partial(disparity, per="character", languages=counted), LOG),
        "share_disparity": (partial(share_disparity, languages=counted & learned), LOG),
        "original_disparity": (partial(original_disparity, languages=~collapsed(scores)), "ratio"),
        "gap": (gap, PER_TEXT),
        "harm_mean": (harm_mean, PER_TEXT),
        "harm_max": (harm_max, PER_TEXT),
    }
    spreads: Quantities = {
        "spread": (partial(spread_draws, languages=counted), LOG_UNITS),
        "spread_per_text": (partial(spread_draws, per="text", languages=counted), LOG_UNITS),
    }
    found = estimate_all(quantities, scores, seed, draws)
    found |= estimate_spreads(spreads, scores, seed, draws)
    return {name: one for name, (one,) in found.items()}


def _gate_summary(
    scores: Scores, summary: Summary, table: Table, reasons: Mapping[str, str]
) -> None:
    left_out = f"left out: {', '.join(reasons)}"
    for name in _SPREADS:
        if summary[name].value is None:
            summary[name] = void(summary[name], why_no_spread(scores, reasons))
        elif reasons:
            summary[name] = note(summary[name], left_out)
    why = why_no_disparity(scores, reasons) if summary["disparity"].value is None else None
    for name in _OVER_COUNTED:
        if why:
            summary[name] = void(summary[name], why)
        elif reasons:
            summary[name] = note(summary[name], left_out)
    summary["share_disparity"] = _gate_share(scores, summary["share_disparity"], table, why)
    summary["original_disparity"] = _gate_original(
        scores, summary["original_disparity"], table, reasons
    )
    for name in ("gap", "harm_mean", "harm_max"):
        summary[name] = _gate_harm(scores, summary[name], table)
    if summary["harm_max"].value is not None and len(scores.languages) > 1:
        summary["harm_max"] = note(
            summary["harm_max"], "the largest of several estimates is biased upward"
        )


def _gate_harm(scores: Scores, harm: Estimate, table: Table) -> Estimate:
    if harm.value is None:
        deltas = zip(scores.languages, table["delta"], strict=True)
        ruined = [code for code, delta in deltas if delta.value is None]
        why = f"not finite: {', '.join(ruined)}" if ruined else "only the reference was scored"
        return void(harm, why)
    fate = zip(scores.languages, collapsed(scores)[0], strict=True)
    gone = [code for code, is_gone in fate if is_gone]
    return note(harm, f"collapsed and counted all the same: {', '.join(gone)}") if gone else harm


def _gate_share(scores: Scores, share: Estimate, table: Table, why: str | None) -> Estimate:
    if why:
        return void(share, why)
    unknown = why_not_known(scores)
    if scores.reference in unknown:
        return void(share, unknown[scores.reference])
    columns = zip(scores.languages, table["log_share_ratio"], strict=True)
    missing = {code: ratio.reason or "" for code, ratio in columns if ratio.value is None}
    if share.value is None:
        return void(share, "; ".join(f"{code}: {reason}" for code, reason in missing.items()))
    return note(share, f"left out: {', '.join(missing)}") if missing else share


def _gate_original(
    scores: Scores, ratio: Estimate, table: Table, reasons: Mapping[str, str]
) -> Estimate:
    row = scores.languages.index(scores.reference)
    delta = table["delta"][row]
    if collapsed(scores)[0, row]:
        return void(ratio, f"there is no reference: {reasons[scores.reference]}")
    ends = interval(delta)
    if ends is None:
        return void(ratio, f"invalid: whether Δ of {scores.reference} is above 0 cannot be judged")
    if ends[0] > 0:
        fate = zip(scores.languages, collapsed(scores)[0], strict=True)
        gone = [code for code, is_gone in fate if is_gone]
        if ratio.value is None:
            return void(ratio, why_no_disparity(scores, {code: reasons[code] for code in gone}))
        return note(ratio, f"left out: {', '.join(gone)}") if gone else ratio
    how = "includes 0" if covers_zero(ends) else "lies below 0"
    why = f"invalid: the interval of Δ of {scores.reference}, {span(ends)}, {how}"
    return void(
        ratio, why if ratio.value is None else f"{why} (the ratio came out {ratio.value:.3g})"
    )


def _may_be_zero(s: Estimate) -> bool | None:
    """Returns whether languages that are damaged alike would give as large a spread."""
    ends = interval(s)
    return None if ends is None else ends[0] <= 0


def _same_sign(one: Estimate, other: Estimate) -> bool | None:
    if not one.value or not other.value:
        return None
    return (one.value > 0) == (other.value > 0)


def _of_unigrams(scores: Scores) -> list[str]:
    rule = weaker_rule(scores)
    return [f"{rule}."] if rule else []


def _caveats(report: DisparityReport) -> list[str]:
    reference, d = report.reference, report.disparity.value
    share, ends = report.share_disparity, interval(report.disparity)
    signs = f"{d:+.3g} and {share.value:+.3g}" if report.share_agrees is False else ""
    said = {
        f"S is missing: {report.spread.reason}.": report.spread.value is None,
        f"D is missing: {report.disparity.reason}.": d is None,
        "Nothing to explain: languages that are damaged alike may well give as large an S.": (
            report.nothing_to_explain
        ),
        f"The sign of D is not established, as it depends on the unit: {_signs(report)}.": (
            report.sign_depends_on_unit
        ),
        f"D is below 0: on average {reference} takes more damage than the other languages; a "
        "language the model barely knows has few bits to lose.": bool(
            ends and ends[1] < 0 and not report.sign_depends_on_unit
        ),
        f"D and D_share differ in sign ({signs}): who is changed more is not who loses the larger "
        "share of what the model had learned.": bool(signs),
        f"D_share is missing: {share.reason}.": (
            d is not None and share.value is None and "not known" not in (share.reason or "")
        ),
        "D and G differ in sign: who loses more on real text is not who is changed more.": (
            _same_sign(report.disparity, report.gap) is False
        ),
        f"There are {report.n_sentences} sentences; {ENOUGH_SENTENCES} or more are advised.": (
            report.n_sentences < ENOUGH_SENTENCES
        ),
        f"There are {len(report.languages)} languages; {ENOUGH_LANGUAGES} or more are advised.": (
            len(report.languages) < ENOUGH_LANGUAGES
        ),
    }
    left_out = [f"Left out of S and D: {reason}." for reason in report.left_out.values()]
    return left_out + [sentence for sentence, applies in said.items() if applies]


def _signs(report: DisparityReport) -> str:
    text, token = report.disparity.value, report.disparity_per_token.value
    if text is None or token is None:
        return ""
    return f"{text:+.3g} for the same text, {token:+.3g} per token"
