"""Which models some paths name, and that a manifest is held to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitgap.errors import ModelError, UsageError
from bitgap.theory.zoo import MANIFEST, sha256_of, zoo_models


def make_model(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)
    return folder


def make_manifest(folder: Path, *models: Path) -> None:
    entries = [
        {"folder": m.name, "sha256": {"config.json": sha256_of(m / "config.json")}} for m in models
    ]
    (folder / MANIFEST).write_text(json.dumps({"models": entries}))


def test_a_folder_of_models_is_its_models_in_the_manifest_s_order(tmp_path: Path) -> None:
    a, b = make_model(tmp_path / "a"), make_model(tmp_path / "b")
    make_manifest(tmp_path, b, a)
    assert zoo_models([str(tmp_path)]) == [str(b), str(a)]


def test_without_a_manifest_every_model_in_it_is_taken(tmp_path: Path) -> None:
    b, a = make_model(tmp_path / "b"), make_model(tmp_path / "a")
    assert zoo_models([str(tmp_path)]) == [str(a), str(b)]


def test_models_and_folders_mix_and_repeats_count_once(tmp_path: Path) -> None:
    a = make_model(tmp_path / "zoo" / "a")
    assert zoo_models(["reference", str(a), str(tmp_path / "zoo")]) == ["reference", str(a)]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    a = make_model(tmp_path / "a")
    make_manifest(tmp_path, a)
    (a / "config.json").write_text("{ }")
    with pytest.raises(ModelError, match="not the file that the manifest lists"):
        zoo_models([str(tmp_path)])


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    a = make_model(tmp_path / "a")
    make_manifest(tmp_path, a)
    (a / "config.json").unlink()
    with pytest.raises(ModelError, match="is missing"):
        zoo_models([str(tmp_path)])


def test_a_folder_without_models_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        zoo_models([str(tmp_path)])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": [1]}'])
def test_a_broken_manifest_is_told(tmp_path: Path, text: str) -> None:
    make_model(tmp_path / "a")
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match="cannot be read"):
        zoo_models([str(tmp_path)])
