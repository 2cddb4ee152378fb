"""The full-precision model that an export is made of: its matrices one by one, and its files.

A *place* is a matrix that a recipe may round: a linear of a block, the head, the token embedding.
Names are those of the model's parameters, which is what its checkpoint is read by. Nothing is held
but what is asked for: weights are mapped from the file (:mod:`bitgap.models.stored`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bitgap.errors import ModelError
from bitgap.models.load import LoadedModel, load_model, model_folder
from bitgap.models.stored import forget, forget_files

Kind = Literal["linear", "conv1d", "embedding", "head", "tied"]
OUTSIDE: tuple[Kind, ...] = ("embedding", "head", "tied")
"""Kinds that stand outside the blocks."""
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.([0-9]+)\.")
# What belongs to the weights of one stored form and to no other.
_NOT_COPIED = re.compile(
    r".*\.(safetensors|bin|pt|pth|gguf|onnx|h5|msgpack)|.*\.index\.json|config\.json|\..*"
    r"|bitgap-note\.txt|README\.md|card\.md"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A matrix that may be rounded."""

    name: str
    """The parameter's name, such as ``model.layers.0.mlp.up_proj.weight``."""
    n_out: int
    n_in: int
    """Groups run along these, whatever way round the matrix is stored."""
    kind: Kind
    block: int | None
    """Number of its block; None of embedding and head."""

    @property
    def module(self) -> str:
        """Path of the module that owns it."""
        return self.name.removesuffix(".weight")

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.n_out, self.n_in

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return self.n_out * self.n_in


class Source:
    """A loaded model as what an export reads.

    Attributes:
        loaded: The model, its tokenizer and what it is.
        folder: Its files.
        config: Its ``config.json`` as it stands there.
        places: Every matrix that may be rounded, by name, in the model's order.
    """

    def __init__(
        self, loaded: LoadedModel, folder: Path, config: Mapping[str, Any] | None = None
    ) -> None:
        """Finds the places of a model.

        Args:
            loaded: The model.
            folder: Its files.
            config: Its config; read from the folder when None.

        Raises:
            ModelError: If its config cannot be read.
        """
        self.loaded, self.folder = loaded, folder
        self.config = _config(folder) if config is None else dict(config)
        self._tensors = _tensors(loaded.model)
        self.places = {place.name: place for place in _places(loaded.model)}
        self._aliases = _aliases(loaded.model)

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] | None,
        *,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
    ) -> Source:
        """Opens a model as ``load_model`` finds it.

        Args:
            model: A folder, a hub id, or None for the bundled model.
            allow_pickle: As :func:`bitgap.models.load.load_model` takes it.
            trust_remote_code: Likewise.

        Raises:
            ModelError: If it cannot be loaded.
        """
        loaded = load_model(model, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
        folder = model_folder(model, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
        return cls(loaded, folder)

    @classmethod
    def in_hand(cls, loaded: LoadedModel) -> Source:
        """Returns a model that is asked about and not written: it has no files.

        Args:
            loaded: The model, whose config is the one that it was loaded with.
        """
        return cls(loaded, Path(os.devnull), loaded.model.config.to_dict())

    def place(self, name: str) -> Place:
        """Returns a place by its parameter's name; a tied head is found by either of its names.

        Raises:
            ModelError: If the model has no matrix of that name that can be rounded.
        """
        own = self._aliases.get(name, name)
        if own not in self.places:
            raise ModelError(
                f"{self.loaded.info.name} has no matrix {name!r} that can be rounded on its own; "
                f"it has {len(self.places)}, such as {', '.join([*self.places][:3])}"
            )
        return self.places[own]

    def names(self) -> Iterator[str]:
        """Yields every tensor that a checkpoint holds, what is tied once, in the model's order."""
        yield from self._tensors

    def stored(self, name: str) -> Tensor:
        """Returns a tensor as the model's file has it; not to be written to."""
        return self._tensors[name].detach()

    def matrix(self, name: str) -> Tensor:
        """Returns a place's matrix as (out x in) in the file's type; not to be written to."""
        value = self.stored(name)
        return value.T if self.places[name].kind == "conv1d" else value

    def forget(self, name: str) -> None:
        """Gives the memory of a tensor that was read back to the system."""
        forget(self._tensors[name])

    def forget_file(self) -> None:
        """Gives the memory of all of the model's file back, of a small model too.

        Its pages are kept while it is run, since they are wanted again and again
        (:mod:`bitgap.models.stored`); an export goes through them a few times.
        """
        forget_files(self.folder)

    def copied_files(self) -> list[Path]:
        """Returns the files beside the weights: tokenizer, generation settings, licence.

        Raises:
            ModelError: If one is a link to a file elsewhere, which would be shipped with the model.
        """
        files = (path for path in self.folder.iterdir() if path.is_file())
        copied = sorted(path for path in files if not _NOT_COPIED.fullmatch(path.name))
        for path in copied:
            _refuse_link(path)
        return copied


def _refuse_link(path: Path) -> None:
    folder, target = path.parent.resolve(), path.resolve()
    # The hub's cache has a model's files as links into a folder of its own.
    own = [folder, *([folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [])]
    if not any(target.is_relative_to(place) for place in own):
        raise ModelError(
            f"{path.parent.name}/{path.name} is a link to {target}, outside the model's folder, "
            f"and would be copied into the export; remove it, or put the file itself there"
        )


def _config(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder.name}/config.json cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{folder.name}/config.json holds no object")
    return value


def _tensors(model: nn.Module) -> Mapping[str, Tensor]:
    found: dict[str, Tensor] = dict(model.named_parameters())
    for path, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                found[f"{path}.{name}".lstrip(".")] = buffer
    return found


def _places(model: Any) -> Iterator[Place]:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    table = embedding._parameters["weight"]
    tied = head is not None and head._parameters.get("weight") is table
    seen: set[int] = set()
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or weight.ndim != 2 or id(weight) in seen:
            continue
        kind: Kind
        if module is embedding:
            kind = "tied" if tied else "embedding"
        elif module is head:
            kind = "head"
        elif isinstance(module, Conv1D):
            kind = "conv1d"
        elif isinstance(module, nn.Linear):
            kind = "linear"
        else:
            continue
        seen.add(id(weight))
        match = _BLOCK.search(f"{path}.")
        n_out, n_in = weight.shape if kind != "conv1d" else weight.shape[::-1]
        yield Place(
            name=f"{path}.weight",
            n_out=n_out,
            n_in=n_in,
            kind=kind,
            block=int(match[1]) if match and kind not in OUTSIDE else None,
        )


def _aliases(model: nn.Module) -> Mapping[str, str]:
    own: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = own.setdefault(id(parameter), name)
        if first != name:
            found[name] = first
    return found


def block_path(name: str) -> str:
    """Returns where the block stands that a parameter is in.

    Args:
        name: Of a place with a block.

    Example:
        >>> block_path("model.layers.3.mlp.up_proj.weight")
        'model.layers.3'
    """
    match = _BLOCK.search(name)
    if match is None:
        raise ValueError(f"{name} is in no block")
    return name[: match.end() - 1]


def sixteen_bit_type(value: Tensor) -> torch.dtype:
    """Returns the type that a whole matrix has in a file of 16 bits a weight.

    What has 16 bits stays as it is; wider ones become float16, or bfloat16 beyond its range.

    Example:
        >>> sixteen_bit_type(torch.tensor([1.0, 1e6]))
        torch.bfloat16
    """
    if value.dtype in (torch.float16, torch.bfloat16):
        return value.dtype
    # amax of |w| makes a copy of all of it; the ends do not.
    largest = max(float(value.max()), -float(value.min()))
    return torch.float16 if largest <= torch.finfo(torch.float16).max else torch.bfloat16
