"""What a paper says of hypotheses: each sentence chosen by verdict, controls and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.report.paper.text import (
    Markup,
    counted,
    estimate,
    markup,
    number,
    plain,
    probability,
    sentence,
    signs,
)
from bitgap.report.words.gaps import Gap, by_gap
from bitgap.report.words.phrases import by_label, joined
from bitgap.show.numbers import short_name
from bitgap.show.withdrawn import NO_GAP_RANK, withdrawal, withdrawn_names
from bitgap.stats.verdicts import load_thresholds

Json = Mapping[str, Any]


PREDICTIONS: Mapping[str, str] = {
    "H1.1": "blocks whose weights vary more carry more information about the input",
    "H1.2": "blocks whose weights vary more are rounded with less relative error, and that "
    "decides their damage",
    "H1.3": "critical blocks are those in which rounding errors fall harder on other languages",
    "H2.1": "errors of the first block travel to the end, so that protecting the last block pays "
    "only after the first",
    "H2.2": "the first and the last block are structurally apart from the interior",
    "H2.3": "the errors of the first and the last block cancel",
    "synergy": "protecting both ends saves more than protecting each saves alone",
    "H3.1": "states fill the fewest dimensions near three quarters of the depth",
    "H3.2": "morphology is read best, and used most, near three quarters of the depth",
    "H3.3": "languages are most alike near three quarters of the depth",
    "depth": "the first, the three-quarter and the last block are among the best triples to "
    "protect",
    "H4.1": "each further bit shrinks the disparity by a fixed factor, as in a rate–distortion law",
    "formal": "variance, boundary and bottleneck together predict where languages are hurt in a "
    "family not used for fitting",
}


GREEK = {"alpha": "α", "beta": "β", "gamma": "γ"}
"""Slopes of the formula as it is printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One hypothesis as the paper tells it."""

    hypothesis: str
    figure: str
    """Id of the figure that belongs to it."""
    heading: str
    text: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldGap:
    """One gap with its hypotheses."""

    gap: Gap
    lead: str
    told: tuple[Told, ...]


def told_gaps(findings: Sequence[Json], *, families: bool) -> tuple[ToldGap, ...]:
    """Returns the gaps that a run has findings on.

    Args:
        findings: JSON of the run's findings.
        families: Whether they are over families.
    """
    return tuple(
        ToldGap(
            gap=gap,
            lead=lead(mine, families=families),
            told=tuple(_told(f, families=families) for f in mine),
        )
        for gap, mine in by_gap(findings)
    )


def hypothesis_name(finding: Json) -> str:
    """Returns ``H1.1, information content``, or the title where a hypothesis has no number."""
    name, title = finding["hypothesis"], finding["title"]
    if name.casefold() == title.casefold():
        return str(title)
    if name == "formal":
        return "Formal model"
    return f"{name}, {title[:1].lower()}{title[1:]}"


def lead(findings: Sequence[Json], *, families: bool) -> str:
    """Returns how a gap stands after the verdicts on its hypotheses."""
    labels = by_label(findings)
    where = "over families" if families else "on this model"
    parts = [f"{joined(names)} {_be(names)} {label}" for label, names in labels.items()]
    head = f"{sentence('; '.join(parts))[:-1]} {where}."
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


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _told(finding: Json, *, families: bool) -> Told:
    verdict = finding["verdict"]
    parts: list[Markup] = [
        markup("The prediction is that {}.", PREDICTIONS.get(finding["hypothesis"], "") or "—"),
        markup("{}", sentence(finding["sentence"])),
    ]
    if not families and not _tells_primary(finding):
        parts.append(_primary(finding))
    parts += [
        markup("The verdict is *{}*: {}", verdict["label"], _clause(finding)),
        markup("{}", _reading(finding)),
        markup("{}", p_sentence(verdict)),
        markup("{}", alone_sentence(finding) if families else ""),
        markup("{}", controls_sentence(finding["controls"])),
    ]
    return Told(
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
    failed = [c["name"] for c in quiet if c["passed"] is False]
    planted = [c for c in controls if c["kind"] == "positive"]
    said = []
    if quiet and not failed:
        every = "All" if len(quiet) > 1 else "The"
        said.append(f"{every} {counted(len(quiet), 'null control')} held"
                    if len(quiet) > 1 else "Its null control held")  # fmt: skip
    elif quiet:
        said.append(
            f"{sentence(counted(len(failed), 'null control'))[:-1]} of {len(quiet)} failed "
            f"({'; '.join(failed)})"
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
        for c in f["controls"]
        if c["passed"] is False and (c["kind"] == "positive") is positive
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
    return PREDICTIONS.get(finding["hypothesis"], finding["title"].lower())


def failed_forecasts(result: Json) -> list[str]:
    """Returns forecasts of held-out families that missed, and fits that lost to a mean."""
    said = []
    asked = {"disparity": "least |D|", "damage": "least damage"}
    means = {"config": "the configuration alone", "weights": "weights and one forward pass"}
    for row in result.get("forecasts", {}).get("summary", ()):
        if row["who"] == "forecast" and row["success"] is False:
            place = row["mean_percentile"]
            where = "" if place is None else f", on average at percentile {100 * place:.0f}"
            said.append(
                f"Triples of {asked[row['objective']]} forecast from {means[row['kind']]} are in "
                f"the best tenth in {row['successes']} of {row['families']} families{where}"
                f"{'' if row['objective'] == 'damage' else f'; {NO_GAP_RANK}'}."
            )
    return said + _regressions(result.get("seed_regression", ()))


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


def formal_sentences(findings: Iterable[Json]) -> list[str]:
    """Returns what the ladder of the formal model says, where a run has one."""
    found = next((f for f in findings if f["hypothesis"] == "formal"), None)
    if found is None:
        return []
    tables, said = found["tables"], []
    rungs = {r["rung"]: r for r in tables["ladder"] if r["response"] == "ratio"}
    held = {name: rungs[name]["r2_lofo"] for name in ("F0", "F1", "F3")
            if name in rungs and rungs[name]["r2_lofo"] is not None}  # fmt: skip
    if len(held) == 3:
        best = max(held, key=lambda k: held[k])
        words = {"F0": "the error budget, with nothing fitted,", "F1": "position alone",
                 "F3": "the proposed formula"}  # fmt: skip
        said.append(
            f"In families held out the R² of log damage ratios is {plain(held['F0'], '.2f')} for "
            f"the second-order error budget (F0), {plain(held['F1'], '.2f')} for position (F1) and "
            f"{plain(held['F3'], '.2f')} for the formula (F3): {words[best]} predicts best."
        )
    slopes = [r for r in tables["coefficients"] if r["response"] == "ratio"]
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
