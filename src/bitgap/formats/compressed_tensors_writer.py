"""compressed-tensors, written: packed integers with an fp16 scale a group, for vLLM and others.

``X.weight_packed`` int32, a dense stream of code + 2^(b-1) a row; ``X.weight_scale`` float16 (out x
groups); ``X.weight_shape``. Every matrix is named in the config, one group of names a scheme, so
that no pattern decides what is quantized. What is not named, the head above all, is in ``ignore``:
without it a tied model cannot be loaded again.

Two targets share it. ``compressed-tensors`` is what transformers loads, 2 to 8 bits. ``vllm`` has
what vLLM has kernels for, 4 and 8 bits, and refuses unlike bits where it makes one matrix of
several (q, k, v; gate, up).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitgap.formats.folder import write_folder
from bitgap.formats.fused import unlike_siblings
from bitgap.formats.packing import stream_bytes
from bitgap.formats.safetensors_file import ToStore
from bitgap.formats.source import OUTSIDE, Place, Source
from bitgap.formats.symmetric import PLAIN, SymmetricIntegers, packed_rows
from bitgap.formats.target import FP, Refusal, group_of, rtn
from bitgap.quant.schemes import RoundToNearest

_SHAPE_BYTES = 16  # weight_shape, two int64


class CompressedTensors(SymmetricIntegers):
    """What transformers loads with the compressed-tensors library."""

    name = "compressed-tensors"
    title = "compressed-tensors (transformers)"
    needs = ("compressed_tensors",)

    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""
        if place.kind == "conv1d":
            return "the library quantizes no Conv1D, as GPT-2 has, and would not say so"
        if place.kind in OUTSIDE:
            return f"the {PLAIN[place.kind]} stays whole there"
        return self.other_bits(scheme)

    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file, its stored shape included."""
        codes = place.n_out * stream_bytes(place.n_in, scheme.bits)
        return codes + 2 * scheme.n_scales(place.shape) + _SHAPE_BYTES

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder.

        Raises:
            ModelError: If a scale is beyond float16.
        """
        write_folder(
            folder,
            source,
            schemes,
            parts=_parts,
            values=_values,
            quantization=_config(source, schemes),
        )


class VLLM(CompressedTensors):
    """What vLLM loads of it, with kernels for it."""

    name = "vllm"
    title = "compressed-tensors (vLLM)"
    bits = (4, 8)

    def together(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> list[Refusal]:
        """Refuses unlike schemes of what vLLM makes one matrix of."""
        return unlike_siblings(self, places, schemes)


def _parts(place: Place, scheme: str) -> list[ToStore]:
    parsed = rtn(scheme)
    assert parsed is not None
    words = stream_bytes(place.n_in, parsed.bits) // 4
    groups = math.ceil(place.n_in / group_of(parsed, place.n_in))
    return [
        ToStore(f"{place.module}.weight_packed", "I32", (place.n_out, words)),
        ToStore(f"{place.module}.weight_scale", "F16", (place.n_out, groups)),
        ToStore(f"{place.module}.weight_shape", "I64", (2,)),
    ]


def _values(
    source: Source, place: Place, scheme: str
) -> Iterator[tuple[str, Tensor | Iterable[Tensor]]]:
    scales = list[Tensor]()
    yield f"{place.module}.weight_packed", packed_rows(source, place, scheme, scales)
    yield f"{place.module}.weight_scale", torch.cat(scales)
    yield f"{place.module}.weight_shape", torch.tensor(place.shape, dtype=torch.int64)


def _config(source: Source, schemes: Mapping[str, str]) -> dict[str, Any] | None:
    by_scheme: dict[tuple[int, int | None], list[str]] = {}
    whole: list[str] = []
    for name, place in source.places.items():
        parsed = rtn(schemes.get(name, FP))
        if parsed is None:
            whole.append(place.module)
            continue
        size = group_of(parsed, place.n_in)
        key = (parsed.bits, None if size == place.n_in else size)
        by_scheme.setdefault(key, []).append(place.module)
    if not by_scheme:
        return None
    head = source.loaded.model.get_output_embeddings()
    names = {module: name for name, module in source.loaded.model.named_modules()}
    if head is not None and names.get(head) not in whole:
        whole.append(names[head])
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{i}": {
                "targets": modules,
                "weights": {
                    "num_bits": bits,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "channel" if size is None else "group",
                    "group_size": size,
                    "dynamic": False,
                },
                "input_activations": None,
                "output_activations": None,
                "format": "pack-quantized",
            }
            for i, ((bits, size), modules) in enumerate(by_scheme.items())
        },
        "ignore": whole,
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
