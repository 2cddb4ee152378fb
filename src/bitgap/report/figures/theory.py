"""Charts over model families: every hypothesis by family, the formal model, damage by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.records import Finding
from bitgap.report.figures.model import MARKED, point, rounded
from bitgap.show.charts import (
    GREY,
    PALETTE,
    SCHEMA,
    SIZE,
    Chart,
    colour,
    heading,
    lines,
    side_by_side,
    tip,
    window_name,
)
from bitgap.show.numbers import Unit, short_name
from bitgap.show.words import RUNGS
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.records import Forecasts, MeasuredModel

Json = Mapping[str, Any]


_ROW = 16


def forest_chart(findings: Sequence[Finding]) -> Chart:
    """Returns a panel a hypothesis: every model's statistic, and that of all families."""
    panels = [panel for finding in findings if (panel := _forest_panel(finding))]
    return side_by_side(*panels, columns=2)


def _forest_panel(finding: Finding) -> Chart | None:
    families = finding.tables.get("families", [])
    rows = [
        {"model": short_name(r["model"]), "value": rounded(r["value"]), "low": rounded(r["low"]),
         "high": rounded(r["high"]), "kind": "a model" if r["speaks"] else "same family, beside"}
        for r in families
        if r["value"] is not None
    ]  # fmt: skip
    if not rows:
        return None
    pooled = finding.estimates[finding.primary]
    if pooled.unit == families[0]["unit"] and (whole := point(pooled)) is not None:
        rows.append({"model": "all families", **whole, "kind": "all families"})
    verdict = finding.verdict.label
    unit = families[0]["unit"]
    deep = unit == "relative depth"
    # Depths at the very ends would lie on the axis, on the names.
    scale = {"domain": [-0.04, 1.04], "nice": False} if deep else {"zero": False}
    across = {"field": "value", "type": "quantitative", "title": _UNITS.get(unit, unit),
              "scale": scale}  # fmt: skip
    place = {"y": {"field": "model", "type": "nominal", "title": None, "axis": {"ticks": False},
                   "sort": [row["model"] for row in rows]}}  # fmt: skip
    kinds = ["a model", "same family, beside", "all families"]
    of = {"field": "kind", "type": "nominal", "title": None,
          "scale": {"domain": kinds, "range": [PALETTE[0], GREY, MARKED]},
          "legend": None}  # fmt: skip
    shape = {"field": "kind", "type": "nominal", "legend": None,
             "scale": {"domain": kinds, "range": ["circle", "circle", "diamond"]}}  # fmt: skip
    sesoi = load_thresholds().hypotheses.get(finding.hypothesis, {}).get("sesoi")
    layers: list[Chart] = [
        _shaded(*load_thresholds().window, GREY) if deep else _upright(0.0, [2, 3])
    ]
    if sesoi is not None and not deep:
        layers.append(_upright(float(sesoi), [6, 3]))
    if barred := [row for row in rows if row["low"] is not None]:
        layers.append({"data": {"values": barred}, "mark": {"type": "rule", "strokeWidth": 1.6},
                       "encoding": {**place, "x": {**across, "field": "low"},
                                    "x2": {"field": "high"}, "color": of}})  # fmt: skip
    said = tip(("model", "model:"), ("value", "statistic"), ("low", "95 % from"), ("high", "to"))
    layers.append(
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
         "encoding": {**place, "x": across, "color": of, "shape": shape, "tooltip": said}}
    )  # fmt: skip
    name = finding.hypothesis
    told = "" if name.casefold() == finding.title.casefold() else f" {finding.title.lower()}"
    return {"title": heading(f"{name}{told}: {verdict}"), "width": 260, "height": _ROW * len(rows),
            "data": {"values": rows}, "layer": layers}  # fmt: skip


_UNITS = {
    "correlation over blocks, detrended in depth": "correlation over blocks, detrended",
    "-rho": "−ρ: above 0 the errors of both ends cancel",
    "dB": "dB by which errors of the first block travel further",
    "relative depth": f"relative depth (shaded: {window_name()})",
    "share of K(none)": "interaction of the ends, share of K(none)",
    "log2 ratio per bit": "slope of the log2 damage ratio, per bit",
}


def _shaded(low: float, high: float, color: str) -> Chart:
    return {"data": {"values": [{"from": low, "to": high}]},
            "mark": {"type": "rect", "color": color, "opacity": 0.15},
            "encoding": {"x": {"field": "from", "type": "quantitative"},
                         "x2": {"field": "to"}}}  # fmt: skip


def _upright(at: float, dash: list[int]) -> Chart:
    return {"data": {"values": [{"at": at}]},
            "mark": {"type": "rule", "color": GREY, "strokeDash": dash},
            "encoding": {"x": {"field": "at", "type": "quantitative"}}}  # fmt: skip


_RESPONSES = {
    "ratio": "log2 damage ratio by block",
    "shapley": "Shapley value of a block for |D|",
    "original": "the origin's disparity",
    # As runs stored before 2026-11-29 call the last two.
    "worth": "Shapley value of a block for |D|",
    "seed": "the origin's disparity",
}


def formal_chart(tables: Json) -> Chart:
    """Returns R² in families held out by rung of the ladder, with what chance earns."""
    rows = [r for r in tables["ladder"] if r["r2_lofo"] is not None]
    panels = []
    for i, response in enumerate(dict.fromkeys(r["response"] for r in rows)):
        mine = [
            {"rung": f"{r['rung']} {RUNGS[r['rung']]}", "r2": rounded(r["r2_lofo"]),
             "families": r["families"], "theory": r["rung"].startswith("F3")}
            for r in rows
            if r["response"] == response
        ]  # fmt: skip
        # The random draws are of the first response alone.
        chance = rounded(tables["f5_draws"]["percentile_95"]) if i == 0 else None
        panels.append(_rungs_panel(mine, _RESPONSES.get(response) or response, chance))
    return side_by_side(*panels)


def _rungs_panel(rows: Sequence[Json], title: str, chance: float | None) -> Chart:
    across = {"field": "r2", "type": "quantitative", "title": "R² in the family held out"}
    bar = {
        "mark": {"type": "bar", "height": 11},
        "encoding": {
            "y": {"field": "rung", "type": "nominal", "sort": [r["rung"] for r in rows],
                  "title": None},
            "x": across,
            "color": {"condition": {"test": "datum.theory", "value": MARKED}, "value": PALETTE[0]},
            "tooltip": tip(("rung", "rung:"), ("r2", "R²"), ("families", "families")),
        },
    }  # fmt: skip
    rule = [] if chance is None else [_upright(chance, [6, 3])]
    return {"title": heading(title), "width": 240, "height": 20 * len(rows),
            "data": {"values": list(rows)}, "layer": [bar, *rule]}  # fmt: skip


def depth_chart(models: Sequence[MeasuredModel]) -> Chart:
    """Returns each block's share of single-block damage over relative depth, a line a model."""
    rows = [
        {"depth": rounded(i / (m.n_blocks - 1)), "share": rounded(100 * damage / whole),
         "model": short_name(m.model)}
        for m in models
        if (whole := sum(m.damage_by_block)) > 0 and m.n_blocks > 1
        for i, damage in enumerate(m.damage_by_block)
    ]  # fmt: skip
    if not rows:
        return side_by_side()
    chart = lines(
        rows,
        title="Which blocks do the damage, by model",
        x="depth",
        y="share",
        series="model",
        x_title="relative depth",
        y_title="share of single-block damage, %",
        blocks=False,
        band=load_thresholds().window,
    )
    return {**chart, "width": 520, "height": 300}


_WHO = {
    "forecast": "forecast of a held-out family",
    "origin": "the origin's {0, round(.75 L), L−1}",
    "first_three": "the first three blocks",
    "largest_damage": "largest damage, measured",
}


def forecasts_chart(forecasts: Forecasts) -> Chart:
    """Returns how good named triples are in every family, by objective."""
    panels = []
    for objective, title in (("damage", "by least damage"), ("disparity", "by least |D|")):
        rows = [
            {"who": _WHO[who], "percentile": rounded(100 * found["percentile"]),
             "model": short_name(r.model), "blocks": str(found["blocks"])}
            for r in forecasts.rows
            if r.kind == "config"
            for own in [r.objectives[objective]]
            for who, found in {"forecast": own, **own["baselines"]}.items()
            if who in _WHO and found["percentile"] is not None
        ]  # fmt: skip
        if not rows:
            continue
        across = {"field": "percentile", "type": "quantitative",
                  "title": "percentile among all triples, 0 is the best",
                  "scale": {"domain": [0, 100]}}  # fmt: skip
        place = {"y": {"field": "who", "type": "nominal", "title": None,
                       "sort": list(_WHO.values())}}  # fmt: skip
        said = tip(("who", "triple by:"), ("model", "model:"), ("blocks", "blocks:"),
                    ("percentile", "percentile"))  # fmt: skip
        panels.append(
            {
                "title": heading(f"Triples {title} (shaded: a hit)"),
                "width": 300,
                "height": 130,
                "data": {"values": rows},
                "layer": [
                    _shaded(0, 10, PALETTE[2]),
                    {"mark": {"type": "point", "size": 50, "opacity": 0.9},
                     "encoding": {**place, "x": across, "color": {**colour("who"),
                                                                  "legend": None},
                                  "tooltip": said}},
                ],
            }
        )  # fmt: skip
    return side_by_side(*panels, columns=1)


def damage_share_chart(rows: Sequence[Json]) -> Chart | None:
    """Returns what each block carries of the damage over relative depth, a line a run."""
    points = [
        {"depth": rounded(i / (len(row["damage_by_block"]) - 1)), "share": rounded(100 * share),
         "run": row["label"]}
        for row in rows
        if len(row["damage_by_block"]) > 1
        for i, share in enumerate(row["damage_by_block"])
        if share is not None
    ]  # fmt: skip
    if not points:
        return None
    chart = lines(points, title="Which blocks carry the damage", x="depth", y="share",
                  series="run", x_title="relative depth", y_title="share of the damage, %",
                  blocks=False)  # fmt: skip
    return {**chart, "width": 520, "height": SIZE["height"]}


def _point(row: Json, factor: float) -> dict[str, Any]:
    low, high = row["ci"] or (None, None)
    ends = (None if end is None else rounded(end * factor) for end in (low, high))
    return dict(
        zip(("value", "low", "high"), (rounded(row["damage"] * factor), *ends), strict=True)
    )


def damage_by_run_chart(rows: Sequence[Json], names: Mapping[str, str]) -> Chart | None:
    """Returns damage by language with intervals, a colour and shape a run."""
    unit = Unit.of(one["damage"] for row in rows for one in row["languages"].values()
                   if one["damage"] is not None)  # fmt: skip
    points = [
        _point(one, unit.factor) | {"language": names[code], "run": row["label"]}
        for row in rows
        for code, one in row["languages"].items()
        if one["damage"] is not None
    ]  # fmt: skip
    if not points:
        return None
    runs = [row["label"] for row in rows]
    ranked = sorted((p for p in points if p["run"] == runs[0]), key=lambda p: -(p["value"] or 0))
    order = list(dict.fromkeys([p["language"] for p in ranked] + [p["language"] for p in points]))
    across = {"field": "value", "type": "quantitative",
              "title": f"damage K, {unit.name} per English character"}  # fmt: skip
    place = {"y": {"field": "language", "type": "nominal", "title": None, "sort": order},
             "yOffset": {"field": "run", "type": "nominal", "sort": runs}}  # fmt: skip
    of = colour("run", runs)
    barred = [p for p in points if p["low"] is not None]
    said = tip(("language", "language:"), ("run", "run:"), ("value", f"damage, {unit.name}"),
               ("low", "95 % from"), ("high", "to"))  # fmt: skip
    layers = [
        {"data": {"values": barred}, "mark": {"type": "rule", "strokeWidth": 1.4},
         "encoding": {**place, "x": {**across, "field": "low"}, "x2": {"field": "high"},
                      "color": of}},
        {"mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
         "encoding": {**place, "x": across, "color": of, "shape": of, "tooltip": said}},
    ]  # fmt: skip
    return {"$schema": SCHEMA, "title": heading("Damage by language"), "width": 460,
            "height": max(18, 8 * len(rows)) * len(order), "data": {"values": points},
            "layer": layers}  # fmt: skip
