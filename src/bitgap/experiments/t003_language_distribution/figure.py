"""How T-003 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import lines, matrix, side_by_side


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns errors by block and language, beside U and what protection takes off S."""
    heat = matrix(
        finding.tables["errors"],
        title="Error at a block's linears against the reference's",
        x="block",
        y="language",
        value="log2_ratio",
        x_title="block",
        y_title="language",
        name="log2 ratio",
        signed=True,
    )
    rows = [
        {"block": row["block"], "series": name, "value": row[key]}
        for row in finding.tables["blocks"]
        for name, key in (
            ("inequality U of errors", "inequality"),
            ("fall of S where the block is protected", "fall"),
        )
        if row[key] is not None
    ]
    if not rows:
        return heat
    profiles = lines(
        rows,
        title="How unequally errors fall on languages, and what protecting the block takes off S",
        x="block",
        y="value",
        series="series",
        x_title="block",
        y_title="log2 units",
        rules={"": 0.0},
    )
    return side_by_side(heat, profiles)
