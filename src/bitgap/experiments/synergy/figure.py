"""How synergy is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import (
    SIZE,
    Chart,
    Figure,
    colour,
    framed_ends,
    layer,
    matrix,
    number,
    panel,
    side_by_side,
    tip,
)


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the interaction of every two blocks, and S of the four cells beside the null's."""
    charts = [
        _pairs_chart(
            finding.tables["pairs"],
            "What two blocks protect together beyond the sum",
            "share of what the last block is worth",
        )
    ]
    rows = [
        {"protected": row["protected"], "spread": row[name], "of": of}
        for row in finding.tables["cells"]
        for of, name in (("measured", "spread"), ("if damage added up", "additive_spread"))
        if row.get(name) is not None
    ]
    if rows:
        charts.append(_cells_chart(rows))
    return side_by_side(*(chart for chart in charts if chart["data"]["values"]))


def further_figures(finding: Finding) -> Sequence[Figure]:
    """Returns the interaction of every two blocks by itself, in percent; nothing without pairs."""
    pairs = finding.tables.get("pairs", ())
    if not pairs:
        return ()
    chart = _pairs_chart(
        [row | {"interaction": float(f"{100 * row['interaction']:.5g}")} for row in pairs],
        "What two blocks protect together beyond the sum of what each protects",
        "% of what the last block is worth",
    )
    return (
        Figure(
            "synergy-matrix",
            "Blocks that protect more together",
            "Banzhaf interaction of every two blocks: above zero they protect more together than "
            "the sum of what each protects. Framed: the first and the last block.",
            finding.sentence,
            {**chart, "width": 380, "height": 330},
        ),
    )


def _pairs_chart(pairs: Sequence[dict[str, Any]], title: str, unit: str) -> Chart:
    return matrix(
        pairs,
        title=title,
        x="first",
        y="second",
        value="interaction",
        x_title="block",
        y_title="and block",
        name=unit,
        signed=True,
        outlined=framed_ends(pairs, "first", "second"),
    )


def _cells_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names, series = (list(dict.fromkeys(row[key] for row in rows)) for key in ("protected", "of"))
    of = colour("of", series)
    encoding = {
        "x": {"field": "protected", "type": "nominal", "title": "protected", "sort": names,
              "axis": {"labelAngle": 0}},
        "y": number("spread", "S, log2"),
        "color": of,
        "shape": of,
        "tooltip": tip(("protected", "protected:"), ("of", "number:"), ("spread", "S")),
    }  # fmt: skip
    # Moved apart by the mark: a scale of offsets would change the matrix beside it.
    dot = {"filled": True, "size": 90, "opacity": 1}
    layers = [
        layer("point", encoding, [r for r in rows if r["of"] == name], xOffset=16 * k - 8, **dot)
        for k, name in enumerate(series)
    ]
    return panel("Gap S with neither, one or both ends protected", rows, layers, **SIZE)
