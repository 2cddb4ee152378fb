"""An export read back by our own reader: every matrix counted, and compared with the simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bitgap.formats.checkpoint import Checkpoint, Unit
from bitgap.formats.gguf.header import GGUFFile
from bitgap.formats.gguf.read import open_gguf
from bitgap.formats.onnx_file import open_onnx
from bitgap.formats.open import open_checkpoint
from bitgap.formats.openvino_file import open_openvino
from bitgap.formats.openvino_writer import GRAPH as OPENVINO_GRAPH
from bitgap.formats.safetensors_file import NAMES
from bitgap.formats.source import Place, Source
from bitgap.formats.target import FP, Target, rtn
from bitgap.formats.tensors import FLOATS, TensorFolder
from bitgap.quant.schemes import largest_level

_RELATIVE, _ABSOLUTE = 2.0**-10.9, 2.0**-24.9
"""What float16 makes of a scale or weight: half a step of 11 bits, or of its smallest number."""
_BF16_RELATIVE = 2.0**-7.9
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One matrix of an export.

    Attributes:
        name: The parameter's name.
        stored: The type that it was found to be stored in.
        code_bits: Bits of its codes.
        n_bytes: Bytes of codes, scales and all that belongs to them.
        error: Largest |stored - simulated| over the largest |simulated|.
        wrong: What is not as it must be; empty if all is.
    """

    name: str
    stored: str
    code_bits: float
    n_bytes: int
    error: float
    wrong: str


def count(
    source: Source, target: Target, schemes: Mapping[str, str], checkpoint: Checkpoint
) -> Iterator[Counted]:
    """Counts every matrix of an export.

    Args:
        source: The model that it was made of, its weights as they were.
        target: The toolchain.
        schemes: A scheme for every place.
        checkpoint: The export, as :func:`opened` reads it.

    Raises:
        ModelError: If values cannot be read.
    """
    found = _by_name(checkpoint)
    for name, place in source.places.items():
        if name not in found:
            yield Counted(
                name=name, stored="", code_bits=0.0, n_bytes=0, error=1.0, wrong="it is not there"
            )
            continue
        yield _count(source, target, place, schemes.get(name, FP), found[name])


def stored_values(
    source: Source, target: Target, checkpoint: Checkpoint
) -> dict[str, Callable[[], Tensor]]:
    """Returns what an export holds of every matrix that is not as the model has it.

    Args:
        source: The model that it was made of.
        target: The toolchain.
        checkpoint: The export, as :func:`opened` reads it.

    Returns:
        By name, a call that reads the values as (out x in); what :func:`count` finds to be absent
        or of another shape is not among them.
    """
    found = _by_name(checkpoint)
    return {
        name: partial(_as_outputs, target, place, found[name])
        for name, place in source.places.items()
        if name in found
        and set(found[name].shape) == set(place.shape)
        and found[name].stored != NAMES.get(source.stored(name).dtype)
    }


def _by_name(checkpoint: Checkpoint) -> dict[str, Unit]:
    return {unit.name: unit for unit in (*checkpoint.units, *checkpoint.whole)}


def opened(folder: Path) -> Checkpoint:
    """Opens an export, which may hold nothing that is quantized.

    Raises:
        ModelError: If it cannot be read.
    """
    for file in sorted(folder.glob("*.gguf")):
        return open_gguf(file, GGUFFile(file))
    for file in sorted(folder.glob("*.onnx")):
        return open_onnx(file)
    if (folder / OPENVINO_GRAPH).is_file():
        return open_openvino(folder / OPENVINO_GRAPH)
    tensors = TensorFolder(folder)
    if all(header.dtype in FLOATS for header in tensors.headers.values()):
        whole = tuple(tensors.as_whole(name) for name in tensors.headers)
        return Checkpoint(path=folder, toolchain="none", units=(), whole=whole)
    return open_checkpoint(folder)


def _count(source: Source, target: Target, place: Place, scheme: str, unit: Unit) -> Counted:
    expected = target.expected(source, place, scheme)
    wrong: list[str] = []
    if expected.stored and unit.stored != expected.stored:
        wrong.append(f"stored as {unit.stored} where {expected.stored} was asked")
    if unit.code_bits != expected.code_bits:
        wrong.append(f"codes of {unit.code_bits:g} bits where {expected.code_bits:g} were asked")
    if unit.n_bytes != expected.n_bytes:
        wrong.append(f"{unit.n_bytes} bytes where {expected.n_bytes} were predicted")
    error, is_close = 1.0, False
    if unit.shape == place.shape or place.kind == "conv1d":
        error, is_close = _error(source, target, place, scheme, unit)
    else:
        wrong.append(f"shape {unit.shape} where the model has {place.shape}")
    if not is_close:
        wrong.append(f"values differ from the simulation by {error:.1e} of the largest")
    return Counted(
        name=place.name,
        stored=unit.stored,
        code_bits=unit.code_bits,
        n_bytes=unit.n_bytes,
        error=error,
        wrong="; ".join(wrong),
    )


def _error(
    source: Source, target: Target, place: Place, scheme: str, unit: Unit
) -> tuple[float, bool]:
    found = _as_outputs(target, place, unit)
    if found.shape != place.shape:
        return 1.0, False
    matrix = source.matrix(place.name)
    relative = _BF16_RELATIVE if unit.stored == "BF16" and scheme == FP else _RELATIVE
    parsed = rtn(scheme)
    # A scale is off by so much, and a weight by as many times it as its level.
    absolute = _ABSOLUTE * (largest_level(parsed.bits) if parsed is not None else 1)
    worst, largest, is_close = 0.0, 0.0, True
    # In pieces of whole rows where the scheme allows, so that no matrix is held several times.
    step = max(1, _PIECE // place.n_in) if target.by_rows(scheme) else place.n_out
    for start in range(0, place.n_out, step):
        rows = slice(start, start + step)
        wanted = target.rounded(matrix[rows], scheme, place.name)
        difference = (found[rows] - wanted).abs_()
        worst = max(worst, float(difference.max()))
        largest = max(largest, float(wanted.abs().max()))
        is_close &= bool(torch.all(difference <= relative * wanted.abs() + absolute))
    source.forget(place.name)
    return (worst / largest if largest else worst), is_close


def _as_outputs(target: Target, place: Place, unit: Unit) -> Tensor:
    """Returns the values of a matrix as (out x in), whatever way round a file has them."""
    found = unit.weight()
    # A whole Conv1D is mostly stored as it is used; what is quantized is (out x in).
    if place.kind == "conv1d" and unit.shape == place.shape[::-1] and unit.stored in FLOATS:
        # Of a square one no shape tells; these files have it as the recipe does.
        if place.n_in != place.n_out or target.loader not in ("gguf", "openvino", "mlx"):
            return found.T
    return found
