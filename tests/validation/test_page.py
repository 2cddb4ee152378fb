"""The page: counts and their standing, whole sections however the run ends, and the command."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from bitgap.show.to_markdown import rows_of
from validation import __main__ as command
from validation import run
from validation.counts import Count, highest, lowest, total

SMALL = replace(
    run.QUICK, tests=3, models=1, additive=1, tokens=500, setting=None,
    worlds=dict.fromkeys(run.QUICK.worlds, 1), guarded=1, recipes=1,
)  # fmt: skip


# -- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k, n", [(0, 10), (3, 10), (10, 10), (1, 400)])
def test_ends_are_exact(k, n):
    theirs = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    assert Count(k, n).ends == pytest.approx((theirs.low, theirs.high))


def test_a_requirement_is_met_only_by_the_whole_interval():
    assert Count(0, 1000).at_most(0.05) == "met"
    assert Count(1, 20).at_most(0.05) == "not shown"
    assert Count(200, 1000).at_most(0.05) == "NOT MET"
    assert Count(990, 1000).at_least(0.8) == "met"
    assert Count(9, 10).at_least(0.8) == "not shown"
    assert Count(100, 1000).at_least(0.8) == "NOT MET"


def test_nothing_counted_shows_nothing():
    assert str(Count(0, 0)) == "none"
    assert Count(0, 0).at_most(0.05) == "not shown"
    assert total([]) == highest([]) == lowest([]) == Count(0, 0)


def test_counts_add_up_and_the_worst_is_the_best_attested():
    assert total([Count(1, 10), Count(2, 30)]) == Count(3, 40)
    assert highest([Count(1, 10), Count(10, 100), Count(0, 5)]) == Count(10, 100)
    assert lowest([Count(0, 10), Count(0, 100), Count(5, 5)]) == Count(0, 100)


def test_bars_and_line_breaks_stay_in_their_cell():
    assert rows_of(["a"], [["x|y\nz"]]).splitlines()[-1] == "| x\\|y z |"


def without_time(text: str) -> str:
    return re.sub(r"\| date.*|\*Made on .*", "", text)


# -- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "docs" / "calibration.md"
    run.calibrate(out, SMALL)
    assert not list(out.parent.glob("*.part"))
    return out.read_text(encoding="utf-8")


def test_the_page_has_all_sections_and_says_what_made_it(written):
    heads = re.findall(r"^## (.+)$", written, re.M)
    assert heads == [
        "Tests of a correlation across families",
        "SynthLM: truth that can be written down",
        "Guards of a verdict on profiles",
        "Verdict truth table",
        "The formal model on synthetic families",
        "Recipes",
    ]
    for fact in ("| date | 20", "| numpy |", "hash ", f"| seed | {run.SEED} |"):
        assert fact in written
    for required in (
        "family-wise, none true, at most 0.05",
        "power at twice the SESOI, 8 families",
    ):
        assert required in written


def test_every_section_says_when_and_under_what_it_was_made(written):
    told = re.findall(
        r"^\*Made on (\S+) in \d+ s; size (.+); thresholds version 3, hash", written, re.M
    )
    assert len(told) == 6 and {size for _, size in told} == {SMALL.name}


def test_a_section_made_anew_leaves_the_others_as_they_were(written, tmp_path):
    out = tmp_path / "page.md"
    out.write_text(written, encoding="utf-8")
    run.calibrate(out, replace(SMALL, name="other", guarded=2), only=["guards"])
    after = out.read_text(encoding="utf-8")
    before_, after_ = (run._sections_of_text(text) for text in (written, after))
    assert list(before_) == list(after_)
    changed = {name for name in before_ if before_[name] != after_[name]}
    assert changed == {"guards"}
    assert "size other" in after_["guards"] and "| size | other |" in after


def test_what_stood_there_and_is_no_page_is_written_over(tmp_path):
    out = tmp_path / "page.md"
    out.write_text("## Something else\n", encoding="utf-8")
    run.calibrate(out, SMALL, only=["tests across families"])
    text = out.read_text(encoding="utf-8")
    assert "Something else" not in text
    assert "| sections not made | synthetic models, guards, truth table," in text


def test_every_table_is_rectangular(written):
    for block in re.findall(r"(?:^\|.*\|$\n?)+", written, re.M):
        widths = {line.count("|") - line.count("\\|") for line in block.splitlines()}
        assert len(widths) == 1, block


def test_two_processes_count_what_one_does(written, tmp_path):
    out = tmp_path / "page.md"
    run.calibrate(out, SMALL, jobs=2)
    assert without_time(out.read_text(encoding="utf-8")) == without_time(written)


def test_an_interrupted_run_keeps_its_finished_sections(tmp_path, monkeypatch, capsys):
    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setitem(run._SECTIONS, "truth table", stop)
    monkeypatch.setitem(run._SECTIONS, "synthetic models", lambda *_: "## SynthLM")
    monkeypatch.setattr(command, "QUICK", SMALL)
    out = tmp_path / "page.md"
    assert command.main(["--quick", "--jobs", "1", "--out", str(out)]) == 130
    assert "holds the sections that were finished" in capsys.readouterr().err
    text = out.read_text()
    assert "## SynthLM" in text and "## Verdict" not in text


# -- the command ----------------------------------------------------------------------------------


def test_the_command_refuses_what_it_cannot_do(capsys):
    with pytest.raises(SystemExit):
        command.main(["--out", "x.md", "--jobs", "0"])
    assert "--jobs 0 is no number of processes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--out", "x.md", "--sections", "guards, the weather"])
    assert "--sections the weather: the page has tests across families" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([])


def test_help_needs_no_torch():
    code = (
        "import sys, validation.__main__, validation.run as run\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
