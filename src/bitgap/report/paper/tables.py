"""Tables of a paper on any run, and those of one model's audit and map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.report.paper.findings import hypothesis_name
from bitgap.report.paper.text import (
    PaperTable,
    estimate,
    log_ratio,
    number,
    plain,
    probability,
    signs,
)
from bitgap.report.words.answers import language_name
from bitgap.show.numbers import MISSING, Unit, layer_list, told
from bitgap.show.withdrawn import withdrawal

Json = Mapping[str, Any]


_OUTCOMES = {True: "held", False: "failed", None: "not run"}


_PLANTS = {True: "found", False: "missed", None: "not run"}


def summary_table(findings: Sequence[Json]) -> PaperTable:
    """Returns the verdicts in brief."""
    rows = tuple(
        (
            hypothesis_name(f),
            f["verdict"]["label"],
            estimate(f["estimates"][f["primary"]]),
            probability(f["verdict"]["p_holm"]),
        )
        for f in findings
    )
    return PaperTable(
        id="summary",
        caption="Verdicts. Each statistic has its own unit, which the appendix gives; p is after "
        "Holm over the hypotheses that have one.",
        head=("Hypothesis", "Verdict", "Statistic [95 %]", "p"),
        rows=rows,
        widths=("1fr", "auto", "auto", "auto"),
        right=frozenset({2, 3}),
    )


def verdict_table(findings: Sequence[Json]) -> PaperTable:
    """Returns every verdict with its statistic, p values and the clause that decided."""
    rows = []
    for f in findings:
        verdict, primary = f["verdict"], f["estimates"][f["primary"]]
        ps = f"{probability(verdict['p'])} ({probability(verdict['p_holm'])})"
        rows.append(
            (
                f["hypothesis"],
                verdict["label"],
                estimate(primary),
                signs(primary["unit"]),
                MISSING if verdict["sesoi"] is None else f"{verdict['sesoi']:g}",
                MISSING if verdict["p"] is None else ps,
                signs(f"{verdict['reason']}. {withdrawal(f)}".rstrip(". ")),
            )
        )
    return PaperTable(
        id="verdicts",
        caption="Verdict of every hypothesis: primary statistic with its 95 % interval, smallest "
        "effect of interest (SESOI), one-sided p (after Holm), and the clause that decided.",
        head=("", "Verdict", "Statistic", "Unit", "SESOI", "p (Holm)", "Clause"),
        rows=tuple(rows),
        widths=("auto", "auto", "auto", "0.8fr", "auto", "auto", "2.4fr"),
        right=frozenset({4, 5}),
    )


def control_table(findings: Sequence[Json]) -> PaperTable:
    """Returns every control with what was seen."""
    rows = tuple(
        (
            f["hypothesis"],
            c["kind"],
            c["name"],
            (_PLANTS if c["kind"] == "positive" else _OUTCOMES)[c["passed"]],
            signs(c["detail"]),
        )
        for f in findings
        for c in f["controls"]
    )
    return PaperTable(
        id="controls",
        caption="Controls. A negative control or an invariance held if nothing was seen where "
        "nothing should be; a positive control was found if a planted effect was detected.",
        head=("", "Kind", "Control", "Outcome", "Seen"),
        rows=rows,
        widths=("auto", "auto", "1fr", "auto", "1.7fr"),
    )


def estimate_table(findings: Sequence[Json]) -> PaperTable:
    """Returns every estimate, ours and, marked, in the origin's own measure."""
    rows = [
        (f["hypothesis"], name.replace("_", " ") + mark, estimate(found), signs(found["unit"]))
        for f in findings
        for mark, group in (("", f["estimates"]), (" (origin's)", f["seed_measure"]))
        for name, found in group.items()
    ]
    return PaperTable(
        id="estimates",
        caption="All estimates with 95 % intervals, and the origin's own measures on the same data "
        "for comparison; no verdict rests on the latter.",
        head=("", "Estimate", "Value", "Unit"),
        rows=tuple(rows),
        widths=("auto", "1.4fr", "auto", "1fr"),
        right=frozenset({2}),
    )


def audit_table(audit: Json, model: str) -> PaperTable:
    """Returns damage by language."""
    rows, reference = audit["languages"], audit["reference"]
    unit = Unit.of(row["damage"] for row in rows.values())
    body = [
        (
            f"{language_name(code)} ({code})" + _flags(row),
            number(row["damage"], row["ci"], factor=unit.factor, signed=False),
            number(row["delta"], row["delta_ci"], factor=unit.factor),
            number(row["learned_share"], row["learned_share_ci"], factor=100.0, signed=False),
            MISSING if code == reference else log_ratio(row["log_ratio"], row["log_ratio_ci"]),
            MISSING if code == reference else plain(row["log_token_premium"]),
        )
        for code, row in rows.items()
    ]
    flagged = any(_flags(row) for row in rows.values())
    note = " * collapsed; ° below numerical resolution." if flagged else ""
    return PaperTable(
        id="audit",
        caption=f"Damage by language, {model} at {audit['plan']}. K and Δ in {unit.name} "
        f"({unit.note.split(': ')[1]}); K/M is damage over what had been learned; the ratio is "
        f"log2 K to {language_name(reference)}'s, of which the premium is the part that comes from "
        f"needing more tokens.{note}",
        head=("Language", f"K, {unit.name}", f"Δ, {unit.name}", "K/M, %", "log2 ratio", "premium"),
        rows=tuple(body),
        widths=("1fr", *["auto"] * 5),
        right=frozenset(range(1, 6)),
    )


def _flags(row: Json) -> str:
    return ("*" if row["collapsed"] else "") + ("°" if row["below_resolution"] else "")


def map_table(found: Json, model: str) -> PaperTable:
    """Returns what each block contributes."""
    rows = found["layers"]
    unit = Unit.of(row["shapley_damage"] for row in rows)
    columns = (
        (f"φ K, {unit.name}", "shapley_damage"),
        (f"φ G, {unit.name}", "shapley_gap"),
        ("φ |D|", "shapley_disparity"),
        (f"K alone, {unit.name}", "single_damage"),
        ("D kept", "protected_disparity"),
    )
    body = [
        (f"L{row['layer']}",
         *(log_ratio(row[name], row[f"{name}_ci"]) if name.endswith("disparity")
           else number(row[name], row[f"{name}_ci"], factor=unit.factor) for _, name in columns))
        for row in rows
    ]  # fmt: skip
    over = "all sets of protected blocks" if found["all_masks"] else "a sample of sets"
    return PaperTable(
        id="map",
        caption=f"What each block is worth, {model} at {found['scheme']}: Shapley values of K, G "
        f"and |D| over {over} (positive: keeping the block whole lowers it), damage with this "
        f"block alone rounded, and D with it alone kept whole. {unit.note}.",
        head=("", *(name for name, _ in columns)),
        rows=tuple(body),
        widths=("auto", "1fr", "1fr", "1fr", "1fr", "1fr"),
        right=frozenset(range(1, 6)),
    )


def best_sets_table(found: Json, model: str) -> PaperTable | None:
    """Returns the best sets of each size, or None where there is none to choose."""
    rows = found["best_sets"]
    if not rows:
        return None
    unit = Unit.of(row["least_damage"]["damage"] for row in rows)
    body = [
        (
            row["size"],
            f"{row['sets']:,}",
            layer_list(row["least_damage"]["layers"]),
            signs(told(row["least_damage"]["damage"], None, unit.factor, signed=False)),
            layer_list(even["layers"]) if (even := row["least_disparity"]) else "none",
            plain(even["disparity"]) if even else MISSING,
        )
        for row in rows
    ]
    return PaperTable(
        id="sets",
        caption=f"Best sets to keep whole, {model}: by least K, and by least |D| among sets under "
        f"which nobody is worse off. Chosen on these very sentences, so they flatter themselves; "
        f"none: every set of that size harms somebody, or leaves D undefined.",
        head=("Size", "Sets", "Least K", f"K, {unit.name}", "Least |D|, nobody worse", "D"),
        rows=tuple(body),
        widths=("auto", "auto", "1fr", "auto", "1fr", "auto"),
        right=frozenset({0, 1, 3, 5}),
    )
