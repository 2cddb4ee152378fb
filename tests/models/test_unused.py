"""Weights that hold more than their class has a place for: another model, or parts beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from test_load import LLAMA, edit_config, edit_weights, save
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.models.load import load_model
from bitgap.models.unused import sort_unused

ATTENTION = "model.layers.0.self_attn"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "model", hf.LlamaConfig(**LLAMA))
    return tmp_path / "model"


def add(**parts: tuple[int, ...]) -> Callable[[dict[str, Tensor]], None]:
    """Returns what adds tensors of some shapes, with ``__`` for the dots of their names."""
    return lambda t: t.update(
        {key.replace("__", "."): torch.ones(shape) for key, shape in parts.items()}
    )


def ahead(tensors: dict[str, Tensor]) -> None:
    """A block that predicts the token after the next, as DeepSeek and GLM store it."""
    block = {k.replace("layers.1", "layers.2"): v for k, v in tensors.items() if "layers.1" in k}
    tensors.update({key: value.clone() for key, value in block.items()})
    add(model__layers__2__eh_proj__weight=(16, 32), model__layers__2__enorm__weight=(16,))(tensors)


ANOTHER: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "a bias": (
        add(model__layers__0__self_attn__q_proj__bias=(16,)),
        r"runs without 1 tensors .*q_proj\.bias.*saved together",
    ),
    "a bias of the head": (add(lm_head__bias=(16,)), r"runs without 1 tensors .*lm_head\.bias"),
    "a bias of the last norm": (add(model__norm__bias=(16,)), r"runs without .*model\.norm\.bias"),
    "a norm in a block": (
        add(model__layers__0__self_attn__q_norm__weight=(8,)),
        r"runs without 1 tensors .*q_norm\.weight",
    ),
    "an adapter": (
        add(
            model__layers__0__self_attn__q_proj__lora_A__weight=(2, 16),
            model__layers__0__self_attn__q_proj__lora_B__weight=(16, 2),
        ),
        r"an adapter that is not merged \(.*lora_A\.weight.*merge_and_unload",
    ),
}


@pytest.mark.parametrize("kind", ANOTHER)
def test_parts_of_what_was_trained_that_would_be_left_out_are_refused(
    kind: str, folder: Path
) -> None:
    change, message = ANOTHER[kind]
    edit_weights(folder, change)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_config_of_fewer_blocks_than_the_weights_hold_is_refused(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=1)
    with pytest.raises(
        ModelError, match=r"of two models: the config makes 1 of model\.layers .*weights hold 1 too"
    ):
        load_model(folder)


def test_a_config_of_more_blocks_is_refused_and_both_names_are_told(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=3)
    edit_weights(folder, lambda t: t.update({"base.extra": torch.ones(2)}))
    with pytest.raises(
        ModelError, match=r"9 tensors .*model\.layers\.2.* absent.*1 are of no part of it, such as "
    ):
        load_model(folder)


def test_a_block_that_predicts_further_tokens_is_left_out_and_told(
    folder: Path, caplog: Any
) -> None:
    whole = load_model(folder)
    edit_weights(folder, ahead)
    with caplog.at_level(logging.WARNING, "bitgap"):
        loaded = load_model(folder)
    assert "model.layers.2 predict(s) further tokens" in caplog.text
    assert loaded.info.n_blocks == 2 and loaded.info.fingerprint == whole.info.fingerprint


def test_towers_and_other_heads_are_left_out_and_told(folder: Path, caplog: Any) -> None:
    edit_weights(
        folder,
        add(visual__blocks__0__attn__qkv__weight=(4, 4), mtp__layers__0__mlp__up__weight=(4, 4)),
    )
    with caplog.at_level(logging.WARNING, "bitgap"):
        assert load_model(folder).info.n_blocks == 2
    assert "2 tensors are not used, as they are no part of the language model" in caplog.text


def test_more_experts_than_the_config_counts_are_told_by_their_list() -> None:
    block = torch.nn.Module()
    block.experts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
    model: Any = torch.nn.Module()
    model.embed, model.blocks = torch.nn.Embedding(3, 2), torch.nn.ModuleList([block])
    model.get_input_embeddings, model.get_output_embeddings = lambda: model.embed, lambda: None
    left = sort_unused(model, ["blocks.0.experts.2.weight", "blocks.0.experts.2.bias"])
    assert left.blocks == {"blocks.0.experts": (2,)}
    # Experts of a further block may be called otherwise in the file than in the class.
    left = sort_unused(model, ["blocks.1.experts.0.w1.weight", "blocks.1.experts.1.w1.weight"])
    assert left.blocks == {"blocks": (1,)} and not left.ahead
    assert sort_unused(model, ["blocks.1.join.weight"]).ahead == ("blocks.1",)


def test_a_bias_of_zeros_changes_nothing_and_is_left_out(folder: Path, caplog: Any) -> None:
    # As programs write that made rounded weights whole again.
    edit_weights(folder, lambda t: t.update({f"{ATTENTION}.q_proj.bias": torch.zeros(16)}))
    with caplog.at_level(logging.WARNING, "bitgap"):
        assert load_model(folder).info.n_blocks == 2
    assert "q_proj.bias" in caplog.text


def test_masks_and_angles_of_old_releases_are_nothing_that_was_learned(folder: Path) -> None:
    old = {f"{ATTENTION}.bias": torch.ones(1, 1, 4, 4), f"{ATTENTION}.masked_bias": torch.ones(())}
    edit_weights(folder, lambda t: t.update(old))
    assert load_model(folder).info.n_blocks == 2


def test_a_head_of_its_own_that_the_config_ties_is_followed_and_told(
    folder: Path, caplog: Any
) -> None:
    edit_config(folder, tie_word_embeddings=True)
    with caplog.at_level(logging.WARNING, "bitgap"):
        loaded = load_model(folder)
    assert not loaded.info.tied and "a head of their own that differs" in caplog.text
    caplog.clear()
    edit_weights(folder, lambda t: t.pop("lm_head.weight"))
    with caplog.at_level(logging.WARNING, "bitgap"):
        assert load_model(folder).info.tied and not caplog.records
