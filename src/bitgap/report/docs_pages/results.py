"""``docs/results.md``: what came out over the model families. No number in it is typed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bitgap.report.words.theory import answer_sentences
from bitgap.show.numbers import told_estimate
from bitgap.show.table import Table
from bitgap.show.tables.findings import (
    control_table,
    family_table,
    hypothesis_name,
    verdict_table,
)
from bitgap.show.tables.theory import (
    asked_table,
    budget_table,
    forecast_table,
    forecasts_table,
    inflation_table,
    ladder_table,
    models_table,
    pillars_table,
    places_table,
    power_table,
    regression_table,
    scores_table,
    slopes_table,
    suggested_table,
)
from bitgap.show.to_markdown import prose, rows_of, to_markdown
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
        "name", "verdict", "effect", "p", "p_holm", "p_equivalence", "scope", "why"
    )
    sections = (
        "# Why these blocks? What came out over model families",
        "Written by `bitgap theory`, by no hand. What is asked, and the smallest effects of "
        "interest, are declared in `src/bitgap/stats/thresholds.yaml`; the rules of judgement "
        "are those of one model ([calibration](calibration.md)) and, across families, of the "
        "family as unit. *Refuted* means that the effect is clearly smaller than the smallest one "
        "of interest and that a planted one was found; *small* that it is there and smaller than "
        "that; *inconclusive* names the clause that failed.",
        rows_of(["made with", ""], facts.items()),
        *_answer(result),
        to_markdown(replace(verdicts, title="Verdicts of the theory")),
        f"Of {_ROLES[result['role']]}.",
        to_markdown(pillars_table(result["pillars"])),
        *_outcomes(result["outcomes"]),
        to_markdown(models_table(result["models"])),
        *_by_family(findings),
        to_markdown(control_table(findings)),
        *_formal(findings),
        *_tables(forecasts_table(forecasts["summary"]), forecast_table(forecasts["rows"])),
        *_later(result),
        to_markdown(regression_table(result["original_regression"])),
    )
    return "\n\n".join(sections) + "\n"


def _tables(*tables: Table, level: int = 2) -> list[str]:
    return [to_markdown(table, level) for table in tables if table.rows]


_ROLES = {
    "confirmation": "confirmation models, which were measured after the thresholds were declared",
    "exploratory": "exploratory models, which had been looked at before the thresholds were "
    "declared, so that nothing here confirms",
}
SHORT = "In short"
"""Title of what the README shows."""


def _answer(result: Json) -> list[str]:
    found = result["answer"]
    if not found:
        return []
    parts = ["## The answer", f"From {_ROLES[result['role']]}.", *_answer_of(found, SHORT)]
    parts += _tables(places_table(found["places"]), asked_table(found["hypotheses"]), level=3)
    beside = result["beside"]
    if beside:
        parts += _answer_of(beside["answer"], "Beside it: the exploratory models")
        parts.append(f"From {_ROLES['exploratory']}.")
        verdicts = verdict_table(beside["findings"]).only("name", "verdict", "effect", "p", "why")
        parts += [to_markdown(replace(verdicts, title=""), 0)]
        parts += [to_markdown(places_table(beside["answer"]["places"]), 0)]
    return parts


def _answer_of(found: Json, title: str) -> list[str]:
    return [f"### {title}", *answer_sentences(found)]


def _later(result: Json) -> list[str]:
    later = result["later"]
    if not later:
        return []
    said = (
        "Confirmation models forecast from exploratory ones alone, of which nothing but weights "
        "and one pass of full precision is used. Beside it, how the same forecasts did where "
        "families of the exploratory models were held out."
    )
    held_out = result["forecasts"]["masks"]
    rows = [
        {"kind": kind, "later": found, "held_out": held_out.get(kind, {})}
        for kind, found in later["masks"].items()
    ]
    return [
        "## Forecasts of confirmation models",
        said,
        to_markdown(replace(scores_table(rows), title=""), 0),
        *_tables(
            forecasts_table(later["summary"], later=True),
            forecast_table(later["rows"], later=True),
            level=3,
        ),
    ]


def _outcomes(outcomes: Json) -> list[str]:
    parts = ["## What follows"]
    for key, title in (
        ("established", "Established"),
        ("ruled_out", "Ruled out"),
        ("open", "Open"),
    ):
        lines = [
            prose(f"- **{row['hypothesis']}**: {row['says']}. ({row['because']})")
            for row in outcomes[key]
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
        parts += [f"### {hypothesis_name(f)}", prose(text), to_markdown(table, level=0)]
    return parts


def _formal(findings: Sequence[Json]) -> list[str]:
    formal = next((f for f in findings if f["hypothesis"] == "formal"), None)
    if formal is None:
        return []
    makers = (ladder_table, power_table, budget_table, slopes_table, inflation_table)
    tables = (make(formal["tables"]) for make in makers)
    return ["## The formal model", formal["sentence"], *_tables(*tables, level=3)]
