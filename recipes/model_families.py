"""The architectures that can be trained, one function each.

Every model is a small sibling of its family: the family's own positions, norms, activation and
tying, with the same blocks, width and heads. Dropout is 0 everywhere: texts are seen about once,
and drawing masks costs a good part of a step on a processor.

To add a family: write a function of :class:`Shape` that returns its config, add it to
:data:`FAMILIES`, and let the tests train it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What every family needs to know."""

    blocks: int
    width: int
    heads: int
    vocabulary: int
    context: int
    separator: int
    """Id of the token that begins and ends every text."""

    @property
    def common(self) -> dict[str, Any]:
        """Settings that go by the same name in every family."""
        return {
            "vocab_size": self.vocabulary,
            "bos_token_id": self.separator,
            "eos_token_id": self.separator,
            # A padding row would be frozen, and its id belongs to a byte here.
            "pad_token_id": None,
        }

    @property
    def layers(self) -> dict[str, Any]:
        """The common settings and the sizes, as most families name them."""
        return {
            **self.common,
            "hidden_size": self.width,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.context,
            "attention_dropout": 0.0,
        }


def _gated_width(shape: Shape) -> int:
    # A gated MLP has three matrices for two; 8/3 d keeps the parameters of 4 d. Whole 32s, so that
    # every group size of rounding up to 32 divides it.
    return 32 * max(1, round(shape.width * 8 / 3 / 32))


def _gpt2(shape: Shape) -> PreTrainedConfig:
    """Learned positions, LayerNorm, tied; the bundled reference model."""
    from transformers import GPT2Config

    return GPT2Config(
        **shape.common,
        n_embd=shape.width,
        n_layer=shape.blocks,
        n_head=shape.heads,
        n_positions=shape.context,
        # The same function as GPT-2's own "gelu_new" in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
        attn_pdrop=0,
        embd_pdrop=0,
        resid_pdrop=0,
    )


def _opt(shape: Shape) -> PreTrainedConfig:
    """Learned positions, LayerNorm, ReLU, tied."""
    from transformers import OPTConfig

    return OPTConfig(**shape.layers, ffn_dim=4 * shape.width, dropout=0.0)


def _bloom(shape: Shape) -> PreTrainedConfig:
    """ALiBi, LayerNorm also on the embedding, tied."""
    from transformers import BloomConfig

    return BloomConfig(
        **shape.common,
        hidden_size=shape.width,
        n_layer=shape.blocks,
        n_head=shape.heads,
        # Of no effect on the function; it records the length the model was made for.
        seq_length=shape.context,
    )


def _gpt_neox(shape: Shape) -> PreTrainedConfig:
    """Rotary positions on a quarter of each head, parallel residual, LayerNorm, untied."""
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig(**shape.layers, intermediate_size=4 * shape.width)


def _llama(shape: Shape) -> PreTrainedConfig:
    """Rotary positions, RMSNorm, gated SiLU, no biases, untied."""
    from transformers import LlamaConfig

    return LlamaConfig(**shape.layers, intermediate_size=_gated_width(shape))


def _qwen3(shape: Shape) -> PreTrainedConfig:
    """As Llama with norms on queries and keys; tied, as its small sizes are."""
    from transformers import Qwen3Config

    return Qwen3Config(
        **shape.layers,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        intermediate_size=_gated_width(shape),
        tie_word_embeddings=True,
    )


def _gemma(shape: Shape) -> PreTrainedConfig:
    """As Llama with gated GELU, RMSNorm of 1 + weight and a scaled embedding; tied."""
    from transformers import GemmaConfig

    return GemmaConfig(
        **shape.layers,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        intermediate_size=_gated_width(shape),
    )


FAMILIES: Mapping[str, Callable[[Shape], PreTrainedConfig]] = {
    "gpt2": _gpt2,
    "opt": _opt,
    "bloom": _bloom,
    "gpt_neox": _gpt_neox,
    "llama": _llama,
    "qwen3": _qwen3,
    "gemma": _gemma,
}
"""Every family that can be trained, by its ``model_type``."""


def build_model(family: str, shape: Shape, seed: int) -> Any:
    """Returns a new model in float32 and training mode, initialised as its family does.

    Args:
        family: A key of :data:`FAMILIES`.
        shape: Its sizes.
        seed: Seed of the initial weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](shape), dtype=torch.float32)
    return model.train()
