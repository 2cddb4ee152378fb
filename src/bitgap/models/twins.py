"""Twins of a model for negative controls: untrained, shuffled, or changed in some named way.

No function writes to the model it is given; a changed one is a deep copy.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bitgap.models.decoder import Decoder
from bitgap.models.load import LoadedModel, fingerprint
from bitgap.models.silence import silenced


def shuffled_twin(model: nn.Module | Decoder, seed: int = 0) -> Any:
    """Returns a copy with the entries of every block linear permuted within the matrix.

    Variance, kurtosis and all else that ignores position stay; embeddings, head, norms and biases
    stay too.

    Args:
        model: The model, or its decoder.
        seed: Chooses the permutations.
    """
    decoder = model if isinstance(model, Decoder) else Decoder.from_model(model)
    copied = copy.deepcopy(decoder.model)
    generator = torch.Generator().manual_seed(seed)
    for i, block in enumerate(blocks_of(copied, decoder)):
        for view in decoder.block_linears(i).values():
            weight = view.of(block)
            stored = weight.T if view.transposed else weight
            order = torch.randperm(stored.numel(), generator=generator).to(stored.device)
            stored.copy_(stored.reshape(-1)[order].view(stored.shape))
    return copied


def random_twin(model: Any, seed: int = 0) -> Any:
    """Returns a model of the same class and config with fresh weights, as its class draws them.

    Global random states are left as they were.

    Args:
        model: A transformers model.
        seed: Of the draw.
    """
    # torch.manual_seed would reseed accelerators too, whose states are not kept here.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), silenced():
        torch.default_generator.manual_seed(seed)
        twin = type(model)._from_config(copy.deepcopy(model.config), dtype=model.dtype)
    # One whose parts lie apart, as its device has no room, is as large as the other: it stays here.
    apart = len({parameter.device for parameter in model.parameters()}) > 1
    return (twin if apart else twin.to(model.device)).eval().requires_grad_(False)


def loaded_with(loaded: LoadedModel, model: Any, suffix: str) -> LoadedModel:
    """Returns a changed model as if it had been loaded, called ``<name>+<suffix>``.

    Args:
        loaded: What it was made from; its tokenizer is shared.
        model: A model of the same class and shapes, such as this module's functions return.
        suffix: What was done to it.
    """
    name = f"{loaded.info.name}+{suffix}"
    info = replace(loaded.info, name=name, fingerprint=fingerprint(model))
    return replace(loaded, model=model, info=info)


def blocks_of(copied: nn.Module, decoder: Decoder) -> list[nn.Module]:
    """Returns the blocks of a copy of a decoder's model, L0 first."""
    return decoder.family.blocks_of(copied)
