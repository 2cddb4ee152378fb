"""GPTQ's layout, written with codes of our own rounding: what GPTQModel, vLLM and auto-round load.

``X.qweight`` int32, a dense stream of code + 2^(b-1) down each output's inputs; ``X.scales``
float16 (groups x out); ``X.qzeros`` int32, the symmetric zero less one, as version 1 has it; all
(inputs x out), whatever way round the model has the matrix, so that a Conv1D is no exception.

Two targets share it. ``auto-round`` is what the auto-round library loads, 2 to 8 bits on any
machine. ``gptq`` has the config of GPTQModel, whose kernels have 2, 3, 4 and 8 bits; modules that
differ from the first scheme are under ``dynamic``, as anchored patterns of their full names, once
more under the name of what vLLM makes one matrix of.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitgap.formats.folder import write_folder
from bitgap.formats.fused import fused_siblings, unlike_siblings
from bitgap.formats.packing import pack_stream, stream_bytes
from bitgap.formats.safetensors_file import ToStore
from bitgap.formats.source import OUTSIDE, Place, Source
from bitgap.formats.symmetric import PLAIN, SymmetricIntegers, packed_rows
from bitgap.formats.target import (
    FP,
    IN_FLOAT32,
    Explained,
    Reader,
    Refusal,
    group_of,
    in_own_type,
    rtn,
)
from bitgap.quant.schemes import RoundToNearest

_WORD_CODES = 32
"""Codes whose words are whole, whatever their bits."""
_IN_FLOAT16 = Explained(5e-3, 2e-3, "products, and all that is stored whole, in float16")


class _GPTQ(SymmetricIntegers):
    needs = ("auto_round", "accelerate")
    bytes_note = "a zero for every scale, and a few bytes an input, beside codes and scales"
    has_index: bool

    @abstractmethod
    def quantization(self, source: Source, schemes: Mapping[str, str]) -> dict[str, Any]:
        """Returns what the config says of a model of which something is rounded."""

    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""
        if place.kind in OUTSIDE:
            return f"the {PLAIN[place.kind]} stays whole there"
        if place.n_in % _WORD_CODES or place.n_out % _WORD_CODES:
            return (
                f"{_WORD_CODES} divides not both of {place.n_out} outputs and {place.n_in} inputs"
            )
        return self.other_bits(scheme)

    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file, zeros and indices included."""
        return sum(part.n_bytes for part in _parts(place, scheme.name, self.has_index))

    def explained(self, source: Source, schemes: Mapping[str, str]) -> Explained:
        """Returns what may differ: both libraries make float16 of float32, vectors too."""
        own = in_own_type(source)
        return _IN_FLOAT16 if own is IN_FLOAT32 else own

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder.

        Raises:
            ModelError: If a scale is beyond float16.
        """
        is_rounded = any(scheme != FP for scheme in schemes.values())
        write_folder(
            folder,
            source,
            schemes,
            parts=lambda place, scheme: _parts(place, scheme, self.has_index),
            values=lambda source, place, scheme: _values(source, place, scheme, self.has_index),
            quantization=self.quantization(source, schemes) if is_rounded else None,
        )


class AutoRound(_GPTQ):
    """What transformers loads with the auto-round library."""

    name = "auto-round"
    title = "auto-round (transformers)"
    has_index = False

    def quantization(self, source: Source, schemes: Mapping[str, str]) -> dict[str, Any]:
        """Returns the config, with every module that differs by its full name."""
        base, others = module_settings(source, schemes)
        return {
            "quant_method": "auto-round",
            "packing_format": "auto_round:auto_gptq",
            "data_type": "int",
            **base,
            "iters": 0,
            "block_name_to_quantize": _blocks(source),
            "extra_config": {
                module: {"bits": 16, "data_type": "float"} if own is None else own
                for module, own in others.items()
            },
        }


class GPTQ(_GPTQ):
    """What GPTQModel and vLLM load; auto-round reads it where GPTQModel is not installed."""

    name = "gptq"
    title = "GPTQ (GPTQModel, vLLM)"
    bits = (2, 3, 4, 8)
    has_index = True

    def readers(self) -> tuple[Reader, ...]:
        """Returns what can load it back: its own library, or auto-round in its place."""
        return (
            Reader(loader="gptqmodel", needs=("gptqmodel",)),
            Reader(loader=self.loader, needs=self.needs, settings={"read_by_auto_round": True}),
        )

    def together(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> list[Refusal]:
        """Refuses unlike schemes of what vLLM makes one matrix of."""
        return unlike_siblings(self, places, schemes)

    def quantization(self, source: Source, schemes: Mapping[str, str]) -> dict[str, Any]:
        """Returns the config, in which a pattern matches one full name."""
        base, others = module_settings(source, schemes)
        for made, names in fused_siblings(source.places).items():
            if (first := source.places[names[0]].module) in others:
                others[made] = others[first]
        return {
            "quant_method": "gptq",
            "checkpoint_format": "gptq",
            "desc_act": False,
            **base,
            "lm_head": False,
            "dynamic": {
                f"{'-' if own is None else '+'}:^{re.escape(module)}$": own or {}
                for module, own in others.items()
            },
        }


def module_settings(
    source: Source, schemes: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    """Returns the settings of most matrices, and by module those of others; None is left whole.

    Args:
        source: The model.
        schemes: By matrix; at least one of the blocks' is rounded.
    """
    own: dict[str, tuple[int, int] | None] = {}
    for name, place in source.places.items():
        if place.kind in OUTSIDE:
            continue
        parsed = rtn(schemes.get(name, FP))
        if parsed is None:
            own[place.module] = None
        else:
            size = group_of(parsed, place.n_in)
            own[place.module] = parsed.bits, -1 if size == place.n_in else size
    base = Counter(one for one in own.values() if one is not None).most_common(1)[0][0]
    others = {m: _as_dict(one) for m, one in own.items() if one != base}
    made = _as_dict(base)
    assert made is not None
    return made, others


def _as_dict(one: tuple[int, int] | None) -> dict[str, Any] | None:
    return None if one is None else {"bits": one[0], "group_size": one[1], "sym": True}


def _blocks(source: Source) -> str:
    """Returns the path of the blocks, under which the library looks for matrices."""
    first = next(place for place in source.places.values() if place.block is not None)
    return first.name.partition(f".{first.block}.")[0]


def _parts(place: Place, scheme: str, has_index: bool) -> list[ToStore]:
    parsed = rtn(scheme)
    assert parsed is not None
    groups = place.n_in // group_of(parsed, place.n_in)
    words = [stream_bytes(n, parsed.bits) // 4 for n in (place.n_in, place.n_out)]
    parts = [
        ToStore(f"{place.module}.qweight", "I32", (words[0], place.n_out)),
        ToStore(f"{place.module}.qzeros", "I32", (groups, words[1])),
        ToStore(f"{place.module}.scales", "F16", (groups, place.n_out)),
    ]
    if has_index:
        parts.append(ToStore(f"{place.module}.g_idx", "I32", (place.n_in,)))
    return parts


def _values(
    source: Source, place: Place, scheme: str, has_index: bool
) -> Iterator[tuple[str, Tensor | Iterable[Tensor]]]:
    parsed = rtn(scheme)
    assert parsed is not None
    bits, scales = parsed.bits, list[Tensor]()
    words = torch.cat(list(packed_rows(source, place, scheme, scales)))
    scale_GO = torch.cat(scales).T.contiguous()
    zeros = torch.full(scale_GO.shape, 2 ** (bits - 1) - 1, dtype=torch.uint8)
    yield f"{place.module}.qweight", words.T.contiguous()
    yield f"{place.module}.qzeros", pack_stream(zeros, bits)
    yield f"{place.module}.scales", scale_GO
    if has_index:
        size = group_of(parsed, place.n_in)
        yield f"{place.module}.g_idx", (torch.arange(place.n_in) // size).int()
