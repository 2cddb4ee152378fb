"""docs/controls.md against the code: no control without the clause it exercises, and no row without
a control.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import controls as page  # pyright: ignore[reportMissingImports]
import pytest
from finding_samples import effect, evidence, finding
from test_contract import observe

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.controls import detection, not_run
from bitgap.experiments.protocol.experiment import Experiment
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.formal import controls as formal
from harness import QUICK

PAGE = Path(__file__).parents[2] / "docs" / "controls.md"

ANYTHING = "…"
SOME_DRAWS = replace(QUICK, draws=50, halves=8)  # which controls there are hangs on neither


def sections() -> dict[str, tuple[int | None, dict[str, tuple[str, str]]]]:
    """Version and rows (name -> kind, clause) of every section of the page, by experiment."""
    found: dict[str, tuple[int | None, dict[str, tuple[str, str]]]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        if "<!-- table:" in body:
            continue  # what evidence fills
        version = re.search(r"^Of version (\d+)\.$", body, re.M)
        cells = [re.split(r" *\| *", line)[1:-1] for line in re.findall(r"^\|.*\|$", body, re.M)]
        rows = {name: (kind, clause) for name, kind, clause in cells[2:]}
        assert len(rows) == len(cells) - 2, f"{title} has a row twice"
        found[title] = (int(version[1]) if version else None, rows)
    return found


def row_of(name: str, rows: Mapping[str, tuple[str, str]]) -> str | None:
    """The row a control stands in; what hangs on the model is three dots there."""
    for row in rows:
        if re.fullmatch(".+".join(map(re.escape, row.split(ANYTHING))), name):
            return row
    return None


@pytest.mark.parametrize("experiment", CATALOG, ids=lambda e: e.id)
def test_every_control_of_an_experiment_has_its_row(experiment: Experiment):
    version, rows = sections()[experiment.id]
    assert version is not None
    if experiment.version < version:
        pytest.skip(f"the page tells of version {version}")
    # A raised version may have other controls: its section is to be read again.
    assert experiment.version == version
    controls = experiment.judge(observe(experiment), SOME_DRAWS).controls
    assert controls
    for control in controls:
        row = row_of(control.name, rows)
        assert row is not None, f"{control.name!r} of {experiment.id} has no row in {PAGE.name}"
        kind, clause = rows[row]
        assert kind == control.kind, control.name
        assert clause, control.name


def test_no_row_is_without_a_control():
    """By the sources, as which controls are made at all may hang on the model."""
    for title, (_, rows) in sections().items():
        if title == "formal":
            continue
        experiment = next(e for e in CATALOG if e.id == title)
        version = sections()[title][0]
        if version is not None and experiment.version < version:
            continue
        made = {c.name for c in experiment.judge(observe(experiment), SOME_DRAWS).controls}
        folder = Path(str(__import__(experiment.package, fromlist=["_"]).__file__)).parent
        source = "\n".join(p.read_text(encoding="utf-8") for p in folder.glob("*.py"))
        for row in rows:
            seen = any(row_of(name, {row: ("", "")}) for name in made)
            assert seen or row in source, f"no control of {title} is called {row!r}"


def test_the_formal_model_s_controls_have_their_rows():
    named = {getattr(formal, name) for name in ("POSITIVE", "SWAPPED", "SMOOTH", "HALVES")}
    assert set(sections()["formal"][1]) == named


def test_the_page_has_a_section_for_every_experiment():
    assert set(sections()) == {e.id for e in CATALOG} | {"formal"}


def test_the_page_says_of_plants_what_evidence_says():
    text = PAGE.read_text(encoding="utf-8")
    assert page.filled(text) == text, "run docs/controls.py"
    assert page.found([]) in page.filled(text, Path("nowhere"))


def test_a_plant_that_is_missed_or_not_run_forbids_a_refutation():
    thresholds = replace(QUICK)
    seen = [True] * 15 + [False] * 5
    checks = (
        detection("often enough", [True] * 16 + [False] * 4, "it", thresholds),
        detection("too seldom", seen, "it", thresholds),
        not_run("never", "positive", "no text"),
        must_hold := replace(detection("null", seen, "it", thresholds), kind="negative"),
    )
    told = finding("T-005", "H2.2", {"x": effect(0.2)}, controls=checks)
    told = replace(told, thresholds_hash=load_thresholds().hash)
    made = page.found([evidence("gpt2", told, model="reference")])
    assert "| T-005 | often enough | 16 of 20 |" in made
    assert "| T-005 | too seldom | 15 of 20 |" in made
    assert "| T-005 | never | not run |" in made
    assert must_hold.name not in made
    assert "- **H2.2** in reference: too seldom (15 of 20); never (not run)." in made
    other = replace(told, thresholds_hash="other")
    assert "other thresholds" in page.found([evidence("gpt2", other, model="reference")])
