"""Sections on hypotheses: in which question each belongs, how it stands, what would change that.

Page and paper have one chapter for each question of the original study; what a hypothesis says is
read off its record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.errors import UsageError
from bitgap.experiments.catalog import find, method
from bitgap.experiments.protocol.hypothesis import GAPS, Gap
from bitgap.report.words.phrases import be, by_label, counted, joined
from bitgap.show.withdrawn import withdrawn_names
from bitgap.stats.verdicts import load_thresholds, on_one_model
from bitgap.theory.hypotheses import HYPOTHESES

Json = Mapping[str, Any]


def claim(hypothesis: str) -> str:
    """Returns what a hypothesis says, in a few words; its id where an old run has one of none."""
    record = HYPOTHESES.get(hypothesis)
    return hypothesis if record is None else record.claim


def in_order(findings: Sequence[Json]) -> list[Json]:
    """Returns findings, as JSON, in the order of the theory; unknown hypotheses come last."""
    order = list(HYPOTHESES)
    return sorted(
        findings,
        key=lambda f: order.index(f["hypothesis"]) if f["hypothesis"] in order else len(order),
    )


def by_gap(findings: Sequence[Json]) -> list[tuple[Gap, list[Json]]]:
    """Returns the questions that there are findings on, each with its own, in reading order.

    Args:
        findings: As JSON, one a hypothesis.
    """
    groups: dict[str, list[Json]] = {key: [] for key in GAPS}
    for finding in in_order(findings):
        record = HYPOTHESES.get(finding["hypothesis"])
        groups["further" if record is None else record.gap].append(finding)
    return [(GAPS[key], group) for key, group in groups.items() if group]


def chapters(findings: Sequence[Json]) -> list[dict[str, Any]]:
    """Returns the chapters that findings, as JSON, belong to, with their sections, in order."""
    return [
        {"gap": gap, "state": standing(group), "sections": [_section(f) for f in group]}
        for gap, group in by_gap(findings)
    ]


def standing(findings: Sequence[Json]) -> str:
    """Returns how a gap stands after the verdicts on its hypotheses."""
    labels = by_label(findings)
    alone = all(on_one_model(f["verdict"]["scope"]) for f in findings)
    where = "on this model" if alone else "over families"
    parts = [f"{joined(names)} {be(len(names))} {label}" for label, names in labels.items()]
    head = f"{'; '.join(parts)} {where}."
    head = head[:1].upper() + head[1:]
    withdrawn = withdrawn_names(findings)
    if withdrawn:
        head += f" The refutation of {joined(withdrawn)} is withdrawn."
    excluded = [name for name in labels.get("refuted", ()) if name not in withdrawn]
    if names := labels.get("supported"):
        return f"{head} {joined(names)} {'stands' if len(names) == 1 else 'stand'} as explanation."
    if len(excluded) == len(findings):
        return f"{head} Every explanation offered is refuted: there is no such effect to explain."
    if excluded:
        rest = len(findings) - len(excluded)
        return (
            f"{head} Of the explanations offered, {joined(excluded)} can be ruled out, and "
            f"{counted(rest, 'other')} {'stays' if rest == 1 else 'stay'} open."
        )
    if len(labels.get("not testable", ())) == len(findings):
        return f"{head} None of the explanations offered can be tested on these data."
    return f"{head} No explanation offered is established and none is ruled out: the gap is open."


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
    least = "" if sesoi is None else "the part's" if verdict.get("parts") else f"{sesoi:g}"
    said = list[str]()
    if label == "supported":
        said.append(
            f"An interval that reaches 0, an estimate under {least}, or a control that fails. Over "
            f"families, support needs at least {load_thresholds().families_min} of them."
        )
    elif label == "refuted":
        said.append(
            f"An interval that reaches the smallest effect of interest, {least}, or a guard that "
            f"no longer holds: a planted effect that is missed, so that absence says nothing, "
            f"halves of one text that differ, or one block without which the effect is there."
        )
    elif label == "small":
        said.append(
            f"An interval that reaches the smallest effect of interest, {least}, with an estimate "
            f"of at least that; or one that reaches what is there where nothing is."
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


def failed(controls: Sequence[Json], *, positive: bool) -> list[Json]:
    """Returns the controls that came out wrong: planted effects that were missed, or the others."""
    return [c for c in controls if c["passed"] is False and (c["kind"] == "positive") is positive]


def _of_controls(controls: Sequence[Json]) -> list[str]:
    wrong = {
        "Controls that failed and would have to hold": failed(controls, positive=False),
        "Planted effects that were missed, so that absence says nothing": failed(
            controls, positive=True
        ),
    }
    return [
        f"{what}: {'; '.join(c['name'] for c in ones)}." for what, ones in wrong.items() if ones
    ]
