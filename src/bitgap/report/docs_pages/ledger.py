"""``docs/replication.md``: the origin's claims, and what became of each. No number is typed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.tables.origin import ledger_table, outcome_table
from bitgap.show.to_markdown import rows_of, to_markdown

Json = Mapping[str, Any]


def ledger_page(result: Json, facts: Mapping[str, object]) -> str:
    """Returns the page of a replay.

    Args:
        result: As :meth:`bitgap.theory.origin.ledger.Ledger.as_dict` has it.
        facts: What it was made by and with, by name.
    """
    parts = (
        "# The origin's claims, replayed",
        "Written by `bitgap replicate`, by no hand.",
        rows_of(["made with", ""], {**facts, "model": result["model"]}.items()),
        to_markdown(outcome_table(result)),
        to_markdown(ledger_table(result)),
    )
    return "\n\n".join(parts) + "\n"
