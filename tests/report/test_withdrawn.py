"""What is withdrawn is said wherever it is shown, and verdicts and numbers stay as they were."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from paper_samples import finding, formal, investigation, theory
from rich.console import Console, Group

from bitgap.report.page import report_html
from bitgap.report.page.first_screen import chips
from bitgap.report.paper.findings import refuted
from bitgap.report.paper.story import suggestions
from bitgap.report.words.phrases import LABELS, verdict_answer
from bitgap.report.words.sections import standing
from bitgap.report.words.theory import theory_answers
from bitgap.show.views import verdicts
from bitgap.show.withdrawn import (
    WITHDRAWN_ON,
    caveat_of,
    withdrawal,
    withdrawn_names,
)
from bitgap.theory.forecast.prediction import stated_content

ROOT = Path(__file__).parents[2]
Json = Mapping[str, Any]


def told(hypothesis: str, label: str) -> Json:
    return asdict(finding(hypothesis, label))


def plain(view: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=2000).print(view)
    return out.getvalue()


@pytest.mark.parametrize("label", LABELS)
def test_only_a_refutation_is_withdrawn_and_only_of_what_rests_on_absolute_d(label: str) -> None:
    for hypothesis in ("H1.3", "depth"):
        why = withdrawal(told(hypothesis, label))
        assert bool(why) == (label == "refuted")
        assert not why or why.startswith(f"Withdrawn {WITHDRAWN_ON}: it was judged by |D|")
    assert withdrawal(told("H3.1", label)) == ""
    assert told("H1.3", label)["verdict"]["label"] == label


def test_a_refutation_by_the_rules_of_version_3_stands() -> None:
    today = told("H1.3", "refuted")
    judged = dict(today) | {"verdict": dict(today["verdict"]) | {"p_equivalence": 0.01}}
    assert withdrawal(today) and not withdrawal(judged)
    # As it was kept before there was such a test.
    before = dict(today["verdict"])
    del before["p_equivalence"]
    assert withdrawal(dict(today) | {"verdict": before})


def test_a_withdrawn_refutation_rules_nothing_out_in_a_paper() -> None:
    alone = [told("H1.3", "refuted"), told("H1.1", "inconclusive")]
    assert "The refutation of H1.3 is withdrawn." in standing(alone)
    assert "none is ruled out" in standing(alone)
    beside = standing([*alone, told("H1.2", "refuted")])
    assert "H1.2 can be ruled out" in beside
    assert "withdrawn" not in standing([told("H1.2", "refuted")])


def test_verdicts_say_what_is_withdrawn_wherever_they_are_shown() -> None:
    run = theory(finding("H1.3", "refuted"), formal())
    findings = run.result["findings"]
    why = withdrawal(findings[0])
    assert withdrawn_names(findings) == ["H1.3"]
    assert why in refuted(findings)[0] + "."
    assert verdict_answer(findings).short.endswith("The refutation of H1.3 is withdrawn.")
    assert f"H1.3: {why}" in verdict_answer(findings).details
    assert chips(findings)[0]["claim"].endswith("(withdrawn)")
    assert why in plain(Group(*verdicts(findings)))
    page = report_html(investigation(finding("H1.3", "refuted")))
    assert why in html.unescape(page)


def test_a_suggestion_is_told_with_what_it_must_be_read_with() -> None:
    run = theory()
    (other,) = run.result["outcomes"]["suggested"]
    row = dict(other) | {"unit": "r² over blocks of log sensitivity with log damage"}
    result = dict(run.result) | {"outcomes": {"suggested": [row, other]}}
    why = caveat_of(row)
    assert "equalises" in why and not caveat_of(other)
    details = next(a for a in theory_answers(result) if a.key == "blocks").details
    assert details[0].endswith(f"{why} Exploratory.") and details[1].endswith("Exploratory.")
    assert [why in line for line in suggestions(result)] == [True, False]


def test_predictions_from_a_configuration_are_named_as_withdrawn() -> None:
    folder = ROOT / "docs" / "predictions"
    page = (folder / "README.md").read_text(encoding="utf-8")
    withdrawn = page[page.index("## Withdrawn") :]
    for path in folder.glob("*.json"):
        # Reading checks the hash: what is withdrawn is not changed.
        content = stated_content(path)
        gone = content["version"] == 1 and content["kind"] == "config"
        assert (path.name in withdrawn) == gone, path.name
