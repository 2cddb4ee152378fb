"""ONNX files of ONNX Runtime's 2, 4 and 8 bits: ``MatMulNBits`` and ``GatherBlockQuantized``.

``MatMulNBits`` (com.microsoft): codes uint8 (out x groups x bytes of a group), the low bits first,
a last group filled up; a scale a group; zeros where a fourth input is there, else 2^(b-1).
``GatherBlockQuantized`` has the same codes without filling, (rows x bytes of a row). Scales may
come through a Cast. Values lie in the file or beside it, where its tensors say.

Names of parameters are those of the initializers up to what ORT's quantizer and ours append
(``X_Q4``, ``X_Q4G32``); exporters that name initializers ``val_79`` leave no other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import ModelError, first_line, import_extra
from bitgap.formats.checkpoint import Checkpoint, Unit
from bitgap.formats.packing import by_group, unpack_stream

_APPENDED = re.compile(r"(_rows)?_(Q[0-9]+(G[0-9]+)?|quant|quantized|DQ_Q[0-9]+)$")
_FLOATS = {1: "F32", 10: "F16", 11: "F64", 16: "BF16"}
_BITS_OF = {"F32": 32, "F16": 16, "BF16": 16, "F64": 64}
_UINT8 = 2
_OPERATORS = ("MatMulNBits", "GatherBlockQuantized")
_SMALLEST = 8
"""Numbers below which an initializer is a constant of the graph and no weight."""
CONSTANT = "const_"
"""What names of larger constants begin with in the graphs that are written here."""


def library() -> Any:
    """Returns the onnx library.

    Raises:
        MissingExtra: If it is not installed.
    """
    return import_extra("onnx", "onnx", "reading or writing ONNX")


def open_onnx(path: Path) -> Checkpoint:
    """Opens an ONNX file without reading a matrix.

    Args:
        path: The ``.onnx`` file; its values may lie in files beside it.

    Raises:
        ModelError: If it is damaged, or holds codes in a layout that is not understood.
        MissingExtra: If the onnx library is not installed.
    """
    file = _File(path)
    units: dict[str, Unit] = {}
    used: set[str] = set()
    for node in file.nodes:
        if node.op_type not in _OPERATORS:
            continue
        unit = file.rounded(node)
        used |= {file.origin(name) for name in node.input if name}
        # A tied matrix is looked up and multiplied by: one place in the file, two operators.
        units.setdefault(unit.name, unit)
    whole = [
        file.whole(name)
        for name, tensor in file.tensors.items()
        if name not in used
        and tensor.data_type in _FLOATS
        and _size(tensor) > _SMALLEST
        and not name.startswith(CONSTANT)
    ]
    return Checkpoint(
        path=path,
        toolchain="onnxruntime",
        units=tuple(units.values()),
        whole=tuple(whole),
        claim="",
    )


class _File:
    def __init__(self, path: Path) -> None:
        onnx = library()
        self.path = path
        try:
            graph = onnx.load(path, load_external_data=False).graph
        except MemoryError:
            raise
        except Exception as error:  # protobuf raises what it likes on damaged files
            raise ModelError(
                f"{path.name} is no ONNX file, or a damaged one ({first_line(error)}); copy or "
                f"download it again"
            ) from None
        self.nodes = list(graph.node)
        self.tensors: Mapping[str, Any] = {one.name: one for one in graph.initializer}
        self._made = {out: node for node in graph.node for out in node.output}

    def origin(self, name: str) -> str:
        """Returns the initializer that a value is, or is cast from."""
        node = self._made.get(name)
        return node.input[0] if node is not None and node.op_type == "Cast" else name

    def rounded(self, node: Any) -> Unit:
        """Returns the matrix that an operator has.

        Raises:
            ModelError: If a part of it is missing, or its parts do not fit each other.
        """
        try:
            return self._rounded(node)
        except (KeyError, IndexError):
            raise self._refused(node, "a part missing") from None

    def _rounded(self, node: Any) -> Unit:
        told = {one.name: one.i for one in node.attribute}
        codes, scales = (
            node.input[i] for i in ((1, 2) if node.op_type == "MatMulNBits" else (0, 2))
        )
        zeros = node.input[3] if len(node.input) > 3 else ""
        tensor, scale = self._get(codes), self._get(self.origin(scales))
        bits, size = int(told.get("bits", 4)), int(told.get("block_size", 128))
        if tensor.data_type != _UINT8 or bits not in (2, 4, 8) or size < 1:
            raise self._refused(node, f"codes of type {tensor.data_type}, {bits} bits")
        if scale.data_type not in _FLOATS:
            raise self._refused(node, f"scales of type {scale.data_type}")
        if node.op_type == "MatMulNBits":
            n_out, n_in = int(told["N"]), int(told["K"])
            row_codes = -(-n_in // size) * size
        else:
            n_out, n_in = int(tensor.dims[0]), int(tensor.dims[-1]) * 8 // bits
            row_codes = n_in
        if n_out < 1 or n_in < 1:
            raise self._refused(node, f"{n_out} outputs and {n_in} inputs")
        groups = -(-n_in // size)
        row_bytes = row_codes * bits // 8
        if _size(tensor) != n_out * row_bytes or _size(scale) != n_out * groups:
            raise self._refused(node, f"{_size(tensor)} codes and {_size(scale)} scales")
        shape = (n_out, n_in)

        def read() -> Tensor:
            words = torch.from_numpy(self._values(tensor)).view(n_out, row_bytes)
            levels = unpack_stream(words, bits, n_in)
            scale_OG = torch.from_numpy(self._floats(scale)).view(n_out, groups)
            zero_OG = torch.full(scale_OG.shape, 2.0 ** (bits - 1))
            if zeros:
                stored = torch.from_numpy(self._values(self._get(self.origin(zeros))))
                zero_OG = unpack_stream(stored.view(n_out, -1), bits, groups).float()
            return by_group(levels, scale_OG, zero_OG, size)

        grain = "channel" if groups == 1 else f"g{size}"
        return Unit(
            name=_APPENDED.sub("", codes),
            shape=shape,
            stored=f"int{bits} {grain}{' asym' if zeros else ''}",
            code_bits=bits,
            code_bytes=_size(tensor),
            scale_bytes=_size(scale) * _BITS_OF[_FLOATS[scale.data_type]] // 8
            + (_size(self._get(self.origin(zeros))) if zeros else 0),
            read=read,
        )

    def whole(self, name: str) -> Unit:
        tensor = self.tensors[name]
        kind = _FLOATS[tensor.data_type]
        shape = tuple(int(n) for n in tensor.dims)
        return Unit(
            name=name,
            shape=shape,
            stored=kind,
            code_bits=_BITS_OF[kind],
            code_bytes=_size(tensor) * _BITS_OF[kind] // 8,
            read=lambda: torch.from_numpy(self._floats(tensor)).view(shape),
        )

    def _get(self, name: str) -> Any:
        if name not in self.tensors:
            raise ModelError(
                f"{self.path.name}: {name} is computed by the graph, not stored; weights that are "
                f"packed when a model is loaded cannot be read"
            )
        return self.tensors[name]

    def _floats(self, tensor: Any) -> np.ndarray:
        kind = _FLOATS.get(tensor.data_type)
        if kind is None:
            raise ModelError(f"{self.path.name}: {tensor.name} has type {tensor.data_type}")
        data = self._values(tensor)
        if kind == "BF16":
            return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return data.view({"F16": np.float16, "F32": np.float32, "F64": np.float64}[kind]).astype(
            np.float32
        )

    def _values(self, tensor: Any) -> np.ndarray:
        """Returns the bytes of a tensor."""
        told = {one.key: one.value for one in tensor.external_data}
        if not told:
            if tensor.raw_data:
                return np.frombuffer(tensor.raw_data, dtype=np.uint8).copy()
            return np.ascontiguousarray(library().numpy_helper.to_array(tensor)).reshape(-1).view(
                np.uint8
            )  # fmt: skip
        name = told.get("location", "")
        if Path(name).name != name or not (self.path.parent / name).is_file():
            raise ModelError(
                f"{self.path.name}: {tensor.name} lies in {name!r}, which is no file beside it; "
                f"copy or download all files of the model"
            )
        n_bytes = _size(tensor) * _BITS_OF.get(_FLOATS.get(tensor.data_type, ""), 8) // 8
        file, offset = self.path.parent / name, int(told.get("offset", 0))
        if offset < 0 or offset + n_bytes > file.stat().st_size:
            raise ModelError(
                f"{name} ends within {tensor.name}; it is cut short: copy or download it again"
            )
        return np.fromfile(file, np.uint8, n_bytes, offset=offset)

    def _refused(self, node: Any, why: str) -> ModelError:
        return ModelError(
            f"{self.path.name}: {node.op_type} {node.name} has {why}; this version of it is not "
            f"understood, or the file is damaged"
        )


def _size(tensor: Any) -> int:
    return math.prod(int(n) for n in tensor.dims)
