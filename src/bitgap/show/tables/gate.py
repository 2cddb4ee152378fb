"""Whether a file may replace full precision, by language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.numbers import Unit
from bitgap.show.table import Column, Record, Table, Value, json_of

Json = Mapping[str, Any]


def gate_table(gate: Record | Json) -> Table:
    """Returns a row a language, those beyond the limit first.

    Args:
        gate: A :class:`bitgap.disparity.gate.Gate`, or its JSON.
    """
    found = json_of(gate)
    unit = Unit.of((row["harm"] for row in found["languages"].values()), found["reference"])
    order = ("beyond", "cannot be told", "within")
    rows = sorted(found["languages"].items(), key=lambda item: order.index(item[1]["outcome"]))
    limit = f"{found['max_harm'] * unit.factor:.3g} {unit.name}"
    return Table(
        id="gate",
        title=f"Harm by language against a limit of {limit}",
        columns=(
            Column("language", "language", "language"),
            Column("outcome", "outcome"),
            Column("harm", "Δ", "estimate", unit.name, unit.factor, signed=True,
                   note=f"Δ: change of NLL. {unit.note}."),
            Column("reason", "why", width=1.0),
        ),
        rows=tuple(
            (code, row["outcome"], Value.of(row, "harm"), row["reason"]) for code, row in rows
        ),
        notes=(f"Refused falsely in any language, or let through falsely, in at most "
               f"{found['alpha']:.0%} of cases; intervals over {found['n_sentences']} sentences.",),
    )  # fmt: skip
