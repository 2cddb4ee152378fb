"""Writes a transformers model as GGUF with the gguf library's own names and quantizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma",
                 "gemma2": "gemma2", "gemma3_text": "gemma3", "gpt2": "gpt2"}  # fmt: skip
WORDS = ("one", "two", "three", "river", "stone")


def write_gguf(
    path: Path,
    model: Any,
    *,
    kind: str = "F32",
    vocabulary: int = 0,
    tokens: Sequence[str] = (),
    **changes: Any,
) -> dict[str, np.ndarray]:
    """Writes a model; returns each tensor's dequantized values by its name in transformers.

    Args:
        path: The file to write.
        model: The model.
        kind: ggml type of the matrices in blocks.
        vocabulary: How many tokens to write; as many as the model has by default.
        tokens: The tokens; bytes and some words by default.
        changes: Metadata under the architecture's name to add or, as None, to leave out; dots are
            written as two underscores.
    """
    import gguf

    config = model.config
    arch = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, arch)
    for key, value in (_metadata(config, arch) | changes).items():
        if value is not None:
            _add(writer, f"{arch}.{key.replace('__', '.')}", value)
    _add_vocabulary(writer, vocabulary or config.vocab_size, tokens)
    number = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch]
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    written: dict[str, np.ndarray] = {}
    tied = config.tie_word_embeddings
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        array = value.float().numpy()
        if arch == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            array = array.T
        stored = _as_stored(name, array, config, arch)
        type_ = gguf.GGMLQuantizationType[kind if array.ndim == 2 and ".0." in name else "F32"]
        data = gguf.quants.quantize(np.ascontiguousarray(stored), type_)
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new, name
        writer.add_tensor(new, data, raw_dtype=type_)
        back = gguf.quants.dequantize(data, type_)
        written[name] = _as_used(name, back, config, arch)
    _finish(writer)
    return written


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _metadata(config: Any, arch: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
    }
    if arch == "gpt2":
        return found | {
            "feed_forward_length": 4 * config.hidden_size,
            "attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    found |= {
        "feed_forward_length": config.intermediate_size,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.head_dim if hasattr(config, "head_dim") else
        config.hidden_size // config.num_attention_heads,
    }  # fmt: skip
    rope = config.rope_parameters
    found["rope.freq_base"] = float((rope.get("full_attention") or rope)["rope_theta"])
    if arch in ("gemma2", "gemma3"):
        found["attention.sliding_window"] = config.sliding_window
    if arch == "gemma3":
        found["attention.sliding_window_pattern"] = 2
    if arch == "gemma2":
        found["attn_logit_softcapping"] = config.attn_logit_softcapping
        found["final_logit_softcapping"] = config.final_logit_softcapping
    return found


def _add_vocabulary(writer: Any, n_tokens: int, tokens: Sequence[str]) -> None:
    merges = list[str]()
    if not tokens:
        tokens, merges = _bytes_and_words()
    tokens = [*tokens[:n_tokens], *(f"<unused{i}>" for i in range(n_tokens - len(tokens)))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t.startswith("<") and len(t) > 1 else 1 for t in tokens])
    known = set(tokens)
    writer.add_token_merges([m for m in merges if m.replace(" ", "") in known])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)


def _bytes_and_words() -> tuple[list[str], list[str]]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<pad>", "<s>", "</s>", *bytes_to_unicode().values()]
    merges = []
    for word in WORDS:
        for i in range(1, len(word)):
            if (joined := word[: i + 1]) not in tokens:
                tokens.append(joined)
                merges.append(f"{word[:i]} {word[i]}")
    return tokens, merges


def _as_stored(name: str, array: np.ndarray, config: Any, arch: str) -> np.ndarray:
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return array + 1
    if arch == "llama" and name.endswith(("q_proj.weight", "q_proj.bias")):
        return _permuted(array, config.num_attention_heads)
    if arch == "llama" and name.endswith(("k_proj.weight", "k_proj.bias")):
        return _permuted(array, config.num_key_value_heads)
    return array


def _permuted(array: np.ndarray, n_heads: int) -> np.ndarray:
    # conversion/llama.py of llama.cpp, LlamaModel.permute
    shape = (n_heads, 2, array.shape[0] // n_heads // 2, *array.shape[1:])
    return array.reshape(shape).swapaxes(1, 2).reshape(array.shape)


def _as_used(name: str, array: np.ndarray, config: Any, arch: str) -> np.ndarray:
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return array - 1
    if arch != "llama" or not name.endswith(
        ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
    ):
        return array
    n_heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
    half = array.shape[0] // n_heads // 2
    back = np.empty_like(array)
    for h in range(n_heads):
        for i in range(half):
            for side in (0, 1):
                back[h * 2 * half + side * half + i] = array[h * 2 * half + 2 * i + side]
    return back


def llama3_factors(config: Any) -> np.ndarray:
    """Returns what llama.cpp's converter stores for Llama 3's scaling, by its own formula."""
    told, size = config.rope_parameters, config.head_dim
    low = told["original_max_position_embeddings"] / told["low_freq_factor"]
    high = told["original_max_position_embeddings"] / told["high_freq_factor"]
    factors = []
    for k in range(0, size, 2):
        length = 2 * math.pi * told["rope_theta"] ** (k / size)
        if length < high:
            factors.append(1.0)
        elif length > low:
            factors.append(told["factor"])
        else:
            smooth = told["original_max_position_embeddings"] / length - told["low_freq_factor"]
            smooth /= told["high_freq_factor"] - told["low_freq_factor"]
            factors.append(1 / ((1 - smooth) / told["factor"] + smooth))
    return np.array(factors, np.float32)


def raw_gguf(
    path: Path, tensors: dict[str, tuple[str, np.ndarray, tuple[int, ...]]], **keys: Any
) -> Path:
    """Writes tensors as given bytes: name to (ggml type, bytes, shape)."""
    import gguf

    writer = gguf.GGUFWriter(path, keys.pop("arch", "llama"))
    for key, value in keys.items():
        _add(writer, key.replace("__", "."), value)
    for name, (kind, data, _shape) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    _finish(writer)
    return path


def logits(model: Any, seed: int = 0) -> torch.Tensor:
    """Returns logits of a few random sequences."""
    ids = torch.randint(
        3, model.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        return model(ids).logits
