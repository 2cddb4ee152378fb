"""Text for Typst: what comes from data prints as it stands, whatever characters it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.show.numbers import MISSING, lacks, short_name, told

Json = Mapping[str, Any]


# Everything that can begin markup, math, a shorthand, a smart quote, a comment or a link.
_SPECIAL = re.compile(r"""[\\#$*_`<>@\[\]{}~'"=+\-/|^&%]|(?<=\.)\.|^(\d+)(?=\.)""")


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


_SIGN = re.compile(r"(?<![\w−-])-(?=[\w.])")


_GREEK = re.compile(r"(?<=[−\s(])rho\b|^rho\b")


_BLANK = re.compile(r"[\t\n\v\f\r \x85\u2028\u2029]+")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Markup(str):
    """Typst markup, which is written as it stands; any other text is escaped."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Returns text as Typst markup that prints those very characters, on one line."""
    if isinstance(text, Markup):
        return text
    flat = _BLANK.sub(" ", _CONTROL.sub("", str(text)))
    return Markup(_SPECIAL.sub(_escaped, flat))


def _escaped(found: re.Match[str]) -> str:
    # A number and a dot at the start of a line would begin a list.
    return rf"\u{{{ord(found[1][0]):x}}}{found[1][1:]}" if found[1] else "\\" + found[0]


def markup(pattern: str, *parts: object) -> Markup:
    """Returns a pattern of markup with escaped parts at its ``{}``."""
    return Markup(pattern.format(*map(escape, parts)))


def written(value: object) -> str:
    """Returns what a template prints of a value: markup as it is, all else escaped."""
    return escape(MISSING if value is None else value)


def string_literal(text: object) -> Markup:
    """Returns text as the inside of a Typst string in double quotes."""
    flat = " ".join(_CONTROL.sub("", str(text)).split())
    return Markup(flat.replace("\\", r"\\").replace('"', r"\""))


def signs(text: str) -> str:
    """Returns a sentence of ours with true minus signs, ρ, and percent signs that stay."""
    return _GREEK.sub("ρ", _SIGN.sub("−", text)).replace(" %", "\u00a0%")


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
    if 0 < p < 0.001:
        digits, power = f"{p:.0e}".split("e")
        return f"{digits}·10{str(int(power)).translate(_RAISED)}"
    return f"{p:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """A table of the appendix."""

    id: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    widths: tuple[str, ...]
    """Typst track sizes: ``auto``, or a share such as ``2fr`` of what is left."""
    right: frozenset[int] = frozenset()
    """Columns of numbers."""

    @property
    def columns(self) -> Markup:
        """The widths as Typst has them."""
        return Markup(f"({', '.join(self.widths)},)")

    @property
    def align(self) -> Markup:
        """The alignments as Typst has them."""
        names = ("right" if i in self.right else "left" for i in range(len(self.widths)))
        return Markup(f"({', '.join(names)},)")
