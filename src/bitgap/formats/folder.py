"""A model folder in transformers' form: one safetensors file, a config that says how, a tokenizer.

What the targets that transformers loads have in common. Whole tensors keep the type of the model's
file, but a matrix of more than 16 bits, which a recipe counts at 16, becomes 16 bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bitgap.formats.safetensors_file import NAMES, SafetensorsFile, ToStore
from bitgap.formats.source import Place, Source, sixteen_bit_type
from bitgap.formats.target import FP

WEIGHTS = "model.safetensors"
Parts = Callable[[Place, str], list[ToStore]]
"""The tensors that a rounded matrix is stored as, in the order in which they are written."""
Values = Callable[[Source, Place, str], Iterator[tuple[str, Tensor | Iterable[Tensor]]]]
"""Their values, in that order."""


def write_folder(
    folder: Path,
    source: Source,
    schemes: Mapping[str, str],
    *,
    parts: Parts,
    values: Values,
    quantization: Mapping[str, Any] | None,
    metadata: Mapping[str, str] | None = None,
    sixteen: bool = True,
    config: Mapping[str, Any] | None = None,
    named: Callable[[str], str] = str,
    by_outputs: bool = False,
) -> None:
    """Writes a model folder, one tensor after the other.

    Args:
        folder: Where to; it is there and empty.
        source: The model.
        schemes: A scheme for every place.
        parts: What a rounded matrix is stored as.
        values: Its values.
        quantization: What the config says of it; None where nothing is quantized.
        metadata: Text of the safetensors header.
        sixteen: Whether whole matrices of more than 16 bits become 16 bits.
        config: What else the config says, over what the model's says.
        named: What the file calls a tensor.
        by_outputs: Whether a whole Conv1D is written as (out x in), as the linear that it is.
    """
    listed: list[ToStore] = []
    for name in source.names():
        place, scheme = source.places.get(name), schemes.get(name, FP)
        if place is not None and scheme != FP:
            listed += parts(place, scheme)
        else:
            part = whole_part(source, name, sixteen)
            turned = by_outputs and place is not None and place.kind == "conv1d"
            listed.append(replace(part, shape=part.shape[::-1]) if turned else part)
    listed = [replace(part, name=named(part.name)) for part in listed]
    with SafetensorsFile(folder / WEIGHTS, listed, metadata) as file:
        for name in source.names():
            place, scheme = source.places.get(name), schemes.get(name, FP)
            if place is not None and scheme != FP:
                for part, value in values(source, place, scheme):
                    file.write(named(part), value)
            else:
                pieces = whole_pieces(source, name, sixteen, by_outputs=by_outputs)
                file.write(named(name), pieces)
                source.forget(name)
    told = dict(source.config) | dict(config or {})
    if quantization is not None:
        told["quantization_config"] = dict(quantization)
    copy_beside(folder, source, told)


def copy_beside(folder: Path, source: Source, told: Mapping[str, Any]) -> None:
    """Writes what belongs to weights: a config, and the files beside the model's own."""
    (folder / "config.json").write_text(json.dumps(dict(told), indent=2) + "\n", encoding="utf-8")
    for file_ in source.copied_files():
        shutil.copyfile(file_, folder / file_.name)


def whole_bytes(source: Source, place: Place, *, sixteen: bool = True) -> int:
    """Returns the bytes of a matrix that is left whole."""
    return whole_part(source, place.name, sixteen).n_bytes


def whole_part(source: Source, name: str, sixteen: bool = True) -> ToStore:
    """Returns what a whole tensor is stored as."""
    value = source.stored(name)
    dtype = sixteen_bit_type(value) if sixteen and name in source.places else value.dtype
    return ToStore(name, NAMES[dtype], tuple(value.shape))


def whole_pieces(
    source: Source, name: str, sixteen: bool = True, *, by_outputs: bool = False
) -> Iterator[Tensor]:
    """Yields a whole tensor, some rows at a time; a matrix as (out x in) if that is wanted."""
    value = source.matrix(name) if by_outputs and name in source.places else source.stored(name)
    if name not in source.places or not sixteen:
        yield value
        return
    dtype = sixteen_bit_type(value)
    step = max(1, (1 << 22) // value.shape[1])
    for start in range(0, len(value), step):
        yield value[start : start + step].to(dtype)
