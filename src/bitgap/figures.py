"""Figures of the audit and the map, as Vega-Lite specifications made from their JSON results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bitgap.experiments.catalog import find
from bitgap.experiments.charts import PALETTE, SCHEMA, Chart, lines, side_by_side
from bitgap.records import Finding

Json = Mapping[str, Any]

_PER_TEXT = "bits per English character"


def audit_figure(result: Json) -> Chart:
    """Returns damage, harm and damage over what was learned, by language with intervals."""
    rows = result["languages"]
    panels = [
        _by_language(rows, "damage", "ci", f"damage K, {_PER_TEXT}"),
        _by_language(rows, "delta", "delta_ci", f"change of NLL Δ, {_PER_TEXT}"),
        _by_language(rows, "learned_share", "learned_share_ci", "damage over learned, K/M"),
    ]
    return side_by_side(*(panel for panel in panels if panel))


def map_figure(result: Json) -> Chart:
    """Returns every layer's Shapley values with intervals, and its damage alone."""
    rows = result["layers"]
    bits = {"shapley_damage": "φ of damage K", "shapley_gap": "φ of gap G",
            "single_damage": "damage alone"}  # fmt: skip
    logs = {"shapley_disparity": "φ of |D|", "protected_disparity": "D with only it kept"}
    panels = [_by_layer(rows, bits, _PER_TEXT), _by_layer(rows, logs, "log2 ratio")]
    return side_by_side(*(panel for panel in panels if panel))


def finding_figures(findings: Iterable[Finding]) -> dict[str, Chart]:
    """Returns the figure of each finding's experiment, by id."""
    drawn = ((finding, find(finding.experiment).figure) for finding in findings)
    return {finding.experiment: dict(draw(finding)) for finding, draw in drawn if draw is not None}


def _by_language(rows: Mapping[str, Json], name: str, ends: str, title: str) -> Chart | None:
    points = [
        {"language": code, "value": row[name], "low": (row[ends] or (None, None))[0],
         "high": (row[ends] or (None, None))[1]}
        for code, row in rows.items()
        if row[name] is not None
    ]  # fmt: skip
    if not points:
        return None
    place = {"y": {"field": "language", "type": "nominal", "title": None, "sort": list(rows)}}
    across = {"field": "value", "type": "quantitative", "title": title}
    layers: list[Chart] = [
        {
            "mark": {"type": "point", "filled": True, "color": PALETTE[0]},
            "encoding": {**place, "x": across},
        }
    ]
    if barred := [point for point in points if point["low"] is not None]:
        span = {"x": {**across, "field": "low"}, "x2": {"field": "high"}}
        rule = {"mark": {"type": "rule", "color": PALETTE[0]}, "encoding": {**place, **span}}
        layers.insert(0, {"data": {"values": barred}, **rule})
    return {"$schema": SCHEMA, "width": 220, "data": {"values": points}, "layer": layers}


def _by_layer(rows: Iterable[Json], names: Mapping[str, str], unit: str) -> Chart | None:
    points = [
        {"layer": row["layer"], "value": row[name], "what": what, "low": low, "high": high}
        for name, what in names.items()
        for row in rows
        for low, high in [row[f"{name}_ci"]]
        if row[name] is not None
    ]
    if not points:
        return None
    return lines(
        points,
        title="What keeping a layer whole does",
        x="layer",
        y="value",
        series="what",
        x_title="block",
        y_title=unit,
        interval=("low", "high") if any(p["low"] is not None for p in points) else None,
    )
