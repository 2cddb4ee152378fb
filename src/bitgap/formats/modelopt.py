"""ModelOpt's 4-bit layouts: NVFP4 with two scales, integers in pairs of outputs, MXFP4.

*NVFP4*: ``weight`` uint8, two E2M1 codes a byte, the first in the low half; ``weight_scale``
float8, one for 16 inputs, times ``weight_scale_2``, one for the matrix (a factor, where
compressed-tensors has a divisor).

*INT4* (AWQ): ``weight`` uint8 (out/2, in), two outputs a byte, signed, the even one in the low
half; ``weight_scale`` (out, groups). Where ``pre_quant_scale`` is beside it inputs are
multiplied by it first, so the matrix that acts on the model's own input is W · pre_quant_scale; it
is given so. *MXFP4*: ``weight_scale`` uint8 exponents, one for 32. Float8 is read by ``scaled.py``.
Read off ``modelopt/torch/export/quant_utils.py`` and proved against its packing in the tests.
"""

from __future__ import annotations

import math

from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import FP4_VALUES, by_group, exponents, group_size, nibbles
from bitgap.formats.tensors import TensorFolder, integer

_SCALES = ("F16", "BF16", "F32")


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the 4-bit matrices that ModelOpt exported.

    Raises:
        ModelError: If the shapes of codes and scales fit no layout that is known.
    """
    return [
        _matrix(tensors, at)
        for at in tensors.modules_with("weight_scale")
        if f"{at}.weight" in tensors and tensors.header(f"{at}.weight").dtype == "U8"
    ]


def _matrix(tensors: TensorFolder, at: str) -> Claim:
    codes = tensors.expect(f"{at}.weight", ("U8",)).shape
    scales = tensors.expect(f"{at}.weight_scale", (*_SCALES, "F8_E4M3", "U8", "F8_E8M0"))
    if not 2 <= len(codes) <= 3 or len(scales.shape) != len(codes):
        raise _refused(tensors, at, codes, scales.shape)
    before = f"{at}.pre_quant_scale"
    if f"{at}.weight_scale_2" in tensors and scales.dtype == "F8_E4M3":
        shape, size, stored = (*codes[:-1], codes[-1] * 2), 16, "NVFP4"
    elif scales.dtype in ("U8", "F8_E8M0"):
        shape, size, stored = (*codes[:-1], codes[-1] * 2), 32, "MXFP4"
    elif scales.dtype in _SCALES and scales.shape[-2] == codes[-2] * 2:
        shape = (*codes[:-2], codes[-2] * 2, codes[-1])
        size = group_size(
            shape[-1], scales.shape[-1], integer(tensors.quantization, "group_size"), at
        )
        stored = f"int4 g{size}"
    else:
        raise _refused(tensors, at, codes, scales.shape)
    if scales.shape[:-1] != shape[:-1] or math.ceil(shape[-1] / size) != scales.shape[-1]:
        raise _refused(tensors, at, codes, scales.shape)
    if before in tensors and tensors.expect(before, _SCALES).shape != shape[-1:]:
        raise _refused(tensors, at, codes, scales.shape)
    second = f"{at}.weight_scale_2"
    if stored == "NVFP4" and math.prod(tensors.expect(second, _SCALES).shape) not in (1, shape[0]):
        raise _refused(tensors, at, codes, scales.shape)

    def dequantized() -> Tensor:
        data, scale = tensors.get(f"{at}.weight"), tensors.get(f"{at}.weight_scale")
        if stored == "NVFP4":
            factor = tensors.get(second).float()
            factor = factor.reshape(-1, *(1,) * (len(shape) - 1)) if factor.numel() > 1 else factor
            weight = by_group(FP4_VALUES[nibbles(data).int()], scale.float() * factor, None, size)
        elif stored == "MXFP4":
            weight = by_group(FP4_VALUES[nibbles(data).int()], exponents(scale), None, size)
        else:
            pairs = nibbles(data.transpose(-1, -2)).transpose(-1, -2).float()
            weight = by_group(pairs.sub_((pairs > 7) * 16.0), scale, None, size)
        return weight * tensors.get(before).float() if before in tensors else weight

    return claim(
        tensors,
        "modelopt",
        f"{at}.weight",
        shape,
        stored + (" after input scale" if before in tensors else ""),
        dequantized,
        code_bits=4,
        codes=f"{at}.weight",
        beside=(f"{at}.weight_scale", second, before, f"{at}.input_scale"),
    )


def _refused(
    tensors: TensorFolder, at: str, codes: tuple[int, ...], scales: tuple[int, ...]
) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {at} has bytes {times(codes)} and scales {times(scales)}, which is "
        f"no layout of ModelOpt that is understood (NVFP4, INT4, MXFP4)"
    )
