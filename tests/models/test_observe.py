from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import CASES, assert_close, assert_untouched, build, draw, own_logits, state

from bitgap.errors import ModelError, UnsupportedArchitecture
from bitgap.models.decoder import Decoder
from bitgap.models.families import FAMILIES
from bitgap.models.observe import observe_family
from validation.families.tiny import tiny_model


@pytest.mark.parametrize("case", CASES)
def test_what_is_observed_of_a_known_class_is_its_row(case: str) -> None:
    model = build(case)
    row, seen = FAMILIES[type(model).__name__], observe_family(model)
    assert (seen.base, seen.blocks, seen.head) == (row.base, row.blocks, row.head)
    there = tuple(path for path in row.finish if _is_there(model, path))
    assert seen.finish == there and not seen.replay
    config: Any = model.config
    for kind in ("multiply", "divide", "softcap"):
        name = getattr(row, kind)
        value = getattr(config, name) if name else None
        mine = getattr(seen, kind)
        # Of numbers that are equal one is as good as another; a factor of 1 needs none.
        assert (getattr(config, mine) if mine else None) == (None if value == 1 else value)


def _is_there(model: Any, path: str) -> bool:
    parent, _, leaf = path.rpartition(".")
    return getattr(model.get_submodule(parent), leaf) is not None


# A class, and how many columns its state holds beside one tensor of the model's width.
PACKED = {
    "Gemma3nForCausalLM": "own code",
    "Gemma4ForCausalLM": "modules",
    "Zamba2ForCausalLM": "modules",
    "DeepseekV4ForCausalLM": "modules",
    "ZayaForCausalLM": "modules",
}
PLAIN = {
    "MambaForCausalLM": "modules",
    "RwkvForCausalLM": "modules",
    "Lfm2ForCausalLM": "modules",
    "Qwen3NextForCausalLM": "modules",
    "JambaForCausalLM": "modules",
    "CamembertForCausalLM": "own code",
    "MllamaForCausalLM": "modules",
    "OlmoForCausalLM": "modules",
    "StableLmForCausalLM": "modules",
    "xLSTMForCausalLM": "modules",
}


@pytest.fixture(scope="module", params=[*PACKED, *PLAIN])
def decoder(request: Any) -> Decoder:
    return Decoder.from_model(tiny_model(request.param))


def test_a_class_without_a_row_is_split_and_equal_to_itself(decoder: Decoder) -> None:
    name = type(decoder.model).__name__
    assert name not in FAMILIES
    assert decoder.family.replay == ((PACKED | PLAIN)[name] == "own code")
    assert (decoder.packing is not None) == (name in PACKED)
    ids = draw(3, 13, seed=3)
    with torch.inference_mode():
        assert_close(decoder.logits(ids), own_logits(decoder.model, ids), 3e-5)
        # Pads on the right reach nothing before them, whatever the state holds.
        padded = torch.cat([ids[:, :9], draw(3, 4, seed=4)], 1)
        assert_close(decoder.logits(padded)[:, :9], own_logits(decoder.model, ids[:, :9]), 3e-5)


def test_states_of_several_plans_are_independent(decoder: Decoder) -> None:
    one, two = draw(2, 11, seed=5), draw(2, 11, seed=6)
    with torch.inference_mode():
        both = state_after(decoder, torch.cat([one, two]))
        assert_close(both[:2], state_after(decoder, one), 1e-4)
        assert_close(both[2:], state_after(decoder, two), 1e-4)


def state_after(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    hidden, context = decoder.embed(ids), decoder.context_for(*ids.shape)
    for i in range(decoder.n_blocks):
        kept = hidden.clone()
        after = decoder.run_block(i, hidden, context)
        assert torch.equal(hidden, kept)
        hidden = after
    return hidden


def test_rounded_blocks_are_those_of_a_changed_model(decoder: Decoder) -> None:
    # All blocks, since some share matrices (Zamba).
    ids, changed = draw(2, 11, seed=7), copy.deepcopy(decoder.model)
    with torch.inference_mode():
        hidden, context = decoder.embed(ids), decoder.context_for(2, 11)
        for i, block in enumerate(decoder.family.blocks_of(changed)):
            views = decoder.block_linears(i)
            new = {name: view.get() * 0.5 for name, view in views.items()}
            for name, weight in new.items():
                views[name].of(block).copy_(weight)
            hidden = decoder.run_block(i, hidden, context, decoder.clone_block(i, linears=new))
        assert_close(decoder.tail.logits(hidden), own_logits(changed, ids), 1e-4)
        assert not torch.allclose(own_logits(changed, ids), own_logits(decoder.model, ids))


def test_observing_leaves_the_model_as_it_was() -> None:
    for name in ("Gemma3nForCausalLM", "MixtralForCausalLM", "RwkvForCausalLM"):
        model = tiny_model(name)
        before, modules = state(model), list(model.modules())
        decoder = Decoder.from_model(model)
        with torch.inference_mode():
            decoder.logits(draw(2, 9))
        assert_untouched(model, before, modules)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_residual_stream_is_told_apart_from_what_else_a_state_holds() -> None:
    gemma = Decoder.from_model(tiny_model("Gemma4ForCausalLM"))
    assert gemma.packing is not None and gemma.state_width > gemma.width == 32
    with torch.inference_mode():
        entered = gemma.embed(draw(2, 5))
        caught = gemma._base.catch(draw(2, 5)).entered
    assert caught is not None and torch.equal(gemma.residual(entered), caught)
    streams = Decoder.from_model(tiny_model("Gemma3nForCausalLM"))
    with pytest.raises(UnsupportedArchitecture, match="2 streams and no one residual stream"):
        streams.residual(streams.embed(draw(2, 5)))


def test_a_wrapper_is_split_into_its_text_part() -> None:
    text = {**_GEMMA, "layer_types": ["sliding_attention", "full_attention"]}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = hf.Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
    decoder = Decoder.from_model(model)
    assert decoder.family.blocks == "model.language_model.layers" and decoder.n_blocks == 2
    assert decoder.context == 40 and decoder.vocabulary == 97
    with torch.inference_mode():
        ids = draw(2, 9)
        assert_close(decoder.logits(ids), model(input_ids=ids).logits)


_GEMMA = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 40,
    "sliding_window": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


REFUSED = {
    "HrmTextForCausalLM": "no list of blocks of which each is called once",
    "XLMWithLMHeadModel": "logits are not its own",
    "CpmAntForCausalLM": "no axes of sequences and tokens",
    "MusicgenForCausalLM": "no single table of token embeddings",
    "GlmMoeDsaForCausalLM": "no axes of sequences and tokens",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_of_another_kind_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=REFUSED[name]):
        Decoder.from_model(tiny_model(name))


def test_a_wrong_observation_would_be_refused_by_the_proof() -> None:
    model = tiny_model("Gemma3nForCausalLM")
    family = replace(observe_family(model), replay=False, finish=("model.norm",))
    with pytest.raises(UnsupportedArchitecture):
        Decoder.from_model(model, family=family)


def test_logits_that_overflow_are_the_models_own_fault() -> None:
    model = build("llama")
    model.get_parameter("lm_head.weight").mul_(1e38)
    with pytest.raises(ModelError, match="its own logits are not finite") as refusal:
        Decoder.from_model(model)
    assert "families.py" not in str(refusal.value)
