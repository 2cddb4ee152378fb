"""Numbers as people read them, and tables whose columns line up.

Numbers of a column share a unit and their decimals, so that digits stand under digits; a number
that is missing is a dash, and :class:`Notes` collects why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

MISSING = "–"


_PREFIXES = (("", "a bit"), ("m", "a thousandth of a bit"), ("µ", "a millionth of a bit"))


# Digits of a column's largest number; the others show as many decimals.
_DIGITS, _MAX_DECIMALS = 3, 7


Ends = Sequence[float | None] | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Bits, or a fraction of them in which a table's numbers have few digits."""

    power: int
    """1 for thousandths, 2 for millionths."""

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Unit:
        """Returns the unit in which the largest value is between 1 and 1000, if there is one."""
        largest = max((abs(v) for v in values if v is not None), default=0.0)
        power = -math.floor(math.log10(largest) / 3) if largest > 0 else 0
        return cls(min(max(power, 0), len(_PREFIXES) - 1))

    @property
    def factor(self) -> float:
        """What bits are multiplied with."""
        return 1000.0**self.power

    @property
    def name(self) -> str:
        """Such as ``mbit``."""
        return f"{_PREFIXES[self.power][0]}bit"

    @property
    def note(self) -> str:
        """What the name means."""
        return f"{self.name}: {_PREFIXES[self.power][1]} per English character"


class Columns:
    """A table that grows by columns."""

    def __init__(self, header: str, cells: Sequence[str]) -> None:
        """Begins with a column of names."""
        self._columns = [(header, cells, True)]

    def add(self, header: str, cells: Sequence[str], *, left: bool = False) -> None:
        """Adds a column of text, or of numbers to the right."""
        self._columns.append((header, cells, left))

    def measure(
        self,
        header: str,
        rows: Iterable[Mapping[str, Any]],
        name: str,
        ends: str,
        factor: float = 1.0,
        *,
        signed: bool = False,
        decimals: int | None = None,
    ) -> None:
        """Adds a column of numbers, and one of their intervals.

        Args:
            header: Above the numbers.
            rows: JSON of each row.
            name: Key of the number.
            ends: Key of [low, high].
            factor: What both are multiplied with.
            signed: Whether to show a plus.
            decimals: How many to show; by default so many that the largest has three digits.
        """
        rows = list(rows)
        values = [row[name] for row in rows]
        if decimals is None:
            decimals = _decimals([v * factor for v in values if v is not None])
        self.add(header, [_number(v, factor, decimals, signed) for v in values])
        self.add("95 %", [_range(row[ends], factor, decimals, signed) for row in rows])

    def render(self) -> Table:
        """Returns the table."""
        table = Table(box=None, pad_edge=False, header_style="")
        for header, _, left in self._columns:
            table.add_column(header, justify="left" if left else "right", overflow="fold")
        for row in zip(*(cells for _, cells, _ in self._columns), strict=True):
            table.add_row(*map(Text, row))
        return table


class Notes:
    """Why numbers or intervals of a table are missing."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str, str]] = []

    def gather(
        self, header: str, rows: Mapping[str, Mapping[str, Any]], name: str, ends: str
    ) -> None:
        """Notes the reasons in the rows' own words, from ``<name>_reason``."""
        for label, row in rows.items():
            if row[name] is None:
                self._said.append((header, row[f"{name}_reason"] or "undefined", label))
            elif lacks(row[ends]):
                reason = row[f"{name}_reason"] or "draws do not vary"
                self._said.append((header, f"no interval: {reason}", label))

    def lines(self) -> list[str]:
        """Returns one sentence a reason, with all that it holds for."""
        grouped = groupby(sorted(self._said, key=lambda s: s[:2]), key=lambda s: s[:2])
        return [
            f"{header} of {', '.join(label for *_, label in items)}: {reason}."
            for (header, reason), items in grouped
        ]


def bullets(lines: Iterable[str]) -> list[Table]:
    """Returns sentences with a dot before each, and their further lines under their first."""
    out = []
    for line in lines:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text("·", style="dim"), Text(line, style="dim"))
        out.append(grid)
    return out


def grid(rows: Iterable[Sequence[str]]) -> Table:
    """Returns lines of a label, a value and what it means."""
    table = Table.grid(padding=(0, 2))
    for label, *values, last in rows:
        table.add_row(Text(label), *map(Text, values), Text(last, style="dim"))
    return table


def aligned(
    values: Sequence[float | None], factor: float = 1.0, *, signed: bool = False
) -> list[str]:
    """Returns numbers with as many decimals each."""
    decimals = _decimals([v * factor for v in values if v is not None])
    return [_number(v, factor, decimals, signed) for v in values]


def told(value: float | None, ends: Ends, factor: float = 1.0, *, signed: bool = True) -> str:
    """Returns one number with its interval, such as ``+0.12 [-0.30, +0.54]``."""
    if value is None:
        return "none"
    decimals = _decimals([value * factor, *(end * factor for end in ends or () if end is not None)])
    number = _number(value, factor, decimals, signed)
    if ends is None or lacks(ends):
        return number
    low, high = (_number(end, factor, decimals, signed) for end in ends)
    return f"{number} [{low}, {high}]"


def lacks(ends: Ends) -> bool:
    """Returns whether an interval is missing or has no end."""
    return not ends or None in ends


def layer_list(layers: Sequence[int]) -> str:
    """Returns layer numbers, neighbours as a range, such as ``0, 7-11``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def short_name(model: str) -> str:
    """Returns a model's name without the folders before it, on one line."""
    name = model.rstrip("/").rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() else " " for c in name)


def _decimals(values: Sequence[float]) -> int:
    largest = max(map(abs, values), default=0.0)
    if not largest > 0:
        return 1
    return min(max(_DIGITS - 1 - math.floor(math.log10(largest)), 0), _MAX_DECIMALS)


def _number(value: float | None, factor: float, decimals: int, signed: bool) -> str:
    if value is None:
        return MISSING
    text = f"{value * factor:{'+' if signed else ''}.{decimals}f}"
    # A number that rounds to nothing has no sign worth showing.
    return text.replace("-", "").replace("+", "") if float(text) == 0 else text


def _range(ends: Ends, factor: float, decimals: int, signed: bool) -> str:
    if ends is None or lacks(ends):
        return MISSING
    return "…".join(_number(end, factor, decimals, signed) for end in ends)
