"""A tiny random model of every class of causal LM that the installed transformers has.

One set of small numbers serves nearly all configs, since families name the same things alike; what
a class needs beside is said for it by name. Where a class mixes kinds of blocks, the tiny model has
each of them.
"""

# transformers' configs and classes come without types.
# pyright: basic

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name

from bitgap.models.kinds import settle

VOCABULARY = 97

_SMALL: dict[str, Any] = {
    **dict.fromkeys(
        "hidden_size d_model n_embd embedding_size dim embed_dim hidden_dim lru_width embedding_dim"
        " dim_model word_embed_proj_dim attention_hidden_size".split(),
        32,
    ),
    **dict.fromkeys(
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner dim_ff ffn_hidden_size"
        " shared_intermediate_size intermediate_size_mlp dense_intermediate_size".split(),
        48,
    ),
    **dict.fromkeys(
        "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size"
        " moe_shared_expert_intermediate_size".split(),
        16,
    ),
    **dict.fromkeys(
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers"
        " num_decoder_layers num_encoder_layers depth".split(),
        4,
    ),
    **dict.fromkeys(
        "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads"
        " encoder_attention_heads".split(),
        4,
    ),
    **dict.fromkeys("num_key_value_heads num_kv_heads n_head_kv".split(), 2),
    **dict.fromkeys("vocab_size decoder_vocab_size vocab_size_per_layer_input".split(), VOCABULARY),
    **dict.fromkeys(
        "max_position_embeddings n_positions max_seq_len n_ctx context_length"
        " max_sequence_length".split(),
        40,
    ),
    **dict.fromkeys(
        "num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts".split(),
        5,
    ),
    **dict.fromkeys(
        "num_experts_per_tok num_experts_per_token moe_k moe_topk moe_top_k top_k_experts".split(),
        2,
    ),
    **dict.fromkeys(
        "head_dim attention_head_dim kv_channels v_head_dim qk_nope_head_dim qk_rope_head_dim"
        " global_head_dim mamba_d_head mamba_head_dim linear_key_head_dim"
        " linear_value_head_dim".split(),
        8,
    ),
    **dict.fromkeys("sliding_window attention_window".split(), 5),
    **dict.fromkeys("kv_lora_rank q_lora_rank".split(), 16),
    **dict.fromkeys(
        "n_group topk_group n_shared_experts first_k_dense_replace mamba_n_groups n_groups".split(),
        1,
    ),
    **dict.fromkeys("mamba_d_state state_size mamba_n_heads n_mamba_heads".split(), 8),
    **dict.fromkeys("time_step_rank mamba_dt_rank rotary_dim laurel_rank".split(), 4),
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "altup_num_inputs": 2,
    "hidden_size_per_layer_input": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "sep_token_id": 3,
    "decoder_start_token_id": 1,
}

_SLIDING = ["sliding_attention", "full_attention"] * 2
_LINEAR = ["linear_attention", "full_attention"] * 2

_ROPES = {
    kind: {"rope_type": "default", "rope_theta": 1e4}
    for kind in ("full_attention", "sliding_attention")
}

SPECIAL: dict[str, dict[str, Any]] = {
    "BailingHybridForCausalLM": {"layer_types": _LINEAR},
    "BambaForCausalLM": {"attn_layer_indices": [1, 3]},
    "CohereCompassForCausalLM": {"layer_types": _SLIDING, "rope_parameters": _ROPES},
    "Cohere2ForCausalLM": {"layer_types": _SLIDING, "logit_scale": 0.3},
    "CohereForCausalLM": {"logit_scale": 0.3},
    "DbrxForCausalLM": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 16, "hidden_size": 32, "moe_num_experts": 5},
    },
    "FalconH1ForCausalLM": {"mamba_d_ssm": 64, "mamba_n_heads": 8},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], 2]], "window_size": 5},
    "Gemma2ForCausalLM": {"layer_types": _SLIDING, "final_logit_softcapping": 3.0},
    "Gemma3ForCausalLM": {"layer_types": _SLIDING},
    "Gemma3ForConditionalGeneration": {"text_config": {"layer_types": _SLIDING}},
    "Gemma3nForCausalLM": {
        "layer_types": _SLIDING,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    },
    "Gemma4ForCausalLM": {"layer_types": _SLIDING, "num_kv_shared_layers": 2},
    "GraniteForCausalLM": {"logits_scaling": 3.0},
    "InklingForCausalLM": {"layer_types": ["hybrid_sliding", "hybrid"] * 2},
    "JambaForCausalLM": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "KimiLinearForCausalLM": {"layer_types": _LINEAR},
    "Kolibri1ForCausalLM": {"layer_types": _SLIDING},
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"] * 2},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "Lfm3ForCausalLM": {"layer_types": ["conv", "full_attention", "conv", "sliding_attention"]},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8},
    "Qwen4ExpForCausalLM": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 8,
        "ple_layer_ids": [1],
        "ple_embed_dim": 32,
        "heads_per_ngram": 4,
        "ngram_vocab_size_base": 50,
        "make_ngram_vocab_size_divisible_by": 8,
        "split_ngram_parts": 4,
    },
    "Qwen3NextForCausalLM": {"layer_types": _LINEAR},
    "Qwen3_5ForCausalLM": {"layer_types": _LINEAR},
    "Qwen3_5MoeForCausalLM": {"layer_types": _LINEAR},
    "MllamaForCausalLM": {"cross_attention_layers": [2]},
    "MoshiForCausalLM": {"audio_vocab_size": 50},
    "RecurrentGemmaForCausalLM": {"block_types": ["recurrent", "attention"]},
    "ReformerModelWithLMHead": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [5, 8]},
    "XmodForCausalLM": {"default_language": "en_XX"},
    "Zamba2ForCausalLM": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "mamba_ngroups": 1,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "ZambaForCausalLM": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
        "mamba_dt_rank": 4,
        "n_mamba_heads": 2,
    },
    "ZayaForCausalLM": {"num_experts_per_tok": 1},
}
"""What a class needs beside the small numbers, or to have blocks of every kind."""


def class_names() -> list[str]:
    """Returns the names of all classes that transformers takes for causal LMs, sorted."""
    names = {n for n in dir(transformers) if n.endswith("ForCausalLM")} - {"AutoModelForCausalLM"}
    for value in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        names.update((value,) if isinstance(value, str) else value)
    return sorted(names)


def find_class(name: str) -> Any:
    """Returns a class of transformers by its name, also one that its top level does not have."""
    if hasattr(transformers, name):
        return getattr(transformers, name)
    for model_type, value in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        if name in ((value,) if isinstance(value, str) else value):
            folder = model_type_to_module_name(model_type)
            return getattr(importlib.import_module(f"transformers.models.{folder}"), name)
    raise LookupError(name)


def tiny_config(name: str) -> Any:
    """Returns a config of a few thousand parameters for a class."""
    return _small(find_class(name).config_class, SPECIAL.get(name, {}))


def _small(kind: Any, special: dict[str, Any]) -> Any:
    names = {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    names |= set(inspect.signature(kind.__init__).parameters)
    settings = {key: value for key, value in _SMALL.items() if key in names}
    parts = [part for part in getattr(kind, "sub_configs", None) or {} if part in names]
    make: Any = kind
    default = make() if parts else None
    for part in parts:
        # Of some parts the config says only that it is one; its default says which.
        if (inner := getattr(default, part, None)) is not None:
            settings[part] = _small(type(inner), special.get(part, {})).to_dict()
    if "kv_lora_rank" in names:
        # Latent attention makes keys and values for every head.
        settings["num_key_value_heads"] = 4
    settings.update({key: value for key, value in special.items() if key not in parts})
    if "is_decoder" in names:
        settings["is_decoder"] = True
    made: Any = kind
    return made(**settings)


def tiny_model(name: str) -> nn.Module:
    """Returns a random model of a class in which no gain, bias or matrix is left at 0 or 1."""
    kind, config = find_class(name), tiny_config(name)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        settle(config)
        model = kind(config).eval().requires_grad_(False)
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                if parameter.ndim == 1 or "norm" in path.lower():
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
                elif not parameter.any():
                    parameter.normal_(0, 0.2)
    return model
