"""Runs read back for people: found by name, judged again, their masks the map's own."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bitgap.errors import StoreError, UsageError
from bitgap.lab.store import Store
from bitgap.report import run as stored
from bitgap.report.run import find_run, read_run, run_in_hand

if TYPE_CHECKING:
    from cli_samples import Run

AUDIT, MAP, INVESTIGATE = "1", "3", "4"


@pytest.fixture(scope="module")
def investigated(kept: Path) -> stored.Run:
    return read_run(INVESTIGATE, str(kept))


def changed(kept: Path, tmp_path: Path, statement: str) -> str:
    """Returns a copy of the store in which something was changed behind its back."""
    path = tmp_path / "changed.db"
    shutil.copy(kept, path)
    with sqlite3.connect(path) as db:
        db.executescript(statement)
        for table in ("runs", "findings", "texts", "scores", "observations"):
            db.execute(f"UPDATE {table} SET seal = NULL")  # as of rows from before there were any
    db.close()
    return str(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12", ("mine.db", "12")),
        ("latest", ("mine.db", "latest")),
        ("other.db:3", ("other.db", "3")),
        ("a:b/other.db:latest", ("a:b/other.db", "latest")),
    ],
)
def test_runs_are_named_by_number_and_store(text: str, found: tuple[str, str]) -> None:
    assert find_run(text, "mine.db") == found


@pytest.mark.parametrize("text", ["", "twelve", "-1", "1.5", "other.db:", ":3", "3 4"])
def test_what_names_no_run_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no run"):
        find_run(text, "mine.db")


def test_a_run_that_is_not_there_is_told_with_those_that_are(kept: Path) -> None:
    with pytest.raises(UsageError, match="holds no run 99; the last is 7"):
        read_run("99", str(kept))


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        read_run("1", str(tmp_path / "none.db"))


def test_latest_is_the_last_run(kept: Path) -> None:
    run = read_run("latest", str(kept))
    assert (run.number, run.command) == (7, "replicate")


def test_every_finding_of_the_run_is_there_and_is_the_result_s(investigated: stored.Run) -> None:
    told = [(f.hypothesis, f.verdict.label) for f in investigated.findings]
    assert len(told) == 12
    shown = [(f["hypothesis"], f["verdict"]["label"]) for f in investigated.result["findings"]]
    assert told == shown


def test_masks_are_those_of_the_map(investigated: stored.Run) -> None:
    masks, found = investigated.masks, investigated.layer_map
    assert masks is not None and masks.complete and found is not None
    assert masks.masks == found.design.masks and len(masks.masks) == 2**found.design.n_blocks
    nothing = found.unprotected
    assert masks.mean_damage[0] == pytest.approx(nothing.damage.value)
    ends = [nothing.damage.low, nothing.damage.high]
    assert list(masks.mean_damage_ends[:, 0]) == pytest.approx(ends)
    assert masks.disparity[0] == pytest.approx(nothing.disparity.value)
    for row in found.blocks:
        at = masks.masks.index(1 << row.block)
        assert masks.mean_damage[at] == pytest.approx(row.protected.damage.value)
        assert masks.gap[at] == pytest.approx(row.protected.gap.value)
        assert masks.spread[at] == pytest.approx(row.protected.spread.value)
        assert masks.spread_per_text[at] == pytest.approx(row.protected.spread_per_text.value)
    assert masks.spread[0] == pytest.approx(nothing.spread.value)
    per_token = np.log2(masks.damage[0] * masks.per_token)
    assert masks.spread[0] == pytest.approx(per_token[masks.counted[0]].std())


def test_where_all_is_protected_nothing_is_damaged_and_no_disparity_is_left(
    investigated: stored.Run,
) -> None:
    masks = investigated.masks
    assert masks is not None
    assert masks.mean_damage[-1] == 0
    assert np.isnan(masks.disparity[-1]) and np.isnan(masks.spread[-1])


def test_a_map_run_has_masks_and_an_audit_has_none(kept: Path) -> None:
    mapped = read_run(MAP, str(kept)).masks
    assert mapped is not None and mapped.scheme == "rtn4-g128"
    assert read_run(AUDIT, str(kept)).masks is None


def test_masks_whose_scores_are_gone_are_left_out(kept: Path, tmp_path: Path) -> None:
    path = changed(kept, tmp_path, "DELETE FROM scores WHERE plan LIKE '%protect 1'")
    assert read_run(INVESTIGATE, path).masks is None


def test_a_gate_of_the_run_stays_closed_when_it_is_judged_again(kept: Path, tmp_path: Path) -> None:
    statement = (
        "UPDATE runs SET summary = json_set(summary, "
        "'$.records.investigation.report.nothing_to_explain', json('true')) WHERE id = 4"
    )
    run = read_run(INVESTIGATE, changed(kept, tmp_path, statement))
    closed = {f.hypothesis: f.verdict for f in run.findings}
    for hypothesis in ("H1.3", "H4.1", "synergy"):
        assert closed[hypothesis].label == "not testable"
        assert "nothing to explain" in closed[hypothesis].reason
    assert "nothing to explain" not in closed["H3.1"].reason


def test_reading_needs_no_torch_and_no_model(kept: Path) -> None:
    code = (
        "import sys\nfrom bitgap.report.run import read_run\n"
        f"from bitgap.report.words.answers import answers\nrun = read_run('4', {str(kept)!r})\n"
        "print(len(answers(run)), *(m for m in ('torch', 'transformers') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["4"]


def test_the_result_is_json_without_nan(kept: Path) -> None:
    for number in range(1, 8):
        result: Any = read_run(str(number), str(kept)).result
        json.dumps(result, allow_nan=False)


# -- in hand --------------------------------------------------------------------------------------


def same(one: Any, other: Any, where: str = "") -> list[str]:
    """Returns where two values differ, record by record and to the bit, NaN like NaN."""
    if is_dataclass(one) and type(one) is type(other):
        names = [f.name for f in fields(one) if f.compare]
        pairs = [(getattr(one, name), getattr(other, name), f"{where}.{name}") for name in names]
        return [place for pair in pairs for place in same(*pair)]
    if isinstance(one, np.ndarray):
        fits = np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    else:
        fits = one == other and repr(one) == repr(other)  # a tuple is no list, 1 no 1.0
    return [] if fits else [where]


KEPT = 7
"""Runs in the store that the fixture makes."""
RECORDS = ("report", "layer_map", "investigation", "theory", "ledger")
RECORDS_OF = {
    "audit": {"report"},
    "map": {"layer_map"},
    "investigate": {"report", "layer_map", "investigation"},
    "theory": {"theory"},
    "replicate": {"ledger"},
}
VERBS = {
    "audit": ["--protect", "0"],
    "map": [],
    "investigate": ["--tier", "smoke"],
    "theory": ["--tier", "smoke"],
    "replicate": [],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_in_hand_is_the_run_read_back_and_leaves_the_same_page(
    run: Run, tiny: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Field by field and to the bit; the page is made without reading the store."""
    in_hand: list[stored.Run] = []

    def remembered(*found: Any) -> stored.Run:
        in_hand.append(run_in_hand(*found))
        return in_hand[-1]

    store = tmp_path / "again.db"
    shutil.copy(kept, store)  # so that little is measured
    monkeypatch.setattr("bitgap.report.run.run_in_hand", remembered)
    with monkeypatch.context() as patch:
        patch.setattr("bitgap.report.run.read_run", None)
        patch.setattr("bitgap.jobs.results.judged_again", None)
        ran = run(verb, tiny, "--corpus", "text", "--store", store, "--out", "o", *VERBS[verb])
    assert ran.code == 0, ran.err
    made = replace(in_hand[0], number=KEPT + 1)
    again = read_run("latest", str(store))
    assert same(made, again) == []
    assert repr(made.result) == repr(again.result), "pages follow the order of keys"
    assert {name for name in RECORDS if getattr(again, name) is not None} == RECORDS_OF[verb]
    assert (again.masks is None) == (verb not in ("map", "investigate"))
    page = Path("o", "report.html").read_text("utf-8")
    assert run("report", "--store", store, "--out", "o").code == 0
    assert Path("o", "report.html").read_text("utf-8") == page


def test_a_run_names_the_texts_that_its_scores_are_on(kept: Path) -> None:
    with Store(kept, read_only=True) as store:
        plans = {key: len(store.scored_plans(key)) for key, *_ in store.scored_texts()}
    named = {number: read_run(number, str(kept)).texts for number in (AUDIT, MAP)}
    assert named[AUDIT].keys() == {"audit"} and named[MAP].keys() == {"map"}
    assert plans[named[MAP]["map"]] >= 7, "all masks of three blocks but the one that rounds none"
    both = read_run(INVESTIGATE, str(kept)).texts
    assert both.keys() == {"audit", "map"} and set(both.values()) <= plans.keys()


# -- stores written before 2026-11-29, whose runs name no text ------------------------------------

FORGET = "UPDATE runs SET summary = json_remove(summary, '$.texts')"
DAMAGE = "$.records.investigation.layer_map.unprotected.damage"


@pytest.mark.parametrize("number", [MAP, INVESTIGATE])
def test_a_run_that_names_no_text_is_found_by_its_numbers(
    kept: Path, tmp_path: Path, number: str
) -> None:
    old = read_run(number, changed(kept, tmp_path, FORGET)).masks
    named = read_run(number, str(kept)).masks
    assert old is not None and named is not None
    assert same(old, named) == []


def test_scores_that_are_not_the_map_s_are_not_taken_for_them(kept: Path, tmp_path: Path) -> None:
    """Another version of the model under the same name gives other numbers."""
    statement = f"{FORGET}; UPDATE runs SET summary = json_set(summary, '{DAMAGE}.value', 0.5)"
    assert read_run(INVESTIGATE, changed(kept, tmp_path, statement)).masks is None
    nothing = (
        f"{FORGET}; UPDATE runs SET summary = "
        f"json_set(summary, '{DAMAGE}.value', null, '{DAMAGE}.reason', 'undefined')"
    )
    assert read_run(INVESTIGATE, changed(kept, tmp_path, nothing)).masks is None


def test_where_products_do_not_round_a_fast_map_is_found_on_the_text_of_an_exact_audit(
    measure: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There fast is exact, and both are kept on one text, under the arithmetic that came first."""
    for module in ("engine.arithmetic", "bench", "engine.scoring"):
        monkeypatch.setattr(f"bitgap.lab.{module}.fast_products_round", lambda device="cpu": False)
    for verb in ("audit", "map"):
        assert measure(verb, "--sentences", "4", "--no-report").code == 0
    named = read_run("2", "bitgap.db").masks
    old = changed(tmp_path / "bitgap.db", tmp_path, FORGET)
    audit, mapped = (read_run(number, old) for number in ("1", "2"))
    assert (audit.result["arithmetic"], mapped.result["arithmetic"]) == ("exact", "fast")
    assert named is not None and mapped.masks is not None
    assert same(mapped.masks.damage, named.damage) == [] and mapped.masks.n_sentences == 4
