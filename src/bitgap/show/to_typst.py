"""Tables and text for Typst: what comes from data prints as it stands, whatever it holds."""

from __future__ import annotations

import re

from bitgap.languages import named
from bitgap.show.numbers import MISSING
from bitgap.show.table import Column, Table, unmarked

# Everything that can begin markup, math, a shorthand, a smart quote, a comment or a link.
_SPECIAL = re.compile(r"""[\\#$*_`<>@\[\]{}~'"=+\-/|^&%]|(?<=\.)\.|^(\d+)(?=\.)""")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
_SIGN = re.compile(r"(?<![\w−-])-(?=[\w.])")
_RHO = re.compile(r"(?<=[−\s(])rho\b|^rho\b")
_BLANK = re.compile(r"[\t\n\v\f\r \x85\u2028\u2029]+")
_POWER = re.compile(r"(?<=\d)e([+-]\d+)\b")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ON_ONE_PAGE = 30
"""Rows up to which a table is not broken over pages."""


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


def written(value: object) -> str:
    """Returns what a template prints of a value: markup as it is, all else escaped."""
    return escape(MISSING if value is None else value)


def string_literal(text: object) -> Markup:
    """Returns text as the inside of a Typst string in double quotes."""
    flat = " ".join(_CONTROL.sub("", str(text)).split())
    return Markup(flat.replace("\\", r"\\").replace('"', r"\""))


def signs(text: str) -> str:
    """Returns a sentence of ours with true minus signs, ρ, and percent signs that stay."""
    return _RHO.sub("ρ", _SIGN.sub("−", text)).replace(" %", "\u00a0%")


def power_of_ten(text: str) -> str:
    """Returns ``8.5e-05`` as ``8.5·10⁻⁵``, and any other number as it is."""
    return _POWER.sub(lambda found: f"·10{str(int(found[1])).translate(_RAISED)}", text)


def to_typst(table: Table, *, labelled: bool = False) -> Markup:
    """Returns a table as a figure, which the text may refer to as ``@tab-<id>`` if labelled.

    It is set by ``booktab`` of ``paper_style.typ.j2``; a short one stays on one page.
    """
    columns = table.columns
    widths = ", ".join(f"{c.width:g}fr" if c.width else "auto" for c in columns)
    sides = ", ".join("right" if c.right else "left" for c in columns)
    rows = "\n".join(f"    {_row(columns, row)}" for row in table.texts())
    caption = escape(signs(" ".join((table.caption, *table.gaps))))
    figure = (
        f"#figure(\n  booktab(({widths},), ({sides},),\n"
        f"    ({''.join(f'[{escape(signs(c.head))}], ' for c in columns)}),\n{rows}\n  ),\n"
        f"  kind: table,\n  caption: [{caption}],\n){f' <tab-{table.id}>' if labelled else ''}\n"
    )
    if len(table.rows) > _ON_ONE_PAGE:
        return Markup(figure)
    return Markup(
        "#block(width: 100%, breakable: false, above: 1.3em, below: 1.3em)[\n" + figure + "]\n"
    )


def _row(columns: tuple[Column, ...], texts: list[str]) -> str:
    return "".join(f"[{escape(_text(c, t))}], " for c, t in zip(columns, texts, strict=True))


def _text(column: Column, text: str) -> str:
    if column.kind == "language":
        bare = unmarked(text)
        return f"{named(bare).name} ({bare}){text[len(bare) :]}"
    return power_of_ten(text) if column.kind == "p" else signs(text)
