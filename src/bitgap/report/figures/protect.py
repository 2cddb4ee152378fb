"""Charts of a recipe: what every unit got, who gains, other budgets, and what comes again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bitgap.languages import named
from bitgap.protect.comparators import BLIND, UNIFORM
from bitgap.protect.outcome import Outcome
from bitgap.show.charts import (
    GREY,
    PALETTE,
    Chart,
    Figure,
    category,
    dots,
    layer,
    matrix,
    number,
    panel,
    tip,
)
from bitgap.show.numbers import Unit
from bitgap.show.tables.protect import place_of
from bitgap.show.tables.unit_map import short_units

_ROW = 17
_OUTSIDE = "–"
_OTHERS, _UNIFORM = "others", "uniform plan, mean"
_PLANS = {UNIFORM: "uniform plan", BLIND: "language-blind plan"}


def recipe_figures(found: Outcome) -> Iterator[Figure]:
    """Yields the figures of a recipe."""
    bits = {one.unit: one.bits for one in found.units}
    most = max(found.units, key=lambda one: one.bits)
    least = min(found.units, key=lambda one: one.bits)
    yield Figure(
        "recipe",
        "The recipe",
        "Bits of a code of every unit, blocks from top to bottom, embedding and head beside them. "
        "Point at a cell for its scheme and bytes.",
        f"From {least.bits:g} bits ({least.unit}) to {most.bits:g} ({most.unit}).",
        recipe_chart(found, bits, "bits", "The recipe, bits of a code"),
    )
    if (chart := gains_chart(found)) is not None:
        yield Figure(
            "gains",
            "Who gains, and who pays",
            "Change of each language's damage on the sentences that confirm, against two plans of "
            "the same bytes; left of 0 the language gains. Bars are 95 % intervals.",
            found.proof.sentence,
            chart,
        )
    if len(found.frontier) > 1:
        how = "measured on the sentences that confirm" if found.frontier[0].measured else (
            "by the damage table"
        )  # fmt: skip
        yield Figure(
            "frontier",
            "Other budgets",
            f"Damage of the best plan of each size by language, {how}; dashed, the mean under the "
            f"uniform plan of the same bytes. Both axes are logarithmic.",
            "Damage by language over bits a weight.",
            frontier_chart(found),
        )
    if any(one.same_bits is not None for one in found.units):
        again = {one.unit: one.same_bits for one in found.units}
        yield Figure(
            "stability",
            "What comes again",
            "Share of searches on resampled text that give a unit the same bits. The recipe is the "
            "best of ten as measured, which such a search is not.",
            "How often each unit got the same bits.",
            recipe_chart(found, again, "share", "Same bits on resampled text"),
        )


def recipe_chart(found: Outcome, values: dict[str, Any], value: str, title: str) -> Chart:
    """Returns units by blocks, with a number of each as its colour.

    Args:
        found: The recipe.
        values: The number of each unit, by name.
        value: What the number is.
        title: Of the chart.
    """
    places = [place_of({"unit": u.unit, "block": u.block}) for u in found.units]
    short = _labels(found)
    rows = [
        {
            "row": place,
            "unit": short[one.unit],
            value: values[one.unit],
            "scheme": one.scheme,
            "bytes": one.size_bytes,
        }
        for (place, _), one in zip(places, found.units, strict=True)
    ]
    chart = matrix(
        rows, title=title, x="unit", y="row", value=value, x_title="matrix", y_title="block",
        name=value,
    )  # fmt: skip
    order = list(dict.fromkeys(row["row"] for row in rows))
    columns = list(dict.fromkeys(row["unit"] for row in rows))
    cell = chart["layer"][0]["encoding"]
    cell["x"]["sort"], cell["y"]["sort"] = columns, order
    cell["x"]["axis"] |= {"labelAngle": -40, "labelOverlap": False}
    cell["tooltip"] = tip(
        ("row", "block:"), ("unit", "matrix:"), ("scheme", "scheme:"), (value, value),
        ("bytes", "bytes"),
    )  # fmt: skip
    if value == "bits":
        kinds = sorted({row[value] for row in rows})
        # Few bits are few colours, told apart in a legend of their own.
        cell["color"] = {"field": value, "type": "ordinal", "title": "bits",
                         "sort": kinds, "scale": {"scheme": "viridis"}}  # fmt: skip
    return chart


def _labels(found: Outcome) -> dict[str, str]:
    """Returns what columns call units: what they do, where that tells all of a block apart."""
    inside = [one for one in found.units if one.block is not None]
    kinds = {(one.block, one.kind) for one in inside}
    names = short_units([place_of({"unit": u.unit, "block": u.block})[1] for u in inside])
    return {
        one.unit: _OUTSIDE if one.block is None
        else one.kind if len(kinds) == len(inside)
        else names[one.unit.partition(".")[2]]
        for one in found.units
    }  # fmt: skip


def gains_chart(found: Outcome, width: int = 300) -> Chart | None:
    """Returns the change of each language's damage against the uniform and the blind plan."""
    rows: list[dict[str, Any]] = [
        {
            "language": f"{named(code).name} ({code})",
            "plan": _PLANS[one.rival.name],
            "value": 100 * (2**change.value - 1),
            "low": None if change.low is None else 100 * (2**change.low - 1),
            "high": None if change.high is None else 100 * (2**change.high - 1),
        }
        for one in found.proof.against
        if one.rival.name in _PLANS
        for code, change in one.change.items()
        if change.value is not None
    ]
    if not rows:
        return None
    scale = {"domain": list(_PLANS.values()), "range": list(PALETTE[:2])}
    shapes = {"domain": list(_PLANS.values()), "range": ["circle", "diamond"]}
    legend = {"orient": "bottom"}
    color = category("plan", scale=scale, legend=legend)
    shape = category("plan", scale=shapes, legend=legend)
    order = [r["language"] for r in sorted(rows, key=lambda r: r["value"])
             if r["plan"] == _PLANS[UNIFORM]]  # fmt: skip
    axis = {"labelPadding": 6, "ticks": False, "domain": False}
    place = {"y": category("language", sort=order or None, axis=axis),
             "yOffset": category("plan")}  # fmt: skip
    said = tip(("language", "language:"), ("plan", "against:"), ("value", "change, %"))
    layers = [
        layer("rule", {"x": number("at")}, [{"at": 0}], color=GREY, strokeDash=[3, 3]),
        *dots(rows, place, number("value", "change of damage, %"), said, color=color, shape=shape),
    ]
    n = len({row["language"] for row in rows})
    return panel("Change of damage at the same bytes", rows, layers, width, 2 * _ROW * n)


def frontier_chart(found: Outcome) -> Chart:
    """Returns damage over bits a weight: a line a language, those of note in colour."""
    unit = Unit.of((x for one in found.frontier for x in one.damage_bits), found.reference)
    noted = dict.fromkeys((found.reference, *found.proof.worst[: len(PALETTE) - 2]))
    rows, means = list[dict[str, Any]](), list[dict[str, Any]]()
    for point in found.frontier:
        about = {"bits": point.bits, "bytes": point.size_bytes}
        for code, damage in zip(found.languages, point.damage_bits, strict=True):
            name = named(code).name
            if damage > 0:
                rows.append({**about, "language": name, "damage": unit.factor * damage,
                             "line": name if code in noted else _OTHERS})  # fmt: skip
        mean = sum(point.uniform_bits) / len(point.uniform_bits)
        if mean > 0:
            means.append({**about, "damage": unit.factor * mean, "line": _UNIFORM})
    y_title = f"damage K, {unit.name}"
    ends = [point.bits for point in found.frontier]
    domain = [0.95 * min(ends), 1.05 * max(ends)]
    x = number("bits", "bits a weight", scale={"type": "log", "domain": domain, "nice": False},
               axis={"grid": False, "format": ".2~f"})  # fmt: skip
    y = number("damage", y_title, scale={"type": "log"})
    names = [named(code).name for code in noted]
    color = category(
        "line", scale={"domain": [*names, _OTHERS], "range": [*PALETTE[: len(names)], GREY]}
    )
    said = tip(("language", "language:"), ("bits", "bits"), ("damage", y_title), ("bytes", "bytes"))
    place = {"x": x, "y": y, "color": color, "detail": category("language")}
    layers = [
        layer("line", {"x": x, "y": y}, means, color=GREY, strokeDash=[4, 3], strokeWidth=2),
        layer("line", place, strokeWidth=1.4),
        layer("point", {**place, "tooltip": said}, filled=True, size=32),
    ]
    return panel("Damage by language over size", rows, layers, 420, 280)
