"""The theory's verbs, as a user gives them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bitgap.jobs import investigate as investigate_module
from bitgap.jobs.investigate import TIERS
from cli_samples import Ran, Run, save_model, write_corpus_folder


def short_tier(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(investigate_module.TIERS, "smoke", replace(TIERS["smoke"], sentences=6))


@pytest.fixture(scope="module")
def families(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two models of two families that learned a little."""
    folder = tmp_path_factory.mktemp("zoo")
    save_model(folder / "one", blocks=4, steps=120)
    save_model(folder / "two", blocks=4, steps=120, family="qwen3")
    return folder


@pytest.fixture(scope="module")
def measured(families: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, and the store of a theory run on it."""
    from bitgap.cli.main import main

    folder = tmp_path_factory.mktemp("measured")
    write_corpus_folder(folder / "text")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        short_tier(patch)
        code = main(
            ["theory", str(families), "--corpus", "text", "--tier", "smoke", "--threads", "1",
             "--arithmetic", "exact", "--page", "docs/results.md", "--out", "out",
             "--export", "evidence"]
        )  # fmt: skip
    assert code == 0
    return folder


def test_the_theory_s_twelve_verdicts_are_written(measured: Path) -> None:
    result = json.loads((measured / "out" / "theory.json").read_text("utf-8"))
    assert len(result["findings"]) == 12
    labels = {f["hypothesis"]: f["verdict"] for f in result["findings"]}
    # Two families speak for no theory.
    assert not {v["label"] for v in labels.values()} & {"supported", "refuted"}
    assert {p["state"] for p in result["pillars"]} == {"open"}
    assert [m["family"] for m in result["models"]] == ["llama", "qwen3"]


def test_the_page_has_a_section_for_everything_and_no_machine_s_paths(measured: Path) -> None:
    page = (measured / "docs" / "results.md").read_text("utf-8")
    assert "## The answer" in page and "### In short" in page
    assert "From exploratory models" in page
    for title in ("Verdicts of the theory", "Pillars", "What follows", "Models", "By family",
                  "Controls", "The formal model", "The origin's regression"):  # fmt: skip
        assert f"## {title}" in page
    assert str(measured) not in page
    assert "nan" not in page.lower().replace("nance", "")


def theory_of(run: Run, models: Path) -> Ran:
    """Runs the command as the fixture did, so that what it measured is found again."""
    options = ("--corpus", "text", "--tier", "smoke", "--threads", "1", "--arithmetic", "exact")
    return run("theory", models, *options)


def test_a_second_run_measures_nothing(
    measured: Path, families: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_tier(monkeypatch)
    monkeypatch.chdir(measured)
    ran = theory_of(run, families)
    assert ran.code == 0
    assert "operating point" not in ran.err
    assert "Pillars of the Gateway-Bottleneck theory" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_what_was_measured_is_judged_again_from_files_alone(
    measured: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sorted((measured / "evidence").iterdir())
    assert [path.name for path in kept] == ["one.evidence.zip", "two.evidence.zip"]
    assert all(path.stat().st_size < 2_000_000 for path in kept)
    began = time.monotonic()
    ran = run("theory", "--evidence", str(measured / "evidence"), "--tier", "smoke", "--json")
    assert ran.code == 0, ran.err
    assert time.monotonic() - began < 60
    before = json.loads((measured / "out" / "theory.json").read_text("utf-8"))
    for now, then in zip(ran.json["findings"], before["findings"], strict=True):
        # Names of models are shorter in files: they have no folders.
        assert now["estimates"] == then["estimates"]
        assert now["verdict"]["label"] == then["verdict"]["label"]
    assert ran.json["answer"]["places"] == before["answer"]["places"]
    assert ran.json["role"] == "exploratory"
    learned = run("predict", "Llama-2-70B", "--evidence", str(measured / "evidence"), "--json")
    assert learned.code == 0, learned.err
    assert {one["model"] for one in learned.json["zoo"]} == {"one", "two"}


def test_a_run_that_is_stopped_has_left_the_models_before(
    measured: Path, families: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured for hours is exported a model at a time, not at the end."""
    short_tier(monkeypatch)
    monkeypatch.chdir(measured)
    options = ("--corpus", "text", "--tier", "smoke", "--threads", "1", "--arithmetic", "exact")
    ran = run("theory", families / "one", tmp_path / "none", *options, "--export", tmp_path / "ev")
    assert ran.code != 0
    assert [path.name for path in (tmp_path / "ev").iterdir()] == ["one.evidence.zip"]
    kept = (measured / "evidence" / "one.evidence.zip").read_bytes()
    assert (tmp_path / "ev" / "one.evidence.zip").read_bytes() == kept


def test_a_folder_that_holds_no_model_is_misuse(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run("theory", "empty").refused(2, "holds no model")


def test_predict_needs_measured_models(run: Run) -> None:
    run("predict", "Llama-2-7B").refused(2, "there is no store 'bitgap.db'")


def test_a_name_that_is_neither_card_nor_model_is_told_which_cards_there_are(
    run: Run, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(measured)
    run("predict", "./nobody").refused(1, "./nobody", "Llama-2-70B")


def test_an_unknown_name_is_told_before_a_store_is_looked_for(run: Run, tmp_path: Path) -> None:
    assert not (tmp_path / "bitgap.db").exists()
    run("predict", "./nobody").refused(1, "./nobody", "Llama-2-70B")


def predicted(run: Run, measured: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.chdir(measured)
    return run("predict", target, "--corpus", "text", "--out", "predictions", "--json")


def test_a_card_is_predicted_from_its_config(
    run: Run, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = predicted(run, measured, "Llama-2-70B", monkeypatch)
    assert ran.code == 0, ran.err
    assert ran.json["n_blocks"] == 80
    assert ran.json["kind"] == "config"
    assert len(ran.json["masks"]) == 20
    written = json.loads((measured / ran.json["file"]).read_text("utf-8"))
    assert written["sha256"] == ran.json["sha256"]


def test_a_model_is_predicted_then_measured_then_checked(
    run: Run, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = save_model(tmp_path / "new", blocks=4, steps=100)
    ran = predicted(run, measured, str(new), monkeypatch)
    assert ran.code == 0, ran.err
    assert ran.json["kind"] == "weights"
    path = ran.json["file"]
    run("check", path).refused(1, "measure it first")
    changed = json.loads(Path(path).read_text("utf-8"))
    changed["protect"]["damage"]["blocks"] = [0, 1, 2]
    Path("changed.json").write_text(json.dumps(changed), "utf-8")
    run("check", "changed.json").refused(1, "was changed after it was made")

    time.sleep(1.1)  # times are told to the second
    short_tier(monkeypatch)
    assert theory_of(run, new).code == 0
    checked = run("check", path, "--json")
    assert checked.code == 0, checked.err
    (row,) = checked.json["checks"]
    assert row["model"] == str(new)
    assert set(row["held_out"]) == {"spread", "damage", "disparity"}
    assert checked.json["summary"][0]["models"] == 1
    assert row["objectives"]["damage"]["triples"] == 4
    assert run("check", path).code == 0

    late = predicted(run, measured, str(new), monkeypatch)
    assert late.code == 0, late.err
    run("check", late.json["file"]).refused(1, "after measuring")


def test_the_ledger_has_all_claims(run: Run, tiny: Path, tmp_path: Path) -> None:
    ran = run("replicate", tiny, "--corpus", "text", "--sentences", "4", "--threads", "1",
              "--page", "ledger.md", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert {str(i) for i in range(1, 25)} <= {row["claim"] for row in ran.json["rows"]}
    assert "## " not in (tmp_path / "ledger.md").read_text("utf-8").split("| claim |")[1][:10]
