"""What stands on the first screen of a page: charts that can be switched, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.disparity.calibration import Calibration
from bitgap.protect.outcome import Outcome
from bitgap.report.figures.calibration import calibration_chart
from bitgap.report.figures.model import language_panels, layer_panels, rounded
from bitgap.report.figures.protect import gains_chart, recipe_chart
from bitgap.report.figures.theory import depth_chart
from bitgap.report.run import Run
from bitgap.report.words.sections import claim, in_order
from bitgap.show.charts import PALETTE, Chart, Figure, category, number, tip
from bitgap.show.numbers import short_name
from bitgap.show.withdrawn import withdrawal
from bitgap.theory.records import MeasuredModel

Json = Mapping[str, Any]
_MEASURES = {"damage": "damage", "share": "share of learned", "delta": "change on real text"}
_GAMES = {"damage": "damage", "spread": "spread S", "gap": "gap G"}


def first_panels(run: Run) -> list[dict[str, Any]]:
    """Returns the charts of the first screen, each with what it can be switched to."""
    panels: list[dict[str, Any]] = []
    if run.theory is not None:
        return _of_families(run.theory.models)
    if run.outcome is not None:
        return _of_recipe(run.outcome)
    if run.calibration is not None:
        return _of_calibration(run.calibration)
    if run.report and (charts := language_panels(run.report, 250)):
        said = "Damage by language with 95 % intervals."
        panels.append(_panel("languages", "measure", charts, _MEASURES, said))
    if run.layer_map and (charts := layer_panels(run.layer_map, 270)):
        said = "What protecting each block is worth, with 95 % intervals."
        panels.append(_panel("blocks", "game", charts, _GAMES, said))
    return panels


def _panel(
    key: str, switch: str, charts: Mapping[str, Any], names: Mapping[str, str], alt: str
) -> dict[str, Any]:
    shown = {
        name: Figure(f"first-{key}-{name}", names[name], "", f"{alt} Shown: {names[name]}.",
                     {k: v for k, v in chart.items() if k != "title"})
        for name, chart in charts.items()
    }  # fmt: skip
    return {
        "key": key,
        "switch": switch,
        "choices": [(name, names[name], f"first-{key}-{name}") for name in shown],
        "figures": list(shown.values()),
    }


def _of_recipe(found: Outcome) -> list[dict[str, Any]]:
    bits = recipe_chart(found, {one.unit: one.bits for one in found.units}, "bits", "")
    said = "Bits of every unit, blocks from top to bottom."
    panels = [_panel("cost", "measure", {"recipe": {**bits, "width": 170}},
                     {"recipe": "the recipe"}, said)]  # fmt: skip
    if (gains := gains_chart(found, 200)) is not None:
        said = "Change of each language's damage against plans of the same bytes."
        panels.append(_panel("gains", "measure", {"change": gains}, {"change": "change"}, said))
    return panels


def _of_calibration(found: Calibration) -> list[dict[str, Any]]:
    said = "Damage taken off by each text of calibration, by language, against rounding to nearest."
    chart = {"taken off": calibration_chart(found)}
    return [_panel("text", "measure", chart, {"taken off": "damage taken off"}, said)]


def chips(findings: Sequence[Json]) -> list[dict[str, str]]:
    """Returns every hypothesis with its verdict, in the order of the theory."""
    return [
        {"hypothesis": f["hypothesis"], "label": f["verdict"]["label"],
         "claim": claim(f["hypothesis"]) + (" (withdrawn)" if withdrawal(f) else ""),
         "anchor": anchor(f["hypothesis"])}
        for f in in_order(findings)
    ]  # fmt: skip


def anchor(hypothesis: str) -> str:
    """Returns the id of a hypothesis' section."""
    return "h-" + "".join(c if c.isalnum() else "-" for c in hypothesis.lower())


def _of_families(models: Sequence[MeasuredModel]) -> list[dict[str, Any]]:
    panels = list[dict[str, Any]]()
    known = [(short_name(m.model), m.spread) for m in models if m.spread is not None]
    if known:
        said = "How far apart languages are, by model, with every block rounded."
        chart = {"spread": _by_model(known)}
        panels.append(_panel("languages", "measure", chart, {"spread": "S"}, said))
    if any(sum(m.damage_by_block) > 0 for m in models):
        chart = {**depth_chart(models), "width": 250, "height": 220}
        said = "Share of single-block damage over relative depth, a line a model."
        panels.append(_panel("blocks", "game", {"damage": chart}, {"damage": "damage"}, said))
    return panels


def _by_model(spreads: Sequence[tuple[str, float]]) -> Chart:
    ordered = sorted(spreads, key=lambda one: -one[1])
    rows = [{"model": model, "S": rounded(spread)} for model, spread in ordered]
    order = [model for model, _ in ordered]
    axis = {"ticks": False, "domain": False, "labelPadding": 6}
    place = category("model", sort=order, axis=axis)
    across = number("S", "S, SD over languages of log2 damage per token")
    return {
        "width": 250,
        "height": 20 * len(rows),
        "data": {"values": rows},
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": PALETTE[0]},
        "encoding": {"y": place, "x": across, "tooltip": tip(("model", "model:"), ("S", "S"))},
    }
