"""One tiny random model for each way in which the supported families differ."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from bitgap.models.decoder import Decoder
from bitgap.models.gauge import fragile_parameters

torch.set_num_threads(1)

VOCABULARY, LENGTH = 97, 17
IDS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ROTARY = {
    **IDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "tie_word_embeddings": False,
}
GPT = {**IDS, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40}
NEO = {
    **IDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "max_position_embeddings": 40,
    "num_layers": 2,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
}
OPT = {
    **IDS,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "word_embed_proj_dim": 32,
}
BLOOM = {**IDS, "hidden_size": 32, "n_layer": 3, "n_head": 4}
XGLM = {
    **IDS,
    "d_model": 32,
    "ffn_dim": 48,
    "num_layers": 3,
    "attention_heads": 4,
    "max_position_embeddings": 40,
}
FALCON = {
    **IDS,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}
MPT = {**IDS, "d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 40}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA = {**ROTARY, "head_dim": 8}
GEMMA_SLIDING = {**GEMMA, "sliding_window": 5, "layer_types": SLIDING}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 20,
}

# Config class and settings of one tiny model for each way a family's blocks or ends can differ.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", GPT),
    "gpt2-untied": ("GPT2Config", {**GPT, **UNTIED}),
    "gpt-neo": ("GPTNeoConfig", NEO),
    "gpt-neox": ("GPTNeoXConfig", ROTARY),
    "gpt-neox-serial": ("GPTNeoXConfig", {**ROTARY, "use_parallel_residual": False}),
    "opt": ("OPTConfig", OPT),
    "opt-post-norm": ("OPTConfig", {**OPT, "do_layer_norm_before": False}),
    "opt-projected": ("OPTConfig", {**OPT, "word_embed_proj_dim": 20}),
    "opt-350m-like": (
        "OPTConfig",
        {**OPT, "word_embed_proj_dim": 20, "do_layer_norm_before": False},
    ),
    "bloom": ("BloomConfig", BLOOM),
    "bloom-untied": (
        "BloomConfig",
        {**BLOOM, **UNTIED, "apply_residual_connection_post_layernorm": True},
    ),
    "xglm": ("XGLMConfig", XGLM),
    "falcon": ("FalconConfig", FALCON),
    "falcon-alibi": (
        "FalconConfig",
        {**FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "falcon-new": ("FalconConfig", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "mpt": ("MptConfig", MPT),
    "llama": ("LlamaConfig", ROTARY),
    "llama-tied": ("LlamaConfig", {**ROTARY, **TIED, "attention_bias": True}),
    "mistral-sliding": ("MistralConfig", {**ROTARY, "sliding_window": 5}),
    "qwen2": ("Qwen2Config", ROTARY),
    "qwen2-sliding": (
        "Qwen2Config",
        {**ROTARY, "use_sliding_window": True, "sliding_window": 5, "layer_types": SLIDING},
    ),
    "qwen3": ("Qwen3Config", {**ROTARY, **TIED, "head_dim": 16}),
    "gemma": ("GemmaConfig", {**GEMMA, **TIED}),
    "gemma2": (
        "Gemma2Config",
        {**GEMMA_SLIDING, **TIED, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    ),
    "gemma3": ("Gemma3TextConfig", {**GEMMA_SLIDING, **TIED}),
    "gemma3-untied-capped": (
        "Gemma3TextConfig",
        {**GEMMA_SLIDING, "final_logit_softcapping": 3.0},
    ),
    "phi": ("PhiConfig", ROTARY),
    "phi3": ("Phi3Config", ROTARY),
    "phi3-sliding-longrope": (
        "Phi3Config",
        {
            **ROTARY,
            "sliding_window": 5,
            "rope_parameters": LONG_ROPE,
            "original_max_position_embeddings": 20,
        },
    ),
    "olmo2": ("Olmo2Config", ROTARY),
    "cohere": ("CohereConfig", {**ROTARY, **TIED, "logit_scale": 0.3, "use_qk_norm": True}),
    "cohere2": (
        "Cohere2Config",
        {**ROTARY, **TIED, "logit_scale": 0.3, "sliding_window": 5, "layer_types": SLIDING},
    ),
    "granite": (
        "GraniteConfig",
        {
            **ROTARY,
            "logits_scaling": 3.0,
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "smollm3": ("SmolLM3Config", {**ROTARY, "no_rope_layers": [1, 0, 1]}),
    "apertus": ("ApertusConfig", ROTARY),
}


def build(case: str) -> nn.Module:
    """A tiny model whose every weight, gain and bias is random, so that none can be forgotten."""
    name, settings = CASES[case]
    config = getattr(hf, name)(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = hf.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                norm = "norm" in path.lower() or "ln_" in path
                if norm or parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
                else:
                    parameter.normal_(0, 0.25)
    return model.requires_grad_(False)


@cache
def shared(case: str) -> Decoder:
    """The split model of a case, for tests that leave it as it was (which is tested)."""
    return Decoder.from_model(build(case))


def draw(rows: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, length), generator=generator)


def own_logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def assert_close(mine: Tensor, own: Tensor, relative: float = 1e-5) -> None:
    error = float((mine - own).abs().max())
    assert error <= relative * float(own.abs().max()), error


def state(model: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def planted(decoder: Decoder, block: int, **settings: Any) -> nn.Module:
    """A copy of the decoder's model with a block that is hard to round (control P1)."""
    copied = copy.deepcopy(decoder.model)
    target = copied.get_submodule(f"{decoder.family.blocks}.{block}")
    for name, value in fragile_parameters(decoder, block, **settings).items():
        target.get_parameter(name).data.copy_(value)
    return copied


def assert_untouched(model: nn.Module, before: dict[str, Tensor], modules: list[nn.Module]) -> None:
    after = state(model)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [id(m) for m in model.modules()] == [id(m) for m in modules]
