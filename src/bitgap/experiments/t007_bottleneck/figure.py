"""How T-007 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.records import Finding
from bitgap.show.charts import lines


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns four dimension profiles, each relative to its mean over blocks, window shaded."""
    table, window = finding.tables["profile"], finding.tables["window"]
    first = str(finding.tables["scales"][0]) if finding.tables["scales"] else None
    columns = {
        "participation ratio": [row["participation_ratio"] for row in table],
        "RankMe": [row["rank_me"] for row in table],
        "components for 95 %": [row["components_95"] for row in table],
        "TwoNN of sentence means": [row["gride"].get(first) for row in table],
    }
    rows: list[dict[str, Any]] = []
    for name, values in columns.items():
        if any(value is None for value in values):
            continue
        mean = float(np.mean(values))
        for row, value in zip(table, values, strict=True):
            point = {"block": row["block"], "value": value / mean, "measure": name}
            if name == "participation ratio" and row["low"] is not None:
                point |= {end: row[end] / mean for end in ("low", "high")}
            rows.append(point)
    n = len(table) - 1
    return lines(
        rows,
        title="Dimensions that states fill, relative to each measure's mean",
        x="block",
        y="value",
        series="measure",
        x_title="output of block",
        y_title="dimension over its mean over blocks",
        band=(window[0] * n, window[1] * n),
        interval=("low", "high") if any("low" in row for row in rows) else None,
    )
