"""Which matrices hurt which languages, each alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import Unit
from bitgap.show.table import Column, Record, Table, Value, json_of
from bitgap.show.words import first_named

Json = Mapping[str, Any]

_MOST = 3
"""Matrices that are named for a language."""


def unit_table(unit_map: Record | Json, model: str = "") -> Table:
    """Returns a row a block, with the share of all damage that each of its matrices does.

    Args:
        unit_map: A :class:`bitgap.disparity.unit_map.UnitMap`, or its JSON.
        model: Its name, where a table stands among those of others.
    """
    found = json_of(unit_map)
    names = list(dict.fromkeys(row["unit"] for row in found["units"]))
    short = short_units(names)
    shares: dict[int, dict[str, float | None]] = {}
    for row in found["units"]:
        shares.setdefault(row["block"], {})[row["unit"]] = row["share"]
    return Table(
        id="units",
        title=f"What each matrix does alone{f', {model}' if model else ''} "
        f"at {found['unit_scheme']}",
        columns=(
            Column("block", "block"),
            *(
                Column(name, short[name], "number", "%", 100.0, decimals=1) for name in names
            ),
        ),
        rows=tuple(
            (f"L{block}", *(of.get(name) for name in names)) for block, of in shares.items()
        ),
        notes=(
            "Share of the damage that matrices do alone, mean over languages; all add up to 100 %.",
        ),
    )  # fmt: skip


def unit_languages_table(unit_map: Record | Json, model: str = "") -> Table:
    """Returns a row a language: its damage, and the matrices that hurt it most, and more than
    others. As :func:`unit_table`.
    """
    found = json_of(unit_map)
    unit = Unit.of(found["whole"])
    short = short_units([row["unit"] for row in found["units"]])
    rows: list[tuple[Any, ...]] = []
    for a, code in enumerate(found["languages"]):
        most = sorted(found["units"], key=lambda row: -(row["shares"][a] or 0.0))[:_MOST]
        rows.append((
            code,
            Value(found["whole"][a], *found["whole_ci"][a]),
            Value(found["additive"][a], *found["additive_ci"][a]),
            ", ".join(f"{_label(row, short)} {row['shares'][a]:.0%}" for row in most
                      if row["shares"][a] is not None),
            _harder(found["units"], a, short) if code not in found["left_out"]
            else f"left out: {found['left_out'][code]}",
        ))  # fmt: skip
    return Table(
        id="unit-languages",
        title=f"Which matrices hurt whom{f', {model}' if model else ''}",
        columns=(
            Column("language", "language", "language"),
            Column("whole", "K", "interval", unit.name, unit.factor,
                   note=f"K: damage with every block rounded. {unit.note}."),
            Column("additive", "sum/K", "interval", decimals=2,
                   note="sum/K: what matrices do alone, added up, over K; 1 where damage adds up."),
            Column("most", "hurt most by", width=0.5,
                   note="hurt most by: matrices with the largest shares of what matrices do to it "
                   "alone."),
            Column("harder", "more than others by", width=0.5,
                   note="more than others by: matrices whose share is above the languages' mean, "
                   "largest excess first, in points; those whose interval is above 0, one matrix "
                   "at a time, so that of many some are by chance."),
        ),
        rows=tuple(rows),
        notes=("Intervals of 95 % over sentences.",),
    )  # fmt: skip


def short_units(names: Sequence[str]) -> dict[str, str]:
    """Returns what matrices are called in a head: the last part of the name where that is unique.

    Example:
        >>> short_units(["attn.c_proj", "mlp.c_proj", "attn.c_attn"])
        {'attn.c_proj': 'attn.c_proj', 'mlp.c_proj': 'mlp.c_proj', 'attn.c_attn': 'c_attn'}
    """
    unique = list(dict.fromkeys(names))
    leaves = [name.rpartition(".")[2] for name in unique]
    return {
        name: leaf if leaves.count(leaf) == 1 else name
        for name, leaf in zip(unique, leaves, strict=True)
    }


def _label(row: Json, short: Mapping[str, str]) -> str:
    return f"L{row['block']} {short[row['unit']]}"


def _harder(units: Sequence[Json], a: int, short: Mapping[str, str]) -> str:
    """Returns the matrices that hit language ``a`` clearly harder than languages on average."""
    excess = {
        _label(row, short): row["shares"][a] - row["share"]
        for row in units
        if (row["harder_ci"][a][0] or 0.0) > 0
    }
    order = sorted(excess, key=lambda label: -excess[label])
    return first_named([f"{label} {100 * excess[label]:+.1f}" for label in order], _MOST)
