"""The page of recipes is what its records say, and its command refuses what it cannot ask."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import results_protect  # noqa: E402


def test_the_page_is_rendered_from_the_records(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert results_protect.main(["--page", "--out", str(page)]) == 0
    assert page.read_text("utf-8") == results_protect.PAGE.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--budgets", "small"], 2, "budgets 'small' are no numbers"),
        (["--triple", "first"], 2, "'first' is no list of blocks"),
        (["./nowhere/at-all"], 2, "nowhere/at-all"),
        (["--corpus", "nowhere"], 2, "nowhere"),
    ],
)
def test_what_cannot_be_asked_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    kept = ["--store", str(tmp_path / "s.db"), "--records", str(tmp_path / "records"),
            "--out", str(tmp_path / "page.md")]  # fmt: skip
    assert results_protect.main([*words, "--languages", "de,en", *kept]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
