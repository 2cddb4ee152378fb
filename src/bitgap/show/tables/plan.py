"""What measurements would cost, and in which order to make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import short_name
from bitgap.show.table import Column, Table, by_key
from bitgap.show.words import duration, size

Json = Mapping[str, Any]


def preflights_table(rows: Sequence[Json]) -> Table:
    """Returns what several models would take, a row each."""
    total = sum(row["time_s"] for row in rows)
    return Table(
        id="preflights",
        title="What these models would take",
        columns=(Column("model", "model"), Column("time", "time"), Column("memory", "memory")),
        rows=tuple(
            (short_name(row["model"]), duration(row["time_s"]), size(row["memory_bytes"]))
            for row in rows
        ),
        notes=(f"about {duration(total)} together, if the store held nothing",),
    )


def priority_table(result: Json) -> Table:
    """Returns a row an experiment, the one to run first first.

    Args:
        result: Of ``bitgap plan``.
    """
    matrix, time, memory = result["matrix"], "time_s", "memory_bytes"
    notes = [matrix["note"]]
    if matrix[time] is not None:
        notes.append(f"all of it, sharing: about {duration(matrix[time])}")
    columns = (
        Column("order", "order", "count"),
        Column("id", "experiment"),
        Column("hypothesis", "hypothesis"),
        Column("phase", "phase", "count"),
        Column("value", "value"),
        Column("device", "on"),
        Column("time", "time"),
        Column("memory", "memory"),
    )
    costs = (
        {**row, "device": row["device"] or None,
         "time": None if row[time] is None else duration(row[time]),
         "memory": None if row[memory] is None else size(row[memory])}
        for row in matrix["rows"]
    )  # fmt: skip
    return Table(
        id="priorities",
        title=f"What to run first on {short_name(result['model'])}, {result['languages']} "
        f"languages, tier {result['tier']}",
        columns=columns,
        rows=by_key(columns, costs),
        notes=tuple(notes),
    )  # fmt: skip
