"""What every reader gives: a checkpoint as matrices that are read one by one, when asked.

Nothing is read before :meth:`Unit.weight` is called but headers, and nothing is kept after. A
matrix is what a model multiplies by, seen as (out, in), whatever way round it is stored; experts
kept in one tensor are (experts, out, in).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitgap.errors import BitgapError, ModelError
from bitgap.models.hub import shown_name

_TOKENIZERS = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")
"""Graphs that OpenVINO's converter of tokenizers puts beside a model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One tensor of a checkpoint: how it is stored, and a way to its values.

    Example:
        >>> unit = Unit(name="a.weight", shape=(2, 4), stored="int4 g4", code_bits=4,
        ...             code_bytes=4, scale_bytes=4, read=lambda: torch.ones(2, 4))
        >>> unit.bits, unit.weight().shape
        (8.0, torch.Size([2, 4]))
    """

    name: str
    """The parameter's name in the transformers model, such as ``model.layers.0.mlp.up.weight``."""
    shape: tuple[int, ...]
    """(out, in); (experts, out, in) of experts in one tensor; as stored if it is no matrix."""
    stored: str
    """The type it is stored in: ``Q4_K``, ``int4 g32``, ``NF4 b64 double``, ``BF16``."""
    code_bits: float
    """Bits of one code, without scales; fractional where a code stands for several weights."""
    code_bytes: int
    """Bytes of the codes, padding included."""
    scale_bytes: int = 0
    """Bytes of scales, zeros, group indices and tables: all that is no code."""
    read: Callable[[], Tensor] = field(repr=False, compare=False)
    """Gives the dequantized values; called by :meth:`weight`."""

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes in the file: codes and all that belongs to them."""
        return self.code_bytes + self.scale_bytes

    @property
    def bits(self) -> float:
        """Bits of the file for each weight, scales included."""
        return 8 * self.n_bytes / self.n_weights

    def weight(self) -> Tensor:
        """Returns the dequantized values as float32 of ``shape``, newly read each time.

        Raises:
            ModelError: If the file does not hold what its header says, or a value is not finite.
        """
        try:
            with torch.no_grad():
                value = self.read().to(torch.float32)
        except (BitgapError, MemoryError):
            raise
        except Exception as error:  # torch and safetensors raise what they like on damaged files
            line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ModelError(
                f"{self.name} ({self.stored}) cannot be dequantized ({line}); the file may be "
                f"damaged: copy or download it again"
            ) from error
        if tuple(value.shape) != self.shape:
            raise ModelError(
                f"{self.name}: the tensors of the file make {times(value.shape)}, its header says "
                f"{times(self.shape)}; the file is damaged or of a version that is not understood"
            )
        if not value.sum().isfinite() and not value.isfinite().all():
            raise ModelError(f"{self.name} holds NaN or infinity; use an undamaged checkpoint")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one toolchain wrote."""

    path: Path
    """Where from: the file, or the folder."""
    toolchain: str
    """Whose layout it is, such as ``gptq`` or ``compressed-tensors``."""
    units: tuple[Unit, ...]
    """The quantized matrices, in the file's order."""
    whole: tuple[Unit, ...]
    """What is left in a floating type: norms, biases, often embedding and head."""
    claim: str = ""
    """What the checkpoint says of itself (its recipe, file type or config), shown and never used
    where the tensors can tell."""
    tokens: Mapping[int, str] = field(default_factory=dict, repr=False, compare=False)
    """Spelling of each token id, of a file that holds its tokenizer; else empty."""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The model's config.json, or what a GGUF file says in its place; empty if there is none."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        return shown_name(self.path)

    def unit(self, name: str) -> Unit:
        """Returns a tensor, quantized or whole, by its name in the model.

        Raises:
            ModelError: If the checkpoint has none of that name.
        """
        for unit in (*self.units, *self.whole):
            if unit.name == name:
                return unit
        raise ModelError(
            f"{self.name} has no tensor {name!r}; it has {len(self.units)} quantized and "
            f"{len(self.whole)} whole ones, such as {', '.join(u.name for u in self.units[:3])}"
        )


def graphs_in(folder: Path, ending: str) -> list[Path]:
    """Returns the models of a folder that are files of one ending.

    Args:
        folder: Where to look.
        ending: Such as ``.onnx``.
    """
    return sorted(p for p in folder.glob(f"*{ending}") if p.name not in _TOKENIZERS)


def times(shape: Any) -> str:
    """Returns a shape for people.

    Example:
        >>> times((2, 3))
        '2 x 3'
    """
    return " x ".join(map(str, shape)) or "a number"
