from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import VOCABULARY, assert_close, assert_untouched, draw, own_logits, state
from torch import Tensor, nn

from bitgap.errors import EngineError
from bitgap.models.decoder import Decoder
from bitgap.models.matrices import (
    Matrices,
    StackView,
    UnreadMatrix,
    Uses,
    find_matrices,
    learn_uses,
)
from bitgap.models.twins import shuffled_twin
from bitgap.quant.bank import Bank
from bitgap.quant.rounding import round_absmax
from validation.families.tiny import tiny_model

E, D_IN, D_OUT = 3, 4, 6


class Block(nn.Module):
    """One product of a stack of matrices, written in one of the ways that families write it."""

    def __init__(self, shape: tuple[int, ...], product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = nn.Module()
        self.experts.stack = nn.Parameter(torch.randn(shape), requires_grad=False)
        self._product = product

    def forward(self, x: Tensor) -> Tensor:
        return self._product(x, self.experts.stack)


def found(block: nn.Module, run: Callable[[], Any]) -> Matrices:
    uses: Uses = {}
    learn_uses(block, run, uses)
    return find_matrices(block, uses)


WRITTEN: dict[str, tuple[tuple[int, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "linear, out x in": ((E, D_OUT, D_IN), lambda x, w: F.linear(x, w[1])),
    "matmul, in x out": ((E, D_IN, D_OUT), lambda x, w: x @ w[1]),
    "bmm of all, in x out": ((E, D_IN, D_OUT), lambda x, w: torch.bmm(x.expand(E, -1, -1), w)),
    "bmm of all, out x in": ((E, D_OUT, D_IN), lambda x, w: torch.bmm(w, x.T.expand(E, -1, -1))),
    "two dimensions, rows of experts": (
        (E * D_IN, D_OUT),
        lambda x, w: x @ w.view(E, D_IN, D_OUT)[2],
    ),
    "broadcast over sequences": ((E, D_OUT, D_IN), lambda x, w: w[None] @ x.T.expand(2, 1, -1, -1)),
    "chunks of one": (
        (E, D_OUT, D_IN),
        lambda x, w: F.linear(x, w[0, : D_OUT // 2]) + F.linear(x, w[0, D_OUT // 2 :]),
    ),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_the_product_says_which_axis_is_the_input(way: str) -> None:
    shape, product = WRITTEN[way]
    block, x = Block(shape, product), torch.randn(5, D_IN)
    views = found(block, lambda: block(x)).views
    assert [view.name for view in views.values()] == [f"experts.stack.{i}" for i in range(E)]
    for i, view in enumerate(views.values()):
        assert isinstance(view, StackView) and view.get().shape == (D_OUT, D_IN)
        own = block.experts.stack.view(E, *view.stored)[i]
        assert torch.equal(view.get(), own.T if view.transposed else own)


def test_square_matrices_are_told_apart_by_how_they_lie() -> None:
    x = torch.randn(5, D_IN)
    for transposed, product in (
        (False, lambda x, w: F.linear(x, w[1])),
        (True, lambda x, w: x @ w[1]),
    ):
        block = Block((E, D_IN, D_IN), product)
        (view, *_) = found(block, lambda block=block: block(x)).views.values()
        assert view.transposed is transposed


def test_what_cannot_be_told_is_refused() -> None:
    x = torch.randn(5, D_IN)
    ambiguous = Block((E, D_IN, D_IN), lambda x, w: F.linear(x, w.clone()[1]))
    with pytest.raises(UnreadMatrix, match=r"experts\.stack enters products through a copy"):
        found(ambiguous, lambda: ambiguous(x))
    both = Block((E, D_IN, D_IN), lambda x, w: F.linear(x, w[1]) + x @ w[1])
    with pytest.raises(UnreadMatrix, match="both as it is and transposed"):
        found(both, lambda: both(x))
    unread = Block((E, D_IN, D_IN), lambda x, w: x)
    with pytest.raises(UnreadMatrix, match="read by nothing"):
        found(unread, lambda: unread(x))


def test_what_no_product_reads_is_left_whole_and_listed() -> None:
    block = Block((D_IN, D_IN), lambda x, w: x * w[0].exp())
    block.conv = nn.Conv1d(D_IN, D_IN, 2)
    block.table = nn.Embedding(3, D_IN)
    block.out = nn.Linear(D_IN, D_OUT)
    matrices = found(block, lambda: block(torch.randn(5, D_IN)))
    assert list(matrices.views) == ["out"]
    assert matrices.whole == {
        "experts.stack": "no matrix product",
        "conv.weight": "convolution",
        "table.weight": "table",
    }


def test_replacing_one_expert_leaves_the_others_and_the_model() -> None:
    shape, product = WRITTEN["matmul, in x out"]
    block = Block(shape, product)
    before, modules = state(block), list(block.modules())
    views = found(block, lambda: block(torch.randn(5, D_IN))).views
    clone = copy.copy(block)
    clone._modules = {"experts": copy.copy(block.experts)}
    clone.experts._parameters = dict(block.experts._parameters)
    new = torch.arange(float(D_OUT * D_IN)).view(D_OUT, D_IN)
    views["experts.stack.1"].set_on(clone, new)
    views["experts.stack.2"].set_on(clone, new + 1)
    assert torch.equal(clone.experts.stack[0], block.experts.stack[0])
    assert torch.equal(clone.experts.stack[1], new.T) and torch.equal(
        views["experts.stack.2"].of(clone), new + 1
    )
    assert_untouched(block, before, modules)
    with pytest.raises(EngineError, match=r"experts\.stack\.1"):
        views["experts.stack.1"].set_on(clone, new.T)


# -- real classes -----------------------------------------------------------------------------

MIXTURES = {
    # Experts stored (out x in), (in x out), in two dimensions, and among dense blocks.
    "MixtralForCausalLM": "mlp.gate",
    "GptOssForCausalLM": "mlp.router",
    "Llama4ForCausalLM": "feed_forward.router",
    "DbrxForCausalLM": "ffn.router",
    "Qwen3MoeForCausalLM": "mlp.gate",
    "OlmoeForCausalLM": "mlp.gate",
    "JambaForCausalLM": "feed_forward.router",
}


@pytest.mark.parametrize("name", MIXTURES)
def test_every_expert_is_rounded_on_its_own_and_the_router_kept(name: str) -> None:
    decoder = Decoder.from_model(tiny_model(name))
    mixed = [i for i in range(decoder.n_blocks) if decoder.block_matrices(i).experts]
    assert mixed
    block, matrices = mixed[-1], decoder.block_matrices(mixed[-1])
    (n_experts,) = set(matrices.experts.values())
    assert n_experts == 5
    stacked = [view for view in matrices.views.values() if isinstance(view, StackView)]
    assert all(torch.equal(view.use(torch.clone), view.get()) for view in matrices.views.values())
    assert len(stacked) == n_experts * len({view.parameter for view in stacked})
    assert any(
        key.startswith(MIXTURES[name]) and why == "router" for key, why in matrices.whole.items()
    )
    assert not any("router" in key or key.endswith(".gate") for key in matrices.views)
    rounded = Bank(decoder).block(block, "rtn3-channel")
    for view in stacked:
        assert torch.equal(view.of(rounded), round_absmax(view.get(), 3, "channel"))
        # The scale is of an output: each row of (out x in) has at most the 7 levels of 3 bits.
        assert all(len(row.unique()) <= 7 for row in view.of(rounded))


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "GptOssForCausalLM", "DbrxForCausalLM"])
def test_replacing_experts_is_the_same_as_changing_the_model(name: str) -> None:
    decoder, ids = Decoder.from_model(tiny_model(name)), draw(2, 11)
    changed = copy.deepcopy(decoder.model)
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        hidden, context = decoder.embed(ids), decoder.context_for(2, 11)
        for i, block in enumerate(decoder.family.blocks_of(changed)):
            views = decoder.block_linears(i)
            new = {n: torch.randn_like(v.get()) / 8 for n, v in views.items()}
            for key, weight in new.items():
                views[key].of(block).copy_(weight)
            hidden = decoder.run_block(i, hidden, context, decoder.clone_block(i, linears=new))
        assert_close(decoder.tail.logits(hidden), own_logits(changed, ids))
        assert not torch.allclose(own_logits(changed, ids), own_logits(decoder.model, ids))
    assert decoder.vocabulary == VOCABULARY


def test_an_expert_that_no_token_reaches_is_rounded_all_the_same() -> None:
    model = tiny_model("MixtralForCausalLM")
    for block in (1, 2):
        # All experts score alike for every token, so the same two are taken each time.
        model.get_submodule(f"model.layers.{block}.mlp.gate").weight.zero_()
    decoder = Decoder.from_model(model)
    names = {view.name for view in decoder.block_linears(1).values()}
    assert {f"mlp.experts.down_proj.{i}" for i in range(5)} <= names


def test_a_shuffled_twin_of_a_mixture_keeps_the_numbers_of_each_expert() -> None:
    decoder = Decoder.from_model(tiny_model("GptOssForCausalLM"))
    twin = shuffled_twin(decoder)
    own, other = decoder.block_linears(0), decoder.family.blocks_of(twin)[0]
    for view in own.values():
        assert torch.equal(
            view.of(other).sort().values.flatten().sort().values, view.get().flatten().sort().values
        )
        assert not torch.equal(view.of(other), view.get())
