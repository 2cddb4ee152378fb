from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from tiny_models import (
    CASES,
    LENGTH,
    VOCABULARY,
    assert_close,
    assert_untouched,
    build,
    draw,
    own_logits,
    shared,
    state,
)

from bitgap.models.decoder import Decoder
from bitgap.models.families import FAMILIES

each_case = pytest.mark.parametrize("case", CASES)


def test_every_supported_class_is_tested() -> None:
    classes = {type(build(case)).__name__ for case in CASES}
    assert classes == set(FAMILIES)


@each_case
def test_recomposed_logits_equal_the_models_own(case: str) -> None:
    decoder, ids = shared(case), draw(3, LENGTH, seed=1)
    with torch.inference_mode():
        mine = decoder.logits(ids)
    assert mine.shape == (3, LENGTH, VOCABULARY)
    assert_close(mine, own_logits(decoder.model, ids))


@each_case
def test_says_how_large_the_model_is(case: str) -> None:
    decoder = shared(case)
    assert decoder.n_blocks == (2 if case == "gpt-neo" else 3)
    assert (decoder.width, decoder.vocabulary) == (32, VOCABULARY)
    assert decoder.context == (None if "bloom" in case else 40)


@each_case
def test_pads_on_the_right_do_not_reach_real_tokens(case: str) -> None:
    decoder, real = shared(case), draw(2, 9, seed=2)
    outcomes = []
    with torch.inference_mode():
        for pads in (draw(2, 8, seed=3), torch.zeros(2, 8, dtype=torch.long)):
            outcomes.append(decoder.logits(torch.cat([real, pads], 1))[:, :9])
    assert_close(outcomes[0], outcomes[1], 1e-6)
    assert_close(outcomes[1], own_logits(decoder.model, real))


@each_case
def test_longer_text_than_any_window_is_recomposed(case: str) -> None:
    decoder, ids = shared(case), draw(2, 33, seed=4)
    with torch.inference_mode():
        assert_close(decoder.logits(ids), own_logits(decoder.model, ids))


@each_case
def test_a_clone_with_its_own_weights_runs_bit_equal(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    with torch.inference_mode():
        hidden, context = decoder.embed(ids), decoder.context_for(2, 11)
        for i in range(decoder.n_blocks):
            linears = {n: v.get().clone() for n, v in decoder.block_linears(i).items()}
            weights = {n: w.clone() for n, w in decoder.block_weights(i).items()}
            expected = decoder.run_block(i, hidden, context)
            for clone in (
                decoder.clone_block(i),
                decoder.clone_block(i, linears=linears),
                decoder.clone_block(i, weights),
            ):
                assert torch.equal(decoder.run_block(i, hidden, context, clone), expected)
            hidden = expected


@each_case
def test_linears_are_the_blocks_products_seen_as_out_by_in(case: str) -> None:
    decoder = shared(case)
    for i in range(decoder.n_blocks):
        views = decoder.block_linears(i)
        matrices = {n for n, p in decoder.blocks[i].named_parameters() if p.ndim > 1}
        assert {f"{name}.weight" for name in views} == {n for n in matrices if "_norm" not in n}
        for view in views.values():
            weight, bias = view.get(), getattr(view.module, "bias", None)
            x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                torch.testing.assert_close(view.module(x), F.linear(x, weight, bias))


@each_case
def test_replacing_a_linear_is_the_same_as_changing_the_model(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    changed = copy.deepcopy(decoder.model)
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        hidden, context = decoder.embed(ids), decoder.context_for(2, 11)
        for i, block in enumerate(changed.get_submodule(decoder.family.blocks).children()):
            linears = {
                n: torch.randn_like(v.get()) / 4 for n, v in decoder.block_linears(i).items()
            }
            for name, weight in linears.items():
                stored: Any = block.get_submodule(name).weight
                stored.copy_(
                    weight.T if isinstance(block.get_submodule(name), hf.Conv1D) else weight
                )
            hidden = decoder.run_block(i, hidden, context, decoder.clone_block(i, linears=linears))
        assert_close(decoder.tail.logits(hidden), own_logits(changed, ids))


@each_case
def test_one_context_serves_several_plans_of_one_text(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    with torch.inference_mode():
        one = many = decoder.embed(ids)
        many = (
            many.repeat(3, 1, 1) * torch.tensor([1.0, 1.1, 0.9]).repeat_interleave(2)[:, None, None]
        )
        for i in range(decoder.n_blocks):
            one = decoder.run_block(i, one, decoder.context_for(2, 11))
            many = decoder.run_block(i, many, decoder.context_for(6, 11))
    assert_close(many[:2], one, 1e-5)


@each_case
def test_model_is_left_bit_identical(case: str) -> None:
    model = build(case)
    before, modules = state(model), list(model.modules())
    decoder = Decoder.from_model(model)
    with torch.inference_mode():
        decoder.logits(draw(2, LENGTH))
        names = decoder.embedding_weights()
        decoder.embed_with(draw(2, 5), {n: torch.zeros_like(w) for n, w in names.items()})
        clone = decoder.clone_block(
            1, linears={n: torch.zeros_like(v.get()) for n, v in decoder.block_linears(1).items()}
        )
        hidden = decoder.embed(draw(2, 5))
        kept = hidden.clone()
        decoder.run_block(1, hidden, decoder.context_for(2, 5), clone)
        assert torch.equal(hidden, kept)
    assert_untouched(model, before, modules)


@each_case
def test_embedding_weights_are_all_that_acts_before_block_0(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    names, changed = decoder.embedding_weights(), copy.deepcopy(decoder.model)
    base = changed.get_submodule(decoder.family.base)
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = {name: torch.randn_like(weight) for name, weight in names.items()}
        for name, weight in fresh.items():
            base.get_parameter(name).copy_(weight)
        expected = Decoder(changed).embed(ids)
        assert torch.equal(decoder.embed_with(ids, fresh), expected)
        assert not torch.allclose(decoder.embed(ids), expected)
    in_blocks = sum(p.numel() for block in decoder.blocks for p in block.parameters())
    in_tail = sum(p.numel() for module in decoder.tail.modules for p in module.parameters())
    named = sum(weight.numel() for weight in names.values())
    biases = 32 if "bloom" in case else 0
    assert sum(p.numel() for p in base.parameters()) == in_blocks + in_tail + named + biases
