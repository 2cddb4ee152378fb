"""Runs side by side: numbers are the runs' own, and only what may be subtracted is."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bitgap.errors import UsageError
from bitgap.report.comparison import compared, run_labels
from bitgap.report.run import Run, read_run
from bitgap.show.views import comparison_view


@pytest.fixture(scope="module")
def runs(kept: Path) -> dict[int, Run]:
    return {number: read_run(str(number), str(kept)) for number in range(1, 8)}


def shown(result: object) -> str:
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(comparison_view(result))  # type: ignore[arg-type]
    return out.getvalue()


def test_numbers_are_those_of_the_runs(runs: dict[int, Run]) -> None:
    result = compared([runs[1], runs[4]])
    for row, run in zip(result["runs"], (runs[1].result, runs[4].result["audit"]), strict=True):
        assert row["D"] == run["D"]
        assert row["languages"]["he"]["damage"] == run["languages"]["he"]["damage"]
    assert result["runs"][1]["verdicts"] == {
        f.hypothesis: f.verdict.label for f in runs[4].findings
    }
    json.dumps(result, allow_nan=False)


def test_two_plans_of_one_model_are_compared_sentence_by_sentence(
    runs: dict[int, Run],
) -> None:
    (change,) = compared([runs[1], runs[2]])["changes"]
    assert (change["plan_a"], change["plan_b"]) == ("rtn4-g128", "rtn4-g128 protect 0,2")
    before, after = (runs[n].result["languages"]["en"]["damage"] for n in (1, 2))
    assert change["reference_damage_change"]["value"] == pytest.approx(after - before)
    assert "sentence by sentence" in shown(compared([runs[1], runs[2]]))


def test_what_may_not_be_subtracted_is_not(runs: dict[int, Run]) -> None:
    other = {**runs[2].about, "model_fingerprint": "another"}
    assert compared([runs[1], replace(runs[2], about=other)])["changes"] == []
    assert compared([runs[1], runs[1]])["changes"] == []
    assert compared([runs[1], replace(runs[2], store="elsewhere.db")])["changes"] == []
    text = {"audit": "another text"}
    assert compared([runs[1], replace(runs[2], texts=text)])["changes"] == []


@pytest.mark.parametrize("old", [(1,), (2,), (1, 2)])
def test_runs_that_name_no_text_are_compared_by_their_numbers(
    runs: dict[int, Run], old: tuple[int, ...]
) -> None:
    """As those of stores written before 2026-11-29."""
    pair = {n: replace(runs[n], texts={}) if n in old else runs[n] for n in (1, 2)}
    assert compared(list(pair.values()))["changes"] == compared([runs[1], runs[2]])["changes"]
    report = pair[2].report
    assert report is not None
    first, *others = report.languages
    assert first.damage.value is not None
    moved = replace(first, damage=replace(first.damage, value=1.001 * first.damage.value))
    pair[2] = replace(pair[2], report=replace(report, languages=(moved, *others)), texts={})
    assert compared(list(pair.values()))["changes"] == []


def test_runs_without_damage_are_refused(runs: dict[int, Run]) -> None:
    with pytest.raises(UsageError, match=r"'theory'.*name runs of audit, map or investigate"):
        compared([runs[1], runs[6]])


def test_runs_are_told_apart(runs: dict[int, Run]) -> None:
    assert run_labels([runs[1], runs[2]]) == ["tiny, rtn4-g128", "tiny, rtn4-g128 protect 0,2"]
    assert run_labels([runs[1], runs[1]]) == ["tiny, rtn4-g128, run 1"] * 2


def test_the_table_fits_80_columns_and_has_a_row_a_language(runs: dict[int, Run]) -> None:
    text = shown(compared([runs[1], runs[2], runs[3], runs[4]]))
    assert max(map(len, text.splitlines())) <= 80
    for code in ("en", "he", "de"):
        assert sum(line.startswith(f"{code} ") for line in text.splitlines()) == 1
