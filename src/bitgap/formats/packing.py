"""Codes out of bytes, and numbers out of codes: the arithmetic that layouts share.

Shape letters: O outputs (rows), I inputs (columns), G groups of a row. All functions take and give
torch tensors on the CPU; words are little-endian, as every toolchain writes them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bitgap.errors import ModelError

_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FP4_VALUES = torch.tensor([*_FP4, *(-v for v in _FP4)])
"""Values of E2M1 codes 0 to 15 (OCP Microscaling Formats, section 5.3.3)."""
NF4_VALUES = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
])  # fmt: skip
"""Values of NF4 codes 0 to 15 (QLoRA, appendix E)."""
_FP6 = (*(m / 8 for m in range(8)), *((1 + m / 8) * 2.0**e for e in range(3) for m in range(8)))
FP6_VALUES = torch.tensor([*_FP6, *(-v for v in _FP6)])
"""Values of E2M3 codes 0 to 63 (OCP Microscaling Formats, section 5.3.2)."""


def stream_bytes(n_codes: int, bits: int) -> int:
    """Returns the bytes that a dense stream of codes takes in whole 32-bit words.

    Example:
        >>> stream_bytes(33, 3)
        16
    """
    return 4 * math.ceil(n_codes * bits / 32)


def as_bytes(stored: Tensor) -> Tensor:
    """Returns the bytes of a tensor, its last dimension longer by the size of an element.

    Example:
        >>> as_bytes(torch.tensor([[258]], dtype=torch.int32)).tolist()
        [[2, 1, 0, 0]]
    """
    if stored.dtype == torch.uint8:
        return stored
    # A column seen as a row counts as contiguous, with strides that view() does not take.
    dense = stored.contiguous()
    dense = dense if dense.stride(-1) == 1 else dense.clone(memory_format=torch.contiguous_format)
    return dense.view(torch.uint8)


def unpack_stream(packed: Tensor, bits: int, n_codes: int) -> Tensor:
    """Reads codes from a dense bit stream along the last dimension, the low bits first.

    Code i stands at bits i·b to (i+1)·b - 1, so that codes of 3, 5, 6 and 7 bits go across the
    ends of words.

    Args:
        packed: (…, words) of any integer type.
        bits: Bits of a code, 1 to 8.
        n_codes: How many codes to read.

    Returns:
        (…, n_codes) uint8.

    Raises:
        ModelError: If the words hold fewer codes.

    Example:
        >>> unpack_stream(torch.tensor([0b101_100_011], dtype=torch.int32), 3, 3).tolist()
        [3, 4, 5]
    """
    data = as_bytes(packed)
    if not 1 <= bits <= 8 or data.shape[-1] * 8 < n_codes * bits:
        raise ModelError(
            f"{n_codes} codes of {bits} bits were expected in {data.shape[-1]} bytes, which hold "
            f"{data.shape[-1] * 8 // max(bits, 1)}"
        )
    if bits == 8:
        return data[..., :n_codes]
    # Every 8 codes take exactly `bits` bytes.
    n_octets = math.ceil(n_codes / 8)
    short = n_octets * bits - data.shape[-1]
    if short > 0:
        data = torch.nn.functional.pad(data, (0, short))
    octets = data[..., : n_octets * bits].unflatten(-1, (n_octets, bits))
    codes = torch.empty((*octets.shape[:-1], 8), dtype=torch.uint8)
    for i in range(8):
        byte, shift = divmod(i * bits, 8)
        part = octets[..., byte] >> shift
        if shift + bits > 8:
            part = part | (octets[..., byte + 1] << (8 - shift))
        codes[..., i] = part & (2**bits - 1)
    return codes.flatten(-2)[..., :n_codes]


def pack_stream(codes: Tensor, bits: int) -> Tensor:
    """Writes codes as the dense bit stream that :func:`unpack_stream` reads, in whole words.

    Args:
        codes: (…, n) of any integer type, each from 0 to 2^bits - 1.
        bits: Bits of a code, 1 to 8.

    Returns:
        (…, words) int32; the last word is filled with zeros.

    Example:
        >>> pack_stream(torch.tensor([3, 4, 5]), 3).tolist() == [0b101_100_011]
        True
    """
    n_codes = codes.shape[-1]
    octets = codes.to(torch.uint8)
    # Every 8 codes take exactly `bits` bytes.
    octets = torch.nn.functional.pad(octets, (0, -n_codes % 8)).unflatten(-1, (-1, 8))
    data = torch.zeros((*octets.shape[:-1], bits), dtype=torch.uint8)
    for i in range(8):
        byte, shift = divmod(i * bits, 8)
        data[..., byte] |= octets[..., i] << shift
        if shift + bits > 8:
            data[..., byte + 1] |= octets[..., i] >> (8 - shift)
    stream = data.flatten(-2)
    n_bytes = stream_bytes(n_codes, bits)
    stream = torch.nn.functional.pad(stream, (0, max(0, n_bytes - stream.shape[-1])))
    return stream[..., :n_bytes].contiguous().view(torch.int32)


def nibbles(packed: Tensor, *, high_first: bool = False) -> Tensor:
    """Reads two 4-bit codes from each byte along the last dimension.

    Example:
        >>> nibbles(torch.tensor([0x21], dtype=torch.uint8)).tolist()
        [1, 2]
    """
    data = as_bytes(packed)
    pair = (data >> 4, data & 15) if high_first else (data & 15, data >> 4)
    return torch.stack(pair, dim=-1).flatten(-2)


def exponents(scale: Tensor) -> Tensor:
    """Returns the float32 values of E8M0 scales, bytes e that stand for 2^(e - 127).

    255 is NaN (OCP Microscaling Formats, section 5.4.1), which no weight may be.

    Example:
        >>> exponents(torch.tensor([127, 130], dtype=torch.uint8)).tolist()
        [1.0, 8.0]
    """
    codes = as_bytes(scale)
    values = torch.ldexp(torch.ones(codes.shape), codes.to(torch.int32) - 127)
    return values.masked_fill(codes == 255, math.nan)


def group_size(n_in: int, n_groups: int, declared: int | None, where: str) -> int:
    """Returns how many inputs share a scale, and refuses what does not fit.

    Args:
        n_in: Inputs of the matrix.
        n_groups: Scales of a row.
        declared: What a config says; None, -1 or 0 for the whole row or not known.
        where: Name of the matrix, for the message.

    Raises:
        ModelError: If that many groups do not make a row.

    Example:
        >>> group_size(96, 3, None, "a"), group_size(80, 3, 32, "a")
        (32, 32)
    """
    if declared and declared > 0 and math.ceil(n_in / declared) == n_groups:
        return declared
    if n_groups > 0 and n_in % n_groups == 0:
        return n_in // n_groups
    raise ModelError(
        f"{where}: {n_in} inputs have {n_groups} scales a row, which no group size that is known "
        f"explains (the config says {declared}); the layout is not understood"
    )


def by_group(codes_OI: Tensor, scale_OG: Tensor, zero_OG: Tensor | None, size: int) -> Tensor:
    """Returns (code - zero)·scale in float32, each group of a row with its own zero and scale.

    Args:
        codes_OI: Codes of any type, (…, O, I).
        scale_OG: (…, O, G) with G = ceil(I / size).
        zero_OG: The same shape, or None for 0.
        size: Inputs that share a scale; the last group of a row may be shorter.

    Example:
        >>> by_group(torch.tensor([[1, 2, 3]]), torch.tensor([[1.0, 10.0]]), None, 2).tolist()
        [[1.0, 2.0, 30.0]]
    """
    n_in = codes_OI.shape[-1]
    weight = codes_OI.to(torch.float32, copy=True)
    if n_in % size == 0:
        groups = weight.unflatten(-1, (-1, size))
        if zero_OG is not None:
            groups -= zero_OG.to(torch.float32).unsqueeze(-1)
        groups *= scale_OG.to(torch.float32).unsqueeze(-1)
        return groups.flatten(-2)
    group = torch.arange(n_in) // size
    if zero_OG is not None:
        weight -= zero_OG.to(torch.float32)[..., group]
    return weight.mul_(scale_OG.to(torch.float32)[..., group])
