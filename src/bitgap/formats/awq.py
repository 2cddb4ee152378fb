"""AWQ's layout: ``qweight`` of words along the outputs, eight nibbles in the order 0 2 4 6 1 3 5 7.

W[o, i] = scales[g(i), o] · (code[i, o] - zero[g(i), o]); zeros are packed as the codes are, and
stored as they are. Written by AutoAWQ's GEMM version and by auto-round for asymmetric weights; the
order is that of AutoAWQ's ``utils/packing_utils.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import by_group, group_size, unpack_stream
from bitgap.formats.tensors import TensorFolder, integer

_COLUMN_OF_NIBBLE = (0, 2, 4, 6, 1, 3, 5, 7)


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the matrices in AWQ's layout.

    Raises:
        ModelError: If one lacks a part, or its shapes fit no version that is known.
    """
    return [_matrix(tensors, at) for at in tensors.modules_with("qweight") if _is_awq(tensors, at)]


def _is_awq(tensors: TensorFolder, at: str) -> bool:
    words, scales = tensors.header(f"{at}.qweight").shape, tensors.header(f"{at}.scales").shape
    return f"{at}.g_idx" not in tensors and words[-1:] != scales[-1:]


def _matrix(tensors: TensorFolder, at: str) -> Claim:
    n_in, n_words = tensors.expect(f"{at}.qweight", ("I32",), 2).shape
    n_groups, n_out = tensors.expect(f"{at}.scales", ("F16", "BF16", "F32"), 2).shape
    zeros = tensors.expect(f"{at}.qzeros", ("I32",), 2).shape
    if n_words * 8 != n_out or zeros != (n_groups, n_words):
        raise ModelError(
            f"{tensors.path.name}: {at} looks like AWQ's layout, but qweight {n_in} x {n_words}, "
            f"qzeros {times(zeros)} and scales {n_groups} x {n_out} are no 4-bit GEMM version; "
            f"others (GEMV, other bits) are not understood"
        )
    size = group_size(
        n_in, n_groups, integer(tensors.quantization, "group_size", "q_group_size"), at
    )

    def dequantized() -> Tensor:
        codes = _columns(tensors.get(f"{at}.qweight")).T
        zero = _columns(tensors.get(f"{at}.qzeros")).T
        return by_group(codes, tensors.get(f"{at}.scales").T, zero, size)

    return claim(
        tensors,
        "awq",
        f"{at}.weight",
        (n_out, n_in),
        f"int4 {f'g{size}' if n_groups > 1 else 'channel'} asym",
        dequantized,
        code_bits=4,
        codes=f"{at}.qweight",
        beside=(f"{at}.scales", f"{at}.qzeros"),
    )


def _columns(words: Tensor) -> Tensor:
    """Returns codes (rows, columns) of words whose nibbles stand in AWQ's order."""
    order = torch.tensor(_COLUMN_OF_NIBBLE)
    codes = unpack_stream(words, 4, words.shape[1] * 8).unflatten(-1, (-1, 8))
    return codes[..., order.argsort()].flatten(-2)
