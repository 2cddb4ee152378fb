"""Markdown of generated pages; what would end a cell is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bitgap.show.table import Table

# What would be a tag, a link or an image, as a model's name may try to be; and what ends a cell.
_LIVE = r"\\|<(?=[A-Za-z/!?])|\](?=\()"
_PROSE, _CELL = re.compile(_LIVE), re.compile(rf"\||{_LIVE}")


def to_markdown(table: Table, level: int = 2) -> str:
    """Returns a section: the table's title at a level, or none at 0, how to read it, its rows."""
    heads = [column.head for column in table.columns]
    marked = [column.kind == "label" for column in table.columns]
    rows = [[_bold(text) if mark else text for mark, text in zip(marked, row, strict=True)]
            for row in table.texts(reasons=True)]  # fmt: skip
    title = f"{'#' * level} {table.title}" if level else ""
    parts = (title, " ".join(table.reading), rows_of(heads, rows))
    return "\n\n".join(filter(None, parts))


def rows_of(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(x) for x in line) + " |" for line in lines)


def _bold(text: str) -> str:
    head, colon, rest = text.partition(": ")
    return f"**{head}**{colon}{rest}" if head else ""


def _cell(value: object) -> str:
    return _CELL.sub(r"\\\g<0>", str(value).replace("\n", " "))


def prose(text: str) -> str:
    r"""Returns text in which Markdown finds no tag, link or image; emphasis and code stay.

    Example:
        >>> prose("**a** <b> [c](d) .1 < .2")
        '**a** \\<b> [c\\](d) .1 < .2'
    """
    return _PROSE.sub(r"\\\g<0>", text)
