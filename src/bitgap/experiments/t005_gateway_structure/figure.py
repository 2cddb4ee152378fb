"""How T-005 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import lines, matrix, side_by_side


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns how far measures lie from what nearby blocks predict, and outlyingness by block."""
    heat = matrix(
        finding.tables["heat"],
        title="How far each measure lies from what nearby blocks predict",
        x="block",
        y="measure",
        value="t",
        x_title="block",
        y_title="measure",
        name=finding.tables["heat_of"],
        signed=True,
    )
    rows = finding.tables["outlying"]
    if not rows:
        return heat
    standing = lines(
        rows,
        title="How far each block stands out (bars: by choice of measures)",
        x="block",
        y="value",
        series="what",
        x_title="block",
        y_title="outlyingness, mean log(1 + z²)",
        interval=("low", "high"),
    )
    return side_by_side(heat, standing)
