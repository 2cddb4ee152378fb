"""Files written whole; records with arrays as one file, and what damage to it raises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitgap.files import read_arrays, write_arrays, write_text

CONTENT = {"format": "something", "facts": {"model": "a", "n": 3}}
ARRAYS = {"a": np.arange(600.0), "b": np.zeros((3, 4), np.int64)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("files") / "whole.zip"
    write_arrays(path, "it.json", CONTENT, ARRAYS, level=6)
    return path.read_bytes()


def test_equal_values_are_equal_bytes_however_they_lie_in_memory(tmp_path: Path) -> None:
    rows = np.arange(12.0).reshape(3, 4)
    for name, held in (("rows", rows), ("columns", np.asfortranarray(rows))):
        write_arrays(tmp_path / name, "it.json", CONTENT, {"a": held, "b": np.float64(2)}, level=6)
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "columns").read_bytes()
    assert read_arrays(tmp_path / "rows", "it.json")[1]["b"].shape == ()


def test_what_is_written_is_read_and_has_the_same_bytes_again(written: bytes, tmp_path: Path):
    path = tmp_path / "again.zip"
    path.write_bytes(written)
    content, arrays = read_arrays(path, "it.json")
    assert content == CONTENT
    assert {name: values.tolist() for name, values in arrays.items()} == {
        name: values.tolist() for name, values in ARRAYS.items()
    }
    write_arrays(path, "it.json", content, arrays, level=6)
    assert path.read_bytes() == written


@given(st.data())
def test_damage_is_a_value_error_or_harmless(
    written: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    at = data.draw(st.integers(0, len(written) - 1))
    bad = bytearray(written)
    if data.draw(st.booleans()):
        del bad[at:]
    else:
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("bad") / "bad.zip"
    path.write_bytes(bad)
    try:
        content, arrays = read_arrays(path, "it.json")
    except ValueError:
        return
    # What is lost with the archive's own list is lacking, and nothing is another.
    assert content == CONTENT and arrays.keys() <= ARRAYS.keys()
    assert all(np.array_equal(values, ARRAYS[name]) for name, values in arrays.items())


def test_a_missing_entry_and_a_missing_file_are_told_apart(written: bytes, tmp_path: Path):
    (tmp_path / "it.zip").write_bytes(written)
    with pytest.raises(ValueError, match=r"other\.json"):
        read_arrays(tmp_path / "it.zip", "other.json")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "absent.zip", "it.json")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
