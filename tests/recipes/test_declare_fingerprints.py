"""Fingerprints of confirmation models: filled in once, and never changed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import declare_fingerprints
import pytest

from bitgap.errors import UsageError

LIST = """# a comment that stays
[exploratory]
old-12 = "ab"

[confirmation]
new-24 = ""
known-24 = "cd"

[mix]
new-24 = "text"
"""


def filled(**told: str) -> str:
    folders = {name: Path(name) for name in told}
    return declare_fingerprints.declared(LIST, folders, lambda folder: told[folder.name])


def test_an_empty_fingerprint_is_filled_in_and_nothing_else_moves() -> None:
    text = filled(**{"new-24": "ef"})
    assert text == LIST.replace('new-24 = ""', 'new-24 = "ef"')
    assert tomllib.loads(text)["confirmation"]["new-24"] == "ef"
    assert filled(**{"known-24": "cd"}) == LIST, "what is there already stays"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"known-24": "ef"}, "other weights"),
        ({"old-12": "ab"}, "no confirmation model"),
        ({"other-24": "ef"}, "no confirmation model"),
    ],
)
def test_other_weights_and_names_that_were_not_declared_are_refused(
    told: dict[str, str], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        filled(**told)


def test_models_that_are_not_trained_to_the_end_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new-24").mkdir()
    (tmp_path / "new-24" / "config.json").write_text("{}")
    (tmp_path / "roles.toml").write_text(LIST)
    words = [str(tmp_path / "new-24"), "--list", str(tmp_path / "roles.toml")]
    assert declare_fingerprints.main(words) == 0
    assert (tmp_path / "roles.toml").read_text() == LIST
    assert "not finished" in capsys.readouterr().err
