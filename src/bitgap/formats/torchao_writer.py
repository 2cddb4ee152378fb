"""torchao, written: integers of 2 to 8 bits with an fp16 scale a group, loaded by transformers.

``X._weight_qdata`` int8, one code a byte whatever its bits (torchao packs them when an accelerator
loads them), ``X._weight_scale`` float16 and ``X._weight_zero_point`` int8 of zeros; the header's
metadata describes each tensor. The config names every module in full: of several rules for one
matrix torchao takes that which matches the *parameter's* name, whatever their order, so that a
pattern can quantize what a later one leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitgap.formats.folder import write_folder
from bitgap.formats.safetensors_file import ToStore
from bitgap.formats.source import Place, Source
from bitgap.formats.symmetric import SymmetricIntegers, half_scale
from bitgap.formats.target import FP, Explained, coded, group_of, in_own_type, rtn
from bitgap.quant.schemes import RoundToNearest

_PARTS = ["qdata", "scale", "zero_point"]


class TorchAO(SymmetricIntegers):
    """What transformers loads with the torchao library."""

    name = "torchao"
    title = "torchao (transformers)"
    needs = ("torchao",)
    bytes_note = "torchao stores one code a byte on disk, and zeros of symmetric codes"

    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""
        if place.kind == "conv1d":
            return "torchao passes over Conv1D, as GPT-2 has, and would not say so"
        if place.kind == "tied":
            return "transformers ties no embedding to a head that torchao has rounded"
        return None

    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file."""
        return place.n_weights + 3 * scheme.n_scales(place.shape)

    def nearest(self, place: Place, scheme: str) -> str:
        """Returns the scheme nearest to one: of codes of a byte each, that with the fewest bits."""
        found = super().nearest(place, scheme)
        parsed = rtn(scheme)
        if found != FP and parsed is not None:
            return found.replace(f"rtn{int(self.code_bits(found))}", f"rtn{parsed.bits}", 1)
        return found

    def settings(self, source: Source) -> dict[str, Any]:
        """Returns what the loader is told: the tensors have a type that loading does not change."""
        return {"dtype": "auto"}

    def explained(self, source: Source, schemes: Mapping[str, str]) -> Explained:
        """Returns what may differ: products are in the type that the file fixes."""
        return in_own_type(source)

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder.

        Raises:
            ModelError: If a scale is beyond float16.
        """
        rounded = {n: s for n, s in schemes.items() if s != FP}
        write_folder(
            folder,
            source,
            schemes,
            parts=_parts,
            values=_values,
            quantization=_config(source, rounded) if rounded else None,
            metadata=_metadata(source, rounded) if rounded else None,
        )


def _prefix(place: Place) -> str:
    return f"{place.module}._weight_"


def _parts(place: Place, scheme: str) -> list[ToStore]:
    parsed = rtn(scheme)
    assert parsed is not None
    groups = (place.n_out, place.n_in // group_of(parsed, place.n_in))
    return [
        ToStore(f"{_prefix(place)}qdata", "I8", place.shape),
        ToStore(f"{_prefix(place)}scale", "F16", groups),
        ToStore(f"{_prefix(place)}zero_point", "I8", groups),
    ]


def _values(
    source: Source, place: Place, scheme: str
) -> Iterator[tuple[str, Tensor | Iterable[Tensor]]]:
    scales = list[Tensor]()

    def codes() -> Iterator[Tensor]:
        for part in coded(source, place, scheme):
            scales.append(half_scale(part.scale_OG, place.name))
            yield part.levels_OI

    yield f"{_prefix(place)}qdata", codes()
    yield f"{_prefix(place)}scale", (made := torch.cat(scales))
    yield f"{_prefix(place)}zero_point", torch.zeros(made.shape, dtype=torch.int8)


def _metadata(source: Source, rounded: Mapping[str, str]) -> dict[str, str]:
    dtype = str(source.config.get("dtype", source.config.get("torch_dtype", "float32")))
    found: dict[str, str] = {"tensor_names": json.dumps([*source.names()])}
    for name in source.names():
        if name not in rounded:
            found[name] = json.dumps({"_type": "Tensor"})
            continue
        place, parsed = source.places[name], rtn(rounded[name])
        assert parsed is not None
        data = {
            "target_dtype": _dtype(f"int{parsed.bits}"),
            "block_size": [1, group_of(parsed, place.n_in)],
            "dtype": _dtype(dtype),
            "activation_quantization": None,
        }
        found[name] = json.dumps(
            {
                "_type": "IntxUnpackedToInt8Tensor",
                "_data": data,
                "_tensor_data_names": _PARTS,
            }
        )
    return found


def _config(source: Source, rounded: Mapping[str, str]) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    for name, scheme in rounded.items():
        place, parsed = source.places[name], rtn(scheme)
        assert parsed is not None
        size = group_of(parsed, place.n_in)
        grain = {"_type": "PerGroup", "_version": 1, "_data": {"group_size": size}}
        if size == place.n_in:
            grain = {"_type": "PerAxis", "_version": 1, "_data": {"axis": 0}}
        rules[place.module] = {
            "_type": "IntxWeightOnlyConfig",
            "_version": 2,
            "_data": {
                "weight_dtype": _dtype(f"int{parsed.bits}"),
                "granularity": grain,
                "mapping_type": {"_type": "MappingType", "_data": "SYMMETRIC"},
                "scale_dtype": None,
                "intx_packing_format": {
                    "_type": "IntxPackingFormat",
                    "_data": "UNPACKED_TO_INT8",
                },
                "intx_choose_qparams_algorithm": {
                    "_type": "IntxChooseQParamsAlgorithm",
                    "_data": "AFFINE",
                },
            },
        }
    outside = any(source.places[n].block is None for n in rounded)
    fqn = {"fqn_to_config": rules, "module_fqn_to_config": rules}
    return {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "FqnToConfig", "_version": 1, "_data": fqn}},
        "modules_to_not_convert": None,
        "include_input_output_embeddings": outside,
        "untie_embedding_weights": False,
    }


def _dtype(name: str) -> dict[str, str]:
    return {"_type": "torch.dtype", "_data": name}
