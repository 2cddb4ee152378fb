"""A safetensors file written tensor by tensor, and each piece by piece.

The library's ``save_file`` takes all tensors at once. The layout is simple and fixed: the length of
a JSON header as 8 bytes, the header with every tensor's type, shape and place, then the bytes. So
the header is made from shapes alone, and a model is written with no more in memory than a piece.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bitgap.errors import EngineError

DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "F64": torch.float64,
}
NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8  # the library pads its header to this, so that data can be mapped


@dataclass(frozen=True, slots=True)
class ToStore:
    """A tensor that a file will have."""

    name: str
    dtype: str
    """safetensors' name of it."""
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def header_bytes(tensors: Sequence[ToStore], metadata: Mapping[str, str]) -> bytes:
    """Returns the beginning of a file that has these tensors in this order.

    Example:
        >>> header_bytes([ToStore("a", "I8", (3,))], {})[8:].decode().rstrip()
        '{"__metadata__":{},"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}}'
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for tensor in tensors:
        end = start + tensor.n_bytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


class SafetensorsFile:
    """A file being written; a context manager. What was promised must come, in that order."""

    def __init__(
        self, path: Path, tensors: Sequence[ToStore], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes the header.

        Args:
            path: The file, which must not be there.
            tensors: All that it will have, in order.
            metadata: Text beside them; ``format`` is added, which transformers asks for.
        """
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise EngineError(f"{path.name} would have two tensors of one name")
        self._left = list(reversed(tensors))
        self._file: BinaryIO = path.open("xb")
        self._file.write(header_bytes(tensors, {"format": "pt"} | dict(metadata or {})))

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._left:
                    raise EngineError(f"{self._left[-1].name} was promised and not written")
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def write(self, name: str, pieces: Tensor | Iterable[Tensor]) -> None:
        """Writes the next tensor.

        Args:
            name: Its name; it must be the one whose turn it is.
            pieces: Its values, whole or in parts along the first dimension.

        Raises:
            EngineError: If it is another tensor's turn, or its type or size is not as promised.
        """
        tensor = self._left.pop() if self._left else None
        if tensor is None or tensor.name != name:
            raise EngineError(f"{name} was written where {tensor and tensor.name} was promised")
        written = 0
        for piece in [pieces] if isinstance(pieces, Tensor) else pieces:
            if piece.dtype != DTYPES[tensor.dtype]:
                raise EngineError(f"{name} is {piece.dtype} where {tensor.dtype} was promised")
            data = piece.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            self._file.write(data.data)
            written += data.nbytes
        if written != tensor.n_bytes:
            raise EngineError(f"{name} has {written} bytes where {tensor.n_bytes} were promised")
