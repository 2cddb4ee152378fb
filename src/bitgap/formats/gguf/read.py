"""A GGUF file as a checkpoint: names of the model, rows in its order, values as it uses them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import Checkpoint, Unit
from bitgap.formats.gguf.header import GGUFFile, Stored, library
from bitgap.formats.gguf.names import ARCHITECTURES, Architecture, model_name

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Bits of a code without what a block shares; of the rest of the types it is the digits of the name.
_CODE_BITS = {"MXFP4": 4.0, "NVFP4": 4.0, "IQ4_NL": 4.0, "TQ1_0": 1.6, "TQ2_0": 2.0, "IQ1_M": 1.5,
              "IQ1_S": 1.5}  # fmt: skip
_PART_WEIGHTS = 1 << 16
"""Weights that are dequantized at a time: their temporaries stay in the caches."""
ROTARY_FACTORS = "rope_freqs.weight"
_SCALED = ".scale"  # a factor for the whole matrix, beside an NVFP4 tensor; .input_scale is unused


def open_gguf(path: Path, file: GGUFFile | None = None) -> Checkpoint:
    """Opens a GGUF file as a checkpoint, without reading a matrix.

    Args:
        path: The file.
        file: The same file, if it is open already.

    Raises:
        ModelError: If it is damaged, split, big-endian, of an unknown architecture, or has a tensor
            that its architecture has no place for.
        MissingExtra: If the gguf library is not installed.
    """
    file = GGUFFile(path) if file is None else file
    row = architecture_of(file)
    units: list[Unit] = []
    for tensor in file.tensors.values():
        name = model_name(row, tensor.name)
        if name is not None:
            units.append(_unit(file, row, tensor, name))
        elif tensor.name != ROTARY_FACTORS and not _is_scale(file, tensor):
            raise ModelError(
                f"{path.name}: {tensor.name} has no place in the architecture "
                f"{file.metadata['general.architecture']!r} as it is understood here; the file was "
                f"written by a newer or another converter"
            )
    if not units:
        raise ModelError(f"{path.name} holds no tensor")
    return Checkpoint(
        path=path,
        toolchain="gguf",
        units=tuple(unit for unit in units if unit.stored not in FLOATS),
        whole=tuple(unit for unit in units if unit.stored in FLOATS),
        claim=_claim(file),
        tokens=_tokens(file),
    )


def _tokens(file: GGUFFile) -> dict[int, str]:
    """Returns the vocabulary that a file holds, by id; empty where it holds none."""
    told = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(told, list):
        return {}
    return {number: token for number, token in enumerate(told) if isinstance(token, str)}


def architecture_of(file: GGUFFile) -> Architecture:
    """Returns the row for a file's architecture.

    Raises:
        ModelError: If there is none.
    """
    found = file.metadata.get("general.architecture")
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise ModelError(
            f"{file.path.name} has the architecture {found!r}; those that are read are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[found]


def setting(file: GGUFFile, key: str, default: Any = None) -> Any:
    """Returns the value of a key under the architecture's name, such as ``block_count``."""
    return file.metadata.get(f"{file.metadata['general.architecture']}.{key}", default)


def head_counts(file: GGUFFile) -> tuple[int, int]:
    """Returns numbers of query heads and of key and value heads, which all blocks share.

    Raises:
        ModelError: If they are absent, differ among blocks, or do not divide each other.
    """
    queries = setting(file, "attention.head_count")
    keys = setting(file, "attention.head_count_kv", queries)
    counts: list[int] = []
    for told in (queries, keys):
        values = set(np.atleast_1d(told).tolist()) if told is not None else set()
        if (
            len(values) != 1
            or not isinstance(value := values.pop(), int)
            or not 0 < value < 1 << 16
        ):
            raise ModelError(
                f"{file.path.name}: its numbers of heads are {told!r}; only models whose blocks "
                f"all have the same are read"
            )
        counts.append(value)
    if counts[0] % counts[1]:
        raise ModelError(f"{file.path.name}: {counts[0]} heads cannot share {counts[1]}")
    return counts[0], counts[1]


def _unit(file: GGUFFile, row: Architecture, tensor: Stored, name: str) -> Unit:
    heads = 0
    if row.permuted and tensor.name.endswith(("attn_q.weight", "attn_q.bias")):
        heads = head_counts(file)[0]
    elif row.permuted and tensor.name.endswith(("attn_k.weight", "attn_k.bias")):
        heads = head_counts(file)[1]
    if heads and tensor.shape[0] % (2 * heads):
        raise ModelError(f"{file.path.name}: {tensor.name} does not divide into {heads} heads")
    is_norm = row.norm_offset and "norm" in tensor.name
    scale = next((s for s in _scale_names(tensor) if s in file.tensors), None)
    if scale is not None and (
        file.tensors[scale].kind != "F32" or file.tensors[scale].shape != (1,)
    ):
        raise ModelError(f"{file.path.name}: {scale} is not one number, as it is understood here")

    def read() -> Tensor:
        values = torch.from_numpy(_values(file, tensor))
        if scale is not None:
            values = values * float(_values(file, file.tensors[scale])[0])
        if heads:
            values = values.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        return values - 1 if is_norm else values

    per_block, _ = block_of(tensor.kind)
    bits = code_bits(tensor.kind)
    code_bytes = min(tensor.n_bytes, math.ceil(math.prod(tensor.shape) * bits / 8))
    if per_block == 1:
        code_bytes = tensor.n_bytes
    beside = file.tensors[scale].n_bytes if scale is not None else 0
    return Unit(
        name=name,
        shape=tensor.shape,
        stored=tensor.kind,
        code_bits=bits,
        code_bytes=code_bytes,
        scale_bytes=tensor.n_bytes - code_bytes + beside,
        read=read,
    )


def values_of(file: GGUFFile, name: str) -> NDArray[np.float32]:
    """Returns the values of one tensor as the file has them, by the file's name."""
    return _values(file, file.tensors[name])


def code_bits(kind: str) -> float:
    """Returns the bits of a code of a ggml type, without what its block shares.

    Example:
        >>> code_bits("Q4_K"), code_bits("BF16")
        (4.0, 16.0)
    """
    if kind in _CODE_BITS:
        return _CODE_BITS[kind]
    digits = "".join(c for c in kind.lstrip("BIFQ").partition("_")[0] if c.isdigit())
    return float(digits)


def _values(file: GGUFFile, tensor: Stored) -> NDArray[np.float32]:
    data = file.bytes_of(tensor)
    if tensor.kind in FLOATS:
        raw = torch.frombuffer(bytearray(data), dtype=FLOATS[tensor.kind])
        file.release(tensor)
        return raw.float().numpy().reshape(tensor.shape)
    kind = library().GGMLQuantizationType[tensor.kind]
    per_block, block_bytes = block_of(tensor.kind)
    blocks = data.reshape(-1, block_bytes)
    values = np.empty((len(blocks), per_block), np.float32)
    # A part at a time, as the library makes several temporaries of what it is given; seen as one
    # row, since it calls its arithmetic anew for every sixteen.
    step = max(1, _PART_WEIGHTS // per_block)
    try:
        with np.errstate(all="ignore"):  # what is not finite is told by name
            for start in range(0, len(blocks), step):
                part = blocks[start : start + step]
                found = library().dequantize(part.reshape(1, -1), kind)
                values[start : start + step] = found.reshape(len(part), per_block)
    except NotImplementedError:
        raise ModelError(
            f"{file.path.name}: {tensor.name} is {tensor.kind}, which the installed gguf cannot "
            f"dequantize"
        ) from None
    file.release(tensor)
    return values.reshape(tensor.shape)


def block_of(kind: str) -> tuple[int, int]:
    """Returns weights and bytes of a block of a ggml type, by its name."""
    return library().GGML_QUANT_SIZES[library().GGMLQuantizationType[kind]]


def _scale_names(tensor: Stored) -> tuple[str, ...]:
    # Two converters, two names.
    return (tensor.name.removesuffix(".weight") + _SCALED, tensor.name + _SCALED)


def _is_scale(file: GGUFFile, tensor: Stored) -> bool:
    for end in (_SCALED, ".input_scale"):
        stem = tensor.name.removesuffix(end)
        if stem != tensor.name and (f"{stem}.weight" in file.tensors or stem in file.tensors):
            return True
    return False


def _claim(file: GGUFFile) -> str:
    kinds = library().LlamaFileType
    told = file.metadata.get("general.file_type")
    names = [kind.name.removeprefix("MOSTLY_") for kind in kinds if kind.value == told]
    return names[0] if names else ""
