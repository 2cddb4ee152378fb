"""The header of a GGUF file, read with every size and count checked before it is used.

``gguf.GGUFReader`` makes an array of each element of each value (a minute for a vocabulary of
262,144) and trusts counts. This reader takes the same file (version 2 or 3, little-endian; ggml's
``docs/gguf.md``): metadata as plain values and arrays, and where each tensor lies. Types, their
block sizes and their arithmetic are the library's.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from bitgap.errors import ModelError, import_extra, one_line

MAGIC = b"GGUF"
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
            11: "<q", 12: "<d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_SMALLEST_PAIR_BYTES = 8 + 4 + 1
_SMALLEST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8
_MOST_DIMENSIONS = 4
_LONGEST_NAME_BYTES = 65535


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one tensor lies.

    Attributes:
        name: As the file calls it.
        shape: Rows first: the reverse of the file's dimensions.
        kind: ggml's name of its type, such as ``Q4_K``.
        start: First byte in the file.
        n_bytes: Bytes of the data.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    n_bytes: int


class GGUFFile:
    """An open GGUF file, mapped and not read.

    Attributes:
        path: Where it is.
        metadata: Keys to numbers, texts, numpy arrays, or lists of texts.
        tensors: What there is, by name, in the file's order.
    """

    def __init__(self, path: Path) -> None:
        """Maps the file and reads its header.

        Raises:
            ModelError: If it is no GGUF file of a version that is understood, or is damaged.
            MissingExtra: If the gguf library is not installed.
        """
        self.path = path
        self._types = library().GGMLQuantizationType
        self._sizes = library().GGML_QUANT_SIZES
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ModelError(f"{path.name} cannot be read ({error})") from error
        self._at = 0
        self.metadata: dict[str, Any] = {}
        self.tensors: Mapping[str, Stored] = self._read()

    def bytes_of(self, tensor: Stored) -> NDArray[np.uint8]:
        """Returns the bytes of a tensor, mapped and not read."""
        return np.frombuffer(self._map, np.uint8, tensor.n_bytes, tensor.start)

    def release(self, tensor: Stored) -> None:
        """Gives back the memory that a tensor's mapped bytes take, which are read anew if asked."""
        start = -(-tensor.start // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.start + tensor.n_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    # -- structure -------------------------------------------------------------------------------

    def _read(self) -> dict[str, Stored]:
        if self._take(4) != MAGIC:
            raise self._damaged("it does not begin as GGUF files do")
        version = self._number("<I")
        if version & 0xFFFF == 0 and version:
            raise ModelError(
                f"{self.path.name} is big-endian, which is not read; convert it with "
                f"gguf-convert-endian of the gguf package"
            )
        if version not in (2, 3):
            raise ModelError(
                f"{self.path.name} is GGUF version {version}; versions 2 and 3 are understood: "
                f"convert the model again with a present llama.cpp"
            )
        n_tensors, n_pairs = self._number("<Q"), self._number("<Q")
        self._room(n_pairs, _SMALLEST_PAIR_BYTES, f"{n_pairs} metadata keys")
        self._room(n_tensors, _SMALLEST_TENSOR_BYTES, f"{n_tensors} tensors")
        for _ in range(n_pairs):
            key = self._text("a key", _LONGEST_NAME_BYTES)
            if key in self.metadata:
                raise self._damaged(f"the key {key!r} is there twice")
            self.metadata[key] = self._value(self._number("<I"), key)
        self._refuse_parts()
        listed = [self._tensor() for _ in range(n_tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment % 8:
            raise self._damaged(f"its alignment is {alignment!r}")
        return self._placed(listed, -(-self._at // alignment) * alignment, alignment)

    def _refuse_parts(self) -> None:
        count = self.metadata.get("split.count", 0)
        if isinstance(count, int) and count > 1:
            raise ModelError(
                f"{self.path.name} is one of {count} parts of a model, which are not read; join "
                f"them first (llama-gguf-split --merge) and give the whole file"
            )

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text("a tensor's name", _LONGEST_NAME_BYTES)
        n_dims = self._number("<I")
        if not 1 <= n_dims <= _MOST_DIMENSIONS:
            raise self._damaged(f"{name!r} has {n_dims} dimensions")
        dims = tuple(self._number("<Q") for _ in range(n_dims))
        return name, dims, self._number("<I"), self._number("<Q")

    def _placed(
        self, listed: list[tuple[str, tuple[int, ...], int, int]], base: int, alignment: int
    ) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for name, dims, kind, offset in listed:
            try:
                type_ = self._types(kind)
            except ValueError:
                raise ModelError(
                    f"{self.path.name}: {name} has the type {kind}, which the installed gguf does "
                    f"not know; a newer gguf may"
                ) from None
            per_block, block_bytes = self._sizes[type_]
            n_weights = 1
            for size in dims:
                n_weights *= size
            if n_weights < 1 or dims[0] % per_block:
                raise self._damaged(f"{name} has dimensions {dims} in blocks of {per_block}")
            n_bytes = n_weights // per_block * block_bytes
            if offset % alignment or base + offset + n_bytes > len(self._map):
                raise self._damaged(
                    f"{name} would lie at {base + offset} to {base + offset + n_bytes} of a file "
                    f"of {len(self._map)} bytes"
                )
            if name in found:
                raise self._damaged(f"the tensor {name!r} is there twice")
            found[name] = Stored(name, dims[::-1], type_.name, base + offset, n_bytes)
        ends = sorted((t.start, t.start + t.n_bytes, t.name) for t in found.values())
        for (_, end, one), (start, _, other) in pairwise(ends):
            if start < end:
                raise self._damaged(f"{one} and {other} share bytes")
        return found

    # -- values ----------------------------------------------------------------------------------

    def _value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._text(key)
        if kind != _ARRAY:
            raise self._damaged(f"{key} has a value of the type {kind}")
        element, count = self._number("<I"), self._number("<Q")
        if element in _SCALARS:
            dtype = np.dtype(_SCALARS[element])
            self._room(count, dtype.itemsize, f"{key} with {count} values")
            start, self._at = self._at, self._at + count * dtype.itemsize
            return np.frombuffer(self._map, dtype, count, start).copy()
        if element == _STRING:
            self._room(count, 8, f"{key} with {count} texts")
            return self._texts(count, key)
        raise self._damaged(f"{key} is an array of the type {element}")

    def _texts(self, count: int, key: str) -> list[str]:
        # A vocabulary has hundreds of thousands: no call for each.
        data, at, end = self._map, self._at, len(self._map)
        unpack = struct.Struct("<Q").unpack_from
        texts: list[str] = []
        try:
            for _ in range(count):
                start = at + 8
                at = start + unpack(data, at)[0]
                if at > end:
                    raise self._damaged(f"a text of {key} is longer than the file")
                texts.append(data[start:at].decode())
        except struct.error:
            raise self._damaged(f"the file ends within {key}") from None
        except UnicodeDecodeError as error:
            raise self._damaged(f"a text of {key} is no UTF-8 ({error.reason})") from None
        self._at = at
        return texts

    def _text(self, what: str, longest: int | None = None) -> str:
        size = self._number("<Q")
        if longest is not None and size > longest:
            raise self._damaged(f"{what} has {size} bytes")
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise self._damaged(f"{what} is no UTF-8 ({error.reason})") from None

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack(code, self._take(struct.calcsize(code)))
        return value

    def _take(self, n_bytes: int) -> bytes:
        self._room(n_bytes, 1, f"{n_bytes} bytes more")
        start, self._at = self._at, self._at + n_bytes
        return self._map[start : self._at]

    def _room(self, count: int, each_bytes: int, what: str) -> None:
        if count * each_bytes > len(self._map) - self._at:
            raise self._damaged(f"{what} do not fit into the {len(self._map)} bytes of the file")

    def _damaged(self, why: str) -> ModelError:
        return ModelError(
            f"{self.path.name} is damaged or cut short: {one_line(why)}; copy it again"
        )


def is_gguf(path: str | os.PathLike[str] | None) -> TypeGuard[str | os.PathLike[str]]:
    """Returns whether a model is asked for by a GGUF file: by its ending, or its first bytes."""
    if path is None:
        return False
    place = Path(os.path.expanduser(os.fspath(path)))
    try:
        if not place.is_file():
            return False
        with place.open("rb") as file:
            return place.suffix == ".gguf" or file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def library() -> Any:
    """Returns the gguf library.

    Raises:
        MissingExtra: If it is not installed.
    """
    return import_extra("gguf", "gguf", "reading GGUF")
