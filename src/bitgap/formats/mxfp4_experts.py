"""Experts in MXFP4 as gpt-oss ships them: ``…_blocks`` and ``…_scales`` of one 3-D parameter.

Blocks are (experts, out, groups, 16) bytes, two E2M1 codes each, the first in the low half; scales
(experts, out, groups) bytes, exponents with bias 127. transformers keeps the dequantized parameter
as (experts, in, out); units here are (experts, out, in), as all matrices are.
"""

from __future__ import annotations

from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import FP4_VALUES, exponents, nibbles
from bitgap.formats.tensors import TensorFolder

_BLOCK_BYTES = 16


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds experts stored as blocks and scales.

    Raises:
        ModelError: If blocks and scales do not fit each other.
    """
    ends = [n.removesuffix("_blocks") for n in tensors.headers if n.endswith("_blocks")]
    return [_experts(tensors, name) for name in ends if f"{name}_scales" in tensors]


def _experts(tensors: TensorFolder, name: str) -> Claim:
    blocks = tensors.expect(f"{name}_blocks", ("U8",)).shape
    scales = tensors.expect(f"{name}_scales", ("U8", "F8_E8M0")).shape
    if blocks[:-1] != scales or blocks[-1] != _BLOCK_BYTES or not 3 <= len(blocks) <= 4:
        raise ModelError(
            f"{tensors.path.name}: {name} has blocks {times(blocks)} and scales {times(scales)}, "
            f"which is no MXFP4 that is understood (16 bytes a block, one scale each)"
        )

    def dequantized() -> Tensor:
        values = FP4_VALUES[nibbles(tensors.get(f"{name}_blocks")).int()]
        return (values * exponents(tensors.get(f"{name}_scales")).unsqueeze(-1)).flatten(-2)

    return claim(
        tensors,
        "mxfp4",
        name,
        (*blocks[:-2], blocks[-2] * 2 * _BLOCK_BYTES),
        "MXFP4",
        dequantized,
        code_bits=4,
        codes=f"{name}_blocks",
        beside=(f"{name}_scales",),
    )
