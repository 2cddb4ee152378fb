"""What a paper says of hypotheses: each sentence chosen by verdict, controls and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.experiments.protocol.hypothesis import Gap
from bitgap.report.paper.text import (
    Markup,
    estimate,
    markup,
    number,
    plain,
    probability,
    sentence,
    signs,
)
from bitgap.report.words.phrases import counted, joined
from bitgap.report.words.sections import by_gap, failed, standing
from bitgap.report.words.theory import best_tenth
from bitgap.show.numbers import short_name
from bitgap.show.tables.findings import hypothesis_name
from bitgap.show.tables.theory import GREEK
from bitgap.show.withdrawn import withdrawal
from bitgap.show.words import RUNGS, part_reason
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.formal import HYPOTHESIS as FORMAL
from bitgap.theory.hypotheses import HYPOTHESES

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisSection:
    """One hypothesis as the paper tells it."""

    hypothesis: str
    figure: str
    """Id of the figure that belongs to it."""
    heading: str
    text: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSection:
    """One gap with its hypotheses."""

    gap: Gap
    lead: str
    sections: tuple[HypothesisSection, ...]


def gap_sections(findings: Sequence[Json], *, families: bool) -> tuple[GapSection, ...]:
    """Returns the gaps that a run has findings on.

    Args:
        findings: JSON of the run's findings.
        families: Whether they are over families.
    """
    return tuple(
        GapSection(
            gap=gap,
            lead=standing(group),
            sections=tuple(_section(f, families=families) for f in group),
        )
        for gap, group in by_gap(findings)
    )


def _section(finding: Json, *, families: bool) -> HypothesisSection:
    verdict = finding["verdict"]
    parts: list[Markup] = [
        markup("The prediction is that {}.", _prediction(finding)),
        markup("{}", sentence(finding["sentence"])),
    ]
    if not families and not _tells_primary(finding):
        parts.append(_primary(finding))
    parts += [
        markup("The verdict is *{}*: {}", verdict["label"], _clause(finding)),
        *(
            markup(
                "Of its parts, {} is *{}*: {}.",
                part["name"],
                part["label"],
                signs(part_reason(part)),
            )
            for part in verdict.get("parts") or ()
        ),
        markup("{}", _reading(finding)),
        markup("{}", p_sentence(verdict)),
        markup("{}", alone_sentence(finding) if families else ""),
        markup("{}", controls_sentence(finding["controls"])),
    ]
    return HypothesisSection(
        hypothesis=finding["hypothesis"],
        figure=finding["experiment"].casefold(),
        heading=hypothesis_name(finding),
        text=Markup(" ".join(part for part in parts if part)),
    )


_STATISTIC = re.compile(r"(.+? is \S+ \[[^\]]*\])[:,] (.*)")


def _clause(finding: Json) -> str:
    """Returns the clause that decided, without a number that the sentence has just told."""
    reason = finding["verdict"]["reason"].strip()
    told = _STATISTIC.fullmatch(reason)
    if told and told[1].casefold() in finding["sentence"].casefold():
        reason = f"it is {told[2]}" if told[2].startswith(("under", "above")) else told[2]
    return f"{signs(reason)}."


def _tells_primary(finding: Json) -> bool:
    """Returns whether the verdict's reason has the primary statistic in it."""
    value = finding["estimates"][finding["primary"]]["value"]
    return value is not None and f" {value:.3g} [" in finding["verdict"]["reason"]


def _primary(finding: Json) -> Markup:
    primary, name = finding["estimates"][finding["primary"]], finding["primary"].replace("_", " ")
    said = f"The primary statistic, {name}, is {estimate(primary, unit=True)}"
    sesoi = finding["verdict"]["sesoi"]
    # Where a depth is measured, what was declared is a share of models and not a depth.
    declared = sesoi is not None and primary["unit"] != "relative depth"
    least = f"; the smallest effect of interest is {sesoi:g}" if declared else ""
    return markup("{}", sentence(said + least))


def _reading(finding: Json) -> str:
    """Returns what the label lets one conclude."""
    if why := withdrawal(finding):
        return why
    label = finding["verdict"]["label"]
    planted = [c for c in finding["controls"] if c["kind"] == "positive"]
    if label == "supported":
        return "All clauses of the declared rule hold."
    if label == "refuted":
        found = ", and a planted one was found, so that its absence is informative"
        return f"An effect of the declared size is excluded{found if planted else ''}."
    if label == "small":
        return "There is an effect, and it is smaller than was declared to matter."
    if label == "inconclusive" and any(c["passed"] is False for c in planted):
        return "A planted effect was missed, so absence would prove nothing."
    return ""


def p_sentence(verdict: Json) -> str:
    """Returns the p values, and whether the design could have reached what Holm asks for."""
    if verdict["p"] is None:
        return ""
    said = f"One-sided p = {probability(verdict['p'])}"
    if verdict["p_holm"] is not None:
        said += f", {probability(verdict['p_holm'])} after Holm"
    if verdict.get("p_equivalence") is not None:
        said += f"; that the effect matters has p = {probability(verdict['p_equivalence'])}"
        if verdict["p_equivalence_holm"] is not None:
            said += f", {probability(verdict['p_equivalence_holm'])} after Holm"
    alpha = load_thresholds().alpha
    if verdict["p_minimum"] is not None and verdict["p_minimum"] > alpha:
        said += f"; this design cannot reach less than {probability(verdict['p_minimum'])}"
    return f"{said}."


def alone_sentence(finding: Json) -> str:
    """Returns how models judged alone came out, those that speak for their family."""
    rows = [r for r in finding["tables"].get("families", ()) if r["speaks"]]
    if not rows:
        return ""
    labels: dict[str, int] = {}
    for row in rows:
        labels[row["verdict"]] = labels.get(row["verdict"], 0) + 1
    parts = [f"{label} in {n}" for label, n in sorted(labels.items(), key=lambda x: (-x[1], x[0]))]
    return f"Judged alone, it is {joined(parts)} of {len(rows)} families."


def controls_sentence(controls: Sequence[Json]) -> str:
    """Returns how the controls came out, those that failed by name."""
    if not controls:
        return "It has no controls."
    quiet = [c for c in controls if c["kind"] != "positive" and c["passed"] is not None]
    names = [c["name"] for c in failed(controls, positive=False)]
    planted = [c for c in controls if c["kind"] == "positive"]
    said = list[str]()
    if quiet and not names:
        every = "All" if len(quiet) > 1 else "The"
        said.append(f"{every} {counted(len(quiet), 'null control')} held"
                    if len(quiet) > 1 else "Its null control held")  # fmt: skip
    elif quiet:
        said.append(
            f"{sentence(counted(len(names), 'null control'))[:-1]} of {len(quiet)} failed "
            f"({'; '.join(names)})"
        )
    found = [c["passed"] for c in planted if c["passed"] is not None]
    if found:
        said.append(_planted(found))
    return f"{'; '.join(said)}." if said else "None of its controls could be run."


def _planted(found: Sequence[bool]) -> str:
    if len(found) == 1:
        return "the planted effect was found" if found[0] else "the planted effect was missed"
    return f"{sum(found)} of {len(found)} planted effects were found"


def failed_controls(findings: Iterable[Json], *, positive: bool) -> list[str]:
    """Returns null controls that failed, or plants that were missed, with what was seen."""
    return [
        signs(f"{f['hypothesis']}, {c['name']}: {c['detail']}")
        for f in findings
        for c in failed(f["controls"], positive=positive)
    ]


def refuted(findings: Iterable[Json]) -> list[str]:
    """Returns refuted hypotheses with the clause that decided."""
    return [
        signs(
            f"{hypothesis_name(f)}: that {_prediction(f)} is refuted; {f['verdict']['reason']}. "
            f"{withdrawal(f)}".rstrip(". ")
        )
        for f in findings
        if f["verdict"]["label"] == "refuted"
    ]


def _prediction(finding: Json) -> str:
    record = HYPOTHESES.get(finding["hypothesis"])
    return finding["title"].lower() if record is None else record.prediction


def failed_forecasts(result: Json) -> list[str]:
    """Returns forecasts of held-out families that missed, and fits that lost to a mean."""
    said = list[str]()
    asked = {"spread": "least S", "damage": "least damage", "disparity": "least |D|"}
    means = {"config": "the configuration alone", "weights": "weights and one forward pass"}
    for row in result.get("forecasts", {}).get("summary", ()):
        if row["who"] == "forecast" and row["success"] is False:
            said.append(
                f"Triples of {asked[row['objective']]} forecast from {means[row['kind']]} are "
                f"{best_tenth(row)}."
            )
    return said + _regressions(result.get("original_regression", ()))


def _regressions(rows: Sequence[Json]) -> list[str]:
    """Returns what became of the origin's regression on each source, where it was refitted."""
    known = [r for r in rows if r["r2"] is not None and r["r2_leave_one_out"] is not None]
    worse = [r for r in known if r["r2_leave_one_out"] < 0]
    if not worse:
        return []
    each = [
        f"{short_name(r['source'])} (R² {plain(r['r2'], '.2f')} in sample, "
        f"{plain(r['r2_leave_one_out'], '.2f')} left out)"
        for r in worse
    ]
    return [
        f"The origin's regression predicts a block that was left out worse than the mean does on "
        f"{len(worse)} of {len(known)} sources: {'; '.join(each)}."
    ]


_JUDGED = {"spread": "S of single blocks", "ratio": "log damage ratios"}
"""What the formal model is asked to predict, by response."""


def formal_sentences(findings: Iterable[Json]) -> list[str]:
    """Returns what the ladder of the formal model says, where a run has one."""
    found = next((f for f in findings if f["hypothesis"] == FORMAL.id), None)
    if found is None:
        return []
    tables, said = found["tables"], list[str]()
    # Of before version 3 of the thresholds: log damage ratios.
    judged = "spread" if any(r["response"] == "spread" for r in tables["ladder"]) else "ratio"
    rungs = {r["rung"]: r for r in tables["ladder"] if r["response"] == judged}
    held = {name: rungs[name]["r2_lofo"] for name in ("F0", "F1", "F3")
            if name in rungs and rungs[name]["r2_lofo"] is not None}  # fmt: skip
    if len(held) == 3:
        each = [f"{plain(r2, '.2f')} for {name} ({RUNGS[name]})" for name, r2 in held.items()]
        best = max(held, key=lambda name: held[name])
        said.append(
            f"In families held out the R² of {_JUDGED[judged]} is {joined(each)}: {best} predicts "
            f"best."
        )
    slopes = [r for r in tables["coefficients"] if r["response"] == judged]
    clear = [r for r in slopes if r["low"] is not None and r["low"] > 0]
    each = [
        f"{GREEK.get(name := r['coefficient'], name)} {number(r['mean'], (r['low'], r['high']))}"
        for r in slopes
    ]
    if each:
        said.append(
            f"Of the {counted(len(slopes), 'slope')}, all of which the formula asks to be above 0, "
            f"{counted(len(clear), 'is', 'are') if clear else 'none is'} clearly so: "
            f"{joined(each)}."
        )
    return said
