"""A result as rows and columns, before any surface draws it.

A builder of :mod:`bitgap.show.tables` makes a table once; terminal, page, Markdown, paper and
notebook render that same table and choose no number, digit, unit or word of their own. A surface
may leave columns out (:meth:`Table.only`). A number that is missing is None, or a :class:`Value`
that knows why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from bitgap.show.numbers import MISSING, decimal, decimals_of, lacks, told

Kind = Literal["text", "language", "label", "flag", "count", "number", "p", "interval", "estimate"]
"""What a column holds: an ``interval`` shares unit and decimals with its column, an ``estimate``
has a unit of its own row; a ``label`` may go on after a colon; a ``flag`` is yes or no."""

MARKS = "*°"
"""What may stand behind a language's code: that something is wrong with it."""
_RIGHT = ("count", "number", "p", "interval")


@dataclass(frozen=True, slots=True)
class Value:
    """A measured number in its record's unit, its interval, and why either is missing."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any], name: str, ends: str = "") -> Value:
        """Returns number ``name`` of a record's JSON, its interval and ``<name>_reason``."""
        if name not in row:
            return cls(None, reason=_NOT_FORMED)
        low, high = row[ends or f"{name}_ci"] or (None, None)
        reason = row.get(f"{name}_reason", "")
        if reason is None and None in (row[name], low, high):
            reason = "undefined" if row[name] is None else "draws do not vary"
        return cls(row[name], low, high, reason or "")

    @classmethod
    def told(cls, one: Mapping[str, Any]) -> Value:
        """Returns an estimate's JSON, whose reason another column or sentence gives."""
        return cls(one["value"], one["low"], one["high"])

    @property
    def gap(self) -> str:
        """Why the number, or its interval, is missing; empty where neither is."""
        if self.value is None:
            return self.reason
        return f"no interval: {self.reason}" if self.reason and None in self.ends else ""

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Low and high."""
        return self.low, self.high


_NOT_FORMED = "not formed by the bitgap that stored this run"

Cell = str | int | float | bool | None | Value


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds, and how its cells are written."""

    key: str
    """What code and data frames call it."""
    name: str
    """What readers do."""
    kind: Kind = "text"
    unit: str = ""
    """Stands in the head after the name."""
    factor: float = 1.0
    """What numbers are multiplied with to be in the unit."""
    decimals: int | None = None
    """Of numbers that stand under each other; None for as many as give the largest three digits."""
    signed: bool = False
    """Whether numbers above 0 have a plus."""
    width: float = 0.0
    """Share of a printed line that is left by columns of 0, which are as wide as their cells."""
    note: str = ""
    """What the name means, as a sentence."""

    @property
    def head(self) -> str:
        """The name with the unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def right(self) -> bool:
        """Whether cells end in one line, as numbers do."""
        return self.kind in _RIGHT

    def text(self, cell: Cell, decimals: int | None = None) -> str:
        """Returns one cell in characters; ``decimals`` stand for those of the whole column."""
        decimals = self.decimals if self.decimals is not None else decimals
        if isinstance(cell, Value):
            if cell.value is None:
                return MISSING
            if self.kind == "estimate":
                return told(cell.value, cell.ends, self.factor, signed=self.signed)
            numbers = [decimal(x, self.factor, decimals or 0, signed=self.signed)
                       for x in (cell.value, cell.low, cell.high)]  # fmt: skip
            if self.kind == "number" or lacks(cell.ends):
                return numbers[0]
            return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
        if cell is None:
            return MISSING
        if isinstance(cell, bool):
            return "yes" if cell else "no"
        if isinstance(cell, str):
            return cell
        if self.kind == "count":
            return f"{cell:,}"
        if self.kind == "p":
            return f"{cell:.3g}"
        return decimal(cell, self.factor, decimals or 0, signed=self.signed)

    def common_decimals(self, cells: Sequence[Cell]) -> int:
        """Returns how many decimals numbers that stand below each other have."""
        if self.decimals is not None:
            return self.decimals
        values = [cell.value if isinstance(cell, Value) else cell for cell in cells]
        return decimals_of(v * self.factor for v in values if isinstance(v, int | float))

    def texts(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the cells in characters; numbers of one unit share their decimals."""
        decimals = self.common_decimals(cells) if self.kind in ("number", "interval") else None
        return [self.text(cell, decimals) for cell in cells]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows and columns with one title and one text on how to read them."""

    id: str
    title: str
    """Without a stop at its end."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """As many cells each as columns; the first names the row."""
    notes: tuple[str, ...] = ()
    """Sentences; those of columns come before them."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.id

    def only(self, *keys: str) -> Table:
        """Returns the table with these columns, in this order."""
        by_key = {column.key: i for i, column in enumerate(self.columns)}
        places = [by_key[key] for key in keys]
        return replace(
            self,
            columns=tuple(self.columns[i] for i in places),
            rows=tuple(tuple(row[i] for i in places) for row in self.rows),
        )

    def where(self, key: str, holds: Callable[[Cell], bool]) -> Table:
        """Returns the table with only the rows for whose cell under a key something holds."""
        kept = zip(self.rows, self.column(key), strict=True)
        return replace(self, rows=tuple(row for row, cell in kept if holds(cell)))

    def largest_first(self, key: str) -> Table:
        """Returns the table with rows by the number under a key; those without one come last."""

        def size(pair: tuple[tuple[Cell, ...], Cell]) -> float:
            value = pair[1].value if isinstance(pair[1], Value) else None
            return -math.inf if value is None else value

        pairs = sorted(zip(self.rows, self.column(key), strict=True), key=size, reverse=True)
        return replace(self, rows=tuple(row for row, _ in pairs))

    def column(self, key: str) -> list[Cell]:
        """Returns the cells under a key."""
        place = [column.key for column in self.columns].index(key)
        return [row[place] for row in self.rows]

    def texts(self, *, reasons: bool = False) -> list[list[str]]:
        """Returns all cells in characters, by rows; with why a number is missing, if asked."""
        columns = [c.texts(self.column(c.key)) for c in self.columns]
        rows = [list(row) for row in zip(*columns, strict=True)] if self.rows else []
        if reasons:
            for cells, row in zip(rows, self.rows, strict=True):
                for i, cell in enumerate(row):
                    if isinstance(cell, Value) and cell.value is None and cell.reason:
                        cells[i] += f" ({cell.reason})"
        return rows

    @property
    def reading(self) -> tuple[str, ...]:
        """How to read it: what columns mean in one paragraph, then the notes."""
        meanings = " ".join(column.note for column in self.columns if column.note)
        return tuple(filter(None, (meanings, *self.notes)))

    @property
    def caption(self) -> str:
        """Title and reading as one text."""
        return " ".join((f"{self.title}.", *self.reading))

    @property
    def gaps(self) -> tuple[str, ...]:
        """One sentence a reason why numbers or intervals are missing, with all it holds for."""
        rows: dict[tuple[str, str], list[str]] = {}
        for column in self.columns:
            for row, cell in zip(self.rows, self.column(column.key), strict=True):
                if isinstance(cell, Value) and cell.gap:
                    rows.setdefault((column.name, cell.gap), []).append(unmarked(str(row[0])))
        return tuple(
            f"{name} of {', '.join(names)}: {reason}." for (name, reason), names in rows.items()
        )


class Record(Protocol):
    """What says itself as JSON, such as a report or a layer map."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        ...


def json_of(result: Record | Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the JSON of a result, which a command has as a record and a store as JSON."""
    return result if isinstance(result, Mapping) else result.as_dict()


def by_key(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]
) -> tuple[tuple[Cell, ...], ...]:
    """Returns cells from JSON: a column's stands under its key, an interval's with its ends."""
    return tuple(
        tuple(Value.of(row, c.key) if c.kind == "interval" else row.get(c.key) for c in columns)
        for row in rows
    )


def unmarked(name: str) -> str:
    """Returns the name of a row without the marks behind it, which notes explain."""
    return name.rstrip(MARKS)
