"""``docs/predictions/outcomes.md``: dated predictions, and how good they were. By no hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitgap.show.table import Column, Table
from bitgap.show.tables.theory import forecast_table, scores_table
from bitgap.show.to_markdown import rows_of, to_markdown

Json = Mapping[str, Any]


def checks_page(result: Json, facts: Mapping[str, object]) -> str:
    """Returns the page of predictions that were checked.

    Args:
        result: ``checks`` and ``summary`` as of :mod:`bitgap.theory.forecast.prediction`, and
            ``unscored``: a ``file`` and a ``reason`` each.
        facts: What it was made by and with, by name.
    """
    checks = forecast_table(result["checks"])
    unscored = Table(
        id="unscored",
        title="Not scored",
        columns=(Column("file", "prediction"), Column("reason", "why")),
        rows=tuple((Path(row["file"]).name, row["reason"]) for row in result["unscored"]),
    )
    parts = (
        "# Predictions, and what came of them",
        "Written by `bitgap check`, by no hand. Every prediction was made, hashed and committed "
        "before the model it is of was measured.",
        rows_of(["made with", ""], facts.items()),
        *(
            to_markdown(table)
            for table in (
                scores_table(result["summary"]),
                replace(checks, title="Each prediction"),
                unscored,
            )
            if table.rows
        ),
    )
    return "\n\n".join(parts) + "\n"
