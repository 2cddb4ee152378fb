"""``docs/results.md``: what came out over the model families. No number in it is typed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bitgap.show.numbers import told_estimate
from bitgap.show.table import Table
from bitgap.show.tables.findings import (
    control_table,
    family_table,
    hypothesis_name,
    verdict_table,
)
from bitgap.show.tables.theory import (
    budget_table,
    forecast_table,
    forecasts_table,
    inflation_table,
    ladder_table,
    models_table,
    pillars_table,
    regression_table,
    slopes_table,
    suggested_table,
)
from bitgap.show.to_markdown import rows_of, to_markdown
from bitgap.show.withdrawn import with_note, withdrawal

Json = Mapping[str, Any]


def results_page(result: Json, facts: Mapping[str, object]) -> str:
    """Returns the page of a theory run.

    Args:
        result: As :meth:`bitgap.theory.records.Theory.as_dict` has it.
        facts: What it was made by and with, by name.
    """
    findings, forecasts = result["findings"], result["forecasts"]
    verdicts = verdict_table(findings).only(
        "name", "verdict", "effect", "p", "p_holm", "scope", "why"
    )
    sections = (
        "# Why these blocks? What came out over model families",
        "Written by `bitgap theory`, by no hand. Every hypothesis was declared in "
        "`src/bitgap/stats/thresholds.yaml` before the zoo was measured; the rules of judgement "
        "are those of one model ([calibration](calibration.md)) and, across families, of the "
        "model as unit. *Refuted* means that the effect is clearly smaller than the smallest one "
        "of interest and that a planted one was found; *inconclusive* names the clause that "
        "failed.",
        rows_of(["made with", ""], facts.items()),
        to_markdown(replace(verdicts, title="Verdicts of the theory")),
        to_markdown(pillars_table(result["pillars"])),
        *_outcomes(result["outcomes"]),
        to_markdown(models_table(result["models"])),
        *_by_family(findings),
        to_markdown(control_table(findings)),
        *_formal(findings),
        *_tables(forecasts_table(forecasts["summary"]), forecast_table(forecasts["rows"])),
        to_markdown(regression_table(result["original_regression"])),
    )
    return "\n\n".join(sections) + "\n"


def _tables(*tables: Table, level: int = 2) -> list[str]:
    return [to_markdown(table, level) for table in tables if table.rows]


def _outcomes(outcomes: Json) -> list[str]:
    parts = ["## What follows"]
    for key, title in (
        ("established", "Established"),
        ("ruled_out", "Ruled out"),
        ("open", "Open"),
    ):
        lines = [
            f"- **{row['hypothesis']}**: {row['says']}. ({row['because']})" for row in outcomes[key]
        ]
        parts += [f"### {title}", "\n".join(lines) or "Nothing."]
    return parts + _tables(suggested_table(outcomes["suggested"]), level=3)


def _by_family(findings: Sequence[Json]) -> list[str]:
    parts = ["## By family"]
    for f in findings:
        table = family_table([f]).only("model", "verdict", "effect", "unit", "why")
        if not table.rows:
            continue
        across = "; ".join(f"{name}: {told_estimate(e)}" for name, e in f["estimates"].items())
        concurring = "; ".join(
            f"{row['test']} of {row['statistic']}: p = {row['p']:.3g}"
            for row in f["tables"].get("concurring", [])
        )
        text = f"{f['sentence']} Statistics: {across}." + (
            f" Tests that must concur: {concurring}." if concurring else ""
        )
        text = with_note(text, withdrawal(f))
        parts += [f"### {hypothesis_name(f)}", text, to_markdown(table, level=0)]
    return parts


def _formal(findings: Sequence[Json]) -> list[str]:
    formal = next((f for f in findings if f["hypothesis"] == "formal"), None)
    if formal is None:
        return []
    makers = (ladder_table, budget_table, slopes_table, inflation_table)
    tables = (make(formal["tables"]) for make in makers)
    return ["## The formal model", formal["sentence"], *_tables(*tables, level=3)]
