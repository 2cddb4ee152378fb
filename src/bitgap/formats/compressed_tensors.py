"""compressed-tensors: packed integers, float4 and float6 in two styles of scale.

*Packed integers* (``pack-quantized``): ``weight_packed`` int32, ``weight_scale``, ``weight_shape``,
and ``weight_zero_point`` if asymmetric, packed along the outputs. Codes of 1 to 8 bits are one
dense stream a row, stored as code + 2^(b-1). W = scale · (code - zero).

*NVFP4*: ``weight_packed`` uint8, two E2M1 codes a byte, the first in the low half; ``weight_scale``
float8, one for 16 inputs, over ``weight_global_scale``, one for the matrix (a divisor here, where
ModelOpt has a factor). *MXFP4* and *MXFP6*: ``weight_scale`` uint8 is an exponent, one for 32.

Unpacked integers and float8 (``int-quantized``, ``float-quantized``, ``naive-quantized``, MXFP8)
are read by ``scaled.py``, as other toolchains write the same. Read off the library's
``compressors/`` and proved against it in the tests.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import (
    FP4_VALUES,
    FP6_VALUES,
    by_group,
    exponents,
    group_size,
    nibbles,
    stream_bytes,
    unpack_stream,
)
from bitgap.formats.tensors import TensorFolder, integer

_SCALES = ("F16", "BF16", "F32", "F64")


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the packed matrices that compressed-tensors wrote.

    Raises:
        ModelError: If one lacks a part, or its shapes fit no version that is known.
    """
    found: list[Claim] = []
    for at in tensors.modules_with("weight_packed"):
        header = tensors.expect(f"{at}.weight_packed", ("I32", "U8"))
        found.append(_integers(tensors, at) if header.dtype == "I32" else _floats(tensors, at))
    return found


def _integers(tensors: TensorFolder, at: str) -> Claim:
    packed = tensors.expect(f"{at}.weight_packed", ("I32",)).shape
    scales = tensors.expect(f"{at}.weight_scale", _SCALES).shape
    shape = _shape(tensors, at)
    if shape[:-1] != packed[:-1] or not 2 <= len(shape) <= 3:
        raise _refused(tensors, at, f"weight_shape {times(shape)} has codes {times(packed)}")
    n_out, n_in = shape[-2:]
    bits = _bits(tensors, at, n_in, packed[-1])
    if len(scales) == 1:
        scales = (*shape[:-1], 1) if scales == shape[-2:-1] else (1,)
    elif scales[:-1] != shape[:-1]:
        raise _refused(tensors, at, f"scales {times(scales)} for weights {times(shape)}")
    one = scales == (1,)
    size = n_in if one else group_size(n_in, scales[-1], _declared(tensors), at)
    zeros = f"{at}.weight_zero_point"
    if zeros in tensors:
        header = tensors.expect(zeros, ("I32", "I8", "U8"))
        rows = stream_bytes(n_out, bits) // 4 if header.dtype == "I32" else n_out
        if header.shape != (*shape[:-2], rows, scales[-1]):
            raise _refused(tensors, at, f"zero points {times(header.shape)} fit no packing")
    index = f"{at}.weight_g_idx"
    if index in tensors and tensors.expect(index, ("I32", "I64"), 1).shape != (n_in,):
        raise _refused(tensors, at, "weight_g_idx does not have one entry an input")

    def dequantized() -> Tensor:
        codes = unpack_stream(tensors.get(f"{at}.weight_packed"), bits, n_in)
        codes = codes.float().sub_(2 ** (bits - 1))
        scale = tensors.get(f"{at}.weight_scale").float().reshape(scales)
        if one:
            return codes.mul_(scale)
        zero = _zeros(tensors, zeros, bits, n_out) if zeros in tensors else None
        if index not in tensors or int((groups := tensors.get(index).long()).min()) < 0:
            return by_group(codes, scale, zero, size)  # -1 throughout: no order was stored
        if int(groups.max()) >= scales[-1]:
            raise _refused(tensors, at, f"weight_g_idx names groups beyond {scales[-1]}")
        codes = codes if zero is None else codes.sub_(zero[..., groups])
        return codes.mul_(scale[..., groups])

    group = "tensor" if one else "channel" if scales[-1] == 1 else f"g{size}"
    return claim(
        tensors,
        "compressed-tensors",
        f"{at}.weight",
        shape,
        f"int{bits} {group}{' asym' if zeros in tensors else ''}",
        dequantized,
        code_bits=bits,
        codes=f"{at}.weight_packed",
        beside=(f"{at}.weight_scale", f"{at}.weight_shape", zeros, index),
    )


def _shape(tensors: TensorFolder, at: str) -> tuple[int, ...]:
    header = tensors.expect(f"{at}.weight_shape", ("I64", "I32"), 1)
    if header.shape[0] not in (2, 3):
        raise _refused(tensors, at, f"weight_shape has {header.shape[0]} entries")
    shape = tuple(int(n) for n in tensors.get(f"{at}.weight_shape").tolist())
    if min(shape) < 1:
        raise _refused(tensors, at, f"weight_shape is {times(shape)}")
    return shape


def _bits(tensors: TensorFolder, at: str, n_in: int, n_words: int) -> int:
    fitting = [b for b in range(1, 9) if math.ceil(n_in * b / 32) == n_words]
    if len(fitting) == 1:
        return fitting[0]
    declared = {bits for bits, _ in _schemes(tensors) if bits in fitting and bits is not None}
    if len(declared) != 1:
        raise _refused(tensors, at, f"{n_in} codes a row in {n_words} words fit no bits")
    return declared.pop()


def _zeros(tensors: TensorFolder, key: str, bits: int, n_out: int) -> Tensor:
    stored = tensors.get(key)
    if stored.dtype != torch.int32:
        return stored.float()
    codes = unpack_stream(stored.transpose(-1, -2), bits, n_out).transpose(-1, -2)
    return codes.float() - 2 ** (bits - 1)


def _floats(tensors: TensorFolder, at: str) -> Claim:
    packed = tensors.expect(f"{at}.weight_packed", ("U8",)).shape
    scales = tensors.expect(f"{at}.weight_scale", ("F8_E4M3", "U8", "F8_E8M0", *_SCALES))
    if not 2 <= len(packed) <= 3 or scales.shape[:-1] != packed[:-1]:
        raise _refused(tensors, at, f"codes {times(packed)} have scales {times(scales.shape)}")
    is_mx = scales.dtype in ("U8", "F8_E8M0")
    size = 32 if is_mx else 16
    n_in = scales.shape[-1] * size
    if packed[-1] * 2 == n_in:
        bits = 4
    elif packed[-1] * 4 == n_in * 3 and is_mx:
        bits = 6
    else:
        raise _refused(tensors, at, f"{packed[-1]} bytes a row have {scales.shape[-1]} scales")
    whole = f"{at}.weight_global_scale"
    if not is_mx and math.prod(tensors.expect(whole, _SCALES).shape) not in (1, packed[0]):
        raise _refused(tensors, at, f"{whole} is {times(tensors.header(whole).shape)}")

    def dequantized() -> Tensor:
        data = tensors.get(f"{at}.weight_packed")
        if bits == 4:
            values = FP4_VALUES[nibbles(data).int()]
        else:
            values = FP6_VALUES[unpack_stream(data, 6, n_in).int()]
        scale = tensors.get(f"{at}.weight_scale")
        if is_mx:
            return by_group(values, exponents(scale), None, size)
        divisor = tensors.get(whole).float()
        divisor = divisor.reshape(-1, *(1,) * (scale.ndim - 1)) if divisor.numel() > 1 else divisor
        return by_group(values, scale.float() / divisor, None, size)

    shape = (*packed[:-1], n_in)
    return claim(
        tensors,
        "compressed-tensors",
        f"{at}.weight",
        shape,
        f"{'MXFP' if is_mx else 'NVFP'}{bits}",
        dequantized,
        code_bits=bits,
        codes=f"{at}.weight_packed",
        beside=(f"{at}.weight_scale", whole, f"{at}.input_global_scale"),
    )


def _schemes(tensors: TensorFolder) -> list[tuple[int | None, int | None]]:
    """Returns (bits, group size) of each group of modules that the config tells."""
    groups = tensors.quantization.get("config_groups")
    found: list[tuple[int | None, int | None]] = []
    for group in cast("dict[str, Any]", groups).values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            settings = cast("dict[str, Any]", weights)
            found.append((integer(settings, "num_bits"), integer(settings, "group_size")))
    return found


def _declared(tensors: TensorFolder) -> int | None:
    sizes = {size for _, size in _schemes(tensors)}
    return sizes.pop() if len(sizes) == 1 else None


def _refused(tensors: TensorFolder, at: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {at} looks like compressed-tensors' layout, but {why}; this version "
        f"of it is not understood"
    )
