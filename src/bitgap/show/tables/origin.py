"""The origin's claims, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.numbers import MISSING
from bitgap.show.table import Column, Record, Table, json_of

Json = Mapping[str, Any]


def ledger_table(replay: Record | Json) -> Table:
    """Returns a row a claim.

    Args:
        replay: A :class:`bitgap.theory.origin.ledger.Ledger`, or its JSON.
    """
    ledger = json_of(replay)
    columns = (
        Column("claim", "claim"),
        Column("text", "says"),
        Column("where", "where"),
        Column("measured", "the origin's numbers"),
        Column("found", "the same here, the origin's way"),
        Column("exact", "exactly", "label"),
        Column("outcome", "in the origin's measure", "label"),
        Column("outcome_here", "in ours", "label"),
        Column("how", "how"),
    )
    outcomes = {"exact": "exact_reason", "outcome": "reason", "outcome_here": "reason_here"}

    def cell(row: Json, key: str) -> str:
        if key in outcomes:
            return f"{row[key]}: {row[outcomes[key]]}"
        return _numbers(row[key]) if key in ("measured", "found") else row[key]

    return Table(
        id="ledger",
        title="The origin's claims",
        columns=columns,
        rows=tuple(tuple(cell(row, c.key) for c in columns) for row in ledger["rows"]),
        notes=("A claim is replayed exactly only on GPT-2's own weights; otherwise its direction "
               "or order is tested on the model at hand, in the origin's scope and measure, and "
               "in ours (block linears at the operating point, D and G). It holds or fails only "
               "if the interval is clear of the threshold that was declared for it in "
               "src/bitgap/theory/origin/claims.toml beforehand. Where ours is |D| per text, the "
               "outcome is one of that measure alone: in it languages cancel, and it does not "
               "answer for the spread between them.",),
    )  # fmt: skip


def _numbers(values: Mapping[str, float | None]) -> str:
    return "; ".join(
        f"{name} {MISSING if v is None else format(v, '.4g')}" for name, v in values.items()
    )


def outcome_table(replay: Record | Json) -> Table:
    """Returns how many claims came out how, a row a way of judging them."""
    counts = json_of(replay)["counts"]
    names = list(next(iter(counts.values())))
    return Table(
        id="outcomes",
        title="Claims by outcome",
        columns=(Column("kind", "claims"), *(Column(name, name, "count") for name in names)),
        rows=tuple((kind, *(found[name] for name in names)) for kind, found in counts.items()),
    )
