"""Tables and the lines between them for a terminal of 80 columns, and for a notebook.

Everything becomes a :class:`rich.text.Text`, so that no character of the data is markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from bitgap.show.numbers import MISSING, decimal, lacks
from bitgap.show.table import Cell, Column, Table, Value

_STYLES = {
    "supported": "green", "refuted": "red", "small": "cyan", "inconclusive": "yellow",
    "not testable": "dim",
    "holds": "green", "fails": "red", "unclear": "yellow",
}  # fmt: skip


def to_terminal(table: Table) -> Grid:
    """Returns the rows; an interval has a column of its own, its ends under each other."""
    grid = Grid(box=None, pad_edge=False, header_style="")
    cells: list[list[Text]] = []
    for column in table.columns:
        justify = "right" if column.right else "left"
        for head, texts in _columns(column, table.column(column.key)):
            grid.add_column(head, justify=justify, overflow="fold")
            cells.append([label(t) if column.kind == "label" else Text(t) for t in texts])
    for row in zip(*cells, strict=True):
        grid.add_row(*row)
    return grid


def _columns(column: Column, cells: Sequence[Cell]) -> list[tuple[str, list[str]]]:
    if column.kind != "interval":
        return [(column.head, column.texts(cells))]
    decimals = column.common_decimals(cells)
    values = [cell if isinstance(cell, Value) else Value(None) for cell in cells]

    def number(x: float | None) -> str:
        return decimal(x, column.factor, decimals, signed=column.signed)

    ends = [MISSING if lacks(v.ends) else "…".join(map(number, v.ends)) for v in values]
    return [(column.head, [number(v.value) for v in values]), ("95 %", ends)]


def titled(table: Table) -> Group:
    """Returns a table under its title, over how to read it and why it has gaps."""
    return section(table.title, to_terminal(table), *bullets((*table.reading, *table.gaps)))


def section(title: str, *parts: Any) -> Group:
    """Returns parts under a title."""
    return Group(Text(title, style="bold"), *parts)


def spaced(*parts: Any) -> Group:
    """Returns parts one below the other with an empty line between."""
    return Group(*(Padding(part, (0, 0, 1 if i < len(parts) else 0, 0))
                   for i, part in enumerate(parts, start=1)))  # fmt: skip


def label(text: str) -> Text:
    """Returns a verdict or an outcome in its colour."""
    return Text(text, style=_STYLES.get(text, ""))


def bullets(lines: Iterable[str]) -> list[Grid]:
    """Returns sentences with a dot before each, and their further lines under their first."""
    out: list[Grid] = []
    for line in lines:
        grid = Grid.grid(padding=(0, 1))
        grid.add_row(Text("·", style="dim"), Text(line, style="dim"))
        out.append(grid)
    return out


def lines_of(rows: Iterable[Sequence[str]]) -> Grid:
    """Returns lines of a label, a value and what it means, without heads."""
    table = Grid.grid(padding=(0, 2))
    for name, *values, last in rows:
        table.add_row(Text(name), *map(Text, values), Text(last, style="dim"))
    return table
