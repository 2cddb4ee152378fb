"""Charts of one model: who is hurt, which blocks matter, and what sets of protected blocks do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.disparity.layer_map import LayerMap, shapley_rows, worth_of
from bitgap.disparity.records import DisparityReport, LanguageDamage
from bitgap.disparity.unit_map import UnitMap
from bitgap.quant.sets import blocks_in, mask_of
from bitgap.records import Bools, Estimate, Floats
from bitgap.report.run import Masks
from bitgap.report.words.phrases import language_name
from bitgap.show.charts import (
    GREY,
    PALETTE,
    Chart,
    block_axis,
    category,
    dots,
    heading,
    layer,
    matrix,
    number,
    panel,
    side_by_side,
    tip,
)
from bitgap.show.numbers import Unit, block_list
from bitgap.show.tables.unit_map import short_units

MARKED = "#D55E00"
"""The colour of what a reader is to find: the reference, the origin's set."""

_ROW = 17
_CHARACTER = "per English character"


def languages_chart(report: DisparityReport) -> Chart:
    """Returns damage, its share of what was learned, and the change of NLL, by language."""
    drawn = list(language_panels(report).values())
    for one in drawn[1:]:
        one["layer"][-1]["encoding"]["y"]["axis"] = {"labels": False, "ticks": False}
    return side_by_side(*drawn, columns=3)


def language_panels(report: DisparityReport, width: int = 200) -> dict[str, Chart]:
    """Returns the same as charts of their own: ``damage``, ``share`` and ``delta``."""
    known = [one for one in report.languages if one.damage.value is not None]
    order = sorted(known, key=lambda one: -(one.damage.value or 0.0))
    unit = Unit.of(one.damage.value for one in known)
    panels = {
        "damage": _dots(order, report.reference, "damage", unit.factor,
                        "Damage K", f"{unit.name} {_CHARACTER}"),
        "share": _dots(order, report.reference, "learned_share", 100.0,
                       "Damage over what was learned", "K/M, %"),
        "delta": _dots(order, report.reference, "delta", unit.factor,
                       "Change of NLL on real text", f"Δ, {unit.name} {_CHARACTER}"),
    }  # fmt: skip
    return {key: {**one, "width": width} for key, one in panels.items() if one}


def _dots(
    order: Sequence[LanguageDamage], reference: str, name: str, factor: float, title: str,
    x_title: str,
) -> Chart | None:  # fmt: skip
    points = [
        found | {"language": f"{language_name(code)} ({code})", "reference": code == reference}
        for code, one in ((one.language, getattr(one, name)) for one in order)
        if (found := point(one, factor)) is not None
    ]
    if not points:
        return None
    names = [f"{language_name(one.language)} ({one.language})" for one in order]
    axis = {"labelPadding": 6, "ticks": False, "domain": False}
    place = {"y": category("language", sort=names, axis=axis)}
    across = number("value", x_title, scale={"zero": name != "delta"})
    marked = {"condition": {"test": "datum.reference", "value": MARKED}, "value": PALETTE[0]}
    layers: list[Chart] = []
    if at := [p for p in points if p["reference"]]:
        line = {"color": MARKED, "opacity": 0.5, "strokeDash": [3, 3]}
        layers.append(layer("rule", {"x": across}, at, **line))
    shape = {"condition": {"test": "datum.reference", "value": "diamond"}, "value": "circle"}
    said = tip(("language", "language:"), ("value", x_title))
    layers += dots(points, place, across, said, size=55, color=marked, shape=shape)
    return panel(title, points, layers, 200, _ROW * len(order))


def point(one: Estimate, factor: float = 1.0) -> dict[str, Any] | None:
    """Returns a number with its interval as ``value``, ``low`` and ``high``; None if there is none.

    Args:
        one: With or without an interval.
        factor: What all three are multiplied with.
    """
    if one.value is None:
        return None
    ends = (None if end is None else rounded(end * factor) for end in (one.low, one.high))
    return {"value": rounded(one.value * factor)} | dict(zip(("low", "high"), ends, strict=True))


def rounded(value: float | None, digits: int = 5) -> float | None:
    """Returns a number to some significant digits, for a page of little weight; None stays."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{digits}g}")


def layers_chart(found: LayerMap) -> Chart:
    """Returns what protecting each block takes off damage, S and gap, the origin's set marked."""
    return side_by_side(*layer_panels(found).values(), columns=3)


def layer_panels(found: LayerMap, width: int = 200) -> dict[str, Chart]:
    """Returns the same as charts of their own: ``damage``, ``spread`` and ``gap``."""
    whole = sum(value or 0.0 for value in shapley_rows(found, "damage"))
    unit = Unit.of(shapley_rows(found, "gap"))
    panels = {
        "damage": _by_block(found, "damage", 100 / whole if whole > 0 else 1.0,
                            "Off the damage K", "share of the damage, %" if whole > 0 else "bits"),
        "spread": _by_block(found, "spread", 1.0, "Off the spread S, alone", "log2 units"),
        "gap": _by_block(found, "gap", unit.factor, "Off the gap G", f"{unit.name} {_CHARACTER}"),
    }  # fmt: skip
    return {key: {**one, "width": width} for key, one in panels.items() if one}


def _by_block(layer_map: LayerMap, game: str, factor: float, title: str, unit: str) -> Chart | None:
    origin = layer_map.origin.of.blocks
    points = [
        found | {"block": row.block,
                 "set": "the origin's set" if row.block in origin else "other blocks"}
        for row in layer_map.blocks
        if (found := point(worth_of(row, game), factor)) is not None
    ]  # fmt: skip
    if not points:
        return None

    def by_set(*looks: str) -> Chart:
        scale = {"domain": ["other blocks", "the origin's set"], "range": looks}
        return category("set", scale=scale, legend={"orient": "bottom"})

    place, said = {"x": block_axis("block")}, tip(("block", "block"), ("value", unit))
    color, shape = by_set(PALETTE[0], MARKED), by_set("circle", "diamond")
    layers = [
        layer("rule", {"y": number("at")}, [{"at": 0}], color=GREY, strokeDash=[3, 3]),
        *dots(points, place, number("value", unit), said, along="y", color=color, shape=shape),
    ]
    return panel(title, points, layers, 200, 200)


def set_name(mask: int) -> str:
    """Returns a set of blocks as people write it, such as ``{0, 7-11}``."""
    return "{" + block_list(blocks_in(mask)) + "}" if mask else "nothing"


def landscape_chart(masks: Masks, found: LayerMap) -> Chart:
    """Returns every set of protected blocks by damage to the reference, and by S and gap.

    The shaded corner is levelling down: a smaller S or gap than with nothing protected, bought by
    more damage to the reference.
    """
    reference = masks.languages.index(masks.reference)
    ours = masks.damage[:, reference]
    unit = Unit.of(ours)
    named = _named_sets(masks, found)
    rows = [
        {"x": rounded(x * unit.factor, 4), "g": rounded(g * unit.factor, 4), "S": rounded(s, 4),
         "n": int(m).bit_count(), "s": set_name(m)}
        for m, x, g, s in zip(masks.masks, ours, masks.gap, masks.spread, strict=True)
    ]  # fmt: skip
    x_title = f"damage to {language_name(masks.reference)}, {unit.name} {_CHARACTER}"
    gaps, spreads = (int(levelling_down(masks, of).sum()) for of in (masks.gap, masks.spread))
    panels = [
        _landscape_panel(rows, named, "S", x_title, "The spread over languages",
                         "S, log2 units, per token", spreads),
        _landscape_panel(rows, named, "g", x_title, "The gap on real text",
                         f"gap G, {unit.name} {_CHARACTER}", gaps),
    ]  # fmt: skip
    chart = side_by_side(*filter(None, panels))
    if "concat" not in chart:
        return chart
    inner = [{k: v for k, v in one.items() if k != "data"} for one in chart["concat"]]
    return {**chart, "concat": inner, "data": {"values": rows}}


def levelling_down(masks: Masks, of: Floats) -> Bools:
    """Returns which sets have ``of`` nearer 0 than nothing protected has, the reference worse."""
    ours = masks.damage[:, masks.languages.index(masks.reference)]
    none = masks.masks.index(0)
    return (ours > ours[none]) & (np.abs(of) < abs(of[none]))


def _named_sets(masks: Masks, found: LayerMap) -> dict[int, str]:
    """Returns what to call some sets, by mask."""
    origin = mask_of(found.origin.of.blocks)
    named = {0: "nothing protected", origin: f"the origin's {set_name(origin)}"}
    for row in found.best:
        if row.size == origin.bit_count():
            best = ((row.least_damage, "least damage"), (row.least_spread, "least S"))
            for chosen, said in best:
                if chosen is not None:
                    mask = mask_of(chosen.blocks)
                    # A set may be best by both, or be the origin's as well: that is what to see.
                    of = f"{said} of its size"
                    named[mask] = f"{named[mask]}, {of}" if mask in named else (
                        f"{of}: {set_name(mask)}")  # fmt: skip
    return {mask: said for mask, said in named.items() if mask in masks.masks}


def _landscape_panel(
    rows: Sequence[dict[str, Any]], named: Mapping[int, str], y: str, x_title: str, title: str,
    y_title: str, levelled: int,
) -> Chart | None:  # fmt: skip
    known = [row for row in rows if row[y] is not None]
    nothing = next((row for row in known if row["s"] == "nothing"), None)
    if nothing is None or len(known) < 3:
        return None
    gap, right = abs(nothing[y]), max(max(row["x"] for row in known), 1.12 * nothing["x"])
    by_name = {set_name(mask): said for mask, said in named.items()}
    marked = [{**row, "said": by_name[row["s"]]} for row in known if row["s"] in by_name]
    across = number("x", x_title, scale={"zero": True})
    up = number(y, y_title, scale={"zero": False})
    place = {"x": across, "y": up}
    lowest = min(row[y] for row in known)
    box = {"x": nothing["x"], "x2": right, "y": max(-gap, lowest), "y2": gap}
    region = {"x": {**across, "field": "x"}, "x2": {"field": "x2"},
              "y": {**up, "field": "y"}, "y2": {"field": "y2"}}  # fmt: skip
    said = tip(("s", "protected:"), ("n", "blocks"), ("x", x_title), (y, y_title))
    legend = {"orient": "bottom", "gradientLength": 160, "tickMinStep": 1}
    size = number("n", "blocks protected", scale={"scheme": "viridis"}, legend=legend)
    kinds = category("said", legend={"orient": "bottom", "columns": 1})
    every = {"filled": True, "size": 9, "opacity": 0.55, "aria": False}
    ringed = {"size": 110, "strokeWidth": 2.2, "stroke": MARKED, "fill": "white", "opacity": 1}
    layers = [
        layer("rect", region, [box], color=MARKED, opacity=0.16),
        {"transform": [{"filter": f"isValid(datum.{y})"}],
         **layer("point", {**place, "color": size, "tooltip": said}, **every)},
        layer("point", {**place, "shape": kinds, "tooltip": said}, marked, **ringed),
    ]  # fmt: skip
    counted = f"shaded: levelling down, {levelled:,} of {len(known):,} sets"
    return {"title": {"text": heading(title), "subtitle": counted}, "width": 300, "height": 260,
            "layer": layers, "data": {"values": rows}}  # fmt: skip


def units_chart(found: UnitMap) -> Chart:
    """Returns two heat maps, matrices by languages: shares of damage, and shares off the mean."""
    short = short_units([one.unit.name for one in found.units])
    rows = list[dict[str, Any]]()
    for one in found.units:
        for a, code in enumerate(found.languages):
            share, mean = one.shares[a].value, one.share.value
            rows.append({
                "unit": f"L{one.unit.block} {short[one.unit.name]}",
                "language": code,
                "share": share,
                "harder": one.harder[a].value,
                "excess": None if share is None or mean is None else 100 * (share - mean),
            })  # fmt: skip
    order = [row["unit"] for row in rows[:: len(found.languages)]]

    def drawn(value: str, title: str, name: str, *, signed: bool) -> Chart:
        chart = matrix(
            rows, title=title, x="language", y="unit", value=value, x_title="language",
            y_title="matrix", name=name, signed=signed,
        )  # fmt: skip
        place = chart["layer"][0]["encoding"]
        place["x"]["sort"], place["y"]["sort"] = list(found.languages), order
        return chart

    return side_by_side(
        drawn("share", "Share of a language's damage", "share", signed=False),
        drawn("excess", "More than other languages", "points off the mean share", signed=True),
    )
