"""How T-009 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import lines


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns d′ above the embedding's by depth with its interval, thin lines for each language."""
    table, window = finding.tables["profile"], finding.tables["window"]
    n = len(table) - 1
    rows = [
        {
            "block": row["block"],
            "value": row["alignment"],
            "measure": "mean",
            "low": row["low"],
            "high": row["high"],
        }
        for row in table
    ]
    thin = [
        {"block": row["block"], "value": value, "measure": code}
        for row in table
        for code, value in row["by_language"].items()
    ]
    return lines(
        rows,
        title="Where languages meet (thin: each language)",
        x="block",
        y="value",
        series="measure",
        x_title="output of block",
        y_title="d′ of parallel against other pairs, above the embedding's",
        band=(window[0] * n, window[1] * n),
        interval=("low", "high"),
        faint=thin,
    )
