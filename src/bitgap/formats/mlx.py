"""MLX: ``weight`` of uint32 words, ``scales`` and ``biases``, or the microscaling modes.

*affine*: W = scale · code + bias, codes of 2 to 8 bits one dense stream a row, never negative.
*mxfp4, nvfp4, mxfp8*: ``scales`` uint8 (E8M0, or E4M3 in nvfp4) and no biases. The words do not
tell bits and group size apart, so they come from the config (``quantization``, where modules may
have settings of their own) and are checked against every shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import FP4_VALUES, as_bytes, by_group, exponents, nibbles, unpack_stream
from bitgap.formats.tensors import TensorFolder, integer

_GROUPS = {"affine": 64, "mxfp4": 32, "mxfp8": 32, "nvfp4": 16}
GPT2_BASE = "model"
"""What mlx-lm calls the base of a GPT-2, whose matrices it has as linears under these names."""
_MODE_BITS = {"mxfp4": 4, "mxfp8": 8, "nvfp4": 4}


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the matrices that MLX packed.

    Raises:
        ModelError: If the config does not explain a matrix.
    """
    return [
        _matrix(tensors, at)
        for at in tensors.modules_with("scales")
        if f"{at}.weight" in tensors and tensors.header(f"{at}.weight").dtype == "U32"
    ]


def own_name(name: str, config: Mapping[str, Any]) -> str:
    """Returns what a model calls a tensor of a file that mlx-lm made.

    Args:
        name: In the file.
        config: Its config.json.

    Example:
        >>> own_name("model.h.0.attn.c_attn.weight", {"model_type": "gpt2"})
        'transformer.h.0.attn.c_attn.weight'
    """
    if config.get("model_type") == "gpt2" and name.startswith(f"{GPT2_BASE}."):
        return f"transformer.{name.removeprefix(f'{GPT2_BASE}.')}"
    return name


def _matrix(tensors: TensorFolder, at: str) -> Claim:
    words = tensors.expect(f"{at}.weight", ("U32",)).shape
    scales = tensors.expect(f"{at}.scales", ("F16", "BF16", "F32", "U8"))
    own = tensors.quantization.get(at)
    settings = tensors.quantization | (cast("dict[str, Any]", own) if isinstance(own, dict) else {})
    mode = str(settings.get("mode", "affine"))
    if mode not in _GROUPS or (mode == "affine") != (f"{at}.biases" in tensors):
        has = "with" if f"{at}.biases" in tensors else "without"
        raise _refused(tensors, at, f"mode {mode!r} {has} biases")
    bits = integer(settings, "bits") or _MODE_BITS.get(mode, 4)
    size = integer(settings, "group_size") or _GROUPS[mode]
    n_in = scales.shape[-1] * size if scales.shape else 0
    if (
        not 1 <= bits <= 8
        or size < 1
        or not 2 <= len(words) <= 3
        or scales.shape[:-1] != words[:-1]
        or n_in * bits != words[-1] * 32
        or bits != _MODE_BITS.get(mode, bits)
    ):
        raise _refused(
            tensors, at, f"{bits} bits in groups of {size} with scales {times(scales.shape)}"
        )
    if mode == "affine" and tensors.header(f"{at}.biases").shape != scales.shape:
        raise _refused(tensors, at, "biases that are not shaped like scales")

    def dequantized() -> Tensor:
        data, scale = tensors.get(f"{at}.weight"), tensors.get(f"{at}.scales")
        if mode == "affine":
            bias = tensors.get(f"{at}.biases").float().unsqueeze(-1)
            weight = by_group(unpack_stream(data, bits, n_in), scale, None, size)
            return (weight.unflatten(-1, (-1, size)) + bias).flatten(-2)
        if mode == "mxfp8":
            values = as_bytes(data).view(torch.float8_e4m3fn).float()
        else:
            values = FP4_VALUES[nibbles(data).int()]
        factor = scale.view(torch.float8_e4m3fn).float() if mode == "nvfp4" else exponents(scale)
        return by_group(values, factor, None, size)

    return claim(
        tensors,
        "mlx",
        f"{at}.weight",
        (*words[:-1], n_in),
        f"int{bits} g{size} asym" if mode == "affine" else mode.upper(),
        dequantized,
        code_bits=bits,
        codes=f"{at}.weight",
        beside=(f"{at}.scales", f"{at}.biases"),
    )


def _refused(tensors: TensorFolder, at: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {at} looks like MLX's layout, but its words "
        f"{times(tensors.header(f'{at}.weight').shape)} do not fit {why}; give the folder with its "
        f"config.json, or this version of it is not understood"
    )
