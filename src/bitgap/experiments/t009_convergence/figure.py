"""How T-009 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import lines


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the profile by depth with its interval, and beside retrieval its variants.

    Retrieval is shown corrected, raw and by margin, with thin lines for each language; where it
    saturates, d′ is shown instead.
    """
    table, window = finding.tables["profile"], finding.tables["window"]
    n = len(table) - 1
    used = {"hits": "retrieval", "separation": "separation"}[finding.tables["measure"]]
    rows: list[dict[str, Any]] = []
    for row in table:
        embedding = row[used] - row["alignment"]
        ends = {end: row[end] + embedding for end in ("low", "high")}
        rows.append(
            {"block": row["block"], "value": row[used], "measure": "corrected means", **ends}
        )
    thin: list[dict[str, Any]] = []
    if used == "retrieval":
        rows += [
            {"block": row["block"], "value": row[field], "measure": name}
            for row in table
            for field, name in (
                ("retrieval_raw", "raw means"),
                ("retrieval_margin", "ratio margin"),
            )
        ]
        thin = [
            {"block": row["block"], "value": value, "measure": code}
            for row in table
            for code, value in row["by_language"].items()
        ]
    shares = "share of sentences that find their partner"
    return lines(
        rows,
        title="Where languages meet" + (" (thin: each language, corrected)" if thin else ""),
        x="block",
        y="value",
        series="measure",
        x_title="output of block",
        y_title=shares if used == "retrieval" else "d′ of parallel against other pairs",
        band=(window[0] * n, window[1] * n),
        interval=("low", "high"),
        faint=thin,
    )
