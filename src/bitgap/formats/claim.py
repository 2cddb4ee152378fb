"""How readers share a folder: each takes the tensors whose layout it knows and leaves the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from bitgap.formats.checkpoint import Unit
from bitgap.formats.tensors import TensorFolder


@dataclass(frozen=True, slots=True)
class Claim:
    """A matrix that a reader found, and the tensors it is made of."""

    unit: Unit
    uses: tuple[str, ...]
    toolchain: str
    """Whose layout it is."""


def claim(
    tensors: TensorFolder,
    toolchain: str,
    name: str,
    shape: tuple[int, ...],
    stored: str,
    read: Callable[[], Tensor],
    *,
    code_bits: float,
    codes: str,
    beside: Iterable[str] = (),
) -> Claim:
    """Returns a claim whose bytes are counted from the headers.

    Args:
        tensors: The folder.
        toolchain: Whose layout it is.
        name: The parameter's name in the model.
        shape: (out, in), or with experts in front.
        stored: What to call the type.
        read: Gives the dequantized matrix.
        code_bits: Bits of a code.
        codes: The tensor that holds the codes.
        beside: Tensors of scales, zeros and the like; those that are absent are passed over.
    """
    beside = tuple(key for key in beside if key in tensors)
    unit = Unit(
        name=name,
        shape=shape,
        stored=stored,
        code_bits=code_bits,
        code_bytes=tensors.n_bytes(codes),
        scale_bytes=tensors.n_bytes(*beside),
        read=read,
    )
    return Claim(unit, (codes, *beside), toolchain)
