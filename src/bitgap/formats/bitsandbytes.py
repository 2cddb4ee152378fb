"""bitsandbytes: NF4 and FP4 in blocks that run over row ends, and int8 by rows.

*4 bits.* ``weight`` holds two codes a byte, the first in the high half; each is looked up in
``quant_map`` and multiplied by the ``absmax`` of its block of the flattened matrix. With double
quantization ``absmax`` is itself codes of 8 bits: value = nested_quant_map[code] · nested_absmax of
its block + offset. Shape, block sizes and offset stand in a JSON that is stored as a tensor,
``weight.quant_state.bitsandbytes__nf4`` or ``…fp4`` (``functional.QuantState``).

*8 bits.* ``weight`` int8 · ``SCB`` of its row / 127 (``functional.int8_vectorwise_dequant``).
"""

from __future__ import annotations

import json
from typing import Any, cast

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import nibbles
from bitgap.formats.tensors import TensorFolder, integer

_STATE = "quant_state.bitsandbytes__"
_INVERSE_127 = 7.874015718698502e-3  # 1/127 as the library writes it
_ROW_MAJOR = 0


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the matrices that bitsandbytes stored.

    Raises:
        ModelError: If one lacks a part or its description does not fit its bytes.
    """
    found = [_int8(tensors, at) for at in tensors.modules_with("SCB")]
    for kind in ("nf4", "fp4"):
        found += [_four_bits(tensors, at, kind) for at in tensors.modules_with(f"{_STATE}{kind}")]
    return found


def _four_bits(tensors: TensorFolder, name: str, kind: str) -> Claim:
    state = _state(tensors, f"{name}.{_STATE}{kind}")
    codes = tensors.header(name)
    shape, block = state.get("shape"), integer(state, "blocksize")
    nested_block, offset = integer(state, "nested_blocksize"), state.get("nested_offset", 0.0)
    is_nested = f"{name}.nested_absmax" in tensors
    if (
        not isinstance(shape, list)
        or len(cast("list[object]", shape)) != 2
        or not all(isinstance(n, int) and n > 0 for n in cast("list[object]", shape))
        or block is None
        or block < 1
        or not isinstance(offset, float | int)
    ):
        raise _refused(tensors, name, f"its description says shape {shape} in blocks of {block}")
    n_out, n_in = cast("list[int]", shape)
    if codes.n_bytes != -(-n_out * n_in // 2):
        raise _refused(tensors, name, f"{n_out} x {n_in} weights have {codes.n_bytes} bytes")
    block = min(block, n_out * n_in)
    n_blocks = -(-n_out * n_in // block)
    table = tensors.expect(f"{name}.quant_map", ("F32",), 1)
    absmax = tensors.expect(f"{name}.absmax", ("U8",) if is_nested else ("F32", "F16", "BF16"))
    if absmax.shape not in ((n_blocks,), (n_blocks, 1)) or table.shape != (16,):
        raise _refused(tensors, name, f"{n_blocks} blocks have absmax of shape {absmax.shape}")
    if is_nested:
        nested = tensors.expect(f"{name}.nested_absmax", ("F32",), 1)
        tensors.expect(f"{name}.nested_quant_map", ("F32",), 1)
        if (
            nested_block is None
            or nested_block < 1
            or nested.shape[0] != -(-n_blocks // nested_block)
        ):
            raise _refused(tensors, name, f"nested blocks of {nested_block} do not fit its absmax")

    def scale() -> Tensor:
        stored = tensors.get(f"{name}.absmax").reshape(-1)
        if not is_nested:
            return stored.float()
        values = tensors.get(f"{name}.nested_quant_map")[stored.long()]
        which = torch.arange(n_blocks) // cast("int", nested_block)
        return values * tensors.get(f"{name}.nested_absmax")[which] + float(offset)

    def dequantized() -> Tensor:
        packed = tensors.get(name).contiguous().view(torch.uint8).reshape(-1)
        values = tensors.get(f"{name}.quant_map")[nibbles(packed, high_first=True).int()]
        values = torch.nn.functional.pad(values, (0, n_blocks * block - len(values)))
        values = values.view(n_blocks, block) * scale()[:, None]
        return values.view(-1)[: n_out * n_in].view(n_out, n_in)

    parts = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", f"{_STATE}{kind}")
    return claim(
        tensors,
        "bitsandbytes",
        name,
        (n_out, n_in),
        f"{kind.upper()} b{block}{' double' if is_nested else ''}",
        dequantized,
        code_bits=4,
        codes=name,
        beside=(f"{name}.{part}" for part in parts),
    )


def _state(tensors: TensorFolder, key: str) -> dict[str, Any]:
    tensors.expect(key, ("U8",), 1)
    try:
        state = json.loads(bytes(tensors.get(key).tolist()))
    except (ValueError, RecursionError) as error:
        raise _refused(tensors, key, f"it holds no JSON ({error})") from error
    if not isinstance(state, dict):
        raise _refused(tensors, key, "it holds no object")
    return cast("dict[str, Any]", state)


def _int8(tensors: TensorFolder, at: str) -> Claim:
    n_out, n_in = tensors.expect(f"{at}.weight", ("I8",), 2).shape
    rows = tensors.expect(f"{at}.SCB", ("F32", "F16", "BF16"))
    if rows.shape not in ((n_out,), (n_out, 1)):
        raise _refused(tensors, at, f"{n_out} rows have SCB of shape {rows.shape}")
    if f"{at}.weight_format" in tensors:
        tensors.expect(f"{at}.weight_format", ("U8",), 0)
        if (order := int(tensors.get(f"{at}.weight_format"))) != _ROW_MAJOR:
            raise _refused(tensors, at, f"its codes are tiled for a GPU (weight_format {order})")

    def dequantized() -> Tensor:
        scale = tensors.get(f"{at}.SCB").float().reshape(-1, 1)
        return tensors.get(f"{at}.weight").float() * scale * _INVERSE_127

    return claim(
        tensors,
        "bitsandbytes",
        f"{at}.weight",
        (n_out, n_in),
        "int8 channel",
        dequantized,
        code_bits=8,
        codes=f"{at}.weight",
        beside=(f"{at}.SCB", f"{at}.weight_format"),
    )


def _refused(tensors: TensorFolder, name: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {name} looks like bitsandbytes' layout, but {why}; this version of "
        f"it is not understood"
    )
