"""Weights in the type of their file: the very numbers of a model that was cast whole."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import CASES, VOCABULARY, build
from torch import nn
from transformers import AutoModelForCausalLM

from bitgap.models.decoder import Decoder
from bitgap.models.load import fingerprint
from bitgap.models.stored import (
    HALVES,
    forget,
    is_mapped,
    keep_as_stored,
    mark_mapped,
    plain,
    stored,
)
from bitgap.models.twins import random_twin, shuffled_twin
from bitgap.quant.bank import Bank
from bitgap.quant.plan import Plan
from validation.families.tiny import tiny_model

FEW = ("llama", "gpt2", "bloom", "opt", "gemma2")


def both(case: str, folder: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[Any, Any]:
    """A model kept as stored, and the same read in float32."""
    build(case).to(dtype).save_pretrained(folder)
    attention = "sdpa" if case in ("llama", "gpt2", "opt") else "eager"
    read: Any = AutoModelForCausalLM.from_pretrained
    whole = read(folder, dtype=torch.float32, attn_implementation=attention).eval()
    half = read(folder, dtype=dtype, attn_implementation=attention).eval()
    kept = keep_as_stored(half)
    assert kept is not None
    return kept, whole.requires_grad_(False)


def some_ids() -> torch.Tensor:
    return torch.randint(VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
def test_every_family_computes_in_float32_what_it_keeps_in_bfloat16(
    case: str, tmp_path: Path
) -> None:
    kept, whole = both(case, tmp_path)
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}
    ids = some_ids()
    with torch.no_grad():
        assert torch.equal(kept(input_ids=ids).logits, whole(input_ids=ids).logits)
    mine, its = Decoder.from_model(kept), Decoder.from_model(whole)
    with torch.no_grad():
        assert torch.equal(mine.logits(ids), its.logits(ids))
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}, "nothing was cast for good"


@pytest.mark.parametrize("case", FEW)
@pytest.mark.parametrize("scheme", ["rtn3-g32", "seed4"])
def test_rounded_blocks_are_those_of_the_float32_model(
    case: str, scheme: str, tmp_path: Path
) -> None:
    kept, whole = both(case, tmp_path, torch.float16)
    ids, outs = some_ids(), []
    for model in (kept, whole):
        decoder = Decoder(model)
        bank = Bank(decoder)
        plan = Plan.uniform(scheme, decoder.n_blocks)
        with torch.no_grad():
            state = decoder.embed_with(ids, bank.embedding(plan.embedding))
            context = decoder.context_for(*ids.shape)
            for i in range(decoder.n_blocks):
                state = decoder.run_block(i, state, context, bank.block(i, scheme))
        outs.append(state)
    assert torch.equal(*outs)


@pytest.mark.parametrize("case", FEW)
def test_what_a_model_is_does_not_hang_on_how_it_is_kept(case: str, tmp_path: Path) -> None:
    kept, whole = both(case, tmp_path)
    assert fingerprint(kept) == fingerprint(whole)
    assert type(kept).__name__ == type(whole).__name__
    tied = stored(kept.get_output_embeddings()).is_set_to(stored(kept.get_input_embeddings()))
    assert tied == (whole.get_output_embeddings().weight is whole.get_input_embeddings().weight)


def test_a_copy_that_will_be_changed_is_plain_float32(tmp_path: Path) -> None:
    kept, whole = both("llama", tmp_path)
    copied = copy.deepcopy(kept)
    assert {p.dtype for p in copied.parameters()} == {torch.float32}
    assert type(copied.lm_head) is nn.Linear
    copied.model.layers[0].mlp.up_proj.weight.data.mul_(2)
    wanted = whole.model.layers[0].mlp.up_proj.weight * 2
    assert torch.equal(copied.model.layers[0].mlp.up_proj.weight, wanted)
    twins = [shuffled_twin(Decoder(model), 3) for model in (kept, whole)]
    assert fingerprint(twins[0]) == fingerprint(twins[1])
    assert fingerprint(random_twin(kept, 3)) == fingerprint(random_twin(whole, 3))


def test_a_table_takes_the_rows_that_came(tmp_path: Path) -> None:
    kept, whole = both("llama", tmp_path)
    embedding: Any = kept.get_input_embeddings()
    with torch.no_grad():
        embedding(torch.tensor([[3, 5]]))
        assert embedding.__dict__["_bitgap_rows"].sum() == 2
        again = embedding(torch.tensor([[5, 7, 0]]))
    assert torch.equal(again, whole.get_input_embeddings()(torch.tensor([[5, 7, 0]])))
    assert embedding.__dict__["_bitgap_rows"].nonzero()[:, 0].tolist() == [0, 3, 5, 7]


def test_pages_of_the_file_are_given_back_and_read_again(tmp_path: Path) -> None:
    kept, _ = both("llama", tmp_path)
    parameters = list(kept.parameters())
    if not any(is_mapped(p) for p in parameters):
        pytest.skip("this system does not say which memory is mapped")
    before = [p.clone() for p in parameters]
    for parameter in parameters:
        forget(parameter)
    for parameter, was in zip(parameters, before, strict=True):
        assert torch.equal(parameter, was)


def test_what_was_written_to_is_never_given_back(tmp_path: Path) -> None:
    """Pages as large as a matrix of a real model, of which one number was changed in place."""
    save_file({"w": torch.ones(1024, 64)}, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        model = nn.Module()
        model.w = nn.Parameter(file.get_tensor("w"), requires_grad=False)
    mark_mapped(model)
    if not is_mapped(model.w):
        pytest.skip("this system does not say which memory is mapped")
    forget(model.w)
    assert float(model.w.sum()) == 1024 * 64
    model.w.data[500, 3] = 7.0
    forget(model.w)
    assert float(model.w[500, 3]) == 7.0
    copied = copy.deepcopy(model)
    copied.w.data.mul_(2)
    assert not is_mapped(copied.w)
    forget(copied.w)
    assert float(copied.w[500, 3]) == 14.0


def test_memory_that_is_no_files_is_never_given_back() -> None:
    model: Any = build("llama").to(torch.bfloat16)
    kept = keep_as_stored(model)
    assert kept is not None
    before = [p.clone() for p in kept.parameters()]
    for parameter in kept.parameters():
        assert not is_mapped(parameter)
        forget(parameter)
    for parameter, was in zip(kept.parameters(), before, strict=True):
        assert torch.equal(parameter, was)


def test_a_module_can_be_made_plain_again() -> None:
    kept = keep_as_stored(build("llama").to(torch.bfloat16))
    assert kept is not None
    linear = kept.model.layers[0].mlp.up_proj
    assert linear.weight.dtype == torch.float32 and stored(linear).dtype in HALVES
    plain(linear)
    assert type(linear) is nn.Linear and linear.weight.dtype == torch.bfloat16


def test_a_wrapper_is_kept_whatever_its_towers_are_made_of(tmp_path: Path) -> None:
    whole: Any = tiny_model("Gemma3ForConditionalGeneration")
    whole.to(torch.bfloat16).save_pretrained(tmp_path)
    read: Any = type(whole).from_pretrained
    whole, half = (
        read(tmp_path, dtype=dtype, attn_implementation="sdpa").eval().requires_grad_(False)
        for dtype in (torch.float32, torch.bfloat16)
    )
    kept = keep_as_stored(half)
    assert kept is not None and {p.dtype for p in kept.parameters()} == {torch.bfloat16}
    ids = some_ids()
    with torch.no_grad():
        assert torch.equal(kept(input_ids=ids).logits, whole(input_ids=ids).logits)
        # The tower is a convolution and tables; asked for, it is cast like the rest.
        image = torch.ones(1, 3, *2 * (whole.config.vision_config.image_size,))
        seen = (m.model.vision_tower(pixel_values=image).last_hidden_state for m in (kept, whole))
        assert torch.equal(*seen)


def test_stacked_experts_are_not_kept() -> None:
    model: Any = build("llama").to(torch.bfloat16)
    model.model.layers[0].mlp.stack = nn.Parameter(torch.zeros(2, 3, 4))
    assert keep_as_stored(model) is None


@pytest.mark.parametrize("case", FEW)
def test_a_block_that_is_held_cast_computes_the_very_numbers(case: str, tmp_path: Path) -> None:
    kept, _ = both(case, tmp_path)
    decoder = Decoder.from_model(kept)
    bank, state = Bank(decoder), decoder.embed(some_ids())
    assert bank.block(1, "fp") is decoder.blocks[1] and not bank.casts(1)
    bank.holds_cast = True
    held = bank.block(1, "fp")
    assert held is bank.block(1, "fp") and bank.casts(1)
    views = decoder.block_linears(1).values()
    assert {view.of(held).dtype for view in views} == {torch.float32}
    assert {stored(view.module).dtype for view in views} == {torch.bfloat16}
    context = decoder.context_for(*some_ids().shape)
    with torch.no_grad():
        mine, own = (decoder.run_block(1, state, context, m) for m in (held, decoder.blocks[1]))
    assert torch.equal(mine, own)
    bank.release(1)
    assert bank.block(1, "fp") is not held, "one block is held, and no longer than it is run"
