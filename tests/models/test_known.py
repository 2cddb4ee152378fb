"""Fingerprints are found anew wherever weights may have changed, and only there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_models import build

from bitgap.errors import ModelError
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store
from bitgap.models import load
from bitgap.models.known import known_fingerprint

LONG_AGO = 1_000_000_000


def age(folder: Path) -> None:
    for file in folder.iterdir():
        os.utime(file, (LONG_AGO, LONG_AGO))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has what was written just now count as written long ago."""
    monkeypatch.setattr("bitgap.models.known._SETTLED_S", -60.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "config.json").write_bytes(b"{}")
    return made


class Finder:
    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> str:
        self.n += 1
        return f"found {self.n}"


def test_files_that_did_not_change_are_read_once(folder: Path, settled: None) -> None:
    store, find = Store(":memory:"), Finder()
    told = [known_fingerprint(folder, find, store) for _ in range(3)]
    assert told == ["found 1"] * 3
    assert known_fingerprint(folder, find, store, about="another class") == "found 2"
    assert known_fingerprint(folder, find, None) == "found 3"


@pytest.mark.parametrize("how", ["in place", "replaced", "in place, dated back", "config", "added"])
def test_files_that_changed_are_read_again(folder: Path, how: str, settled: None) -> None:
    store, find = Store(":memory:"), Finder()
    file = folder / "model.safetensors"
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert known_fingerprint(folder, find, store) == "found 1"
    if how == "replaced":
        other = folder.parent / "other"
        shutil.copy2(file, other)  # with its date
        other.replace(file)
    elif how == "config":
        (folder / "config.json").write_bytes(b"[]")
    elif how == "added":
        (folder / "model-2.safetensors").write_bytes(b"more")
    else:
        with file.open("r+b") as there:
            there.write(b"W")
    if "dated back" in how:
        os.utime(file, (LONG_AGO, LONG_AGO))
    assert known_fingerprint(folder, find, store) == "found 2"


def test_files_that_were_written_just_now_are_not_relied_on(folder: Path) -> None:
    store, find = Store(":memory:"), Finder()
    age(folder)  # which is a change of the entry, just now
    assert known_fingerprint(folder, find, store) == "found 1"
    assert known_fingerprint(folder, find, store) == "found 2"


def test_a_failure_is_not_noted(folder: Path, settled: None) -> None:
    store = Store(":memory:")

    def fail() -> str:
        raise ModelError("NaN")

    with pytest.raises(ModelError, match="NaN"):
        known_fingerprint(folder, fail, store)
    assert known_fingerprint(folder, Finder(), store) == "found 1"


def test_a_lab_reads_weights_for_their_fingerprint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: None
) -> None:
    model = tmp_path / "model"
    made: Any = build("llama")
    made.save_pretrained(model)
    reference = Path(load.__file__).parent / "reference"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(reference / name, model)
    own, seen = load.fingerprint, list[str]()
    monkeypatch.setattr(load, "fingerprint", lambda m, n=None: seen.append(str(n)) or own(m, n))
    monkeypatch.setattr(load, "tokens_beyond", lambda *_: None)  # of a tiny vocabulary
    store = tmp_path / "bitgap.db"
    labs = [Lab.from_pretrained(model, languages="en,he", store=store) for _ in range(2)]
    assert seen == [str(model)]
    assert labs[0].info == labs[1].info
