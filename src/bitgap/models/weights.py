"""The weights of one block: which are matrix products, and copies of a block with some replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from bitgap.errors import EngineError
from bitgap.models.stored import HALVES, as_run, forget, plain, run_type, stored

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LinearView:
    """One matrix product of a block, always seen as (out x in).

    Attributes:
        name: Path of the module in its block, such as ``attn.c_attn``.
        module: The module itself, for hooks on its input.
        transposed: Whether it stores (in x out), as transformers' ``Conv1D`` of GPT-2 does.
    """

    name: str
    module: nn.Module
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        a, b = stored(self.module).shape
        return (b, a) if self.transposed else (a, b)

    def get(self) -> Tensor:
        """Returns the weight (out x in) in float32: the model's own memory, not to be written to,
        or where that is of another type a cast of it.
        """
        weight = self.module.get_parameter("weight").detach()
        return weight.T if self.transposed else weight

    def use(self, reader: Callable[[Tensor], T]) -> T:
        """Returns what a reader makes of the weight (out x in) as it is kept, without a cast.

        The reader must make something of its own: pages of a mapped file are given back after it.
        """
        kept = stored(self.module)
        made = reader(kept.T if self.transposed else kept)
        forget(kept)
        return made

    def of(self, block: nn.Module) -> Tensor:
        """Returns the same matrix of another block of this shape, such as a twin's, (out x in)."""
        weight = block.get_submodule(self.name).get_parameter("weight").detach()
        return weight.T if self.transposed else weight

    def set_on(self, block: nn.Module, weight: Tensor) -> None:
        """Replaces this linear's weight in a copy of its block.

        Args:
            block: A copy from ``Decoder.clone_block``, never the model's own.
            weight: The new weight, (out x in).

        Raises:
            EngineError: If the shape differs from the weight's own.
        """
        stored = weight.T.contiguous() if self.transposed else weight
        set_weight(block, f"{self.name}.weight", stored)


def linear_views(block: nn.Module) -> dict[str, LinearView]:
    """Returns every linear of a block by its name, in the block's own order."""
    return {
        name: LinearView(name, module, isinstance(module, Conv1D))
        for name, module in block.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    }


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Returns every parameter whose name ends in ``weight``, as stored, by that name."""
    return {n: p.detach() for n, p in module.named_parameters() if n.endswith("weight")}


def clone_sharing(block: nn.Module) -> nn.Module:
    """Returns a copy of a block that shares every tensor and config with the original."""
    return copy.deepcopy(block, {id(shared): shared for shared in _shareable(block)})


def as_float32(block: nn.Module) -> nn.Module:
    """Returns a block whose parameters all are what they are run as; the block itself if they are.

    Tensors that need no cast are shared with the original.
    """
    if not any(parameter.dtype in HALVES for parameter in block.parameters()):
        return block
    made = clone_sharing(block)
    for module in made.modules():
        _cast(module, as_run)
    return made


def _shareable(block: nn.Module) -> Iterator[Tensor | PretrainedConfig]:
    yield from block.parameters()
    yield from block.buffers()
    for module in block.modules():
        for value in vars(module).values():
            if isinstance(value, (Tensor, PretrainedConfig)):
                yield value


def set_weight(block: nn.Module, name: str, value: Tensor) -> None:
    """Replaces one parameter of a copied block; the dtype and device stay those of the old one.

    Args:
        block: The copy.
        name: Path of the parameter, such as ``mlp.up_proj.weight``.
        value: The new values, as the parameter is stored.

    Raises:
        EngineError: If there is no such parameter or its shape differs.
    """
    path, _, leaf = name.rpartition(".")
    check_replacements(dict(block.named_parameters()), {name: value})
    old = stored(block, name)  # asked for by name it would be cast whole
    moved = value.detach().to(device=old.device, dtype=run_type(old))
    setattr(block.get_submodule(path), leaf, nn.Parameter(moved, requires_grad=False))


def cast_linears(block: nn.Module, dtype: torch.dtype) -> None:
    """Gives every linear of a copied block weights and biases of another dtype.

    Not by ``Module.to``, which would write to the tensors that the copy shares with the model.
    """
    for view in linear_views(block).values():
        _cast(view.module, lambda old: old.to(dtype))


def _cast(module: nn.Module, cast: Callable[[Tensor], Tensor]) -> None:
    """Gives a module of a copied block parameters of another type, and makes it plain."""
    plain(module)
    for name, old in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(cast(old.detach()), requires_grad=False))
        forget(old)


def check_replacements(own: Mapping[str, Tensor], replacements: Mapping[str, Tensor]) -> None:
    """Raises :class:`EngineError` unless every replacement is for a tensor of its own shape."""
    for name, value in replacements.items():
        if name not in own:
            raise EngineError(f"no weight is called {name!r}; there are {', '.join(own)}")
        if value.shape != own[name].shape:
            raise EngineError(
                f"{name} was to be replaced by shape {_times(value.shape)}; it has "
                f"{_times(own[name].shape)}"
            )


def _times(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))
