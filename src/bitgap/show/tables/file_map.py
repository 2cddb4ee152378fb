"""Which parts of a file hurt which languages, and what keeping each whole would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import Unit
from bitgap.show.table import Column, Record, Table, Value, json_of
from bitgap.show.words import first_named

Json = Mapping[str, Any]

_MOST = 3
"""Parts that are named for a language."""


def parts_table(file_map: Record | Json) -> Table:
    """Returns a row a part of a file.

    Args:
        file_map: A :class:`bitgap.disparity.file_map.FileMap`, or its JSON.
    """
    found = json_of(file_map)
    unit = Unit.of(row["alone"] for row in found["parts"])
    return Table(
        id="parts",
        title=f"What the parts of {found['file']} do",
        columns=(
            Column("part", "part", width=0.6),
            Column("stored", "type", width=0.4),
            Column("bits", "bits", "number", decimals=2),
            Column("alone", "alone", "interval", unit.name, unit.factor,
                   note=f"alone: damage of the part alone in the full-precision model, mean over "
                   f"languages. {unit.note}."),
            Column("relief", "kept whole", "interval", unit.name, unit.factor, signed=True,
                   note="kept whole: damage that keeping the part whole takes off the file's."),
            Column("extra", "costs, MiB", "number", factor=2.0**-20, decimals=2,
                   note="costs: what the file would grow by, at 16 bits a weight."),
        ),
        rows=tuple(
            (row["label"], row["stored"], row["bits"], _value(row, "alone"),
             _value(row, "relief"), row["extra_bytes"])
            for row in found["parts"]
        ),
        notes=("Intervals of 95 % over sentences.",),
    )  # fmt: skip


def part_languages_table(file_map: Record | Json) -> Table:
    """Returns a row a language: its damage, and the parts it would gain most from being whole.

    As :func:`parts_table`.
    """
    found = json_of(file_map)
    unit = Unit.of(found["whole"])
    rows: list[tuple[Any, ...]] = []
    for a, code in enumerate(found["languages"]):
        out = found["left_out"].get(code)
        rows.append((
            code,
            Value(found["whole"][a], *found["whole_ci"][a]),
            _most(found["parts"], "relief_by_language", a, unit),
            f"left out: {out}" if out else _harder(found["parts"], a),
        ))  # fmt: skip
    return Table(
        id="part-languages",
        title=f"Which parts of {found['file']} hurt whom",
        columns=(
            Column("language", "language", "language"),
            Column("whole", "K", "interval", unit.name, unit.factor,
                   note=f"K: damage of the file. {unit.note}."),
            Column("most", "gains most from keeping", width=0.5,
                   note=f"gains most from keeping: parts that take most off K when they are kept "
                   f"whole, in {unit.name}; those whose interval is above 0."),
            Column("harder", "hit harder than others by", width=0.5,
                   note="hit harder than others by: parts that alone do more to it than parts do "
                   "on average, by more than that is so for other languages, in log2; those whose "
                   "interval is above 0, one part at a time, so that of many some are by chance."),
        ),
        rows=tuple(rows),
        notes=("Intervals of 95 % over sentences.",),
    )  # fmt: skip


def _value(row: Json, key: str) -> Value:
    return Value(row[key], *row[f"{key}_ci"])


def _most(parts: Sequence[Json], key: str, a: int, unit: Unit) -> str:
    sure = {row["label"]: row[key][a] for row in parts if (row[f"{key}_ci"][a][0] or 0.0) > 0}
    order = sorted(sure, key=lambda label: -sure[label])
    return first_named([f"{label} {sure[label] * unit.factor:.3g}" for label in order], _MOST)


def _harder(parts: Sequence[Json], a: int) -> str:
    sure = {row["label"]: row["harder"][a] for row in parts if (row["harder_ci"][a][0] or 0.0) > 0}
    order = sorted(sure, key=lambda label: -sure[label])
    return first_named([f"{label} {sure[label]:+.2f}" for label in order], _MOST)
