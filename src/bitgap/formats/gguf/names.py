"""What GGUF calls the tensors of each architecture, and what it does to their values.

One row for each architecture that can be read. What a row says is proved by the tests: a model of
transformers is written with the library's own names, read back, and its logits compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
              "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj"}  # fmt: skip
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_SANDWICH = {"attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
             "ffn_norm": "pre_feedforward_layernorm",
             "post_ffw_norm": "post_feedforward_layernorm"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture's names and the changes that its converter makes to values."""

    model_type: str
    """What transformers calls it."""
    ends: Mapping[str, str] = field(default_factory=lambda: _ENDS)
    """Outside the blocks: the file's name to the module's."""
    blocks: str = "model.layers"
    """Path of the list of blocks."""
    block: Mapping[str, str]
    """Within a block: the file's name to the module's."""
    permuted: bool = False
    """Whether rows of q and k are in ggml's order of rotary pairs."""
    norm_offset: bool = False
    """Whether norms are stored as 1 + weight."""
    transposed: bool = False
    """Whether transformers stores matrices (in, out); the file never does."""


_LLAMA = Architecture(model_type="llama", block=_ATTENTION | _MLP | _PRE_NORMS, permuted=True)
_GPT2 = Architecture(
    model_type="gpt2",
    ends={"token_embd": "transformer.wte", "position_embd": "transformer.wpe",
          "output_norm": "transformer.ln_f", "output": "lm_head"},
    blocks="transformer.h",
    block={"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
           "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    transposed=True,
)  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "qwen2": Architecture(model_type="qwen2", block=_ATTENTION | _MLP | _PRE_NORMS),
    "qwen3": Architecture(model_type="qwen3", block=_ATTENTION | _QK_NORMS | _MLP | _PRE_NORMS),
    "gemma": Architecture(
        model_type="gemma", block=_ATTENTION | _MLP | _PRE_NORMS, norm_offset=True
    ),
    "gemma2": Architecture(
        model_type="gemma2", block=_ATTENTION | _MLP | _SANDWICH, norm_offset=True
    ),
    "gemma3": Architecture(
        model_type="gemma3_text", block=_ATTENTION | _QK_NORMS | _MLP | _SANDWICH, norm_offset=True
    ),
    "gpt2": _GPT2,
}
"""What can be read, by ``general.architecture``."""

_BLOCK = re.compile(r"blk\.([0-9]{1,6})\.(\w+)\.(weight|bias)")
_END = re.compile(r"(\w+)\.(weight|bias)")


def model_name(row: Architecture, name: str) -> str | None:
    """Returns the parameter's name in the transformers model; None if the row has none.

    Example:
        >>> model_name(ARCHITECTURES["llama"], "blk.3.ffn_up.weight")
        'model.layers.3.mlp.up_proj.weight'
    """
    if match := _BLOCK.fullmatch(name):
        module = row.block.get(match[2])
        return f"{row.blocks}.{int(match[1])}.{module}.{match[3]}" if module else None
    if (match := _END.fullmatch(name)) and match[1] in row.ends:
        return f"{row.ends[match[1]]}.{match[2]}"
    return None
