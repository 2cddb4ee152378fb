"""Which text should calibrate, who pays for the reference's, and whether a bit matters more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.report.words.phrases import Answer, joined, language_name, times
from bitgap.show.numbers import lacks, told

Json = Mapping[str, Any]
_BY_LOT = 0.05
"""Assignments by lot of which more do as well as own text leave its gain open."""
_NOBODY_TOLD = "No two languages can be compared"


def calibration_answers(result: Json) -> tuple[Answer, ...]:
    """Returns the answers of a comparison of texts of calibration.

    Args:
        result: A :class:`bitgap.disparity.calibration.Calibration` as JSON.
    """
    return (_text(result), _reference(result), _bit(result))


def _text(found: Json) -> Answer:
    question = "Which language's text should calibrate?"
    own, mixture = _side(found, "own_mean"), _side(found, "mixture_mean")
    details = _left_out(found)
    if own is None:
        return Answer("text", question, f"{_NOBODY_TOLD}.", tuple(details))
    others = _leaves(found, "own_mean")
    short = {
        1: f"Each language's own: other languages' texts leave {others} its damage",
        0: f"Whose text it is makes no clear difference: other languages' texts leave {others} "
        f"the damage of own text",
        -1: f"Another language's: on the mean other languages' texts leave {others} the damage of "
        f"own text",
    }[own]
    if mixture is not None:
        of = _leaves(found, "mixture_mean", -1)
        short += {
            1: f", and a mixture of all is better still, with {of} that of own text",
            0: f", and a mixture of all {of} that of own text, which tells no difference",
            -1: f", and a mixture of all {of}" if own > 0 else f", a mixture of all {of} that",
        }[mixture]
    if found["chance"] is not None:
        share = f"{found['chance']:.2g} of {found['orders']:,}"
        said = f"Texts assigned to languages by lot do as well in {share} assignments"
        open_ = found["chance"] > _BY_LOT and own > 0
        why = ", so that with other texts of the same languages it may come out otherwise"
        details.append(f"{said}{why if open_ else ''}.")
    feedback = _side(found, "feedback_mean")
    if feedback is not None:
        left = _leaves(found, "feedback_mean", -1)
        details.append(f"A mixture leaves {left} the damage of rounding to nearest, by no text.")
    details.append(
        f"Each text had {found['n_tokens']:,} tokens, and damage is measured on "
        f"{found['n_sentences']} other sentences; factors are geometric means over languages."
    )
    return Answer("text", question, f"{short}.", tuple(details))


def _reference(found: Json) -> Answer:
    name = language_name(found["reference"])
    question = f"Who pays for {name} text?"
    ends = dict(zip(found["languages"], found["from_reference_ci"], strict=True))
    values = dict(zip(found["languages"], found["from_reference"], strict=True))
    known = [
        c
        for c in found["languages"]
        if c != found["reference"] and c not in found["left_out"] and not lacks(ends[c])
    ]
    details = [_factor_line(c, values[c], ends[c], name) for c in known]
    details += _spread_line(found, name)
    if not known:
        return Answer("reference", question, f"{_NOBODY_TOLD}.", tuple(details))
    pay = sorted((c for c in known if ends[c][0] > 0), key=lambda c: -values[c])
    gain = [c for c in known if ends[c][1] < 0]
    open_ = [c for c in known if c not in pay and c not in gain]
    parts = list[str]()
    if pay:
        worst = pay[0]
        factor = times(2 ** values[worst], [2**e for e in ends[worst]])
        parts.append(
            f"{language_name(worst)}{' most' if len(pay) > 1 else ''}: {name} text, which most "
            f"tools come with, leaves it {factor} the damage of its own"
        )
        if rest := pay[1:]:
            parts.append(f"{_names(rest)} {'pays' if len(rest) == 1 else 'pay'} too")
    else:
        parts.append("Nobody, as far as these sentences tell")
    if gain:
        parts.append(f"{_names(gain)} {'does' if len(gain) == 1 else 'do'} better on it")
    if open_ and pay:
        parts.append(f"of {_names(open_)} it is not told")
    return Answer("reference", question, f"{'; '.join(parts)}.", tuple(details))


def _bit(found: Json) -> Answer:
    question = "One bit more, or the right text?"
    if found["bit_less_own"] is None or lacks(found["bit_less_own_ci"]):
        no_bit = found["bit_mean"] is None
        why = "there is no scheme of one bit more" if no_bit else _NOBODY_TOLD.lower()
        return Answer("bit", question, f"It cannot be told: {why}.", ())
    bit, own = _leaves(found, "bit_mean", -1), _leaves(found, "own_mean", -1)
    short = {
        "bits": f"One bit more: it leaves {bit} the damage, and a language's own text {own} that "
        f"of other languages' texts",
        "language": f"The right text: a language's own leaves {own} the damage that other "
        f"languages' leave, and one bit more {bit} that of no more",
        "not told": f"Which takes off more is not told: one bit more leaves {bit} the damage, a "
        f"language's own text {own} that of other languages' texts",
    }[found["matters"]]
    said = told(found["bit_less_own"], found["bit_less_own_ci"])
    details = (f"The difference is {said} in log2 of damage, mean over languages.",)
    return Answer("bit", question, f"{short}.", details)


def _side(found: Json, name: str) -> int | None:
    """Returns on which side of 0 an interval is, 0 where on both; None without one."""
    value, ends = found[name], found[f"{name}_ci"]
    if value is None or lacks(ends):
        return None
    return 1 if ends[0] > 0 else -1 if ends[1] < 0 else 0


def _leaves(found: Json, name: str, sign: int = 1) -> str:
    """Returns a gain in log2 as a factor of damage; of what is better where the sign is -1."""
    value, ends = found[name], sorted(sign * end for end in found[f"{name}_ci"])
    return times(2 ** (sign * value), [2**end for end in ends])


def _factor_line(code: str, value: float, ends: list[float], reference: str) -> str:
    factor = times(2**value, [2**end for end in ends])
    return f"{language_name(code)}: {factor} the damage of its own text after {reference} text."


def _spread_line(found: Json, reference: str) -> list[str]:
    side = _side(found, "spread_change")
    if side is None:
        return []
    said = told(found["spread_change"], found["spread_change_ci"])
    does = {1: "widens", 0: "does not clearly change", -1: "narrows"}[side]
    return [
        f"Going from {reference} text to the mixture {does} S, the spread over languages of log2 "
        f"damage per token: {said}."
    ]


def _left_out(found: Json) -> list[str]:
    return [f"{language_name(code)} counts in no mean: {why}."
            for code, why in found["left_out"].items()]  # fmt: skip


def _names(codes: list[str]) -> str:
    return joined([language_name(code) for code in codes])
