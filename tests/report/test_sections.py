"""Chapters: every hypothesis in its gap, and what would change a verdict said by its clause."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitgap.experiments.catalog import CATALOG
from bitgap.languages import named
from bitgap.report.page.explorer import explorer_data
from bitgap.report.run import read_run
from bitgap.report.words.phrases import LABELS
from bitgap.report.words.sections import (
    by_gap,
    change_of_mind,
    chapters,
    claim,
    paragraphs,
    standing,
)
from bitgap.show.numbers import short_name


def finding(label: str, hypothesis: str = "H3.1", **changed: Any) -> dict[str, Any]:
    verdict = {"label": label, "reason": "the clause", "sesoi": 0.25, "p": 0.2, "p_holm": 1.0,
               "p_minimum": 0.001, "scope": "this model"}  # fmt: skip
    return {
        "experiment": "T-007", "hypothesis": hypothesis, "title": "A title", "primary": "x",
        "estimates": {"x": {"value": 0.1, "low": 0.0, "high": 0.2, "reason": None, "unit": "bits"}},
        "controls": [], "verdict": verdict | changed.pop("verdict", {}),
    } | changed  # fmt: skip


def control(name: str, kind: str, passed: bool | None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "passed": passed, "detail": "seen"}


def test_every_experiment_of_the_catalog_has_its_place() -> None:
    found = by_gap([finding("refuted", e.hypothesis.id) for e in CATALOG])
    assert [gap.number for gap, _ in found[:4]] == [1, 2, 3, 4]
    assert sum(len(mine) for _, mine in found) == len(CATALOG)


def test_what_the_origin_did_not_ask_about_comes_last() -> None:
    (gap, (mine,)) = by_gap([finding("refuted", "H9.1"), finding("refuted", "H1.1")])[-1]
    assert (gap.number, mine["hypothesis"]) == (5, "H9.1")
    assert claim("H9.1") == "H9.1"


def test_a_gap_is_told_by_its_verdicts() -> None:
    def told(*labels: str, scope: str = "this model") -> str:
        return standing(
            [finding(label, f"H{i}", verdict={"scope": scope}) for i, label in enumerate(labels)]
        )

    every = {
        told(*labels, scope=scope)
        for labels in product(LABELS, repeat=2)
        for scope in ("this model", "7 families")
    }
    assert len(every) == 2 * len(LABELS) ** 2
    assert told("refuted", scope="7 families").startswith("H0 is refuted over families.")
    assert "stands as explanation" in told("supported", "refuted")
    assert "no such effect" in told("refuted", "refuted")
    assert "H1 can be ruled out, and one other stays" in told("inconclusive", "refuted")
    assert "gap is open" in told("inconclusive")
    assert "can be tested" in told("not testable")


def test_chapters_hold_what_there_is_and_no_more() -> None:
    found = chapters(
        [finding("refuted"), finding("supported", "H1.1"), finding("inconclusive", "formal")]
    )
    assert [c["gap"].number for c in found] == [1, 3, 4]
    assert [s["finding"]["hypothesis"] for c in found for s in c["sections"]] == [
        "H1.1", "H3.1", "formal",
    ]  # fmt: skip
    assert found[1]["state"].startswith("H3.1 is refuted on this model.")


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("supported", "reaches 0"),
        ("refuted", "reaches the smallest effect of interest, 0.25"),
        ("inconclusive", "What decided now and would have to change: the clause"),
        ("not testable", "Something to test: the clause"),
    ],
)
def test_what_would_change_a_verdict_depends_on_it(label: str, says: str) -> None:
    assert says in change_of_mind(finding(label))[0]


def test_failed_and_missed_controls_are_named_apart() -> None:
    controls = [control("twin", "negative", False), control("planted", "positive", False),
                control("held", "negative", True), control("idle", "negative", None)]  # fmt: skip
    said = " ".join(change_of_mind(finding("inconclusive", controls=controls)))
    assert "would have to hold: twin." in said and "were missed" in said and "planted." in said
    assert "held." not in said and "idle" not in said


def test_a_design_that_cannot_reach_significance_says_so() -> None:
    said = change_of_mind(finding("inconclusive", verdict={"p_minimum": 0.17}))
    assert any("smallest p that this design can reach is 0.17" in line for line in said)
    assert not any("smallest p" in line for line in change_of_mind(finding("inconclusive")))


def test_a_docstring_s_first_line_is_the_question_and_left_out() -> None:
    assert paragraphs("Q?\n\nFirst\nparagraph.\n\nSecond.") == ["First paragraph.", "Second."]
    assert paragraphs(None) == []


@pytest.mark.parametrize(
    ("code", "own", "direction"),
    [
        ("he", "עברית", "rtl"),
        ("ar", "العربية", "rtl"),
        ("de", "Deutsch", "ltr"),
        ("en", None, "ltr"),
        ("<b>", None, "ltr"),
    ],
)
def test_languages_are_named_in_their_own_direction(
    code: str, own: str | None, direction: str
) -> None:
    found = named(code)
    assert (found.own, found.direction) == (own, direction)


def test_the_explorer_has_every_set_s_numbers(kept: Path) -> None:
    run = read_run("4", str(kept))
    assert run.masks is not None and run.layer_map is not None
    data = explorer_data(run.masks, run.layer_map)
    assert data["masks"] == list(run.masks.masks)
    assert np.allclose(np.array(data["damage"]), run.masks.damage, rtol=1e-3)
    assert data["K"] == pytest.approx(list(run.masks.mean_damage), rel=1e-3)
    assert data["D"][-1] is None  # nothing is left to be uneven where all is protected
    for row, out in data["uncounted"].items():
        assert [not c for c in run.masks.counted[int(row)]] == [
            i in out for i in range(len(run.masks.languages))
        ]
    origin = run.layer_map.origin.of.blocks
    assert data["presets"]["origin"] == sum(1 << layer for layer in origin)


def test_a_model_s_short_name_is_one_line() -> None:
    assert short_name("zoo/a\u2028b\tc/") == "a b c"
