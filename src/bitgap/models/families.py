"""The architectures bitgap can split, one row each; nothing else here knows any.

A class without a row is looked at by :mod:`bitgap.models.observe`, which finds such a row in most;
``docs/families.md`` tells for which. A row here says the same without looking. The split is proved
on every load, so a wrong row is refused and never measured with. What blocks are given (masks,
rotary angles, alibi) needs no row: it is caught from the model's own forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Where the parts of one causal LM are; dotted paths from the model."""

    base: str
    """The model without its head: ids in, states before the head out."""
    blocks: str
    """The list of blocks; inside ``base``."""
    called: tuple[int, ...] | None = None
    """Which of the list text alone runs through, where not all: layers that look at images are
    passed over. Blocks are numbered among those."""
    finish: tuple[str, ...]
    """What is applied after the last block and before the head, in order; inside ``base``. A path
    that is None in a model (OPT's final norm may be) is passed over."""
    head: str = "lm_head"
    """The unembedding, a linear."""
    multiply: str | None = None
    """Name of the config number that logits are multiplied by, before any soft cap."""
    divide: str | None = None
    """Name of the config number that logits are divided by, before any soft cap."""
    softcap: str | None = None
    """Name of the config number c in ``c·tanh(logits/c)``; its value may be None."""
    rows: str | None = None
    """Name of the config number of logits, where the head has rows beyond it that are cut off."""
    replay: bool = False
    """Whether what follows the last block is no chain of modules, so that the model's own code is
    run for it; ``finish`` is empty then."""
    plain: bool = True
    """Whether blocks are known to hand on one tensor (B x S x d) and nothing else that depends on
    the tokens; where it is not known, it is looked for."""

    def blocks_of(self, model: Any) -> list[Any]:
        """Returns the blocks of a model of this family, or of a copy, L0 first.

        Raises:
            AttributeError: If the path does not lead.
        """
        all_blocks = list(model.get_submodule(self.blocks).children())
        return all_blocks if self.called is None else [all_blocks[i] for i in self.called]

    def __str__(self) -> str:
        parts = (f"base={self.base}", f"blocks={self.blocks}", f"head={self.head}")
        finish = "its own code" if self.replay else "+".join(self.finish) or "nothing"
        return ", ".join((*parts, f"finish={finish}"))


_GPT2 = Family(base="transformer", blocks="transformer.h", finish=("transformer.ln_f",))
_LLAMA = Family(base="model", blocks="model.layers", finish=("model.norm",))

FAMILIES: Mapping[str, Family] = {
    "ApertusForCausalLM": _LLAMA,
    "BloomForCausalLM": _GPT2,
    "CohereForCausalLM": replace(_LLAMA, multiply="logit_scale"),
    "Cohere2ForCausalLM": replace(_LLAMA, multiply="logit_scale"),
    "FalconForCausalLM": _GPT2,
    "GemmaForCausalLM": _LLAMA,
    "Gemma2ForCausalLM": replace(_LLAMA, softcap="final_logit_softcapping"),
    "Gemma3ForCausalLM": replace(_LLAMA, softcap="final_logit_softcapping"),
    "GPT2LMHeadModel": _GPT2,
    "GPTNeoForCausalLM": _GPT2,
    "GPTNeoXForCausalLM": Family(
        base="gpt_neox", blocks="gpt_neox.layers", finish=("gpt_neox.final_layer_norm",)
    ),
    "GraniteForCausalLM": replace(_LLAMA, divide="logits_scaling"),
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "MptForCausalLM": Family(
        base="transformer", blocks="transformer.blocks", finish=("transformer.norm_f",)
    ),
    "Olmo2ForCausalLM": _LLAMA,
    "OPTForCausalLM": Family(
        base="model.decoder",
        blocks="model.decoder.layers",
        finish=("model.decoder.final_layer_norm", "model.decoder.project_out"),
    ),
    "PhiForCausalLM": replace(_LLAMA, finish=("model.final_layernorm",)),
    "Phi3ForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "SmolLM3ForCausalLM": _LLAMA,
    "XGLMForCausalLM": replace(_LLAMA, finish=("model.layer_norm",)),
}
"""Every class that can be split, by the name of its transformers class."""


def text_config(model: Any) -> Any:
    """Returns the config of a model's text part; its own where it has no parts."""
    return model.config.get_text_config()


def context_length(config: Any) -> int | None:
    """Returns the longest sequence in tokens that a config allows; None where it sets no limit.

    Where positions are learned the limit is hard; where they are rotary or alibi it is the length
    the model was made for.
    """
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int):
            return length
    return None
