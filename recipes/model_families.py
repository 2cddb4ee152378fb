"""The architectures that can be trained, one function each.

Every model is a small sibling of its family: the family's own positions, norms, activation and
tying, with the same blocks, width and heads. Dropout is 0 everywhere: texts are seen about once,
and drawing masks costs a good part of a step on a processor.

To add a family: write a function that returns its config, add it to :data:`FAMILIES`, and the
tests train it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training_settings import Recipe
    from transformers import PreTrainedConfig


def _common(recipe: Recipe, separator: int) -> dict[str, Any]:
    """Settings that go by the same name in every family."""
    return {
        "vocab_size": recipe.vocabulary,
        "bos_token_id": separator,
        "eos_token_id": separator,
        # A padding row would be frozen, and its id belongs to a byte here.
        "pad_token_id": None,
    }


def _layers(recipe: Recipe, separator: int) -> dict[str, Any]:
    """The common settings and the sizes, as most families name them."""
    return {
        **_common(recipe, separator),
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.blocks,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": recipe.context,
        "attention_dropout": 0.0,
    }


def _gated_width(recipe: Recipe) -> int:
    # A gated MLP has three matrices for two; 8/3 d keeps the parameters of 4 d. Whole 32s, so that
    # every group size of rounding up to 32 divides it.
    return 32 * max(1, round(recipe.width * 8 / 3 / 32))


def _gpt2(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """Learned positions, LayerNorm, tied; the bundled reference model."""
    from transformers import GPT2Config

    return GPT2Config(
        **_common(recipe, separator),
        n_embd=recipe.width,
        n_layer=recipe.blocks,
        n_head=recipe.heads,
        n_positions=recipe.context,
        # The same function as GPT-2's own "gelu_new" in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
        attn_pdrop=0,
        embd_pdrop=0,
        resid_pdrop=0,
    )


def _opt(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """Learned positions, LayerNorm, ReLU, tied."""
    from transformers import OPTConfig

    return OPTConfig(**_layers(recipe, separator), ffn_dim=4 * recipe.width, dropout=0.0)


def _bloom(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """ALiBi, LayerNorm also on the embedding, tied."""
    from transformers import BloomConfig

    return BloomConfig(
        **_common(recipe, separator),
        hidden_size=recipe.width,
        n_layer=recipe.blocks,
        n_head=recipe.heads,
        # Of no effect on the function; it records the length the model was made for.
        seq_length=recipe.context,
    )


def _gpt_neox(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """Rotary positions on a quarter of each head, parallel residual, LayerNorm, untied."""
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig(**_layers(recipe, separator), intermediate_size=4 * recipe.width)


def _llama(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """Rotary positions, RMSNorm, gated SiLU, no biases, untied."""
    from transformers import LlamaConfig

    return LlamaConfig(**_layers(recipe, separator), intermediate_size=_gated_width(recipe))


def _qwen3(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """As Llama with norms on queries and keys; tied, as its small sizes are."""
    from transformers import Qwen3Config

    return Qwen3Config(
        **_layers(recipe, separator),
        num_key_value_heads=recipe.heads,
        head_dim=recipe.width // recipe.heads,
        intermediate_size=_gated_width(recipe),
        tie_word_embeddings=True,
    )


def _gemma(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """As Llama with gated GELU, RMSNorm of 1 + weight and a scaled embedding; tied."""
    from transformers import GemmaConfig

    return GemmaConfig(
        **_layers(recipe, separator),
        num_key_value_heads=recipe.heads,
        head_dim=recipe.width // recipe.heads,
        intermediate_size=_gated_width(recipe),
    )


def _qwen2(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """As Llama with biases on queries, keys and values; tied, as its small sizes are."""
    from transformers import Qwen2Config

    return Qwen2Config(
        **_layers(recipe, separator),
        num_key_value_heads=recipe.heads,
        intermediate_size=_gated_width(recipe),
        tie_word_embeddings=True,
    )


def _olmo2(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """Rotary positions, norms after attention and MLP and on queries and keys, gated; untied."""
    from transformers import Olmo2Config

    return Olmo2Config(**_layers(recipe, separator), intermediate_size=_gated_width(recipe))


def _falcon(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """Rotary positions, attention and MLP side by side after one LayerNorm, no biases, tied."""
    from transformers import FalconConfig

    return FalconConfig(
        **_layers(recipe, separator),
        hidden_dropout=0.0,
        # One key head for all queries would be its smallest model's; whole heads round as others.
        multi_query=False,
        parallel_attn=True,
        new_decoder_architecture=False,
        bias=False,
        alibi=False,
    )


def _mpt(recipe: Recipe, separator: int) -> PreTrainedConfig:
    """ALiBi, LayerNorm without biases, no biases at all, tied."""
    from transformers import MptConfig

    return MptConfig(
        **_common(recipe, separator),
        d_model=recipe.width,
        n_heads=recipe.heads,
        n_layers=recipe.blocks,
        expansion_ratio=4,
        max_seq_len=recipe.context,
    )


FAMILIES: Mapping[str, Callable[[Recipe, int], PreTrainedConfig]] = {
    "gpt2": _gpt2,
    "opt": _opt,
    "bloom": _bloom,
    "gpt_neox": _gpt_neox,
    "llama": _llama,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "qwen2": _qwen2,
    "olmo2": _olmo2,
    "falcon": _falcon,
    "mpt": _mpt,
}
"""Every family that can be trained, by its ``model_type``."""


def build_model(recipe: Recipe, separator: int) -> Any:
    """Returns a new model in float32 and training mode, initialised as its family does.

    Args:
        recipe: Its family, sizes and seed.
        separator: Id of the token that begins and ends every text.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from bitgap.models.silence import silenced

    torch.manual_seed(recipe.seed)
    config = FAMILIES[recipe.family](recipe, separator)
    with silenced():
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
