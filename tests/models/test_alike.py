"""A split that is found and proved with the weights of few blocks is that of all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import CASES, ROTARY, assert_close, build, draw, own_logits
from torch import nn

from bitgap.errors import UnsupportedArchitecture
from bitgap.models import stored
from bitgap.models.alike import few_weights
from bitgap.models.decoder import Decoder
from validation.families.tiny import tiny_model

# Several streams, values that later blocks read, shared blocks, recurrences, experts: their states
# hold more than one tensor, or the classes have no row.
ODD = ("Gemma3nForCausalLM", "Gemma4ForCausalLM", "ZambaForCausalLM", "JambaForCausalLM",
       "MixtralForCausalLM", "GptOssForCausalLM")  # fmt: skip


def as_mapped(model: nn.Module) -> nn.Module:
    """Marks a model's parameters as pages of a large file; it stays in memory."""
    for parameter in model.parameters():
        setattr(parameter, stored._MAPPED, parameter.data_ptr())
    return model


def proofs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes for each proof whether it ran on few weights."""
    own, seen = Decoder._prove, list[bool]()

    def prove(self: Decoder) -> None:
        first = [list(block.parameters()) for block in self.blocks[:2]]
        seen.append(len(first) > 1 and any(a is b for a, b in zip(*first, strict=False)))
        own(self)

    monkeypatch.setattr(Decoder, "_prove", prove)
    return seen


@pytest.mark.parametrize("case", [*CASES, *ODD])
def test_the_split_is_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make: Any = build if case in CASES else tiny_model
    whole = Decoder.from_model(make(case))
    model = as_mapped(make(case))
    before = {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)}
    seen = proofs(monkeypatch)
    few = Decoder.from_model(model)
    assert len(seen) == 1  # not once more with all weights
    after = {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)}
    assert after == before
    assert few.family == whole.family and few.state_width == whole.state_width
    ids = draw(2, 13, seed=3)
    assert_close(few.logits(ids), own_logits(model, ids))
    for i in range(few.n_blocks):
        mine, its = few.block_matrices(i), whole.block_matrices(i)
        assert list(mine.views) == list(its.views) and mine.whole == its.whole
        for name, view in mine.views.items():
            assert torch.equal(view.get(), its.views[name].get())


def test_of_a_kind_only_the_first_block_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = as_mapped(hf.LlamaForCausalLM(hf.LlamaConfig(**ROTARY)))
    with torch.no_grad():
        for block in model.model.layers[1:]:
            for parameter in block.parameters():
                parameter.fill_(float("nan"))
    seen = proofs(monkeypatch)
    assert Decoder.from_model(model).n_blocks == 3
    assert seen == [True]


def test_blocks_of_another_shape_are_a_kind_of_their_own() -> None:
    model: Any = as_mapped(hf.LlamaForCausalLM(hf.LlamaConfig(**ROTARY)))
    layers = model.model.layers
    layers[1].mlp.up_proj.bias = nn.Parameter(torch.zeros(1))
    with few_weights(model) as fewer:
        assert fewer
        assert layers[2].mlp.up_proj.weight is layers[0].mlp.up_proj.weight
        assert layers[1].mlp.up_proj.weight is not layers[0].mlp.up_proj.weight
    assert layers[2].mlp.up_proj.weight is not layers[0].mlp.up_proj.weight


def test_heads_and_tables_in_a_list_keep_their_weights() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    model = as_mapped(Heads())
    with few_weights(model) as fewer:
        assert not fewer


def test_weights_are_their_own_again_after_a_failure() -> None:
    model: Any = as_mapped(hf.LlamaForCausalLM(hf.LlamaConfig(**ROTARY)))
    before = [id(p) for p in model.parameters()]
    with pytest.raises(KeyError), few_weights(model):
        raise KeyError
    assert [id(p) for p in model.parameters()] == before


@pytest.mark.parametrize("mapped", [False, True])
def test_what_happens_between_blocks_far_down_is_seen(
    mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's own code runs over all blocks, so one that does more at the last is refused."""

    class Between(hf.LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            def double(_module: nn.Module, args: Any, kwargs: Any) -> Any:
                return (2 * args[0], *args[1:]), kwargs

            hook = self.model.layers[2].register_forward_pre_hook(double, with_kwargs=True)
            try:
                return super().forward(*args, **kwargs)
            finally:
                hook.remove()

    model = Between(hf.LlamaConfig(**ROTARY)).eval().requires_grad_(False)
    seen = proofs(monkeypatch)
    with pytest.raises(UnsupportedArchitecture, match="logits are not its own"):
        Decoder.from_model(as_mapped(model) if mapped else model)
    # A refusal is of the model with all of its own weights.
    assert seen == ([True, False] if mapped else [False])
