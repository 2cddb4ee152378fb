"""The model's configuration, rebuilt from a GGUF file's metadata and checked against its tensors.

A file has no ``config.json``; what it says, llama.cpp computes with, so that is what is rebuilt:
rotary base and scaling (also where it is stored as a tensor of factors), windows, the scale of
queries, soft caps, and which biases there are. A key of the architecture that is not in the list
here may change what the model computes, so it is refused by name and not passed over; transformers'
own reader of GGUF passes over rotary scaling and takes the wrong query scale of the largest Gemmas
(``findings/``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig

from bitgap.errors import ModelError
from bitgap.formats.gguf.header import GGUFFile
from bitgap.formats.gguf.read import (
    ROTARY_FACTORS,
    architecture_of,
    head_counts,
    setting,
    values_of,
)

# What llama.cpp tells sizes of Gemma apart by, as the file does not say it: src/llama-model.cpp
# takes hidden size / heads for the query scale of the 27B models, head size for all others.
_BLOCKS_OF_27B = {"gemma2": 46, "gemma3": 62}
_SLIDING_PERIOD = {"gemma2": 2, "gemma3": 6}
_LOCAL_ROTARY_BASE = 10000.0  # of Gemma 3's windows; rope_freq_base_train_swa

_KEYS = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon",
    "rope.freq_base", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.finetuned",
    "attention.sliding_window",
}  # fmt: skip
_OWN_KEYS = {
    "gemma2": {"attn_logit_softcapping", "final_logit_softcapping"},
    "gemma3": {"final_logit_softcapping", "rope.freq_base_swa", "attention.sliding_window_pattern"},
}
_UNDERSTOOD_ROTARY = ("none", "linear", "yarn")


def config_of(file: GGUFFile) -> Any:
    """Returns the transformers config that a file's metadata and tensors make.

    Raises:
        ModelError: If a key is absent, or says something that cannot be rebuilt.
    """
    name = file.metadata["general.architecture"]
    row = architecture_of(file)
    _check_keys(file, name)
    rebuilt = _gpt2(file) if name == "gpt2" else _rotary_model(file, name)
    rebuilt |= {
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "vocab_size": _rows(file),
        **{
            f"{token}_token_id": file.metadata.get(f"tokenizer.ggml.{key}_token_id")
            for token, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        },
    }
    class_name = {"gpt2": "GPT2LMHeadModel", "gemma3": "Gemma3ForCausalLM"}.get(
        name, f"{name.capitalize()}ForCausalLM"
    )
    try:
        return AutoConfig.for_model(row.model_type, **rebuilt, architectures=[class_name])
    except Exception as error:  # transformers validates configs as it likes
        raise ModelError(
            f"{file.path.name}: its metadata make no configuration ({error})"
        ) from error


def _check_keys(file: GGUFFile, name: str) -> None:
    known = _KEYS | _OWN_KEYS.get(name, set())
    for key, value in file.metadata.items():
        inner = key.removeprefix(f"{name}.")
        nothing = isinstance(value, bool | int | float) and not value
        if inner != key and inner not in known and not nothing:
            raise ModelError(
                f"{file.path.name}: {key} = {value!r} may change what the model computes and is "
                f"not understood; give the model as a folder with its config.json"
            )


def _rotary_model(file: GGUFFile, name: str) -> dict[str, Any]:
    n_heads, n_kv = head_counts(file)
    width = _count(file, "embedding_length")
    size = setting(file, "attention.key_length") or setting(file, "rope.dimension_count")
    size = width // n_heads if size is None else size
    if setting(file, "attention.value_length", size) != size or not 0 < size < 1 << 16:
        raise ModelError(f"{file.path.name}: keys and values of different sizes are not understood")
    if setting(file, "rope.dimension_count", size) != size:
        raise ModelError(
            f"{file.path.name}: rotary angles of a part of each head are not understood"
        )
    rotary = _rotary(file, name, size)
    config: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": _count(file, "block_count"),
        "intermediate_size": _count(file, "feed_forward_length"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv,
        "head_dim": size,
        "max_position_embeddings": _count(file, "context_length"),
        "rms_norm_eps": _number(file, "attention.layer_norm_rms_epsilon"),
        "rope_parameters": rotary,
    }
    biased = {part for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_down")
              if f"blk.0.{part}.bias" in file.tensors}  # fmt: skip
    attention = {"attn_q", "attn_k", "attn_v"}
    if name == "qwen2":
        if biased != attention:
            raise ModelError(f"{file.path.name}: a Qwen2 has biases in q, k and v; found {biased}")
    elif biased & attention or "attn_output" in biased:
        if name not in ("llama", "qwen3") or biased & (attention | {"attn_output"}) != attention | {
            "attn_output"
        }:
            raise ModelError(f"{file.path.name}: biases in {sorted(biased)} are not understood")
        config["attention_bias"] = True
    if "ffn_down" in biased:
        if name != "llama":
            raise ModelError(f"{file.path.name}: biases in ffn_down are not understood")
        config["mlp_bias"] = True
    if name.startswith("gemma"):
        config |= _gemma(file, name, width, n_heads, size, rotary)
    elif setting(file, "attention.sliding_window"):
        raise ModelError(
            f"{file.path.name}: a window of {setting(file, 'attention.sliding_window')} in the "
            f"architecture {name!r} is not understood; give the model as a folder"
        )
    return config


def _gemma(
    file: GGUFFile, name: str, width: int, n_heads: int, size: int, rotary: dict[str, Any]
) -> dict[str, Any]:
    activation = "gelu_pytorch_tanh"
    if name == "gemma":
        return {"hidden_activation": activation, "hidden_act": activation}
    n_blocks = _count(file, "block_count")
    is_27b = n_blocks == _BLOCKS_OF_27B[name]
    config: dict[str, Any] = {
        "hidden_activation": activation,
        "query_pre_attn_scalar": width // n_heads if is_27b else size,
        "sliding_window": _count(file, "attention.sliding_window"),
        "layer_types": _windows(file, name, n_blocks),
        "final_logit_softcapping": setting(file, "final_logit_softcapping"),
    }
    if name == "gemma2":
        return config | {"attn_logit_softcapping": setting(file, "attn_logit_softcapping")}
    local = setting(file, "rope.freq_base_swa", _LOCAL_ROTARY_BASE)
    config["rope_parameters"] = {
        "full_attention": rotary,
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }
    return config


def _windows(file: GGUFFile, name: str, n_blocks: int) -> list[str]:
    """Returns which blocks look through a window: all but the last of each period."""
    told = setting(file, "attention.sliding_window_pattern", _SLIDING_PERIOD[name])
    if isinstance(told, np.ndarray) and told.dtype == bool and len(told) == n_blocks:
        sliding = [bool(x) for x in told]
    elif isinstance(told, int) and not isinstance(told, bool) and told > 0:
        sliding = [(i + 1) % told != 0 for i in range(n_blocks)]
    else:
        raise ModelError(f"{file.path.name}: its pattern of windows {told!r} is not understood")
    return ["sliding_attention" if window else "full_attention" for window in sliding]


def _gpt2(file: GGUFFile) -> dict[str, Any]:
    return {
        "n_embd": _count(file, "embedding_length"),
        "n_layer": _count(file, "block_count"),
        "n_head": head_counts(file)[0],
        "n_inner": _count(file, "feed_forward_length"),
        "n_positions": _count(file, "context_length"),
        "layer_norm_epsilon": _number(file, "attention.layer_norm_epsilon"),
    }


def _rotary(file: GGUFFile, name: str, size: int) -> dict[str, Any]:
    """Returns rotary parameters as transformers takes them.

    Raises:
        ModelError: If the file scales them in a way that is not understood.
    """
    base = _number(file, "rope.freq_base", 10000.0)
    kind = setting(file, "rope.scaling.type", "none")
    factor = setting(file, "rope.scaling.factor")
    if kind not in _UNDERSTOOD_ROTARY:
        raise ModelError(
            f"{file.path.name}: rotary scaling {kind!r} is not understood (known: "
            f"{', '.join(_UNDERSTOOD_ROTARY)}); give the model as a folder with its config.json"
        )
    if ROTARY_FACTORS in file.tensors:
        if kind != "none":
            raise ModelError(f"{file.path.name}: both rope_freqs and scaling {kind!r} are there")
        return {"rope_theta": base} | _llama3(file, base, size)
    if kind == "none":
        return {"rope_type": "default", "rope_theta": base}
    scaling: dict[str, Any] = {
        "rope_type": kind,
        "rope_theta": base,
        "factor": _number(file, "rope.scaling.factor"),
    }
    if kind == "linear":
        return scaling
    original = setting(file, "rope.scaling.original_context_length")
    if original is None or not factor:
        raise ModelError(f"{file.path.name}: yarn without its original context length")
    scaling["original_max_position_embeddings"] = original
    for key, told in (
        ("beta_fast", "rope.scaling.yarn_beta_fast"),
        ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ):
        if (value := setting(file, told)) is not None:
            scaling[key] = value
    strange = [k for k in ("rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
                           "rope.scaling.yarn_ext_factor")
               if setting(file, k) not in (None, 1.0)]  # fmt: skip
    if strange:
        raise ModelError(f"{file.path.name}: {name}.{strange[0]} is not understood")
    return scaling


def _llama3(file: GGUFFile, base: float, size: int) -> dict[str, Any]:
    """Returns parameters of Llama 3's scaling whose factors are the tensor's.

    Factor r of frequency f: 1/r = (1 - s)/F + s with s = (L·f/2π - low) / (high - low), clamped to
    0 … 1. So F is the largest, and the frequencies between the ends give a line in f; L only sets
    the unit of low and high.
    """
    stored = values_of(file, ROTARY_FACTORS).astype(np.float64).ravel()
    frequencies = base ** (-np.arange(0, size, 2) / size)
    largest = float(stored.max())
    length = setting(file, "rope.scaling.original_context_length", 8192)
    if stored.shape != frequencies.shape or not largest >= 1 or stored.min() < 1 - 1e-6:
        raise ModelError(f"{file.path.name}: {ROTARY_FACTORS} holds no factors for {size} angles")
    if largest < 1 + 1e-6:
        return {"rope_type": "default"}
    # Low 1 and high 4 over 8192 are every release's; what else explains the tensor is found below.
    found = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if not _explains(stored, frequencies, largest, length, **found):
        share = (1 / stored - 1 / largest) / (1 - 1 / largest)
        between = (share > 1e-6) & (share < 1 - 1e-6)
        if between.sum() >= 2:
            turns = length * frequencies[between] / (2 * math.pi)
            slope, start = np.polyfit(turns, share[between], 1)
            if slope > 0:
                found = {"low_freq_factor": float(-start / slope),
                         "high_freq_factor": float((1 - start) / slope)}  # fmt: skip
        if not _explains(stored, frequencies, largest, length, **found):
            raise ModelError(
                f"{file.path.name}: {ROTARY_FACTORS} holds factors that Llama 3's scaling does not "
                f"explain; give the model as a folder with its config.json"
            )
    return {
        "rope_type": "llama3",
        "factor": largest,
        "original_max_position_embeddings": length,
        **found,
    }


def _explains(
    stored: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    factor: float,
    length: float,
    low_freq_factor: float,
    high_freq_factor: float,
) -> bool:
    turns = length * frequencies / (2 * math.pi)
    share = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    made = 1 / ((1 - share) / factor + share)
    return bool(np.abs(made / stored - 1).max() < 1e-4)


def _rows(file: GGUFFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise ModelError(f"{file.path.name} has no token_embd.weight, so it is no whole model")
    return file.tensors["token_embd.weight"].shape[0]


def _count(file: GGUFFile, key: str) -> int:
    value = setting(file, key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise ModelError(
            f"{file.path.name}: {file.metadata['general.architecture']}.{key} is {value!r}; the "
            f"file does not say what the model needs: convert it again, or give a folder"
        )
    return value


def _number(file: GGUFFile, key: str, default: float | None = None) -> float:
    value = setting(file, key, default)
    if not isinstance(value, float | int) or not math.isfinite(value) or value <= 0:
        raise ModelError(
            f"{file.path.name}: {file.metadata['general.architecture']}.{key} is {value!r}; the "
            f"file does not say what the model needs: convert it again, or give a folder"
        )
    return float(value)
