"""How synergy is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import SIZE, colour, framed_ends, heading, matrix, side_by_side, tip


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the interaction of every two blocks, and D of the four cells beside the null's."""
    charts = [
        matrix(
            finding.tables["pairs"],
            title="What two blocks protect together beyond the sum",
            x="first",
            y="second",
            value="interaction",
            x_title="block",
            y_title="block",
            name="share of K(none)",
            signed=True,
            outlined=framed_ends(finding.tables["pairs"], "first", "second"),
        )
    ]
    rows = [
        {"protected": row["protected"], "disparity": row[name], "of": of}
        for row in finding.tables["cells"]
        for of, name in (("measured", "disparity"), ("if damage added up", "additive_disparity"))
        if row.get(name) is not None
    ]
    if rows:
        charts.append(_cells_chart(rows))
    return side_by_side(*(chart for chart in charts if chart["data"]["values"]))


def _cells_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names, series = (list(dict.fromkeys(row[key] for row in rows)) for key in ("protected", "of"))
    of = colour("of", series)
    encoding = {
        "x": {"field": "protected", "type": "nominal", "title": "protected", "sort": names,
              "axis": {"labelAngle": 0}},
        "y": {"field": "disparity", "type": "quantitative", "title": "D, log2 ratio"},
        "color": of,
        "shape": of,
        "tooltip": tip(("protected", "protected:"), ("of", "number:"), ("disparity", "D")),
    }  # fmt: skip
    # Moved apart by the mark: a scale of offsets would change the matrix beside it.
    layers = [
        {"data": {"values": [row for row in rows if row["of"] == name]}, "encoding": encoding,
         "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "xOffset": 16 * k - 8}}
        for k, name in enumerate(series)
    ]  # fmt: skip
    title = heading("D with neither, one or both ends protected")
    return {"title": title, **SIZE, "data": {"values": rows}, "layer": layers}
