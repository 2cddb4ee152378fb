"""The few chart shapes that experiments share, as Vega-Lite specifications without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# Okabe & Ito 2008: told apart with every common form of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def lines(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    x: str,
    y: str,
    series: str,
    x_title: str,
    y_title: str,
    band: tuple[float, float] | None = None,
    interval: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Returns lines over layers, with an optional shaded window and interval bars.

    Args:
        rows: One mapping a point.
        title: Above the chart.
        x: Field of the layer number.
        y: Field of the value.
        series: Field that names the line.
        x_title: Axis title.
        y_title: Axis title with unit.
        band: Range of x to shade.
        interval: Fields of the lower and upper end.
    """
    encoding = {
        "x": {"field": x, "type": "quantitative", "title": x_title, "axis": {"tickMinStep": 1}},
        "y": {"field": y, "type": "quantitative", "title": y_title, "scale": {"zero": False}},
        "color": {"field": series, "type": "nominal", "title": None,
                  "scale": {"range": list(PALETTE)}},
    }  # fmt: skip
    layers: list[dict[str, Any]] = []
    if band:
        layers.append(
            {
                "data": {"values": [{"a": band[0], "b": band[1]}]},
                "mark": {"type": "rect", "opacity": 0.12, "color": "#777777"},
                "encoding": {
                    "x": {"field": "a", "type": "quantitative"},
                    "x2": {"field": "b"},
                },
            }
        )
    if interval:
        ends = {
            "y": {"field": interval[0], "type": "quantitative", "title": y_title},
            "y2": {"field": interval[1]},
        }
        bars = {"mark": {"type": "rule", "opacity": 0.6}, "encoding": {**encoding, **ends}}
        layers.append(bars)
    layers.append({"mark": {"type": "line", "point": True}, "encoding": encoding})
    return {
        "$schema": SCHEMA,
        "title": title,
        "width": 420,
        "height": 240,
        "data": {"values": list(rows)},
        "layer": layers,
    }


def bars(
    rows: Sequence[Mapping[str, Any]], *, title: str, x: str, y: str, part: str, y_title: str
) -> dict[str, Any]:
    """Returns bars over layers, stacked by ``part``; negative parts go below zero."""
    return {
        "$schema": SCHEMA,
        "title": title,
        "width": 420,
        "height": 240,
        "data": {"values": list(rows)},
        "mark": "bar",
        "encoding": {
            "x": {"field": x, "type": "ordinal", "title": "block", "axis": {"labelAngle": 0}},
            "y": {"field": y, "type": "quantitative", "title": y_title},
            "color": {"field": part, "type": "nominal", "title": None,
                      "scale": {"range": list(PALETTE)}},
        },
    }  # fmt: skip
