"""How depth is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import lines, side_by_side

_ALONE = {"shapley": "Shapley value", "alone": "alone"}


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns what each block adds once the ends are protected, beside what it is worth alone."""
    charts = list[dict[str, Any]]()
    # A finding stored before 2026-11-29, whose observations are gone, calls the table "layers".
    for game, title, unit in (
        ("damage", "What a block saves of the damage", "share of K(none)"),
        ("spread", "What a block takes off the spread S", "log2 units"),
        ("gap", "What a block takes off the gap G", "bits per English character"),
    ):
        rows = [
            {"block": row["block"], "gain": row[f"{kind}_{game}"], "as": name}
            | {end: row[f"{kind}_{game}_{end}"] for end in ("low", "high")}
            for row in finding.tables.get("blocks") or finding.tables["layers"]
            for kind, name in (*_ALONE.items(), ("added", "added to {0, L−1}"))
            if row.get(f"{kind}_{game}") is not None
        ]
        if rows:
            charts.append(
                lines(rows, title=title, x="block", y="gain", series="as", x_title="block",
                      y_title=unit, interval=("low", "high"), rules={"": 0.0})
            )  # fmt: skip
    return side_by_side(*charts)
