"""Charts of a file's parts: what each does, what keeping it whole gains and costs, and whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.disparity.file_map import FileMap, PartDamage
from bitgap.report.figures.model import point, rounded
from bitgap.show.charts import (
    GREY,
    PALETTE,
    Chart,
    category,
    dots,
    layer,
    matrix,
    number,
    panel,
    side_by_side,
    tip,
)
from bitgap.show.numbers import Unit
from bitgap.show.tables.unit_map import short_units

_ROW = 15
_NAMED = 3
"""Parts that are named where costs are shown."""
_KINDS = ("alone", "kept whole")


def part_names(found: FileMap) -> Mapping[str, str]:
    """Returns how charts call parts, by label: matrices by short names."""
    units = [one.part.unit for one in found.parts if one.part.block is not None]
    short = short_units([unit for unit in dict.fromkeys(units) if unit])
    return {
        one.part.label: one.part.label
        if one.part.block is None or not one.part.unit
        else f"L{one.part.block} {short[one.part.unit]}"
        for one in found.parts
    }


def parts_chart(found: FileMap) -> Chart:
    """Returns three panels: what parts do, whom they hurt, and what keeping them whole costs."""
    names = part_names(found)
    unit = Unit.of((one.alone.value for one in found.parts), found.reference)
    panels = [_worth(found, names, unit), _harder(found, names), _costs(found, names, unit)]
    return side_by_side(*[one for one in panels if one is not None], columns=3)


def _worth(found: FileMap, names: Mapping[str, str], unit: Unit) -> Chart | None:
    rows = [
        got | {"part": names[one.part.label], "kind": kind, "stored": one.part.stored}
        for one in found.parts
        for kind, estimate in zip(_KINDS, (one.alone, one.relief), strict=True)
        if (got := point(estimate, unit.factor)) is not None
    ]
    if not rows:
        return None
    order = [names[one.part.label] for one in found.parts]
    axis = {"labelPadding": 4, "ticks": False, "domain": False}
    place = {"y": category("part", sort=order, axis=axis)}
    by_kind = {"legend": {"orient": "bottom"}}
    color = category("kind", scale={"domain": _KINDS, "range": PALETTE[:2]}, **by_kind)
    shape = category("kind", scale={"domain": _KINDS, "range": ("circle", "diamond")}, **by_kind)
    x_title = f"{unit.name} per reference character"
    said = tip(("part", "part:"), ("stored", "stored:"), ("kind", "what:"), ("value", x_title))
    layers = [
        layer("rule", {"x": number("at")}, [{"at": 0}], color=GREY, strokeDash=[3, 3]),
        *dots(rows, place, number("value", x_title), said, color=color, shape=shape, size=45),
    ]
    return panel("Damage alone, and taken off by keeping whole", rows, layers, 240,
                 _ROW * len(order))  # fmt: skip


def _harder(found: FileMap, names: Mapping[str, str]) -> Chart | None:
    codes = [code for code in found.languages if code not in found.left_out]
    rows = [
        {"part": names[one.part.label], "language": code,
         "harder": rounded(one.harder[found.languages.index(code)].value, 3)}
        for one in found.parts
        for code in codes
        if one.harder[found.languages.index(code)].value is not None
    ]  # fmt: skip
    if len(codes) < 2 or not rows:
        return None
    chart = matrix(
        rows, title="Hit harder than others by", x="language", y="part", value="harder",
        x_title="language", y_title="part", name="log2 of damage alone, off the mean",
        signed=True,
    )  # fmt: skip
    place = chart["layer"][0]["encoding"]
    place["x"]["sort"] = codes
    place["y"]["sort"] = [names[one.part.label] for one in found.parts]
    return {**chart, "width": max(120, 22 * len(codes)), "height": _ROW * len(found.parts)}


def best_buys(parts: Sequence[PartDamage], n: int = _NAMED) -> list[PartDamage]:
    """Returns the parts that take most off the damage for each byte, best first.

    Args:
        parts: Of a file map; those whose interval reaches 0 are left out.
        n: How many, at most.
    """
    sure = [one for one in parts if (one.relief.low or 0.0) > 0 and one.part.extra_bytes]
    return sorted(sure, key=lambda one: -(one.relief.value or 0.0) / one.part.extra_bytes)[:n]


def _costs(found: FileMap, names: Mapping[str, str], unit: Unit) -> Chart | None:
    rows: list[dict[str, Any]] = [
        got | {"part": names[one.part.label], "mib": rounded(one.part.extra_bytes / 2**20)}
        for one in found.parts
        if one.part.extra_bytes and (got := point(one.relief, unit.factor)) is not None
    ]
    if not rows:
        return None
    x_title, y_title = "MiB more, kept at 16 bits", f"taken off, {unit.name} per character"
    place = {"x": number("mib", x_title, scale={"zero": True})}
    named = {names[one.part.label] for one in best_buys(found.parts)}
    text = {**place, "y": number("value"), "text": {"field": "part", "type": "nominal"}}
    said = tip(("part", "part:"), ("mib", x_title), ("value", y_title))
    color, shape = {"value": PALETTE[1]}, {"value": "diamond"}
    layers = [
        layer("rule", {"y": number("at")}, [{"at": 0}], color=GREY, strokeDash=[3, 3]),
        *dots(rows, place, number("value", y_title), said, along="y", color=color, shape=shape),
        layer("text", text, [row for row in rows if row["part"] in named], dx=7, dy=-6,
              fontSize=10, align="left"),
    ]  # fmt: skip
    return panel("What a byte more buys", rows, layers, 240, 220)
