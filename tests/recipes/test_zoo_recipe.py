"""The zoo's list of models, the commands that train them, and the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_families import FAMILIES
from train_zoo import HERE, LARGEST_ZOO_BYTES, command_of, read_zoo, write_manifest
from training_settings import build_parser, request_of

from bitgap.errors import UsageError
from bitgap.theory.zoo import zoo_models

ZOO = HERE / "zoo.toml"
CONFIRMATION = HERE / "confirmation.toml"


def test_the_zoo_has_families_depths_tokenizers_and_mixes_enough() -> None:
    members = read_zoo(ZOO)
    families = {"gpt2", *(one["family"] for one in members)}  # the bundled model is GPT-2
    assert len(families) >= 6
    assert families <= set(FAMILIES)
    assert {one.get("blocks", 12) for one in members} == {8, 12, 24}
    assert sum("mix" in one or "vocabulary" in one for one in members) >= 2


@pytest.mark.parametrize("member", read_zoo(ZOO), ids=lambda one: one["name"])
def test_every_member_s_command_is_one_that_the_trainer_takes(
    member: dict[str, object], tmp_path: Path
) -> None:
    words = command_of(member, tmp_path / "text", tmp_path / "out")
    request = request_of(build_parser().parse_args(words[2:]))
    assert request.recipe.family == member["family"]
    assert request.recipe.tokens == 10_000_000
    assert request.recipe.width == 128
    assert (request.tokenizer is None) == ("vocabulary" in member)
    assert request.out == tmp_path / "out" / str(member["name"])


def test_the_confirmation_has_new_families_and_sizes_halves_mixes_and_seeds() -> None:
    members, before = read_zoo(CONFIRMATION), read_zoo(ZOO)
    shape = {(one["family"], one.get("blocks", 12)) for one in members}
    measured = {(one["family"], one.get("blocks", 12)) for one in before} | {("gpt2", 12)}
    assert len(shape) >= 10 and not shape & measured
    assert len({family for family, blocks in shape if blocks == 24}) >= 6
    assert {one["seed"] for one in members} == {1, 2}
    # One mix a half, and both seeds in each, so that neither stands for the other.
    mixes = {half: {m.get("mix") for m in members if m["half"] == half} for half in (1, 2)}
    assert len(mixes[1]) == len(mixes[2]) == 1 and mixes[1] != mixes[2]
    assert {(m["half"], m["seed"]) for m in members} == {(h, s) for h in (1, 2) for s in (1, 2)}


@pytest.mark.parametrize("member", read_zoo(CONFIRMATION), ids=lambda one: one["name"])
def test_every_new_model_is_one_that_the_trainer_takes(
    member: dict[str, object], tmp_path: Path
) -> None:
    words = command_of(member, tmp_path / "text", tmp_path / "out")
    recipe = request_of(build_parser().parse_args(words[2:])).recipe
    assert (recipe.family, recipe.half, recipe.seed) == (
        member["family"],
        member["half"],
        member["seed"],
    )
    assert recipe.tokens == 6_000_000 and recipe.width == 128


def test_some_members_can_be_asked_for_and_unknown_ones_are_told() -> None:
    assert [one["name"] for one in read_zoo(ZOO, "llama-8, opt-12")] == ["opt-12", "llama-8"]
    with pytest.raises(UsageError, match=r"no model 'gpt-9'.*llama-12"):
        read_zoo(ZOO, "gpt-9")


def finished(folder: Path, name: str, weights: bytes = b"w") -> None:
    model = folder / name
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(weights)
    facts = {
        "recipe": {"family": "opt", "blocks": 12, "width": 128, "mix": None},
        "n_parameters": 1,
        "tokens_seen": 10,
        "bits_per_byte": {"en": 2.0, "he": 3.0},
    }
    (model / "training.json").write_text(json.dumps(facts))


def test_the_manifest_lists_finished_models_in_the_zoo_s_order(tmp_path: Path) -> None:
    for name in ("llama-8", "opt-12"):
        finished(tmp_path, name)
    (tmp_path / "bloom-12").mkdir()  # still at work
    write_manifest(tmp_path)
    entries = json.loads((tmp_path / "manifest.json").read_text())["models"]
    assert [e["folder"] for e in entries] == ["opt-12", "llama-8"]
    assert entries[0]["bits_per_byte_mean"] == 2.5
    assert zoo_models([str(tmp_path)]) == [str(tmp_path / e["folder"]) for e in entries]


def test_models_too_large_to_clone_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LARGEST_ZOO_BYTES <= 120_000_000
    monkeypatch.setattr("train_zoo.LARGEST_ZOO_BYTES", 10)
    finished(tmp_path, "opt-12", b"w" * 100)
    with pytest.raises(UsageError, match="more than"):
        write_manifest(tmp_path)
