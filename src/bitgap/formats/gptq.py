"""GPTQ's layout: ``qweight`` of words along the inputs, ``qzeros``, ``scales``, ``g_idx``.

W[o, i] = scales[g(i), o] · (code[i, o] - zero[g(i), o]). Codes of a column are one dense stream of
int32 words (3 bits go across their ends); zeros are one along the outputs. In version 1 zeros are
stored minus one, in version 2 as they are; no tensor says which, but a symmetric quantizer's zeros
are 2^(b-1) throughout, and where they are not the config says. ``g_idx`` gives each input its
group, in any order (activation order). 5, 6 and 7 bits are a dense stream too where auto-round
wrote them; GPTQModel's (``gptq_p``) stand in planes instead: for 32 codes a word stream of their
low bits, then of their high ones.

Written by AutoGPTQ, GPTQModel, auto-round and others; read off GPTQModel's ``nn_modules/qlinear``
and proved against its own dequantization in the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import times
from bitgap.formats.claim import Claim, claim
from bitgap.formats.packing import unpack_stream
from bitgap.formats.tensors import TensorFolder, integer

BITS = (2, 3, 4, 5, 6, 7, 8)
_PLANAR = "gptq_p"
_STREAMS = ("auto-round", "intel/auto-round")
_PLANES = {3: ((2, 0), (1, 2)), 5: ((4, 0), (1, 4)), 6: ((4, 0), (2, 4)),
           7: ((4, 0), (2, 4), (1, 6))}  # fmt: skip


def read(tensors: TensorFolder) -> list[Claim]:
    """Finds the matrices in GPTQ's layout.

    Raises:
        ModelError: If one lacks a part, or its shapes fit no version that is known.
    """
    return [_matrix(tensors, at) for at in tensors.modules_with("qweight") if _is_gptq(tensors, at)]


def _is_gptq(tensors: TensorFolder, at: str) -> bool:
    # AWQ packs along the outputs: its scales are wider than its words.
    words, scales = tensors.header(f"{at}.qweight").shape, tensors.header(f"{at}.scales").shape
    return f"{at}.g_idx" in tensors or words[-1:] == scales[-1:]


def _matrix(tensors: TensorFolder, at: str) -> Claim:
    words = tensors.expect(f"{at}.qweight", ("I32",), 2).shape
    scales = tensors.expect(f"{at}.scales", ("F16", "BF16", "F32"), 2).shape
    has_zeros, has_index = f"{at}.qzeros" in tensors, f"{at}.g_idx" in tensors
    bits, n_in = _bits(tensors, at, words, scales)
    n_out = words[1]
    if scales[1] != n_out:
        raise _refused(tensors, at, f"scales are {times(scales)} for {n_out} outputs")
    if has_zeros:
        zeros = tensors.expect(f"{at}.qzeros", ("I32",), 2).shape
        if zeros != (scales[0], -(-n_out * bits // 32)):
            raise _refused(tensors, at, f"qzeros are {times(zeros)} beside scales {times(scales)}")
    size = -(-n_in // scales[0])
    declared = integer(tensors.quantization, "group_size") or 0
    if n_in % scales[0] and declared > 0:
        size = declared
    if not has_index and (size < 1 or -(-n_in // size) != scales[0]):
        raise _refused(tensors, at, f"{n_in} inputs have {scales[0]} groups and no g_idx")
    order = ""
    if has_index:
        if tensors.expect(f"{at}.g_idx", ("I32", "I64"), 1).shape != (n_in,):
            raise _refused(tensors, at, "g_idx does not have one entry an input")
        index = tensors.get(f"{at}.g_idx")
        if int(index.min()) < 0 or int(index.max()) >= scales[0]:
            raise _refused(tensors, at, f"g_idx names groups beyond the {scales[0]} that are there")
        order = " act-order" if bool((index[1:] < index[:-1]).any()) else ""

    def dequantized() -> Tensor:
        words = tensors.get(f"{at}.qweight").T.contiguous()
        codes = _codes(tensors, at, words, bits, n_in).float()  # (out, in)
        zero = _zeros(tensors, at, bits, scales)
        index = tensors.get(f"{at}.g_idx") if has_index else torch.arange(n_in) // size
        scale = tensors.get(f"{at}.scales").float().T
        return codes.sub_(zero.T[:, index.long()]).mul_(scale[:, index.long()])

    group = f"g{size}" if scales[0] > 1 else "channel"
    return claim(
        tensors,
        "gptq",
        f"{at}.weight",
        (n_out, n_in),
        f"int{bits} {group}{order}",
        dequantized,
        code_bits=bits,
        codes=f"{at}.qweight",
        beside=(f"{at}.scales", f"{at}.qzeros", f"{at}.g_idx"),
    )


def _bits(
    tensors: TensorFolder, at: str, words: tuple[int, ...], scales: tuple[int, ...]
) -> tuple[int, int]:
    """Returns (bits, inputs), from the tensors where they tell."""
    if f"{at}.g_idx" in tensors:
        n_in = tensors.expect(f"{at}.g_idx", ("I32", "I64"), 1).shape[0]
        found = [b for b in BITS if -(-n_in * b // 32) == words[0]]
    else:
        found = list(BITS)
    if f"{at}.qzeros" in tensors:
        zeros = tensors.expect(f"{at}.qzeros", ("I32",), 2).shape
        found = [b for b in found if -(-words[1] * b // 32) == zeros[1]]
    declared = integer(tensors.quantization, "bits", "w_bit")
    # Narrow matrices may fit several; then the config decides among what fits.
    bits = found[0] if len(found) == 1 else declared if declared in found else None
    if bits is None:
        raise _refused(tensors, at, f"no number of bits fits its shapes (config: {declared})")
    if f"{at}.g_idx" in tensors:
        return bits, tensors.header(f"{at}.g_idx").shape[0]
    if words[0] * 32 % bits:
        raise _refused(tensors, at, f"{words[0]} words are no whole number of {bits}-bit codes")
    return bits, words[0] * 32 // bits


def _zeros(tensors: TensorFolder, at: str, bits: int, scales: tuple[int, ...]) -> Tensor:
    """Returns the zeros (groups, outputs) as float32."""
    middle = 2 ** (bits - 1)
    if f"{at}.qzeros" not in tensors:
        return torch.full(scales, float(middle))
    words, told = tensors.get(f"{at}.qzeros"), _told(tensors)
    stored = _codes(tensors, at, words, bits, scales[1])
    if told in ("gptq_v2", _PLANAR) or bool((stored == middle).all()):
        return stored.float()
    if told not in ("gptq", "gptq_v1", ""):
        raise _refused(tensors, at, f"the config says checkpoint_format {told!r}")
    if 32 % bits:
        return ((stored.int() + 1) & (2**bits - 1)).float()
    # Subtracted from whole words when written, so a zero of 0 borrowed from its neighbour.
    ones = sum(1 << i for i in range(0, 32, bits))
    raised = ((words.long() & 0xFFFFFFFF) + ones).to(torch.int32)
    return unpack_stream(raised, bits, scales[1]).float()


def _codes(tensors: TensorFolder, at: str, words: Tensor, bits: int, n_codes: int) -> Tensor:
    """Returns codes (rows, n_codes) of words (rows, words), in the layout that the config says."""
    if _told(tensors) != _PLANAR or bits in (2, 4, 8):
        if bits in (5, 6, 7) and tensors.quantization.get("quant_method") not in _STREAMS:
            raise _refused(tensors, at, f"{bits} bits are known of auto-round and {_PLANAR}")
        return unpack_stream(words, bits, n_codes)
    if words.shape[-1] % bits:
        raise _refused(tensors, at, f"{words.shape[-1]} words hold no whole planes of {bits} bits")
    # 32 codes take `bits` words: the low bits of all, then the high ones.
    blocks = words.unflatten(-1, (-1, bits))
    codes, row = torch.zeros((*blocks.shape[:-1], 32), dtype=torch.uint8), 0
    for width, offset in _PLANES[bits]:
        codes |= unpack_stream(blocks[..., row : row + width], width, 32) << offset
        row += width
    return codes.flatten(-2)[..., :n_codes]


def _told(tensors: TensorFolder) -> str:
    told = tensors.quantization.get("checkpoint_format", tensors.quantization.get("format"))
    return str(told).lower() if isinstance(told, str) else ""


def _refused(tensors: TensorFolder, at: str, why: str) -> ModelError:
    return ModelError(
        f"{tensors.path.name}: {at} looks like GPTQ's layout, but {why}; this version of it is not "
        f"understood"
    )
