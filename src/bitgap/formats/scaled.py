"""Weights of 8 bits with scales beside them: float8 and int8 as most toolchains store them.

A matrix ``weight`` of float8 or int8 and one tensor of scales: ``weight_scale_inv`` (DeepSeek and
transformers' fine-grained float8: one for each block of 128 x 128, and in spite of the name a
factor), or ``weight_scale`` (compressed-tensors, ModelOpt, FBGEMM: one for the matrix, a row, a
block, or exponents of MXFP8). What a scale is for follows from its shape. W = code · scale, or
(code - ``weight_zero_point``) · scale.
"""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import exponents
from bitgap.formats.tensors import TensorFolder

_CODES = ("F8_E4M3", "F8_E5M2", "I8")
_SCALES = ("F16", "BF16", "F32", "F64", "U8", "F8_E8M0")
_MX_GROUP = 32


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds matrices of 8 bits that have scales beside them.

    Raises:
        ModelError: If a scale fits no part of its matrix.
    """
    return [
        _matrix(tensors, codes, scale)
        for name in list(tensors.headers)
        for codes, scale in _pair(tensors, name)
    ]


def _pair(tensors: TensorFolder, name: str) -> list[tuple[str, str]]:
    # Experts kept as one parameter have no module of their own: gate_up_proj and
    # gate_up_proj_scale_inv.
    for end in ("_scale_inv", "_scale"):
        codes = name.removesuffix(end)
        if codes != name and codes in tensors and tensors.header(codes).dtype in _CODES:
            return [(codes, name)]
    return []


def _matrix(tensors: TensorFolder, name: str, scale_name: str) -> Claim:
    header = tensors.header(name)
    shape, scales = header.shape, tensors.expect(scale_name, _SCALES)
    if not 2 <= len(shape) <= 3 or 0 in shape:
        raise _refused(tensors, name, f"it is {times(shape)}")
    is_mx = scales.dtype in ("U8", "F8_E8M0") and scales.shape[-1:] == (shape[-1] // _MX_GROUP,)
    spans = _spans(tensors, name, shape, scales.shape)
    zeros = f"{name}_zero_point"
    if zeros in tensors and tensors.expect(zeros, ("I8", "U8", "I32")).shape != scales.shape:
        raise _refused(tensors, name, "zero points are not shaped like scales")

    def dequantized() -> Tensor:
        scale = tensors.get(scale_name)
        scale = exponents(scale) if scales.dtype in ("U8", "F8_E8M0") else scale.float()
        values = tensors.get(name).float()
        if zeros in tensors:
            values = values - _spread(tensors.get(zeros).float(), spans, shape)
        return values * _spread(scale, spans, shape)

    kind = "int8" if header.dtype == "I8" else "MXFP8" if is_mx else f"f{header.dtype[1:].lower()}"
    return claim(
        tensors,
        _toolchain(tensors, scale_name),
        name,
        shape,
        kind if is_mx else f"{kind} {_grain(spans, shape)}",
        dequantized,
        code_bits=8,
        codes=name,
        beside=(scale_name, zeros, name.removesuffix("weight") + "input_scale",
                name.removesuffix("weight") + "activation_scale", f"{name}_shape"),
    )  # fmt: skip


def _spans(
    tensors: TensorFolder, name: str, shape: tuple[int, ...], scales: tuple[int, ...]
) -> tuple[int, ...]:
    """Returns how many weights along each dimension share one scale."""
    if math.prod(scales) == 1:
        return shape
    if scales == shape[: len(scales)] and len(scales) == len(shape) - 1:
        return (*(1,) * len(scales), shape[-1])  # one a row, without a last dimension
    if len(shape) == 3 and scales == shape[:1]:
        return (1, *shape[1:])  # one an expert
    if len(scales) != len(shape):
        raise _refused(tensors, name, f"weights {times(shape)} have scales {times(scales)}")
    declared = _declared(tensors)
    spans: list[int] = []
    for size, count, told in zip(shape[-2:], scales[-2:], declared, strict=True):
        if told is not None and math.ceil(size / told) == count:
            spans.append(told)
        elif count > 0 and size % count == 0:
            spans.append(size // count)
        elif count == math.ceil(size / 128):
            spans.append(128)
        else:
            raise _refused(tensors, name, f"weights {times(shape)} have scales {times(scales)}")
    if len(shape) == 3 and scales[0] not in (1, shape[0]):
        raise _refused(tensors, name, f"weights {times(shape)} have scales {times(scales)}")
    return (*((shape[0] // scales[0],) if len(shape) == 3 else ()), *spans)


def _declared(tensors: TensorFolder) -> tuple[int | None, int | None]:
    sizes = tensors.quantization.get("weight_block_size")
    if isinstance(sizes, list) and len(pair := cast("list[object]", sizes)) == 2:
        if all(isinstance(n, int) and n > 0 for n in pair):
            return cast("tuple[int, int]", tuple(pair))
    return None, None


def _spread(scale: Tensor, spans: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Returns scales spread over the weights they are for; broadcast where one is for all."""
    counts = [math.ceil(size / span) for size, span in zip(shape, spans, strict=True)]
    scale = scale.reshape(counts)
    for dim, (count, span) in enumerate(zip(counts, spans, strict=True)):
        if count > 1 and span > 1:
            scale = scale.repeat_interleave(span, dim).narrow(dim, 0, shape[dim])
    return scale


def _grain(spans: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if spans[-1] == shape[-1]:
        return "tensor" if spans[-2] == shape[-2] else "channel"
    return f"g{spans[-1]}" if spans[-2] == 1 else f"b{spans[-2]}x{spans[-1]}"


def _toolchain(tensors: TensorFolder, scale_name: str) -> str:
    told = str(tensors.quantization.get("quant_method", "")).lower()
    if "quant_algo" in tensors.quantization or told == "modelopt":
        return "modelopt"
    return told or ("float8 blocks" if scale_name.endswith("_inv") else "float8")


def _refused(tensors: TensorFolder, name: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {name} has scales beside it, but {why}; this layout of 8-bit "
        f"weights is not understood"
    )
