"""Numbers and sentences of a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import MISSING, lacks, short_name, told
from bitgap.show.to_typst import Markup, escape, power_of_ten, signs

Json = Mapping[str, Any]


def markup(pattern: str, *parts: object) -> Markup:
    """Returns a pattern of markup with escaped parts at its ``{}``."""
    return Markup(pattern.format(*map(escape, parts)))


def sentence(text: str) -> str:
    """Returns text that begins like a sentence and ends like one."""
    said = signs(text.strip())
    said = said[:1].upper() + said[1:] if not re.match(r"[a-z][(_]", said) else said
    return said if said.endswith((".", "?", "!")) or not said else f"{said}."


def number(value: float | None, ends: Sequence[float | None] | None = None, **how: Any) -> str:
    """Returns a number with its interval, or a dash."""
    return MISSING if value is None else signs(told(value, ends, **how))


def estimate(found: Json, *, unit: bool = False) -> str:
    """Returns an estimate with its interval and, if asked, its unit; or why there is none."""
    if found["value"] is None:
        return f"{MISSING} ({found['reason']})" if unit else MISSING
    ends = (found["low"], found["high"])
    said = number(found["value"], ends)
    if not unit:
        return said
    why = f" (no interval: {found['reason']})" if lacks(ends) else ""
    return f"{said} {found['unit']}{why}"


def plain(value: float | None, form: str = "+.2f") -> str:
    """Returns one number in a format, or a dash."""
    if value is None:
        return MISSING
    text = f"{value:{form}}"
    zero = not any(c in "123456789" for c in text)
    return text.replace("-", "").replace("+", "") if zero else text.replace("-", "−")


def log_ratio(value: float | None, ends: Sequence[float | None] | None) -> str:
    """Returns a log2 ratio with its interval to two decimals, so that columns line up."""
    if value is None or ends is None or lacks(ends):
        return plain(value)
    return f"{plain(value)} [{plain(ends[0])}, {plain(ends[1])}]"


def model_name(model: str) -> str:
    """Returns what to call a model."""
    name = short_name(model)
    return "the bundled reference model" if name == "reference" else name


def probability(p: float | None) -> str:
    """Returns a p value to two digits."""
    if p is None:
        return MISSING
    return power_of_ten(f"{p:.0e}" if 0 < p < 0.001 else f"{p:.2g}")
