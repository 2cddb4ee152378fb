"""Commands that write stored runs for people: what they leave, and how they refuse."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bitgap.show.draw import FORMATS
from cli_samples import Ran, Run

INVESTIGATE, THEORY = "4", "6"


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Path:
    """A store of one's own, in the folder that commands run in."""
    return Path(shutil.copy(kept, tmp_path / "bitgap.db"))


def written(ran: Ran) -> list[Path]:
    assert ran.code == 0, ran.err
    return [Path(line) for line in ran.out.splitlines()]


# -- every run leaves a page -----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["audit", "map"])
def test_a_run_leaves_its_page_beside_the_store(verb: str, measure: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    ran = measure(verb, "--store", "kept/here.db")
    assert ran.code == 0, ran.err
    page = tmp_path / "kept" / "report.html"
    assert page.is_file()
    assert f"report: {Path('kept') / 'report.html'}" in ran.err


def test_a_run_leaves_its_page_in_out(measure: Run, tmp_path: Path) -> None:
    assert measure("audit", "--out", "there").code == 0
    assert (tmp_path / "there" / "report.html").is_file()
    assert not (tmp_path / "report.html").exists()


def test_a_page_can_be_declined(measure: Run, tmp_path: Path) -> None:
    ran = measure("audit", "--no-report")
    assert ran.code == 0 and "report:" not in ran.err
    assert not list(tmp_path.rglob("*.html"))


def test_a_page_that_cannot_be_written_loses_no_result(measure: Run, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    ran = measure("audit", "--json")
    assert ran.code == 1
    assert "the result is kept as run 1" in ran.err and "Traceback" not in ran.err
    assert json.loads(ran.out)["plan"] == "rtn4-g128"


# -- report ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["1", "3", INVESTIGATE, THEORY, "7", "latest"])
def test_a_page_is_made_again_from_the_store_alone(number: str, run: Run, store: Path) -> None:
    (page,) = written(run("report", number, "--out", "again"))
    assert page == Path("again/report.html")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "<h1" in text


def test_a_page_is_the_same_whenever_it_is_made(run: Run, store: Path) -> None:
    pages = [
        written(run("report", INVESTIGATE, "--out", folder))[0].read_text("utf-8")
        for folder in ("one", "two")
    ]
    assert pages[0] == pages[1]


def test_a_page_fetches_nothing(run: Run, store: Path) -> None:
    (page,) = written(run("report", INVESTIGATE))
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href|action)=["']?(?:https?:)?//""", text) == []
    assert "default-src 'none'" in text


def test_a_run_of_another_store_is_named_by_it(run: Run, store: Path) -> None:
    assert run("report", f"{store}:1", "--store", "none.db", "--out", "x").code == 0


def test_runs_that_are_not_there_are_refused(run: Run, store: Path) -> None:
    run("report", "99").refused(2, "holds no run 99", "the last is 7")
    run("report", "twelve").refused(2, "'twelve' names no run")
    run("report", "1", "--store", "none.db").refused(2, "there is no store 'none.db'")


# -- figures ---------------------------------------------------------------------------------------


def test_figures_are_drawn_in_every_format(run: Run, store: Path) -> None:
    paths = written(run("figures", INVESTIGATE, "--format", "svg,png,pdf", "--out", "f"))
    names = {path.stem for path in paths}
    assert {"languages", "blocks", "landscape", "pareto", "synergy", "depth"} <= names
    assert {f"t-{n:03d}" for n in range(1, 11)} <= names
    assert len(paths) == len(names) * 3
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for path in paths:
        assert path.read_bytes().startswith(starts[path.suffix[1:]]), path
    assert not list(Path("f").glob(".*"))


def test_svg_is_what_is_drawn_unless_asked_otherwise(run: Run, store: Path) -> None:
    paths = written(run("figures", THEORY))
    assert {path.suffix for path in paths} == {".svg"}
    assert {path.parent for path in paths} == {Path("figures")}


def test_a_format_that_is_not_drawn_is_refused(run: Run, store: Path) -> None:
    run("figures", INVESTIGATE, "--format", "svg,jpeg").refused(2, "'jpeg'", *FORMATS)


def test_a_run_without_figures_says_which_have_some(run: Run, store: Path) -> None:
    run("figures", "7").refused(2, "nothing to draw", "investigate")


# -- paper -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(INVESTIGATE,), (THEORY, "--beside", INVESTIGATE)])
def test_a_run_becomes_a_paper(arguments: tuple[str, ...], run: Run, store: Path) -> None:
    pytest.importorskip("typst", reason="typst is not installed: papers were not compiled")
    (path,) = written(run("paper", *arguments, "--source", "--out", "p"))
    assert path.read_bytes().startswith(b"%PDF")
    assert (Path("p") / "paper" / "paper.typ").is_file()


def test_a_paper_needs_findings(run: Run, store: Path) -> None:
    run("paper", "1").refused(2, "investigat")


# -- compare ---------------------------------------------------------------------------------------


def test_runs_are_compared_in_the_terminal_and_on_a_page(run: Run, store: Path) -> None:
    ran = run("compare", "1", "2", INVESTIGATE, "--out", "c")
    assert ran.code == 0, ran.err
    assert max(map(len, ran.out.splitlines())) <= 80
    assert (Path("c") / "compare.html").is_file() and "compare.html" in ran.err


def test_a_comparison_is_data_too(run: Run, store: Path) -> None:
    found = run("compare", "1", "2", "--json", "--no-report").json
    assert [row["run"] for row in found["runs"]] == [1, 2]
    assert found["changes"][0]["better"] in (True, False)
    assert not Path("compare.html").exists()


def test_one_run_cannot_be_compared(run: Run, store: Path) -> None:
    run("compare", "1").refused(2, "two or more")


def test_runs_without_damage_cannot_be_compared(run: Run, store: Path) -> None:
    run("compare", "1", THEORY).refused(2, "'theory'", "audit, map or investigate")
