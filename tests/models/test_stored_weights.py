"""Weights in the type of their file: the very numbers of a model that was cast whole."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import CASES, VOCABULARY, build
from torch import nn
from transformers import AutoModelForCausalLM

from bitgap.errors import ModelError
from bitgap.models import merged
from bitgap.models.decoder import Decoder
from bitgap.models.load import _read_model, fingerprint
from bitgap.models.merged import merged_on_disk
from bitgap.models.stored import (
    HALVES,
    Stacked,
    forget,
    forget_files,
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


def test_a_folder_s_pages_are_given_back_through_links_too(tmp_path: Path) -> None:
    for name in ("blobs", "snapshot", "other"):
        (tmp_path / name).mkdir()
    save_file({"w": torch.ones(4096, 64)}, tmp_path / "blobs" / "1f")
    (tmp_path / "snapshot" / "w.safetensors").symlink_to(tmp_path / "blobs" / "1f")
    with safe_open(tmp_path / "snapshot" / "w.safetensors", "pt") as file:
        w = file.get_tensor("w")
    assert float(w.sum()) == 4096 * 64

    def resident() -> int:
        """KiB of the file that are in this process."""
        lines = Path("/proc/self/smaps").read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if line.endswith("/blobs/1f"))
        return next(int(line.split()[1]) for line in lines[at:] if line.startswith("Rss:"))

    try:
        before = resident()
    except (OSError, StopIteration):
        pytest.skip("this system does not say which memory is mapped")
    forget_files(tmp_path / "other")
    assert resident() == before >= 1000
    forget_files(tmp_path / "snapshot")
    assert resident() < before / 4
    w[5, 3] = 7.0
    forget_files(tmp_path / "snapshot")
    assert float(w[5, 3]) == 7.0 and float(w.sum()) == 4096 * 64 + 6


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


def tiny_both(name: str, folder: Path) -> tuple[Any, Any]:
    """A class of :mod:`validation.families.tiny` kept as stored, and the same read in float32."""
    made: Any = tiny_model(name)
    made.to(torch.bfloat16).save_pretrained(folder)
    half, whole = (
        type(made).from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)
        for dtype in (torch.bfloat16, torch.float32)
    )
    kept = keep_as_stored(half)
    assert kept is not None
    return kept, whole


# Experts that are one parameter, stored (out x in) and (in x out); a recurrence with a convolution
# and decay rates; all of these with a router.
ODD = ("MixtralForCausalLM", "GptOssForCausalLM", "MambaForCausalLM", "JambaForCausalLM")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("holds_cast", [False, True])
def test_what_is_no_linear_is_kept_and_rounded_as_in_float32(
    name: str, holds_cast: bool, tmp_path: Path
) -> None:
    kept, whole = tiny_both(name, tmp_path)
    assert {p.dtype for p in kept.parameters()} <= {torch.bfloat16, torch.float32}
    assert torch.bfloat16 in {p.dtype for p in kept.parameters() if p.ndim > 1}
    ids = torch.randint(3, 60, (2, 11), generator=torch.Generator().manual_seed(1))
    outs = []
    for model in (kept, whole):
        decoder = Decoder.from_model(model)
        bank = Bank(decoder)
        bank.holds_cast = holds_cast
        context = decoder.context_for(*ids.shape)
        states = {variant: decoder.embed(ids) for variant in ("fp", "rtn3-g32", "seed4")}
        with torch.no_grad():
            for i in range(decoder.n_blocks):
                for variant, state in states.items():
                    module = bank.block(i, variant)
                    states[variant] = decoder.run_block(i, state, context, module)
        names = [list(decoder.block_linears(i)) for i in range(decoder.n_blocks)]
        outs.append((states, names))
    (mine, my_names), (its, its_names) = outs
    assert my_names == its_names
    for variant in mine:
        assert torch.equal(mine[variant], its[variant])
    assert not torch.equal(mine["fp"], mine["rtn3-g32"])
    assert fingerprint(kept) == fingerprint(whole)


@pytest.mark.parametrize("name", ["MambaForCausalLM", "MixtralForCausalLM"])
def test_a_file_of_two_types_is_kept_in_both(name: str, tmp_path: Path) -> None:
    """Some tensors in float32 whose digits bfloat16 would lose; most in bfloat16."""
    made: Any = tiny_model(name)
    made.to(torch.bfloat16).save_pretrained(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    tensors = load_file(file)
    singles = [k for k in tensors if k.endswith(("A_log", "mlp.gate.weight", "norm.weight"))]
    assert singles
    for i, key in enumerate(singles):
        noise = torch.randn(tensors[key].shape, generator=torch.Generator().manual_seed(i))
        tensors[key] = tensors[key].float() + 1e-3 * noise
    save_file(tensors, file, metadata={"format": "pt"})
    kept = _read_model("tiny", tmp_path, made.config, False, False)
    whole = type(made).from_pretrained(tmp_path, dtype=torch.float32).eval()
    types = {key: value.dtype for key, value in kept.named_parameters()}
    assert set(types.values()) == {torch.bfloat16, torch.float32}
    for key, value in whole.named_parameters():
        assert torch.equal(stored(kept, key).float(), value), key
    ids = torch.randint(3, 60, (2, 9))
    with torch.no_grad():
        assert torch.equal(kept(input_ids=ids).logits, whole(input_ids=ids).logits)


def test_a_stack_casts_what_is_taken_of_it() -> None:
    kept = nn.Parameter(torch.randn(4, 6, 5).to(torch.bfloat16), requires_grad=False)
    stack, whole = Stacked.of(kept), kept.detach().float()
    assert isinstance(stack, nn.Parameter)
    assert stack.shape == whole.shape and stack.dtype == torch.float32 and len(stack) == 4
    assert stack.size(1) == 6 and stack.numel() == 120 and stack.device == whole.device
    for taken, wanted in (
        (stack[2], whole[2]),
        (stack[torch.tensor(3)], whole[3]),
        (stack[torch.tensor([0, 2])], whole[[0, 2]]),
        (stack[1:3], whole[1:3]),
        (stack.select(0, 1), whole[1]),
        (stack.transpose(1, 2), whole.transpose(1, 2)),
        (stack.mT, whole.mT),
        (stack.data, whole),
        (stack.view(24, 5), whole.view(24, 5)),
        (stack.sum(-1), whole.sum(-1)),
        (torch.bmm(torch.ones(4, 2, 6), stack), torch.bmm(torch.ones(4, 2, 6), whole)),
        (stack.to(torch.float64), whole.double()),
    ):
        assert type(taken) is torch.Tensor
        assert taken.dtype == wanted.dtype and torch.equal(taken, wanted)
    assert kept.dtype == torch.bfloat16


def test_what_goes_by_other_names_inside_is_not_kept() -> None:
    model: Any = build("llama").to(torch.bfloat16)
    model.model.layers[0].mlp.recurrence = nn.GRU(4, 4, dtype=torch.bfloat16)
    assert keep_as_stored(model) is None


def test_experts_merged_on_loading_lie_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Any = tiny_model("MixtralForCausalLM")
    made.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def load() -> Any:
        with merged_on_disk(tmp_path / "model"):
            model = type(made).from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
        mark_mapped(model)
        return model

    in_memory = load().model.layers[0].mlp.experts
    if not is_mapped(load().model.norm.weight):
        pytest.skip("this system does not say which memory is mapped")
    assert not is_mapped(in_memory.gate_up_proj)
    monkeypatch.setattr(merged, "IN_MEMORY_BYTES", in_memory.gate_up_proj.numel() * 2)
    on_disk = load()
    first, last = (on_disk.model.layers[i].mlp.experts for i in (0, -1))
    assert is_mapped(last.down_proj) and is_mapped(last.gate_up_proj)
    assert is_mapped(first.gate_up_proj) != is_mapped(first.down_proj), "one fits the memory"
    for name, value in made.named_parameters():
        assert torch.equal(dict(on_disk.named_parameters())[name], value)
    assert not list(folder.iterdir()), "its files have no name"
    monkeypatch.setattr(merged, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(merged.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(ModelError, match="TMPDIR"):
        load()


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
