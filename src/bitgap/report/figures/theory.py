"""Charts over model families: every hypothesis by family, the formal model, damage by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.records import Finding
from bitgap.report.figures.model import MARKED, point, rounded
from bitgap.show.charts import (
    GREY,
    PALETTE,
    SIZE,
    Chart,
    category,
    colour,
    dots,
    layer,
    lines,
    number,
    panel,
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
    return side_by_side(*filter(None, map(_forest_panel, findings)), columns=2)


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
    across = number("value", _UNITS.get(unit, unit), scale=scale)
    order = [row["model"] for row in rows]
    place = {"y": category("model", axis={"ticks": False}, sort=order)}
    kinds = ["a model", "same family, beside", "all families"]
    of = category("kind", legend=None,
                  scale={"domain": kinds, "range": [PALETTE[0], GREY, MARKED]})  # fmt: skip
    shape = {"field": "kind", "type": "nominal", "legend": None,
             "scale": {"domain": kinds, "range": ["circle", "circle", "diamond"]}}  # fmt: skip
    sesoi = load_thresholds().hypotheses.get(finding.hypothesis, {}).get("sesoi")
    layers = [_shaded(*load_thresholds().window, GREY) if deep else _upright(0.0, [2, 3])]
    if sesoi is not None and not deep:
        layers.append(_upright(float(sesoi), [6, 3]))
    said = tip(("model", "model:"), ("value", "statistic"))
    layers += dots(rows, place, across, said, color=of, shape=shape)
    name = finding.hypothesis
    told = "" if name.casefold() == finding.title.casefold() else f" {finding.title.lower()}"
    return panel(f"{name}{told}: {verdict}", rows, layers, 260, _ROW * len(rows))


_UNITS = {
    "correlation over blocks, detrended in depth": "correlation over blocks, detrended",
    "-rho": "−ρ: above 0 the errors of both ends cancel",
    "dB": "dB by which errors of the first block travel further",
    "relative depth": f"relative depth (shaded: {window_name()})",
    "share of K(none)": "interaction of the ends, share of K(none)",
    "log2 ratio per bit": "slope of the log2 damage ratio, per bit",
}


def _shaded(low: float, high: float, color: str) -> Chart:
    span = {"x": number("from"), "x2": {"field": "to"}}
    return layer("rect", span, [{"from": low, "to": high}], color=color, opacity=0.15)


def _upright(at: float, dash: list[int]) -> Chart:
    return layer("rule", {"x": number("at")}, [{"at": at}], color=GREY, strokeDash=dash)


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
    panels = list[Chart]()
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
    encoding: Chart = {
        "y": category("rung", sort=[r["rung"] for r in rows]),
        "x": number("r2", "R² in the family held out"),
        "color": {"condition": {"test": "datum.theory", "value": MARKED}, "value": PALETTE[0]},
        "tooltip": tip(("rung", "rung:"), ("r2", "R²"), ("families", "families")),
    }
    rule = [] if chance is None else [_upright(chance, [6, 3])]
    return panel(title, rows, [layer("bar", encoding, height=11), *rule], 240, 20 * len(rows))


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
    "forecast": "the forecast, not having seen it",
    "origin": "the origin's {0, round(.75 L), L−1}",
    "first_three": "the first three blocks",
    "largest_damage": "largest damage, measured",
}
# The last is of runs from before S took the place of |D|.
_OBJECTIVES = {
    "spread": "by least S", "damage": "by least damage", "disparity": "by least |D|",
}  # fmt: skip


def forecasts_chart(forecasts: Forecasts) -> Chart:
    """Returns how good named triples are in every family, by objective."""
    panels = list[Chart]()
    for objective, title in _OBJECTIVES.items():
        rows = [
            {"who": _WHO[who], "percentile": rounded(100 * found["percentile"]),
             "model": short_name(r.model), "blocks": str(found["blocks"])}
            for r in forecasts.rows
            if r.kind == "config" and objective in r.objectives
            for own in [r.objectives[objective]]
            for who, found in {"forecast": own, **own["baselines"]}.items()
            if who in _WHO and found["percentile"] is not None
        ]  # fmt: skip
        if not rows:
            continue
        best = "percentile among all triples, 0 is the best"
        said = tip(("who", "triple by:"), ("model", "model:"), ("blocks", "blocks:"),
                    ("percentile", "percentile"))  # fmt: skip
        encoding: Chart = {
            "y": category("who", sort=list(_WHO.values())),
            "x": number("percentile", best, scale={"domain": [0, 100]}),
            "color": {**colour("who"), "legend": None},
            "tooltip": said,
        }
        layers = [_shaded(0, 10, PALETTE[2]), layer("point", encoding, size=50, opacity=0.9)]
        panels.append(panel(f"Triples {title} (shaded: a hit)", rows, layers, 300, 130))
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


def bytes_chart(rows: Sequence[Json], names: Mapping[str, str]) -> Chart | None:
    """Returns damage over the bytes of files, a colour and shape a language.

    Args:
        rows: Of a comparison; those that are of no file are left out.
        names: Languages' names by code.
    """
    files = [row for row in rows if row["file"]]
    told = [
        (row, code, one)
        for row in files
        for code, one in row["languages"].items()
        if one["damage"] is not None and one["damage"] > 0
    ]
    if len({row["file"]["n_bytes"] for row, *_ in told}) < 2:
        return None
    unit = Unit.of(one["damage"] for *_, one in told)
    points = [
        _point(one, unit.factor)
        | {"language": names[code], "file": row["file"]["file"],
           "mib": rounded(row["file"]["n_bytes"] / 2**20), "bits": rounded(row["file"]["bits"])}
        for row, code, one in told
    ]  # fmt: skip
    order = list(dict.fromkeys(names[code] for _, code, _ in told))
    lows = [(one["ci"] or (None,))[0] for *_, one in told]
    scale = {"type": "log"} if all(low is None or low > 0 for low in lows) else {}
    across = number("value", f"damage K, {unit.name} per reference character", scale=scale)
    place = {"x": number("mib", "MiB", scale={"zero": False})}
    of = colour("language", order)
    said = tip(("file", "file:"), ("language", "language:"), ("mib", "MiB"), ("bits", "bits"),
               ("value", f"damage, {unit.name}"))  # fmt: skip
    line = layer("line", {**place, "y": across, "color": of}, opacity=0.5, strokeWidth=1)
    marks = dots(points, place, across, said, along="y", size=40, width=1.2, color=of, shape=of)
    return panel("Bytes against damage", points, [line, *marks], 460, 300)


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
    ranked = sorted(
        (p for p in points if p["run"] == runs[0]), key=lambda p: -float(p["value"] or 0)
    )
    order = list(dict.fromkeys([p["language"] for p in ranked] + [p["language"] for p in points]))
    across = number("value", f"damage K, {unit.name} per English character")
    place = {"y": category("language", sort=order),
             "yOffset": {"field": "run", "type": "nominal", "sort": runs}}  # fmt: skip
    of = colour("run", runs)
    said = tip(("language", "language:"), ("run", "run:"), ("value", f"damage, {unit.name}"))
    layers = dots(points, place, across, said, size=40, width=1.4, color=of, shape=of)
    height = max(18, 8 * len(rows)) * len(order)
    return panel("Damage by language", points, layers, 460, height)
