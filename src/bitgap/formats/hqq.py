"""HQQ in safetensors: ``W_q``, ``scale``, ``zero``, and its settings as tensors beside them.

The matrix is cut into groups of its flattened weights, as rows (axis 1) or columns (axis 0) of
another matrix, whose codes are packed along the first dimension: the first half of the rows in the
high bits of each byte, and so on; 3 bits ten to an int32, with rows added that are dropped again.
W = (code - zero) · scale. What ``save_quantized`` writes is a pickle and is not read. Read off
``hqq/core/{quantize,bitpack}.py`` and proved against them in the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.claim import Claim, claim
from bitgap.formats.tensors import TensorFolder

_SETTINGS = ("nbits", "group_size", "axis", "shape", "packing", "channel_wise", "compute_dtype",
             "encoded_state_dict", "offload_meta", "optimize", "quant_scale", "quant_zero",
             "round_zero", "stores_quant_config", "unpack_view_dtype", "view_as_float")  # fmt: skip
_PER_WORD = {1: 8, 2: 4, 3: 10, 4: 2, 8: 1}


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the matrices that HQQ stored.

    Raises:
        ModelError: If one lacks a part, or its settings do not fit its bytes.
    """
    return [_matrix(tensors, at) for at in tensors.modules_with("W_q")]


def _matrix(tensors: TensorFolder, at: str) -> Claim:
    bits, axis = _number(tensors, f"{at}.nbits"), _number(tensors, f"{at}.axis")
    if _number(tensors, f"{at}.view_as_float", 0) or bits not in _PER_WORD or axis not in (0, 1):
        raise _refused(tensors, at, f"{bits} bits, axis {axis}, or codes viewed as floats")
    if f"{at}.scale" not in tensors:
        raise _refused(tensors, at, "its scales are quantized themselves")
    tensors.expect(f"{at}.shape", ("I64", "I32"), 1)
    shape = tuple(int(n) for n in tensors.get(f"{at}.shape").tolist())
    codes = tensors.expect(f"{at}.W_q", ("I32",) if bits == 3 else ("U8",), 2)
    if len(shape) != 2 or min(shape) < 1:
        raise _refused(tensors, at, f"shape is {shape}")
    n_weights = shape[0] * shape[1]
    size = _number(tensors, f"{at}.group_size", shape[1] if axis else shape[0])
    if size < 1 or n_weights % size:
        raise _refused(tensors, at, f"groups of {size} do not divide {n_weights} weights")
    rows, columns = (n_weights // size, size) if axis else (size, n_weights // size)
    if codes.shape != (-(-rows // _PER_WORD[bits]), columns):
        raise _refused(tensors, at, f"codes {codes.shape} do not hold {rows} x {columns}")
    for part in ("scale", "zero"):
        found = tensors.expect(f"{at}.{part}", ("F16", "BF16", "F32")).shape
        if found not in ((rows, 1) if axis else (1, columns), (1, 1), (1,), ()):
            raise _refused(tensors, at, f"{part} is {found}")

    def dequantized() -> Tensor:
        values = _unpack(tensors.get(f"{at}.W_q"), bits)[:rows].float()
        zero, scale = tensors.get(f"{at}.zero").float(), tensors.get(f"{at}.scale").float()
        return ((values - zero) * scale).reshape(shape)

    return claim(
        tensors,
        "hqq",
        f"{at}.weight",
        shape,
        f"int{bits} g{size} asym axis {axis}",
        dequantized,
        code_bits=bits,
        codes=f"{at}.W_q",
        beside=(f"{at}.{part}" for part in ("scale", "zero", *_SETTINGS)),
    )


def _unpack(packed: Tensor, bits: int) -> Tensor:
    n = _PER_WORD[bits]
    parts = [(packed >> (bits * (n - 1 - i))) & (2**bits - 1) for i in range(n)]
    return torch.cat(parts)


def _number(tensors: TensorFolder, name: str, default: int | None = None) -> int:
    if name not in tensors and default is not None:
        return default
    header = tensors.expect(name, ("I32", "I64", "U8"))
    if header.shape not in ((), (1,)):
        raise _refused(tensors, name, f"it is no number but {header.shape}")
    return int(tensors.get(name).reshape(()))


def _refused(tensors: TensorFolder, at: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {at} looks like HQQ's layout, but {why}; this version of it is not "
        f"understood"
    )
