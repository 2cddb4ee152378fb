"""The chapters of a page: one for each gap of the origin, with a section for each experiment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.errors import UsageError
from bitgap.experiments.catalog import find, method
from bitgap.report.words.gaps import by_gap
from bitgap.report.words.phrases import by_label, joined
from bitgap.stats.verdicts import load_thresholds

Json = Mapping[str, Any]


_CLAIMS = {
    "H1.1": "high variance, more information",
    "H1.2": "high variance, more robust",
    "H1.3": "critical blocks differ by language",
    "H2.1": "errors of the first block travel",
    "H2.2": "the ends are built differently",
    "H2.3": "errors of the ends cancel",
    "H3.1": "a bottleneck near 75 %",
    "H3.2": "morphology peaks near 75 %",
    "H3.3": "languages meet near 75 %",
    "H4.1": "bits shrink the gap",
    "synergy": "the ends protect more together",
    "formal": "the formula predicts",
    "depth": "the origin's triple is among the best",
}


def claim(hypothesis: str) -> str:
    """Returns what a hypothesis says, in a few words."""
    return _CLAIMS.get(hypothesis, hypothesis)


def chapters(findings: Sequence[Json]) -> list[dict[str, Any]]:
    """Returns the chapters that findings, as JSON, belong to, with their sections, in order."""
    return [
        {"gap": gap, "state": state(mine), "sections": [_section(f) for f in mine]}
        for gap, mine in by_gap(findings)
    ]


def state(findings: Sequence[Json]) -> str:
    """Returns what became of a gap's hypotheses, in one line."""
    parts = [f"{joined(names)} {label}" for label, names in by_label(findings).items()]
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:] + "."


def _section(finding: Json) -> dict[str, Any]:
    try:
        experiment = find(finding["experiment"])
    except UsageError:  # the formal model is no experiment on one model
        question, how = finding["title"], None
    else:
        question, how = experiment.question, method(experiment)
    return {
        "finding": finding,
        "figure": finding["experiment"].lower(),
        "question": question,
        "method": paragraphs(how),
        "declared": load_thresholds().hypotheses.get(finding["hypothesis"], {}),
        "mind": change_of_mind(finding),
    }


def paragraphs(text: str | None) -> list[str]:
    """Returns a docstring's paragraphs, the first line with the question left out."""
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", (text or "").strip())]
    return parts[1:]


def change_of_mind(finding: Json) -> list[str]:
    """Returns what would have to be seen for another verdict, in sentences."""
    verdict, primary = finding["verdict"], finding["estimates"][finding["primary"]]
    sesoi, label = verdict["sesoi"], verdict["label"]
    least = "" if sesoi is None else f"{sesoi:g}"
    said = []
    if label == "supported":
        said.append(
            f"An interval that reaches 0, an estimate under {least}, or a control that fails. Over "
            f"families, support needs at least {load_thresholds().families_min} of them."
        )
    elif label == "refuted":
        said.append(
            f"An interval that reaches the smallest effect of interest, {least}, or a positive "
            f"control that no longer finds a planted effect, so that absence says nothing."
        )
    elif label == "not testable":
        said.append(f"Something to test: {verdict['reason']}.")
    else:
        said.append(
            f"What decided now and would have to change: {verdict['reason']}. Beyond that, support "
            f"needs an estimate of at least {least} with an interval above 0 and every control "
            f"held; refutation an interval wholly under {least}, a planted effect that is found, "
            f"and every further clause that was declared."
        )
    said += _of_controls(finding["controls"])
    least_p = verdict["p_minimum"]
    if least_p is not None and least_p > load_thresholds().alpha:
        said.append(
            f"The smallest p that this design can reach is {least_p:.2g}: it takes more than one "
            f"model to support the hypothesis."
        )
    if primary["value"] is None and primary["reason"]:
        said.append(f"There is no number to judge: {primary['reason']}.")
    return said


def _of_controls(controls: Sequence[Json]) -> list[str]:
    failed = [c["name"] for c in controls if c["passed"] is False and c["kind"] != "positive"]
    missed = [c["name"] for c in controls if c["passed"] is False and c["kind"] == "positive"]
    said = []
    if failed:
        said.append(f"Controls that failed and would have to hold: {'; '.join(failed)}.")
    if missed:
        said.append(
            f"Planted effects that were missed, so that absence says nothing: {'; '.join(missed)}."
        )
    return said
