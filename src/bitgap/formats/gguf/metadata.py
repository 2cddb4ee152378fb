"""What a GGUF file must say of a model for runtimes to compute it, from its config; or a refusal.

The reverse of ``config.py``: what is written here is rebuilt there, which tests prove by logits. A
setting that the architecture in GGUF has no key for is refused, never left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.errors import ModelError
from bitgap.formats.gguf.names import ARCHITECTURES

BY_MODEL_TYPE: Mapping[str, str] = {row.model_type: name for name, row in ARCHITECTURES.items()}
"""GGUF's name of an architecture, by transformers'."""


def architecture_for(config: Any, name: str) -> str:
    """Returns GGUF's architecture of a config.

    Raises:
        ModelError: If there is none that is read here.
    """
    found = BY_MODEL_TYPE.get(config.model_type)
    if found is None:
        raise ModelError(
            f"{name} ({config.model_type}) cannot be written as GGUF here; those that can are "
            f"{', '.join(BY_MODEL_TYPE)}"
        )
    return found


def metadata_for(config: Any, name: str) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """Returns the keys of a model, and the rotary factors that are stored as a tensor, if any.

    Args:
        config: Of the model.
        name: Of the model, for refusals.

    Raises:
        ModelError: If the config has a setting that GGUF does not say.
    """
    arch = architecture_for(config, name)
    found: dict[str, Any] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "vocab_size": config.vocab_size,
    }
    if arch == "gpt2":
        _check_gpt2(config, name)
        return found | {
            "feed_forward_length": config.n_inner or 4 * config.hidden_size,
            "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
        }, None
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    found |= {
        "feed_forward_length": config.intermediate_size,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": size,
    }
    rope = dict(config.rope_parameters)
    if arch == "gemma3":
        found |= _gemma3(config, rope, name)
        rope = dict(rope["full_attention"])
    elif arch == "gemma2":
        found |= {
            "attention.sliding_window": config.sliding_window,
            "attn_logit_softcapping": config.attn_logit_softcapping or 0.0,
            "final_logit_softcapping": config.final_logit_softcapping or 0.0,
        }
        _check_windows(config, 2, name)
        _check_scale(config, size, name)
    elif getattr(config, "use_sliding_window", False):
        raise _refused(name, "its attention looks through windows")
    hidden = getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", None)
    if not arch.startswith("gemma") and hidden != "silu":
        raise _refused(name, f"its activation is {hidden}")
    keys, factors = _rotary(rope, size, name)
    return found | keys, factors


def _check_gpt2(config: Any, name: str) -> None:
    if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        raise _refused(name, f"its activation is {config.activation_function}")
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights:
        raise _refused(name, "its attention is scaled in another way")


def _gemma3(config: Any, rope: Mapping[str, Any], name: str) -> dict[str, Any]:
    local = rope["sliding_attention"]
    if local.get("rope_type", "default") != "default":
        raise _refused(name, "the rotary angles of its windows are scaled")
    kinds = list(config.layer_types)
    period = next((p for p in range(1, len(kinds) + 1) if _pattern(p, len(kinds)) == kinds), None)
    if period is None:
        if set(kinds) != {"sliding_attention"}:
            raise _refused(name, "its windows follow no period")
        period = len(kinds) + 1
    _check_scale(config, config.head_dim, name)
    if getattr(config, "final_logit_softcapping", None) or getattr(
        config, "attn_logit_softcapping", None
    ):
        raise _refused(name, "its logits are capped")
    return {
        "attention.sliding_window": config.sliding_window,
        "attention.sliding_window_pattern": period,
        "rope.freq_base_swa": float(local["rope_theta"]),
    }


def _pattern(period: int, n: int) -> list[str]:
    return ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(n)]


def _check_windows(config: Any, period: int, name: str) -> None:
    if list(config.layer_types) != _pattern(period, config.num_hidden_layers):
        raise _refused(name, "its windows follow another period")


def _check_scale(config: Any, size: int, name: str) -> None:
    # The 27B models, which llama.cpp tells by their number of blocks, scale by width / heads.
    usual = {size, config.hidden_size // config.num_attention_heads}
    if config.query_pre_attn_scalar not in usual:
        raise _refused(name, f"its queries are scaled by {config.query_pre_attn_scalar}")


def _rotary(
    rope: Mapping[str, Any], size: int, name: str
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    kind = rope.get("rope_type", "default")
    keys: dict[str, Any] = {"rope.freq_base": float(rope["rope_theta"])}
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _refused(name, "its rotary angles are of a part of each head")
    if kind == "default":
        return keys, None
    if kind == "linear":
        return keys | {"rope.scaling.type": "linear",
                       "rope.scaling.factor": float(rope["factor"])}, None  # fmt: skip
    if kind == "llama3":
        return keys, llama3_factors(rope, size)
    if kind == "yarn" and not {*rope} - {"rope_type", "rope_theta", "factor",
                                         "original_max_position_embeddings"}:  # fmt: skip
        return keys | {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(rope["factor"]),
            "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        }, None
    raise _refused(name, f"its rotary angles are scaled by {kind!r} with settings of their own")


def llama3_factors(rope: Mapping[str, Any], size: int) -> NDArray[np.float32]:
    """Returns Llama 3's rotary scaling as the divisors that GGUF stores (llama.cpp's converter).

    Args:
        rope: The model's rotary parameters.
        size: Of a head.
    """
    old = rope["original_max_position_embeddings"]
    low, high = old / rope["low_freq_factor"], old / rope["high_freq_factor"]
    factors: list[float] = []
    for i in range(0, size, 2):
        length = 2 * math.pi * rope["rope_theta"] ** (i / size)
        if length < high:
            factors.append(1.0)
        elif length > low:
            factors.append(rope["factor"])
        else:
            smooth = (old / length - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name} cannot be written as GGUF: {why}, which the file has no key for that is "
        f"understood; have llama.cpp's own converter write it"
    )
