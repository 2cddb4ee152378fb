"""The safetensors of a file or folder: checked headers first, values when asked.

The library checks what a header says against the file (offsets, sizes, overlaps) before it maps
it; what is added here is the folder: an index that names files, files that repeat each other's
tensors, a config beside them, and refusals that say what was found.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import Unit, times

_LONGEST_JSON_BYTES = 64 << 20  # an index of a model with a million tensors is shorter
_PICKLE = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle)")
_DTYPE_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8}
_DTYPE_BITS |= {"F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16}
_DTYPE_BITS |= {"U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64}
_DTYPE_BITS |= {"F64": 64, "I64": 64, "U64": 64}
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says of one tensor; shapes are as safetensors writes them."""

    dtype: str
    """safetensors' name, such as ``BF16``, ``I32`` or ``F8_E4M3``."""
    shape: tuple[int, ...]
    file: str

    @property
    def n_bytes(self) -> int:
        """Bytes of the values in the file."""
        return math.prod(self.shape) * _DTYPE_BITS[self.dtype] // 8


class TensorFolder:
    """The tensors of one safetensors file, or of a folder of them, by name.

    Attributes:
        path: The file or folder that was given.
        config: Its ``config.json``, empty if there is none.
        quantization: The quantization config, wherever a toolchain put it; empty if there is none.
        metadata: What the headers say beside tensors, of all files together.
        headers: What there is.
    """

    def __init__(self, path: Path) -> None:
        """Reads headers and configs, and no tensor.

        Raises:
            ModelError: If there are no safetensors, or one of them or a config is damaged.
        """
        self.path = path
        self._folder = path if path.is_dir() else path.parent
        self.config = self._json("config.json")
        self.quantization = self._find_quantization()
        self.metadata: dict[str, str] = {}
        self.headers: dict[str, Header] = {}
        self._open: dict[str, Any] = {}
        for file in self._files():
            self._read_header(file)

    # -- values ----------------------------------------------------------------------------------

    def get(self, name: str) -> Tensor:
        """Returns a tensor as stored, mapped from the file; not to be written to.

        Raises:
            ModelError: If there is no such tensor or torch has no type for it.
        """
        header = self.header(name)
        try:
            return self._open[header.file].get_tensor(name)
        except (SafetensorError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise ModelError(
                f"{self.path.name}: {name} ({header.dtype}) cannot be read ({error}); the file may "
                f"be damaged, or need a newer torch"
            ) from error

    def header(self, name: str) -> Header:
        """Returns what the file says of a tensor.

        Raises:
            ModelError: If there is no such tensor.
        """
        if name not in self.headers:
            raise ModelError(
                f"{self.path.name} has no tensor {name}, which belongs to others that are there; "
                f"the checkpoint is incomplete: copy or download it again"
            )
        return self.headers[name]

    def expect(self, name: str, dtypes: tuple[str, ...], n_dims: int | None = None) -> Header:
        """Returns a header after a look at its type.

        Raises:
            ModelError: If the tensor is absent, of another type, has other dimensions or is empty.
        """
        header = self.header(name)
        if header.dtype not in dtypes or (n_dims is not None and len(header.shape) != n_dims):
            raise ModelError(
                f"{self.path.name}: {name} is {header.dtype} of shape {times(header.shape)}, where "
                f"{' or '.join(dtypes)} was expected; the layout is of a version that is not "
                f"understood"
            )
        if 0 in header.shape:
            raise ModelError(f"{self.path.name}: {name} has shape {times(header.shape)}: no values")
        return header

    def __contains__(self, name: str) -> bool:
        return name in self.headers

    def modules_with(self, leaf: str) -> Iterator[str]:
        """Yields, in the files' order, each X for which there is a tensor ``X.leaf``."""
        end = f".{leaf}"
        yield from (name.removesuffix(end) for name in self.headers if name.endswith(end))

    def n_bytes(self, *names: str) -> int:
        """Returns the bytes of several tensors together; those that are absent count 0."""
        return sum(self.headers[name].n_bytes for name in names if name in self.headers)

    def as_whole(self, name: str) -> Unit:
        """Returns a tensor that is stored as it is used."""
        header = self.expect(name, FLOATS)
        return Unit(
            name=name,
            shape=header.shape,
            stored=header.dtype,
            code_bits=_DTYPE_BITS[header.dtype],
            code_bytes=header.n_bytes,
            read=lambda: self.get(name).to(torch.float32, copy=True),
        )

    # -- files -----------------------------------------------------------------------------------

    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        index = self._json("model.safetensors.index.json").get("weight_map")
        if isinstance(index, Mapping) and index:
            names = sorted({str(file) for file in cast("Mapping[str, object]", index).values()})
            for name in names:
                if Path(name).name != name or not (self._folder / name).is_file():
                    raise ModelError(
                        f"{self.path.name}: its index names {name!r}, which is no file of the "
                        f"folder; the checkpoint is incomplete: copy or download it again"
                    )
            return [self._folder / name for name in names]
        if (single := self._folder / "model.safetensors").is_file():
            return [single]
        if files := sorted(self._folder.glob("*.safetensors")):
            return files
        raise ModelError(f"{self.path} has no .safetensors file{self._what_else()}")

    def _what_else(self) -> str:
        names = sorted(p.name for p in self._folder.iterdir() if p.is_file())
        if pickles := [n for n in names if _PICKLE.fullmatch(n)]:
            return (
                f" but {', '.join(pickles[:3])}: pickles can run code and are not read; have the "
                f"toolchain save safetensors"
            )
        return f" (found {', '.join(names[:8]) or 'nothing'}); give what a toolchain wrote"

    def _read_header(self, file: Path) -> None:
        try:
            opened = safe_open(file, framework="pt")
            for key, value in (opened.metadata() or {}).items():
                self.metadata[key] = value
            for name in opened.keys():
                part = opened.get_slice(name)
                header = Header(str(part.get_dtype()), tuple(part.get_shape()), file.name)
                if header.dtype not in _DTYPE_BITS:
                    raise ModelError(
                        f"{file.name}: {name} has the type {header.dtype}, which is not known"
                    )
                if name in self.headers:
                    raise ModelError(
                        f"{name} is in {self.headers[name].file} and in {file.name}; keep one set "
                        f"of weights in the folder"
                    )
                self.headers[name] = header
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{file.name} is no safetensors file, or a damaged one ({error}); copy or download "
                f"it again"
            ) from error
        self._open[file.name] = opened

    # -- configs ---------------------------------------------------------------------------------

    def _json(self, name: str) -> dict[str, Any]:
        file = self._folder / name
        if not file.is_file():
            return {}
        try:
            if file.stat().st_size > _LONGEST_JSON_BYTES:
                raise ValueError(f"it has {file.stat().st_size} bytes")
            value = json.loads(file.read_bytes())
            if not isinstance(value, dict):
                raise ValueError("it holds no object")
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{file.parent.name}/{name} cannot be read ({error})") from error
        return cast("dict[str, Any]", value)

    def _find_quantization(self) -> dict[str, Any]:
        text = self.config.get("text_config")
        places = [self.config, text if isinstance(text, dict) else {}]
        # compression_config: compressed-tensors before 0.8; quantization: MLX
        for key in ("quantization_config", "compression_config", "quantization"):
            for place in places:
                if isinstance(found := place.get(key), dict):
                    return cast("dict[str, Any]", found)
        for name in ("hf_quant_config.json", "quantize_config.json", "quantization_config.json"):
            found = self._json(name)
            if found:
                inner = found.get("quantization")
                return cast("dict[str, Any]", inner) if isinstance(inner, dict) else found
        return {}


def integer(config: Mapping[str, Any], *keys: str) -> int | None:
    """Returns the first of several settings that is a whole number, None if none is.

    Example:
        >>> integer({"w_bit": 4}, "bits", "w_bit")
        4
    """
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
