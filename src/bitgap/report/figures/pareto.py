"""Charts of bits against damage: sets of protected blocks, and schemes over all or some blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.disparity.layer_map import LayerMap
from bitgap.quant.schemes import FULL_PRECISION_BITS, Scheme, bits_per_weight, parse_scheme
from bitgap.quant.sets import mask_of
from bitgap.report.figures.model import MARKED, rounded, set_name
from bitgap.report.run import Masks
from bitgap.show.charts import (
    GREY,
    PALETTE,
    Chart,
    category,
    colour,
    layer,
    number,
    panel,
    side_by_side,
    tip,
)
from bitgap.show.numbers import Unit

Json = Mapping[str, Any]
_CHARACTER = "per English character"
_LONG_NAME = 16


def pareto_chart(masks: Masks, found: LayerMap, cells: Sequence[Json]) -> Chart:
    """Returns damage against bits per block weight: sets of protected blocks, and whole schemes."""
    charts = [_set_front(masks, found), _rate_front(cells)]
    return side_by_side(*(chart for chart in charts if chart))


def _set_front(masks: Masks, found: LayerMap) -> Chart | None:
    """Returns the least damage by number of protected blocks, and what other sets do."""
    sizes = np.array([mask.bit_count() for mask in masks.masks])
    rate = _scheme_bits(parse_scheme(masks.scheme))
    if rate is None:
        return None
    unit, n = Unit.of(masks.mean_damage), masks.n_blocks
    rows = list[dict[str, Any]]()
    for size in range(n):
        here = np.flatnonzero((sizes == size) & (masks.mean_damage > 0))
        if not len(here):
            continue
        best = here[masks.mean_damage[here].argmin()]
        bits = (size * FULL_PRECISION_BITS + (n - size) * rate) / n
        values = masks.mean_damage[here] * unit.factor
        rows.append(
            {"bits": rounded(bits), "best": rounded(values.min()), "worst": rounded(values.max()),
             "median": rounded(float(np.median(values))), "set": set_name(masks.masks[int(best)])}
        )  # fmt: skip
    origin = mask_of(found.origin.of.blocks)
    name = "mean bits of a block's weights, scales counted"
    scale = {"type": "log", "nice": False, "padding": 8}
    up = number("best", f"mean damage K, {unit.name} {_CHARACTER}", scale=scale)
    place = {"x": number("bits", name, scale={"zero": False}), "y": up}
    shown = tip(("set", "best set:"), ("bits", "bits"), ("best", "its damage"),
                ("median", "median of its size"), ("worst", "worst of its size"))  # fmt: skip
    tick = {"orient": "horizontal", "color": GREY, "size": 9, "thickness": 2}
    dot = {"filled": True, "color": PALETTE[0], "size": 45, "opacity": 1}
    layers = [
        layer("rule", {**place, "y2": {"field": "worst"}}, color=GREY, opacity=0.6),
        layer("tick", {**place, "y": {**up, "field": "median"}}, **tick),
        layer("line", place, color=PALETTE[0]),
        layer("point", {**place, "tooltip": shown}, **dot),
    ]
    # Names of larger sets would be long and lie on each other.
    named = [row for i, row in enumerate(rows)
             if i in (1, n // 4, n // 2) and len(row["set"]) < _LONG_NAME]  # fmt: skip
    text = {**place, "text": {"field": "set", "type": "nominal"}}
    layers += [_below_left(row, text) for row in named]
    if origin in masks.masks:
        at, size = masks.masks.index(origin), origin.bit_count()
        own = {"bits": rounded((size * FULL_PRECISION_BITS + (n - size) * rate) / n),
                "best": rounded(masks.mean_damage[at] * unit.factor),
                "set": f"the origin's {set_name(origin)}"}  # fmt: skip
        dot |= {"shape": "diamond", "color": MARKED, "size": 90}
        beside = {"align": "left", "dx": 8, "dy": -6, "color": MARKED, "fontSize": 10}
        layers += [layer("point", place, [own], **dot), layer("text", text, [own], **beside)]
    return panel("The best set of every size", rows, layers, 300, 260)


def _below_left(row: Json, encoding: Chart) -> Chart:
    """Returns a set's name beside its point; of a single block above, where the axis is near."""
    one = row["set"].strip("{}").isdigit()
    align, dx, dy = ("left", 7, -7) if one else ("right", -7, 9)
    return layer("text", encoding, [row], fontSize=10, align=align, dx=dx, dy=dy)


def _scheme_bits(scheme: Scheme) -> float | None:
    """Returns the bits of a weight with its share of a group's scale; None if there are no groups.

    Without groups a matrix's width decides, which no run tells.
    """
    group = getattr(scheme, "group", None)
    return bits_per_weight(scheme, (1, group)) if isinstance(group, int) else None


def _rate_front(cells: Sequence[Json]) -> Chart | None:
    """Returns the rate sweep: damage over bits actually used, with its Pareto front."""
    orders = {"none": "nothing protected", "Shapley": "best blocks protected first",
              "reverse": "worst blocks protected first"}  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"bits": rounded(cell["bits_per_weight"]), "damage": rounded(cell["mean_log2_damage"]),
         "order": orders.get(cell["order"], "random blocks protected"),
         "scheme": f"{cell['bits']} bits, {cell['share']:.0%} protected"}
        for cell in cells
        if cell["mean_log2_damage"] is not None
    ]  # fmt: skip
    if not rows:
        return None
    front, least = list[dict[str, Any]](), np.inf
    for row in sorted(rows, key=lambda row: (row["bits"], row["damage"])):
        if row["damage"] < least:
            least = row["damage"]
            front.append(row)
    place = {
        "x": number("bits", "bits per weight, scales counted"),
        "y": number("damage", "mean log2 damage K over languages"),
    }
    said = tip(("scheme", "plan:"), ("order", "order:"), ("bits", "bits"), ("damage", "log2 K"))
    shape = category("order", legend={"orient": "bottom", "columns": 1})
    of = {"color": {**colour("order"), **shape}, "shape": shape, "tooltip": said}
    dashed = {"color": GREY, "strokeDash": [4, 3], "interpolate": "step-after"}
    layers = [
        layer("line", place, front, **dashed),
        layer("point", {**place, **of}, filled=True, size=50, opacity=0.85),
    ]
    return panel("Bits spent on all blocks, or on some", rows, layers, 300, 260)
