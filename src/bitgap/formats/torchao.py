"""torchao in safetensors: a tensor subclass taken apart, its description in the file's metadata.

``X._weight_qdata``, ``X._weight_scale`` and, of integers, ``X._weight_zero_point``; the metadata
names the class under ``X.weight``, with the block that shares a scale and the type that codes stand
for. Integers of 1 to 8 bits are stored one a byte, so bits of the file are not bits of the code.
W = (code - zero) · scale; NVFP4 has two E2M1 codes a byte, the first in the low half, and a second
scale for the matrix. Layouts tiled for one accelerator are refused by their class. Read off
``torchao/prototype/safetensors`` and proved against ``dequantize`` of each class in the tests.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import FP4_VALUES, by_group, nibbles
from bitgap.formats.tensors import TensorFolder

_READ = ("IntxUnpackedToInt8Tensor", "Int8Tensor", "Float8Tensor", "NVFP4Tensor")
_PART = re.compile(r"(?:(?P<module>.+)\.)?_(?P<leaf>\w+?)_qdata")


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the tensors that torchao took apart.

    Raises:
        ModelError: If one is of a class that is not read, or its description does not fit.
    """
    found: list[Claim] = []
    for key in tensors.headers:
        if (match := _PART.fullmatch(key)) is not None:
            name = ".".join(p for p in (match["module"], match["leaf"]) if p)
            if name in tensors.metadata:
                found.append(_matrix(tensors, name, key.removesuffix("qdata")))
    return found


def _matrix(tensors: TensorFolder, name: str, prefix: str) -> Claim:
    kind, data = _description(tensors, name)
    if kind == "NVFP4Tensor":
        return _nvfp4(tensors, name, prefix, data)
    header = tensors.expect(f"{prefix}qdata", ("I8", "U8", "F8_E4M3", "F8_E5M2"))
    tensors.expect(f"{prefix}scale", ("F16", "BF16", "F32"))
    shape = header.shape
    block = _block(tensors, name, data, shape)
    counts = tuple(size // b for size, b in zip(shape, block, strict=True))
    zeros = f"{prefix}zero_point"
    for part in (f"{prefix}scale", *((zeros,) if zeros in tensors else ())):
        if math.prod(tensors.header(part).shape) != math.prod(counts):
            raise _refused(tensors, name, f"blocks of {times(block)} do not fit {part}")

    def dequantized() -> Tensor:
        values = tensors.get(f"{prefix}qdata").float()
        if zeros in tensors:
            values -= _spread(tensors.get(zeros), counts, block)
        return values * _spread(tensors.get(f"{prefix}scale"), counts, block)

    bits = 8
    if kind == "IntxUnpackedToInt8Tensor":
        told = str(cast("dict[str, Any]", data.get("target_dtype") or {}).get("_data"))
        if (match := re.fullmatch(r"int([1-8])", told)) is None:
            raise _refused(tensors, name, f"its codes are said to be {told}")
        bits = int(match[1])
    grain = (
        "tensor" if math.prod(counts) == 1 else "channel" if counts[-1] == 1 else f"g{block[-1]}"
    )
    stored = f"int{bits}" if kind != "Float8Tensor" else f"f{header.dtype[1:].lower()}"
    asymmetric = zeros in tensors and bool(tensors.get(zeros).any())
    return claim(
        tensors,
        "torchao",
        name,
        shape,
        f"{stored} {grain}{' asym' if asymmetric else ''}",
        dequantized,
        code_bits=bits,
        codes=f"{prefix}qdata",
        beside=(f"{prefix}scale", zeros, f"{prefix}act_pre_scale"),
    )


def _nvfp4(tensors: TensorFolder, name: str, prefix: str, data: dict[str, Any]) -> Claim:
    codes = tensors.expect(f"{prefix}qdata", ("U8", "F4")).shape
    if tensors.header(f"{prefix}qdata").dtype == "F4":  # whose header counts codes, not bytes
        codes = (*codes[:-1], codes[-1] // 2)
    scales = tensors.expect(f"{prefix}scale", ("F8_E4M3",)).shape
    size = data.get("block_size")
    if data.get("is_swizzled_scales") or not isinstance(size, int) or size < 1:
        raise _refused(tensors, name, "its scales are tiled for an accelerator")
    shape = (*codes[:-1], codes[-1] * 2)
    if len(shape) != 2 or scales != (shape[0], -(-shape[1] // size)):
        raise _refused(tensors, name, f"codes {times(codes)} have scales {times(scales)}")
    whole = f"{prefix}per_tensor_scale"
    if whole in tensors and math.prod(tensors.expect(whole, ("F32", "BF16")).shape) != 1:
        raise _refused(tensors, name, "its second scale is no single number")

    def dequantized() -> Tensor:
        scale = tensors.get(f"{prefix}scale").float()
        if whole in tensors:
            scale = tensors.get(whole).float().reshape(()) * scale
        packed = tensors.get(f"{prefix}qdata").view(torch.uint8)
        return by_group(FP4_VALUES[nibbles(packed).int()], scale, None, size)

    return claim(
        tensors,
        "torchao",
        name,
        shape,
        "NVFP4",
        dequantized,
        code_bits=4,
        codes=f"{prefix}qdata",
        beside=(f"{prefix}scale", whole, f"{prefix}act_per_tensor_scale"),
    )


def _description(tensors: TensorFolder, name: str) -> tuple[str, dict[str, Any]]:
    try:
        told = json.loads(tensors.metadata[name])
        kind, data = str(told["_type"]), told["_data"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(
            tensors, name, f"the file's metadata do not describe it ({error})"
        ) from error
    if kind not in _READ:
        raise ModelError(
            f"{tensors.path.name}: {name} is a torchao {kind}, which is laid out for an "
            f"accelerator and not read; IntxWeightOnlyConfig, Int8WeightOnlyConfig and "
            f"Float8WeightOnlyConfig make tensors that are"
        )
    if not isinstance(data, dict):
        raise _refused(tensors, name, "the file's metadata do not describe it")
    return kind, cast("dict[str, Any]", data)


def _block(
    tensors: TensorFolder, name: str, data: dict[str, Any], shape: tuple[int, ...]
) -> tuple[int, ...]:
    told = data.get("block_size")
    block = cast("list[object]", told) if isinstance(told, list) else []
    if len(block) != len(shape) or not all(isinstance(b, int) for b in block):
        raise _refused(tensors, name, f"its block size is {told}")
    # A block may be longer than what is left of the tensor after slicing: one for all then.
    sizes = tuple(min(b, n) for b, n in zip(cast("list[int]", block), shape, strict=True))
    if any(b < 1 or n % b for b, n in zip(sizes, shape, strict=True)):
        raise _refused(tensors, name, f"blocks of {times(sizes)} do not divide {times(shape)}")
    return sizes


def _spread(values: Tensor, counts: tuple[int, ...], block: tuple[int, ...]) -> Tensor:
    spread = values.float().reshape(counts)
    for dim, (count, size) in enumerate(zip(counts, block, strict=True)):
        if count > 1 and size > 1:
            spread = spread.repeat_interleave(size, dim)
    return spread


def _refused(tensors: TensorFolder, name: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {name} looks like torchao's layout, but {why}; this version of it "
        f"is not understood"
    )
