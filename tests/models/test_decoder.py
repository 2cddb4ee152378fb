from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import (
    GEMMA,
    GPT,
    ROTARY,
    VOCABULARY,
    assert_close,
    assert_untouched,
    build,
    draw,
    own_logits,
    shared,
    state,
)
from torch import nn
from transformers.utils import logging as hf_logging

from bitgap.errors import EngineError, ModelError, UnsupportedArchitecture
from bitgap.models.context import Catcher, ContextCache
from bitgap.models.decoder import Decoder
from bitgap.models.families import FAMILIES, Family


def test_names_the_token_table_among_the_embedding_weights() -> None:
    assert shared("gpt2").token_embedding_names == ("wte.weight",)
    assert list(shared("gpt2").embedding_weights()) == ["wte.weight", "wpe.weight"]
    assert shared("opt-projected").token_embedding_names == ("embed_tokens.weight",)
    assert "project_in.weight" in shared("opt-projected").embedding_weights()
    assert "word_embeddings_layernorm.weight" in shared("bloom").embedding_weights()


def test_block_weights_are_every_weight_but_no_bias() -> None:
    names = set(shared("gpt2").block_weights(0))
    products = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert names == {f"{name}.weight" for name in products | {"ln_1", "ln_2"}}
    assert shared("gpt2").block_weights(0)["mlp.c_fc.weight"].shape == (32, 128)
    assert shared("gpt2").block_linears(0)["mlp.c_fc"].get().shape == (128, 32)


def test_a_rounded_embedding_leaves_a_tied_head_alone() -> None:
    decoder, ids = shared("gpt2"), draw(1, 5)
    head = decoder.tail.weight.clone()
    with torch.inference_mode():
        zeroed = decoder.embed_with(ids, {"wte.weight": torch.zeros(VOCABULARY, 32)})
    assert torch.equal(zeroed[0], decoder.embedding_weights()["wpe.weight"][:5])
    assert torch.equal(decoder.tail.weight, head)


def test_a_clone_shares_every_tensor_that_was_not_replaced() -> None:
    decoder = shared("llama")
    clone = decoder.clone_block(1, linears={"mlp.up_proj": torch.ones(48, 32)})
    own = dict(decoder.blocks[1].named_parameters())
    for name, parameter in clone.named_parameters():
        assert (parameter is own[name]) == (name != "mlp.up_proj.weight")
    assert clone.get_submodule("self_attn").config is decoder.model.config


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.clone_block(0, {"nothing.weight": torch.ones(1)}),
        lambda d: d.clone_block(0, linears={"mlp": torch.ones(1)}),
        lambda d: d.clone_block(0, linears={"mlp.c_fc": torch.ones(32, 128)}),
        lambda d: d.embed_with(draw(1, 3), {"wte.weight": torch.ones(3, 32)}),
        lambda d: d.embed_with(draw(1, 3), {"h.0.ln_1.weight": torch.ones(32)}),
    ],
)
def test_refuses_replacements_that_do_not_fit(call: Callable[[Decoder], Any]) -> None:
    with pytest.raises(EngineError):
        call(shared("gpt2"))


@pytest.mark.parametrize("case", ["gpt2", "llama", "gemma3"])
def test_restores_model_after_an_exception(case: str) -> None:
    model = build(case)
    decoder = Decoder.from_model(model)
    before, modules = state(model), list(model.modules())
    beyond = torch.full((1, 4), VOCABULARY)
    zeros = {name: torch.zeros_like(w) for name, w in decoder.embedding_weights().items()}
    with pytest.raises(IndexError):
        decoder.embed(beyond)
    with pytest.raises(IndexError):
        decoder.embed_with(beyond, zeros)
    assert_untouched(model, before, modules)


def test_contexts_made_in_inference_mode_serve_outside_it() -> None:
    decoder = Decoder(build("llama"))
    with torch.inference_mode():
        context = decoder.context_for(2, 6)
    hidden = torch.randn(2, 6, 32, requires_grad=True)
    decoder.run_block(0, hidden, context).sum().backward()
    assert hidden.grad is not None
    assert decoder.context_for(2, 6) is context


def test_a_stand_in_answers_for_its_block() -> None:
    block = build("llama").get_submodule("model.layers.1")
    block.attention_type = "sliding_attention"
    owner = nn.Module()
    owner.layers = nn.ModuleList([block])
    with Catcher(owner, "layers").catching():
        (stand_in,) = owner.layers.children()
        assert stand_in is not block and stand_in.attention_type == "sliding_attention"
        assert stand_in.self_attn is block.self_attn and not list(stand_in.children())
    assert list(owner.layers) == [block]


def test_context_cache_forgets_what_was_used_longest_ago() -> None:
    store, made = ContextCache(limit_bytes=1000), []

    def ask(n: int) -> None:
        store.get((n, 1), lambda: made.append(n) or [((torch.zeros(100),), {})])

    for n in (1, 2, 1, 3, 1, 2):
        ask(n)
    assert made == [1, 2, 3, 2]


def test_pads_in_the_text_log_nothing(caplog: Any) -> None:
    hf_logging.enable_propagation()
    try:
        for pad, said in ((61, False), (62, True)):
            # transformers says each thing once; an id nobody else uses makes it a new thing.
            config = hf.GPT2Config(**{**GPT, "pad_token_id": pad, "eos_token_id": pad})
            model = hf.GPT2LMHeadModel(config)
            (model if said else Decoder(model).embed)(torch.full((2, 6), pad))
            assert ("attention_mask" in caplog.text) is said
    finally:
        hf_logging.disable_propagation()


def test_switches_dropout_off() -> None:
    config = hf.GPT2Config(**GPT, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    model = hf.GPT2LMHeadModel(config).train().requires_grad_(False)
    assert_close(Decoder.from_model(model).logits(draw(2, 9)), own_logits(model, draw(2, 9)))


# -- refusals ---------------------------------------------------------------------------------


BROKEN = {
    "final norm forgotten": ("llama", {"finish": ()}),
    "wrong norm": ("llama", {"finish": ("model.layers.0.input_layernorm",)}),
    "no such norm": ("llama", {"finish": ("model.ln_f",)}),
    "no such base": ("llama", {"base": "transformer"}),
    "no such blocks": ("llama", {"blocks": "model.h"}),
    "blocks that are no list": ("llama", {"blocks": "model.norm"}),
    "no such head": ("llama", {"head": "embed_out"}),
    "head of the wrong width": ("llama", {"head": "model.layers.0.mlp.down_proj"}),
    "projection forgotten": ("opt-projected", {"finish": ("model.decoder.final_layer_norm",)}),
    "logit scale forgotten": ("cohere", {"multiply": None}),
    "logit scale upside down": ("granite", {"divide": None, "multiply": "logits_scaling"}),
    "soft cap forgotten": ("gemma2", {"softcap": None}),
    "no such number": ("llama", {"multiply": "logit_scale"}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_wrong_row_is_refused(fault: str) -> None:
    case, change = BROKEN[fault]
    model = build(case)
    before, modules = state(model), list(model.modules())
    family = replace(FAMILIES[type(model).__name__], **change)
    with pytest.raises(UnsupportedArchitecture) as refusal:
        Decoder.from_model(model, family=family)
    message = str(refusal.value)
    assert type(model).__name__ in message and "families.py" in message
    assert f"blocks={family.blocks}" in message and f"base={family.base}" in message
    assert_untouched(model, before, modules)


def test_an_unknown_class_is_looked_at_before_it_is_refused() -> None:
    class Unheard(hf.LlamaForCausalLM):
        pass

    decoder = Decoder.from_model(Unheard(hf.LlamaConfig(**ROTARY)))
    assert (decoder.family.base, decoder.family.blocks) == ("model", "model.layers")
    assert decoder.family.finish == ("model.norm",) and decoder.packing is None


def test_a_class_without_blocks_in_order_is_refused() -> None:
    class Backwards(hf.LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            own, turned = self.model.layers, nn.ModuleList(reversed(self.model.layers))
            self.model.layers = turned
            try:
                out = super().forward(*args, **kwargs)
            finally:
                self.model.layers = own
            return out

    with pytest.raises(UnsupportedArchitecture, match=r"Backwards has no list of blocks"):
        Decoder.from_model(Backwards(hf.LlamaConfig(**ROTARY)))


def test_a_row_can_be_given_for_a_class_without_one() -> None:
    class Unheard(hf.LlamaForCausalLM):
        pass

    row = Family(base="model", blocks="model.layers", finish=("model.norm",))
    assert Decoder.from_model(Unheard(hf.LlamaConfig(**ROTARY)), family=row).n_blocks == 3


def test_a_model_that_looks_ahead_is_refused() -> None:
    config = hf.Gemma3TextConfig(**GEMMA, use_bidirectional_attention=True)
    with pytest.raises(UnsupportedArchitecture, match="depend on tokens after it"):
        Decoder.from_model(hf.Gemma3ForCausalLM(config))


def test_a_block_with_a_matrix_outside_its_linears_is_refused() -> None:
    model = build("llama")
    block = model.get_submodule("model.layers.1.mlp")
    block.experts = nn.Parameter(torch.zeros(2, 3, 4))
    with pytest.raises(UnsupportedArchitecture, match=r"block 1: mlp\.experts was read by nothing"):
        Decoder.from_model(model)


def test_a_model_with_nan_is_refused() -> None:
    model = build("llama")
    model.get_parameter("model.norm.weight")[3] = float("nan")
    with pytest.raises(ModelError, match=r"not finite.*NaN"):
        Decoder.from_model(model)
