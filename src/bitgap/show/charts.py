"""The few chart shapes that experiments share, as Vega-Lite specifications without a library.

Inks and the colours of series come from the theme that a page or a file is drawn with, so that one
specification serves a light page and a dark one. Every mark says its numbers when it is pointed at;
nothing is said in that way alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.stats.verdicts import load_thresholds

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


# Okabe & Ito 2008: told apart with every common form of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

GREY = "#80868f"
"""Readable on white and on black."""

Rows = Sequence[Mapping[str, Any]]
Chart = dict[str, Any]
SIZE = {"width": 300, "height": 220}
_TITLE_WIDTH = 50
_SIGNED = ".3~g"


def heading(text: str) -> list[str]:
    """Returns a title in lines that fit over a panel."""
    return textwrap.wrap(text, _TITLE_WIDTH)


def block_axis(field: str, title: str = "block", norm: int | None = None) -> Chart:
    """Returns an axis of block numbers, written as people call blocks.

    Args:
        field: Of the number.
        title: Of the axis.
        norm: The number that stands for what follows the final norm.
    """
    axis = {"tickMinStep": 1, "labelExpr": _block_names(norm), "grid": False}
    return number(field, title, axis=axis, scale={"nice": False, "padding": 8})


def _block_names(norm: int | None = None) -> str:
    """Returns the expression for a block's name."""
    block = "'L' + datum.value"
    return block if norm is None else f"datum.value === {norm} ? 'norm' : {block}"


def number(field: str, title: str | list[str] | None = None, **more: Any) -> Chart:
    """Returns the channel of a number, such as an axis; without a title the field's name is one."""
    named = {} if title is None else {"title": title}
    return {"field": field, "type": "quantitative", **named, **more}


def category(field: str, **more: Any) -> Chart:
    """Returns the channel of a name, without a title."""
    return {"field": field, "type": "nominal", "title": None, **more}


def layer(mark: str, encoding: Chart, rows: Rows | None = None, /, **look: Any) -> Chart:
    """Returns one layer of a chart.

    Args:
        mark: Such as ``point``.
        encoding: Its channels.
        rows: Its own; those of the chart when None.
        **look: How the mark is drawn.
    """
    data = {} if rows is None else {"data": {"values": list(rows)}}
    return {**data, "mark": {"type": mark, **look}, "encoding": encoding}


def panel(title: str, rows: Rows, layers: Sequence[Chart], width: int, height: int) -> Chart:
    """Returns layers over shared rows, with a title."""
    return {"$schema": SCHEMA, "title": heading(title), "width": width, "height": height,
            "data": {"values": list(rows)}, "layer": list(layers)}  # fmt: skip


def dots(
    rows: Rows,
    place: Chart,
    value: Chart,
    said: list[Chart],
    *,
    color: Chart,
    shape: Chart,
    along: str = "x",
    size: int = 60,
    width: float = 1.6,
) -> list[Chart]:
    """Returns the layers of estimates: bars where there is an interval, and dots over them.

    Args:
        rows: Each with ``low`` and ``high``, None without an interval.
        place: The channels across the value.
        value: The channel of the value.
        said: What a dot says when it is pointed at, but for its interval.
        color: Of bars and dots.
        shape: Of dots.
        along: The axis of the value.
        size: Of a dot.
        width: Of a bar.
    """
    said = [*said, *tip(("low", "95 % from"), ("high", "to"))]
    span = {along: {**value, "field": "low"}, f"{along}2": {"field": "high"}}
    barred = [row for row in rows if row["low"] is not None]
    bars = {**place, **span, "color": color}
    filled = {"filled": True, "size": size, "opacity": 1}
    look = {"color": color, "shape": shape, "tooltip": said}
    dot = layer("point", {**place, along: value, **look}, **filled)
    return [layer("rule", bars, barred, strokeWidth=width), dot] if barred else [dot]


def tip(*columns: tuple[str, str], form: str = _SIGNED) -> list[Chart]:
    """Returns what a mark says when it is pointed at.

    Args:
        *columns: Field and its name; what is no number has a name that ends in a colon.
        form: d3 format of numbers.
    """
    return [
        {"field": field, "type": "nominal", "title": name.rstrip(":")}
        if name.endswith(":")
        else number(field, name, format=form)
        for field, name in columns
    ]


def chosen_in_legend(field: str, name: str) -> tuple[list[Chart], Chart]:
    """Returns the parameter by which a legend's entries can be chosen, and the opacity it gives.

    Args:
        field: Of the colour.
        name: Of the chart; parameters of charts side by side must differ.
    """
    slug = "".join(c for c in name if c.isascii() and c.isalnum())[:40]
    name = f"pick_{slug}"
    param = {"name": name, "select": {"type": "point", "fields": [field]}, "bind": "legend"}
    return [param], {"condition": {"param": name, "value": 1}, "value": 0.12}


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
    blocks: bool = True,
    norm: int | None = None,
    rules: Mapping[str, float] | None = None,
) -> Chart:
    """Returns lines over blocks, with an optional shaded window, interval bars and thin lines.

    Args:
        rows: One mapping a point.
        title: Above the chart.
        x: Field of the block number.
        y: Field of the value.
        series: Field that names the line.
        x_title: Axis title.
        y_title: Axis title with unit.
        band: Range of x to shade, the window about three quarters of the depth.
        interval: Fields of the lower and upper end; points without them get no bar.
        faint: Points of more lines, with the same fields, drawn thin and grey, one a series.
        blocks: Whether x is a block's number.
        norm: The number on x that stands for what follows the final norm.
        rules: Horizontal lines, by what is written at them.
    """
    horizontal = block_axis(x, x_title, norm) if blocks else number(x, x_title)
    place = {"x": horizontal, "y": number(y, y_title, scale={"zero": False})}
    params, opacity = chosen_in_legend(series, title)
    said = tip((series, "line:"), (x, x_title), (y, y_title))
    names = list(dict.fromkeys(row[series] for row in rows))
    encoding = {**place, "color": colour(series, names), "opacity": opacity}
    layers: list[Chart] = _band(band) if band else []
    layers += [_rule(value, name) for name, value in (rules or {}).items()]
    layers += _faint_lines(faint, place, series) if faint else []
    if interval:
        layers += _interval_bars(rows, interval, encoding)
        said += tip((interval[0], "95 % from"), (interval[1], "to"))
    layers.append(layer("line", encoding, strokeWidth=1.6))
    # A shape of its own for each line, as colour alone may not be seen.
    shaped = {**encoding, "shape": colour(series, names), "tooltip": said}
    layers.append(layer("point", shaped, filled=True, size=42))
    # Of layers that share a legend only the first makes it one to choose from.
    next(one for one in layers if "color" in one.get("encoding", ()))["params"] = params
    return panel(title, rows, layers, **SIZE)


def _faint_lines(rows: Rows, place: Chart, series: str) -> list[Chart]:
    named = {key: {"field": series, "type": "nominal"} for key in ("detail", "tooltip")}
    look = {"color": GREY, "opacity": 0.35, "strokeWidth": 1}
    return [layer("line", {**place, **named}, rows, **look)]


def _interval_bars(rows: Rows, interval: tuple[str, str], encoding: Chart) -> list[Chart]:
    low, high = interval
    barred = [row for row in rows if row.get(low) is not None]
    ends = {"y": {**encoding["y"], "field": low}, "y2": {"field": high}}
    return [layer("rule", {**encoding, **ends}, barred, strokeWidth=1.5)] if barred else []


def bars(rows: Rows, *, title: str, x: str, y: str, part: str, y_title: str) -> Chart:
    """Returns bars over blocks, stacked by ``part``; negative parts go below zero."""
    params, opacity = chosen_in_legend(part, title)
    numbered = all(isinstance(row[x], int) for row in rows)
    axis = {"labelAngle": 0, "labelOverlap": True}
    axis |= {"labelExpr": _block_names()} if numbered else {}
    return {
        "$schema": SCHEMA,
        "title": heading(title),
        **SIZE,
        "data": {"values": list(rows)},
        "mark": "bar",
        "params": params,
        "encoding": {
            "x": {"field": x, "type": "ordinal", "title": "block", "axis": axis},
            "y": number(y, y_title),
            "color": colour(part),
            "opacity": opacity,
            "tooltip": tip((x, "at:"), (part, "part:"), (y, y_title)),
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
        label: Field written beside each point, a block's number.
        x_title: Axis title with unit.
        y_title: Axis title with unit.
        law: Points of the line, with fields x and y.
    """

    def axis(field: str, name: str) -> Chart:
        scale = {"type": "log", "nice": False, "padding": 16}
        # Of a logarithmic axis that spans little, the library leaves most labels out by itself.
        said = {"tickCount": 5, "labelExpr": "format(datum.value, '.3~g')", "labelOverlap": True}
        return number(field, name, scale=scale, axis=said)

    place = {"x": axis(x, x_title), "y": axis(y, y_title)}
    named = [{**row, "name": f"L{row[label]}"} for row in rows]
    said = tip((label, "block"), (x, x_title), (y, y_title))
    layers = [layer("point", {**place, "tooltip": said}, filled=True, size=46, opacity=1)]
    text = {**place, "text": {"field": "name", "type": "nominal"}}
    for (dx, dy, align), there in _label_places(named, x, y).items():
        layers.append(layer("text", text, there, dx=dx, dy=dy, fontSize=10, align=align))
    if law:
        layers.insert(0, layer("line", place, law, color=GREY, strokeDash=[4, 3]))
    return panel(title, named, layers, **SIZE)


_SIDES = ((7, -6, "left"), (7, 7, "left"), (-7, -6, "right"), (-7, 7, "right"),
          (14, 0, "left"), (-14, 0, "right"))  # fmt: skip

_LETTERS = (20.0, 10.0)
"""About how wide and high the name of a block is, in pixels."""
_HIDDEN = 0.25
"""The share of a name that may lie under others."""


def _label_places(rows: Rows, x: str, y: str) -> dict[tuple[int, int, str], list[Any]]:
    """Returns where to write each point's name, so that names lie on no other name or point.

    In a crowd there is no room for all: what would be unreadable is left out.
    """

    def pixels(field: str, length: float) -> list[float]:
        logs = [math.log(row[field]) for row in rows]
        low, reach = min(logs), (max(logs) - min(logs)) or 1.0
        return [(value - low) / reach * (length - 32) for value in logs]

    if not rows:
        return {}
    spots = list(zip(pixels(x, SIZE["width"]), pixels(y, SIZE["height"]), strict=True))
    taken = [(across, up, 4.0, 4.0) for across, up in spots]
    found: dict[tuple[int, int, str], list[Any]] = {}
    for row, (across, up) in zip(rows, spots, strict=True):
        boxes = {
            side: (across + side[0] + (1 if side[2] == "left" else -1) * _LETTERS[0] / 2,
                   up - side[1], _LETTERS[0] / 2, _LETTERS[1] / 2)
            for side in _SIDES
        }  # fmt: skip
        hidden = {s: sum(_overlap(boxes[s], box) for box in taken) for s in _SIDES}
        side = min(_SIDES, key=lambda side: hidden[side])
        if hidden[side] < _HIDDEN * math.prod(_LETTERS):
            taken.append(boxes[side])
            found.setdefault(side, []).append(row)
    return found


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Returns the area that two boxes share; a box is its centre and half its sides."""
    sides = (one[i + 2] + other[i + 2] - abs(one[i] - other[i]) for i in (0, 1))
    return math.prod(max(0.0, side) for side in sides)


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
    norm: int | None = None,
    outlined: Rows = (),
) -> Chart:
    """Returns a heat map of ``value`` over two block numbers; ``name`` heads the legend.

    Where values are signed, two hues part at 0, and both reach as far. ``norm`` is the number on x
    that stands for what follows the final norm. ``outlined`` are cells with a frame, with fields x
    and y.
    """
    reach = max((abs(row[value]) for row in rows if row[value] is not None), default=0.0) or 1.0
    scale: Chart = (
        {"scheme": "blueorange", "domain": [-reach, reach]} if signed else {"scheme": "viridis"}
    )

    def axis(field: str, title: str) -> Chart:
        numbered = all(isinstance(row[field], int) for row in rows)
        shown = {"labelAngle": 0, "labelOverlap": field == x, "domain": False, "ticks": False}
        shown |= {"labelExpr": _block_names(norm if field == x else None)} if numbered else {}
        return {"field": field, "type": "ordinal", "title": title, "axis": shown,
                "scale": {"paddingInner": 0, "paddingOuter": 0}}  # fmt: skip

    place = {"x": axis(x, x_title), "y": axis(y, y_title)}
    legend = {"gradientLength": 150, "format": "~g"}
    shade = number(value, title=textwrap.wrap(name, 18), scale=scale, legend=legend)
    kinds = (f"{x_title}:", f"{y_title}:")
    said = tip((x, kinds[0]), (y, kinds[1]), (value, name))
    layers: list[Chart] = [{"mark": "rect", "encoding": {**place, "color": shade, "tooltip": said}}]
    if outlined:
        frame = {"fill": None, "stroke": "#D55E00", "strokeWidth": 2.5}
        layers.append(layer("rect", place, outlined, **frame))
    height = max(SIZE["height"], 15 * len({row[y] for row in rows}))
    return panel(title, rows, layers, SIZE["width"], height)


def framed_ends(rows: Rows, x: str, y: str) -> list[dict[str, int]]:
    """Returns the two cells of a matrix over blocks where the first and the last block meet."""
    last = max((max(row[x], row[y]) for row in rows), default=0)
    return [{x: 0, y: last}, {x: last, y: 0}] if last else []


def nothing_to_draw() -> Chart:
    """Returns a chart that says so."""
    said = {"field": "said", "type": "nominal"}
    return {"$schema": SCHEMA, "data": {"values": [{"said": "There is nothing to draw."}]},
            "mark": "text", "encoding": {"text": said}}  # fmt: skip


def side_by_side(*charts: Chart, columns: int = 2) -> Chart:
    """Returns charts in rows, each with scales of its own; without any, one that says so."""
    if not charts:
        return nothing_to_draw()
    if len(charts) == 1:
        return {"$schema": SCHEMA, **charts[0]}
    inner = [{key: value for key, value in chart.items() if key != "$schema"} for chart in charts]
    own = dict.fromkeys(("color", "shape", "opacity"), "independent")
    return {"$schema": SCHEMA, "concat": inner, "columns": columns, "resolve": {"scale": own}}


def colour(field: str, names: Sequence[str] | None = None) -> Chart:
    """Returns the encoding of a nominal colour, or shape, with its legend under the chart.

    Args:
        field: Of the name.
        names: In their order; colour and shape share one legend only if both are told.
    """
    scale = {"scale": {"domain": list(names)}} if names else {}
    # Of one series the title of the axis already tells the name.
    legend = None if names and len(names) == 1 else _LEGEND
    return category(field, legend=legend, **scale)


_LEGEND = {"orient": "bottom", "columns": 2, "title": None}


def window_name() -> str:
    """Returns what the declared window about three quarters of the depth is called."""
    low, high = load_thresholds().window
    return f"{100 * low:.0f}–{100 * high:.0f} % of depth"


def _band(band: tuple[float, float]) -> list[Chart]:
    where = [{"from": band[0], "to": band[1], "said": window_name()}]
    span = {"x": number("from"), "x2": {"field": "to"}}
    written = {"x": span["x"], "y": {"value": -2}, "text": {"field": "said", "type": "nominal"}}
    return [
        layer("rect", span, where, opacity=0.13, color=GREY),
        layer("text", written, where, **_NOTE),
    ]


def _rule(value: float, name: str) -> Chart:
    rows, at = [{"at": value, "said": name}], {"y": number("at")}
    line = layer("rule", at, rows, color=GREY, strokeDash=[3, 3])
    if not name:
        return line
    written = {**at, "x": {"value": 0}, "text": {"field": "said", "type": "nominal"}}
    return {"layer": [line, layer("text", written, rows, dx=2, **_NOTE)]}


_NOTE = {"align": "left", "baseline": "bottom", "fontSize": 9.5, "color": GREY}
"""How a note within a chart is written."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    id: str
    title: str
    caption: str
    """How to read it."""
    alt: str
    """What is to be seen, for those who do not see it."""
    spec: Chart
    """Vega-Lite, without a theme."""
