"""A large model run on few of its weights, to learn or prove what does not depend on them.

Where the parts of a model are, what its blocks are given, and whether parts and whole agree are
questions about code. To ask them of a model that is mapped from a file would read all of the file
once for each pass. So for that time every block has the weights of the first one of its kind, and
what is read of the blocks is one of each kind: the model's own code runs as it always does, over
all blocks, each with its own place, settings and buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from bitgap.models.stored import is_mapped

_Kind = tuple[Any, ...]


@contextmanager
def few_weights(model: nn.Module) -> Iterator[bool]:
    """Has the blocks of a mapped model share the weights of the first of each kind meanwhile.

    Of one kind are blocks of the same list whose modules have the same classes and whose parameters
    have the same names, shapes and types. A model that is not mapped, or so small that its pages
    stay in memory (:func:`bitgap.models.stored.mark_mapped`), is left alone.

    Args:
        model: The whole model. Its weights are its own again afterwards, whatever happens; nothing
            else may use it meanwhile.

    Yields:
        Whether any block has another's weights.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=8, intermediate_size=8, num_attention_heads=1, vocab_size=9)
        >>> with few_weights(LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2))) as fewer:
        ...     fewer  # it was made in memory
        False
    """
    own: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for blocks in _outermost_lists(model):
            first: dict[_Kind, list[tuple[nn.Module, str]]] = {}
            for block in blocks:
                places = list(_places(block))
                like = first.setdefault(_kind(block), places)
                if like is places:
                    continue
                for (module, name), (its_module, its_name) in zip(places, like, strict=True):
                    mine, its = module._parameters[name], its_module._parameters[its_name]
                    # What is small and lies in memory costs nothing to read.
                    if mine is not None and mine is not its and is_mapped(mine):
                        own.append((module, name, mine))
                        module._parameters[name] = its
        yield bool(own)
    finally:
        for module, name, parameter in reversed(own):
            module._parameters[name] = parameter


def _outermost_lists(model: nn.Module) -> Iterator[nn.ModuleList]:
    """Yields the lists of modules with parts that lie in no other: of blocks, not of experts."""
    for child in model.children():
        if not isinstance(child, nn.ModuleList):
            yield from _outermost_lists(child)
        elif all(any(True for _ in block.children()) for block in child):  # or of heads or tables
            yield child


def _places(block: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in block.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield module, name


def _kind(block: nn.Module) -> _Kind:
    paths = {module: (path, type(module)) for path, module in block.named_modules()}
    shapes = (
        (paths[module], name, parameter.shape, parameter.dtype)
        for module, name in _places(block)
        if (parameter := module._parameters[name]) is not None
    )
    return (*paths.values(), *shapes)
