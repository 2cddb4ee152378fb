"""What was found of hypotheses: verdicts, estimates, controls, and each model's own verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import short_name
from bitgap.show.table import Column, Table, Value
from bitgap.show.withdrawn import withdrawal

Json = Mapping[str, Any]

OUTCOMES = {True: "held", False: "failed", None: "not run"}
"""How a control came out."""


def hypothesis_name(finding: Json) -> str:
    """Returns ``H1.1, information content``, or the title where a hypothesis has no number."""
    name, title = finding["hypothesis"], finding["title"]
    if name.casefold() == title.casefold():
        return str(title)
    if name == "formal":
        return "Formal model"
    return f"{name}, {title[:1].lower()}{title[1:]}"


def _whose(findings: Sequence[Json]) -> str:
    """Returns whose tables of one finding are, so that a page with many tells them apart."""
    return f": {findings[0]['hypothesis']}" if len(findings) == 1 else ""


def verdict_table(findings: Sequence[Json]) -> Table:
    """Returns a row a hypothesis."""

    def row(f: Json) -> tuple[Any, ...]:
        verdict, primary = f["verdict"], f["estimates"][f["primary"]]
        effect, sesoi = Value.told(primary), verdict.get("sesoi")
        holm = verdict.get("p_equivalence_holm")
        equivalence = verdict.get("p_equivalence") if holm is None else holm
        ps = (verdict["p"], verdict["p_holm"], equivalence, verdict["p_minimum"])
        why = f"{verdict['reason']}. {withdrawal(f)}".rstrip(". ")
        return (
            f["hypothesis"], hypothesis_name(f), verdict["label"], effect, primary["unit"],
            None if sesoi is None else f"{sesoi:g}", *ps, verdict.get("scope"), why,
        )  # fmt: skip

    return Table(
        id="verdicts",
        title="Verdicts",
        columns=(
            Column("hypothesis", "hypothesis"),
            Column("name", "hypothesis", width=1.0),
            Column("verdict", "verdict", "label"),
            Column("effect", "effect", "estimate", signed=True,
                   note="effect: each hypothesis' own statistic, in its own unit, with its "
                   "interval of 95 %; of several parts that of the first."),
            Column("unit", "unit", width=0.8),
            Column("sesoi", "SESOI", note="SESOI: the smallest effect of interest."),
            Column("p", "p", "p", note="p: one-sided."),
            Column("p_holm", "Holm p", "p", note="Holm: over the hypotheses that have a p."),
            Column("p_equivalence", "equivalence p", "p",
                   note="equivalence p: of an effect that matters, which a refutation must reject; "
                   "after Holm where several are judged."),
            Column("p_minimum", "least p", "p",
                   note="least: the smallest p this design can reach."),
            Column("scope", "scope"),
            Column("why", "why", width=2.4, note="why: the clause that decided."),
        ),
        rows=tuple(map(row, findings)),
    )  # fmt: skip


def estimate_table(findings: Sequence[Json]) -> Table:
    """Returns a row an estimate, a finding's primary one first, the origin's measures last."""
    return Table(
        id="estimates",
        title=f"Estimates{_whose(findings)}",
        columns=(
            Column("hypothesis", "hypothesis"),
            Column("estimate", "what", width=1.4),
            Column("measure", "measure"),
            Column("value", "estimate", "estimate", signed=True),
            Column("unit", "unit", width=1.0),
            Column("how", "how, or why not"),
        ),
        rows=tuple(
            (f["hypothesis"], name.replace("_", " "), measure, Value.told(one), one["unit"],
             one["reason"] or one["method"])
            for f in findings
            for measure, group in (
                ("ours", f["estimates"]), ("the origin's", f["original_measure"]),
            )
            for name, one in sorted(group.items(), key=lambda item: item[0] != f["primary"])
        ),
        notes=("Intervals of 95 %. A verdict rests on the first of its estimates; the origin's own "
               "measures on the same data are for comparison.",),
    )  # fmt: skip


def control_table(findings: Sequence[Json]) -> Table:
    """Returns a row a control."""
    return Table(
        id="controls",
        title=f"Controls{_whose(findings)}",
        columns=(
            Column("hypothesis", "hypothesis"),
            Column("control", "control", width=1.0),
            Column("kind", "kind"),
            Column("outcome", "came out", "label"),
            Column("detail", "seen", width=1.7),
        ),
        rows=tuple(
            (f["hypothesis"], c["name"], c["kind"], OUTCOMES[c["passed"]], c["detail"])
            for f in findings
            for c in f["controls"]
        ),
        notes=("What could have made a finding worthless. A negative control or an invariance held "
               "if nothing was seen where nothing should be, a positive control if a planted "
               "effect was found.",),
    )  # fmt: skip


def family_table(findings: Sequence[Json]) -> Table:
    """Returns a row a hypothesis and model."""
    rows = [(f, row) for f in findings for row in f["tables"].get("families", ())]
    note = "(beside): a further model of a family, shown beside the one that speaks for it."
    return Table(
        id="families",
        title=f"Every model judged alone{_whose(findings)}",
        columns=(
            Column("hypothesis", "hypothesis"),
            Column("model", "model"),
            Column("verdict", "verdict alone", "label"),
            Column("effect", "statistic", "estimate", signed=True),
            Column("unit", "unit", width=1.0),
            Column("why", "why"),
        ),
        rows=tuple(
            (f["hypothesis"], short_name(row["model"]) + ("" if row["speaks"] else " (beside)"),
             row["verdict"], Value.told(row), row["unit"], row["reason"])
            for f, row in rows
        ),
        notes=() if all(row["speaks"] for _, row in rows) else (note,),
    )  # fmt: skip
