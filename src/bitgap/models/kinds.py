"""Which transformers class a config is read with, and settings that its forward must have."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING


def model_class(config: Any) -> Any:
    """Returns the class that reads a config's weights: a causal LM, or a model that holds one.

    A causal LM is read by ``AutoModelForCausalLM``. Models of text and images or sound are mostly
    unknown to it; they are read by the class that their config names, whose text part is measured.

    Args:
        config: As ``AutoConfig`` reads it.

    Returns:
        A class with ``from_pretrained``; None where there is none that has logits of tokens.
    """
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if remote or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    for name in getattr(config, "architectures", None) or ():
        named = getattr(transformers, name, None)
        if named is not None and hasattr(named, "generate"):
            return named
    return None


_log = logging.getLogger(__name__)


def empty_shapes(config: Any, trust_remote_code: bool = False) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that a config gives to a model's parameters, by name; takes no memory.

    Args:
        config: As ``AutoConfig`` reads it.
        trust_remote_code: Whether code that comes with the model may be run.

    Returns:
        Nothing where no empty model can be made; what is wrong is told when weights are read.
    """
    kind: Any = model_class(config)
    trust = {"trust_remote_code": True} if trust_remote_code else {}
    own = copy.deepcopy(config)
    try:
        with torch.device("meta"):
            model = kind.from_config(own, **trust) if hasattr(kind, "from_config") else kind(own)
    except Exception as error:  # whatever a class raises
        _log.debug("no empty %s could be made: %s", config.model_type, error)
        return {}
    return {key: tuple(p.shape) for key, p in model.named_parameters()}


def text_part(model: nn.Module) -> tuple[str, str | None]:
    """Returns where a model's text part is: what holds its token table and its blocks; its head.

    Args:
        model: A causal LM, or a wrapper around one.

    Returns:
        Names of the two modules; the first empty where it is the model itself, the second None
        where the model has no head.
    """
    own: Any = model
    table, head = own.get_input_embeddings(), own.get_output_embeddings()
    paths = {id(module): path for path, module in model.named_modules()}
    base = paths.get(id(table), "").rpartition(".")[0]
    while base and not _has_lists(model.get_submodule(base)):
        base = base.rpartition(".")[0]
    return base, None if head is None else paths.get(id(head))


def is_within(path: str, base: str) -> bool:
    """Whether the name of a module or tensor is that of a module, or of something in it."""
    return not base or f"{path}.".startswith(f"{base}.")


def _has_lists(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.ModuleList) for inner in module.modules())


def settle(config: Any) -> None:
    """Changes settings under which a forward would write to its own weights.

    RWKV halves its states every few blocks, and in its first forward divides the weights after
    them in place, to stay within float16. In float32 it computes the same without.

    Args:
        config: As read; changed in place.
    """
    for part in (config, config.get_text_config()):
        if getattr(part, "rescale_every", 0):
            part.rescale_every = 0
