"""The few chart shapes that experiments share, as Vega-Lite specifications without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# Okabe & Ito 2008: told apart with every common form of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Rows = Sequence[Mapping[str, Any]]
Chart = dict[str, Any]

_SIZE = {"width": 420, "height": 240}
_GREY = "#777777"


def lines(
    rows: Rows,
    *,
    title: str,
    x: str,
    y: str,
    series: str,
    x_title: str,
    y_title: str,
    band: tuple[float, float] | None = None,
    interval: tuple[str, str] | None = None,
    faint: Rows = (),
) -> Chart:
    """Returns lines over layers, with an optional shaded window, interval bars and thin lines.

    Args:
        rows: One mapping a point.
        title: Above the chart.
        x: Field of the layer number.
        y: Field of the value.
        series: Field that names the line.
        x_title: Axis title.
        y_title: Axis title with unit.
        band: Range of x to shade.
        interval: Fields of the lower and upper end; points without them get no bar.
        faint: Points of more lines, with the same fields, drawn thin and grey, one a series.
    """
    place = {
        "x": {"field": x, "type": "quantitative", "title": x_title, "axis": {"tickMinStep": 1}},
        "y": {"field": y, "type": "quantitative", "title": y_title, "scale": {"zero": False}},
    }
    encoding = {**place, "color": _colour(series)}
    layers: list[Chart] = [_band(band)] if band else []
    if faint:
        mark = {"type": "line", "color": _GREY, "opacity": 0.35, "strokeWidth": 1}
        named = {key: {"field": series, "type": "nominal"} for key in ("detail", "tooltip")}
        layers.append(
            {"data": {"values": list(faint)}, "mark": mark, "encoding": {**place, **named}}
        )
    if interval:
        low, high = interval
        ends = {
            "y": {"field": low, "type": "quantitative", "title": y_title},
            "y2": {"field": high},
        }
        barred = [row for row in rows if row.get(low) is not None]
        mark = {"type": "rule", "opacity": 0.6}
        layers.append({"data": {"values": barred}, "mark": mark, "encoding": {**encoding, **ends}})
    layers.append({"mark": {"type": "line", "point": True}, "encoding": encoding})
    return {"$schema": SCHEMA, "title": title, **_SIZE, "data": {"values": list(rows)},
            "layer": layers}  # fmt: skip


def bars(rows: Rows, *, title: str, x: str, y: str, part: str, y_title: str) -> Chart:
    """Returns bars over layers, stacked by ``part``; negative parts go below zero."""
    return {
        "$schema": SCHEMA,
        "title": title,
        **_SIZE,
        "data": {"values": list(rows)},
        "mark": "bar",
        "encoding": {
            "x": {"field": x, "type": "ordinal", "title": "block", "axis": {"labelAngle": 0}},
            "y": {"field": y, "type": "quantitative", "title": y_title},
            "color": _colour(part),
        },
    }


def points(
    rows: Rows,
    *,
    title: str,
    x: str,
    y: str,
    label: str,
    x_title: str,
    y_title: str,
    law: Rows = (),
) -> Chart:
    """Returns a scatter on log axes, each point labelled, with an optional line of a law.

    Args:
        rows: One mapping a point; x and y above 0.
        title: Above the chart.
        x: Field of the abscissa.
        y: Field of the ordinate.
        label: Field written beside each point.
        x_title: Axis title with unit.
        y_title: Axis title with unit.
        law: Points of the line, with fields x and y.
    """

    def axis(field: str, name: str) -> Chart:
        scale = {"type": "log", "zero": False, "nice": False, "padding": 12}
        return {"field": field, "type": "quantitative", "title": name, "scale": scale}

    place = {"x": axis(x, x_title), "y": axis(y, y_title)}
    text = {"text": {"field": label, "type": "nominal"}}
    layers: list[Chart] = [
        {"mark": {"type": "point", "filled": True, "color": PALETTE[0]}, "encoding": place},
        {"mark": {"type": "text", "dx": 8, "dy": -6}, "encoding": {**place, **text}},
    ]
    if law:
        mark = {"type": "line", "color": _GREY, "strokeDash": [4, 3]}
        layers.insert(0, {"data": {"values": list(law)}, "mark": mark, "encoding": place})
    return {"$schema": SCHEMA, "title": title, **_SIZE, "data": {"values": list(rows)},
            "layer": layers}  # fmt: skip


def matrix(
    rows: Rows,
    *,
    title: str,
    x: str,
    y: str,
    value: str,
    x_title: str,
    y_title: str,
    name: str,
    signed: bool = False,
) -> Chart:
    """Returns a heat map of ``value`` over two layer numbers; ``name`` heads the legend.

    Where values are signed, two hues part at 0.
    """
    scale = {"scheme": "blueorange", "domainMid": 0} if signed else {"scheme": "viridis"}
    return {
        "$schema": SCHEMA,
        "title": title,
        **_SIZE,
        "data": {"values": list(rows)},
        "mark": "rect",
        "encoding": {
            "x": {"field": x, "type": "ordinal", "title": x_title, "axis": {"labelAngle": 0}},
            "y": {"field": y, "type": "ordinal", "title": y_title},
            "color": {"field": value, "type": "quantitative", "title": name,
                      "scale": scale},
        },
    }  # fmt: skip


def side_by_side(*charts: Chart) -> Chart:
    """Returns charts in a row, each with colours of its own; without any, one that says so."""
    if not charts:
        said = {"field": "said", "type": "nominal"}
        return {"$schema": SCHEMA, "data": {"values": [{"said": "There is nothing to draw."}]},
                "mark": "text", "encoding": {"text": said}}  # fmt: skip
    inner = [{key: value for key, value in chart.items() if key != "$schema"} for chart in charts]
    return {"$schema": SCHEMA, "hconcat": inner, "resolve": {"scale": {"color": "independent"}}}


def _band(band: tuple[float, float]) -> Chart:
    return {
        "data": {"values": [{"from": band[0], "to": band[1]}]},
        "mark": {"type": "rect", "opacity": 0.12, "color": _GREY},
        "encoding": {"x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}},
    }


def _colour(field: str) -> Chart:
    return {"field": field, "type": "nominal", "title": None, "scale": {"range": list(PALETTE)}}
