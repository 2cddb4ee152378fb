"""bitsandbytes, written: NF4 with double quantization, or int8 by rows, loaded by transformers.

A recipe names NF4 by that name, as no scheme of ours has its sixteen unequal levels;
``rtn8-channel`` are the codes of int8, whose runtime rounds activations too (LLM.int8). One config
has one of the two, and a list of what stays whole, in full names with the head: a list of one's own
replaces the library's, and a short name matches nothing.

NF4 (``functional.quantize_4bit``): blocks of 64 over row ends, absmax of each, nearest of sixteen
values. Double quantization: absmax less its mean, in blocks of 256, to the nearest of the library's
256 dynamic values (``create_dynamic_map``). Without it, absmax was seen to be corrupted by a
forward on some processors, so it is always on. A Conv1D is stored (out x in), as the linear that it
becomes. What stays whole keeps the type of the model's file, as the library casts nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitgap.formats.folder import whole_bytes, write_folder
from bitgap.formats.packing import NF4_VALUES
from bitgap.formats.safetensors_file import ToStore
from bitgap.formats.source import OUTSIDE, Place, Source
from bitgap.formats.target import (
    FP,
    IN_FLOAT32,
    Expected,
    Explained,
    Refusal,
    Target,
    in_own_type,
)
from bitgap.quant.codes import codes_of

NF4 = "NF4"
_INT8 = "rtn8-channel"
_BLOCK, _NESTED = 64, 256
_STATE_BYTES = 256
"""Of the description, filled with blanks, so that its size is known beforehand."""
_PIECE_BLOCKS = 1 << 16

_OWN_KERNEL = Explained(3e-3, 1e-6, "products of its own kernel for 4-bit codes")


class BitsAndBytes(Target):
    """What transformers loads with the bitsandbytes library."""

    name = "bitsandbytes"
    title = "bitsandbytes (transformers)"
    loader = "transformers"
    needs = ("bitsandbytes", "accelerate")
    bytes_note = "blocks of 64 with scales of 8 bits, and tables of 1 kB a matrix"

    def refusal(self, place: Place, scheme: str) -> str | None:
        """Returns why a matrix cannot be stored by a scheme, or None if it can."""
        if scheme == FP:
            return None
        if scheme not in (NF4, _INT8):
            return f"it holds {NF4} and {_INT8}"
        if place.kind in OUTSIDE:
            return "embedding and head stay whole there"
        if scheme == NF4 and place.n_weights % _BLOCK:
            return f"its {place.n_weights} weights are no whole number of blocks of {_BLOCK}"
        return None

    def choices(self, place: Place) -> Iterable[str]:
        """Returns the schemes to look for the nearest among."""
        return (NF4, _INT8)

    def together(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> list[Refusal]:
        """Refuses NF4 beside int8, of which one config has one."""
        if {NF4, _INT8} <= {*schemes.values()}:
            return [
                Refusal(
                    place=name,
                    scheme=scheme,
                    why=f"one config has {NF4} or int8, and others have {_INT8}",
                    nearest=_INT8,
                )
                for name, scheme in schemes.items()
                if scheme == NF4
            ]
        return []

    def code_bits(self, scheme: str) -> float:
        """Returns the bits of a code."""
        return {NF4: 4.0, _INT8: 8.0}.get(scheme, 16.0)

    def bytes_of(self, place: Place, scheme: str) -> int:
        """Returns what a matrix takes in the file."""
        if scheme == FP:
            return 2 * place.n_weights
        return sum(part.n_bytes for part in _parts(place, scheme))

    def expected(self, source: Source, place: Place, scheme: str) -> Expected:
        """Returns what the file will hold of a matrix."""
        if scheme == FP:
            n_bytes = whole_bytes(source, place, sixteen=False)
            return Expected(stored="", code_bits=8 * n_bytes / place.n_weights, n_bytes=n_bytes)
        return Expected(
            stored=f"NF4 b{_BLOCK} double" if scheme == NF4 else "int8 channel",
            code_bits=self.code_bits(scheme),
            n_bytes=self.bytes_of(place, scheme),
        )

    def rounded(self, weight_OI: Tensor, scheme: str, name: str) -> Tensor:
        """Returns what bitgap computes with: of NF4, its values in blocks over row ends."""
        if scheme != NF4:
            return super().rounded(weight_OI, scheme, name)
        return nf4_values(*nf4_codes(weight_OI)).view(weight_OI.shape)

    def explained(self, source: Source, schemes: Mapping[str, str]) -> Explained:
        """Returns what may differ: int8 rounds activations too, by about as much as weights."""
        if _INT8 in schemes.values():
            return Explained(5e-2, 5e-2, "its int8 products round activations to 8 bits too")
        own = in_own_type(source)
        return _OWN_KERNEL if own is IN_FLOAT32 else own

    def by_rows(self, scheme: str) -> bool:
        """Whether rows may be rounded apart: absmax of NF4 shares a mean over the matrix."""
        return scheme != NF4

    def settings(self, source: Source) -> dict[str, Any]:
        """Returns what the loader is told."""
        # Whole matrices are not cast, so that another type than the file's does not compute.
        return {"device_map": "cpu", "dtype": "auto"}

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder."""
        write_folder(
            folder,
            source,
            schemes,
            parts=_parts,
            values=_values,
            quantization=_config(source, schemes),
            sixteen=False,
        )


def nf4_codes(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Returns NF4 codes of a matrix, codes of its absmax, their absmax and the mean.

    Args:
        weight: As it is stored, in any shape; blocks run over row ends.

    Returns:
        Codes of 4 bits (blocks x 64), codes of 8 bits (blocks), scales (nested blocks), offset.
    """
    blocks = weight.float().contiguous().view(-1, _BLOCK)
    absmax = blocks.abs().amax(1)
    codes = torch.empty(blocks.shape, dtype=torch.uint8)
    bounds = (NF4_VALUES[1:] + NF4_VALUES[:-1]) / 2
    inverse = torch.where(absmax > 0, 1 / absmax, 0.0)
    for start in range(0, len(blocks), _PIECE_BLOCKS):
        part = slice(start, start + _PIECE_BLOCKS)
        codes[part] = torch.bucketize(blocks[part] * inverse[part, None], bounds).to(torch.uint8)
    offset = float(absmax.mean())
    rest = absmax - offset
    filled = torch.nn.functional.pad(rest, (0, -len(rest) % _NESTED)).view(-1, _NESTED)
    nested = filled.abs().amax(1)
    table = dynamic_map()
    scaled = filled * torch.where(nested > 0, 1 / nested, 0.0)[:, None]
    eight = torch.bucketize(scaled.reshape(-1), (table[1:] + table[:-1]) / 2)[: len(rest)]
    return codes, eight.to(torch.uint8), nested, offset


def nf4_values(codes: Tensor, eight: Tensor, nested: Tensor, offset: float) -> Tensor:
    """Returns what NF4 codes stand for, (blocks x 64) float32."""
    which = torch.arange(len(eight)) // _NESTED
    absmax = dynamic_map()[eight.long()] * nested[which] + offset
    return NF4_VALUES[codes.int()] * absmax[:, None]


def dynamic_map() -> Tensor:
    """Returns the library's 256 values of dynamic 8-bit floats (``functional.create_dynamic_map``).

    Dettmers 2015: a sign, leading zeros that are an exponent, and a linear fraction of the rest.
    """
    found: list[float] = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1)
        means = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (i - 6)).tolist()
        found += [*means, *(-x for x in means)]
    return torch.tensor(sorted(found))


def _parts(place: Place, scheme: str) -> list[ToStore]:
    if scheme == _INT8:
        return [
            ToStore(place.name, "I8", place.shape),
            ToStore(f"{place.module}.SCB", "F32", (place.n_out,)),
            ToStore(f"{place.module}.weight_format", "U8", ()),
        ]
    n_blocks = place.n_weights // _BLOCK
    return [
        ToStore(place.name, "U8", (place.n_weights // 2, 1)),
        ToStore(f"{place.name}.absmax", "U8", (n_blocks,)),
        ToStore(f"{place.name}.quant_map", "F32", (16,)),
        ToStore(f"{place.name}.nested_absmax", "F32", (math.ceil(n_blocks / _NESTED),)),
        ToStore(f"{place.name}.nested_quant_map", "F32", (256,)),
        ToStore(f"{place.name}.quant_state.bitsandbytes__nf4", "U8", (_STATE_BYTES,)),
    ]


def _values(
    source: Source, place: Place, scheme: str
) -> Iterator[tuple[str, Tensor | Iterable[Tensor]]]:
    matrix = source.matrix(place.name)
    if scheme == _INT8:
        codes = codes_of(matrix, scheme)
        yield place.name, codes.levels_OI
        yield f"{place.module}.SCB", (codes.scale_OG * 127).reshape(-1)
        yield f"{place.module}.weight_format", torch.tensor(0, dtype=torch.uint8)
        source.forget(place.name)
        return
    codes4, eight, nested, offset = nf4_codes(matrix)
    flat = codes4.reshape(-1, 2)
    state = {
        "quant_type": "nf4",
        "blocksize": _BLOCK,
        "dtype": "float32",
        "shape": list(matrix.shape),
        "nested_blocksize": _NESTED,
        "nested_dtype": "float32",
        "nested_offset": offset,
    }
    text = json.dumps(state).encode().ljust(_STATE_BYTES)
    yield place.name, ((flat[:, 0] << 4) | flat[:, 1]).reshape(-1, 1)
    yield f"{place.name}.absmax", eight
    yield f"{place.name}.quant_map", NF4_VALUES
    yield f"{place.name}.nested_absmax", nested
    yield f"{place.name}.nested_quant_map", dynamic_map()
    yield (
        f"{place.name}.quant_state.bitsandbytes__nf4",
        torch.tensor(list(text), dtype=torch.uint8),
    )
    source.forget(place.name)


def _config(source: Source, schemes: Mapping[str, str]) -> dict[str, Any] | None:
    used = {*schemes.values()} - {FP}
    if not used:
        return None
    whole = [p.module for p in source.places.values() if schemes.get(p.name, FP) == FP]
    model = source.loaded.model
    head = next((n for n, m in model.named_modules() if m is model.get_output_embeddings()), "")
    is_4bit = NF4 in used
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": is_4bit,
        "load_in_8bit": not is_4bit,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": str(source.config.get("dtype", "float32")),
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": sorted({*whole, *([head] if head else [])}),
        "llm_int8_threshold": 6.0,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
    }
