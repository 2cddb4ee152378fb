"""OpenVINO's IR (``.xml`` beside its ``.bin``) as NNCF compresses weights: 2 to 8 bits and floats.

A matrix is what reaches port 1 of a ``MatMul``, or port 0 of a ``Gather``, from constants alone:

    W = Reshape((codes − zero) · scale)        each a Const of its own type, cast by Convert

computed here in float32; zero is absent where codes are signed, and a group is one step along the
dimension that the scale has of length 1. Codes of 2 and 4 bits are one dense stream over the whole
tensor, the low bits first. Values are looked up in the ``.bin`` by offset and size.

Parameters are named by the module whose operator uses them (``__module.X/aten::linear/MatMul`` is
``X.weight``), less what a wrapper put before all modules alike. Norms and biases lie in constants
that conversion has folded with others and left without a name: they are not read, and a comparison
takes those of the model. Files where that would be wrong, as matrices were scaled against
activations (AWQ, SmoothQuant), are refused.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import ModelError, first_line
from bitgap.formats.checkpoint import Checkpoint, Unit, times
from bitgap.formats.packing import FP4_VALUES, NF4_VALUES, unpack_stream

_LONGEST_XML_BYTES = 256 << 20
"""A graph is some megabytes; beyond this it is none."""
_LONGEST_CHAIN = 12
"""Operators between a constant and what uses it; compression leaves four."""
_FLOATS = {"f64": ("F64", np.float64), "f32": ("F32", np.float32), "f16": ("F16", np.float16)}
_BITS = {"u2": 2, "u4": 4, "i4": 4, "u8": 8, "i8": 8, "nf4": 4, "f4e2m1": 4, "f8e4m3": 8,
         "f8e5m2": 8, "f8e8m0": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64}  # fmt: skip
_TORCH_FLOATS = {"f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2,
                 "f8e8m0": torch.float8_e8m0fnu, "bf16": torch.bfloat16}  # fmt: skip
_WHOLE = {"f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16"}
_COUNTS = ("boolean", "i16", "i32", "i64", "u1", "u16", "u32", "u64", "string")
"""Types that hold no weights: positions, shapes, masks."""
_MODULE = re.compile(r"__module\.([^/]+)/")
_SCALED_TOGETHER = re.compile(r"awq_mul|smooth_quant")


def open_openvino(path: Path) -> Checkpoint:
    """Opens an OpenVINO model without reading a matrix.

    Args:
        path: The ``.xml`` file; its values lie in the ``.bin`` beside it.

    Raises:
        ModelError: If it is damaged, has no values beside it, or holds matrices that cannot be
            read as they are.
    """
    graph = _Graph(path)
    graph.refuse_scaled()
    found: dict[str, Unit] = {}
    used: set[str] = set()
    # An embedding that is the head too is looked up and multiplied by: the lookup names it.
    for kind, port in (("Gather", 0), ("MatMul", 1)):
        for layer in graph.of_kind(kind):
            unit = graph.matrix(layer, port, used)
            if unit is not None:
                found.setdefault(unit.name, unit)
    quantized = [unit for unit in found.values() if unit.stored not in _WHOLE.values()]
    return Checkpoint(
        path=path,
        toolchain="openvino",
        units=tuple(quantized),
        whole=tuple(unit for unit in found.values() if unit.stored in _WHOLE.values()),
        claim=graph.claim,
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """One operator of the graph."""

    key: str
    kind: str
    name: str
    told: Mapping[str, str]
    """Its attributes."""
    shape: tuple[int, ...]
    """Of its first output; -1 where it is not fixed."""
    inputs: Mapping[int, str]
    """Keys of what it takes, by port."""


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds a tree of XML that declares no entities, which could be made to grow."""

    def doctype(self, *_: Any) -> None:
        raise ValueError("it declares a document type, which no IR does")


class _Graph:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = path.with_suffix(".bin")
        root = self._parsed()
        self._layers: dict[str, _Layer] = {}
        try:
            self._read(root)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(first_line(error)) from None
        if not self.values.is_file():
            raise ModelError(
                f"{path.name} has no {self.values.name} beside it, which holds its values; copy or "
                f"download both"
            )
        self._n_bytes = self.values.stat().st_size
        modules = [m[1].split(".") for m in map(_MODULE.match, self._names()) if m]
        self._wrapper = _common_start(modules)
        self._told = {
            one.tag: one.get("value", "")
            for one in root.findall("rt_info/nncf/weight_compression/*")
        }

    @property
    def claim(self) -> str:
        """What the file says of its own compression; empty where it says nothing."""
        mode, size = self._told.get("mode", ""), self._told.get("group_size", "")
        return (
            f"NNCF {mode}{f', groups of {size}' if size not in ('', '-1') else ''}" if mode else ""
        )

    def of_kind(self, kind: str) -> Iterator[_Layer]:
        """Yields the operators of a kind, in the file's order."""
        return (layer for layer in self._layers.values() if layer.kind == kind)

    def refuse_scaled(self) -> None:
        """Refuses matrices that work only with scales that are not read.

        Raises:
            ModelError: If there are such.
        """
        how = [name for name in ("awq", "lora_correction") if self._told.get(name) == "True"]
        odd = [n for n in self._names() if _SCALED_TOGETHER.search(n)]
        if how or odd:
            raise ModelError(
                f"{self.path.name}: matrices are scaled against activations or corrected beside "
                f"the graph's own ({(how or odd)[0]}), so that they are no weights of the model "
                f"one by one; have it run instead, with --runtime openvino"
            )

    def matrix(self, layer: _Layer, port: int, used: set[str]) -> Unit | None:
        """Returns what an operator multiplies by or looks up in; None if that is computed.

        Args:
            layer: ``MatMul`` or ``Gather``.
            port: Where it takes the matrix.
            used: Constants of codes that are named already; the one found is added.

        Raises:
            ModelError: If it is made of constants in a way that is not understood.
        """
        at = self._layers.get(layer.inputs.get(port, ""))
        constants = None if at is None else self._constants(at, 0)
        if at is None or not constants:
            return None
        codes = max(constants, key=lambda one: math.prod(one.shape))
        kind = codes.told.get("element_type", "")
        if kind in _COUNTS or (kind in _WHOLE and len(at.shape) != 2) or codes.key in used:
            return None  # positions, angles and masks; a matrix seen before
        match = _MODULE.match(layer.name)
        if match is None or len(at.shape) != 2 or min(at.shape) < 1:
            raise ModelError(
                f"{self.path.name}: {layer.kind} {layer.name} has a matrix of {kind} and shape "
                f"{times(at.shape)} that no name of a module tells apart; convert the model from "
                f"PyTorch, or have it run, with --runtime openvino"
            )
        used.add(codes.key)
        turned = layer.kind == "MatMul" and layer.told.get("transpose_b", "false") != "true"
        n_bytes = {one.key: self._extent(one)[1] for one in constants}

        def read() -> Tensor:
            value = self._value(at, math.prod(at.shape))
            return (value.T if turned else value).contiguous()

        module = ".".join(match[1].split(".")[len(self._wrapper) :])
        return Unit(
            name=f"{module}.weight",
            shape=at.shape[::-1] if turned else at.shape,
            stored=_stored(codes, constants, self._has_zeros(at)),
            code_bits=_BITS[kind],
            code_bytes=n_bytes[codes.key],
            scale_bytes=sum(n_bytes.values()) - n_bytes[codes.key],
            read=read,
        )

    # -- values ----------------------------------------------------------------------------------

    def _constants(self, layer: _Layer, depth: int) -> list[_Layer]:
        """Returns the constants that a value is made of; none if it is made of anything else."""
        if layer.kind == "Const":
            return [layer]
        ports = {"Convert": (0,), "Reshape": (0,), "Multiply": (0, 1), "Subtract": (0, 1)}
        found: list[_Layer] = []
        if layer.kind not in ports or depth > _LONGEST_CHAIN:
            return []
        for port in ports[layer.kind]:
            of = self._layers.get(layer.inputs.get(port, ""))
            mine = [] if of is None else self._constants(of, depth + 1)
            if not mine:
                return []
            found += mine
        return found

    def _has_zeros(self, layer: _Layer) -> bool:
        if layer.kind == "Subtract":
            return True
        below = (self._layers[key] for key in layer.inputs.values() if key in self._layers)
        return layer.kind != "Const" and any(self._has_zeros(one) for one in below)

    def _value(self, layer: _Layer, most: int) -> Tensor:
        """Returns a value in float32.

        Args:
            layer: What gives it; of constants alone, as :meth:`_constants` has seen.
            most: Numbers that it may have.

        Raises:
            ModelError: If shapes do not fit.
        """
        if layer.kind == "Const":
            return self._constant(layer, most)
        first = self._value(self._layers[layer.inputs[0]], most)
        if layer.kind == "Convert":
            return first
        if layer.kind == "Reshape":
            return first.reshape(layer.shape)
        second = self._value(self._layers[layer.inputs[1]], most)
        if math.prod(np.broadcast_shapes(tuple(first.shape), tuple(second.shape))) > most:
            raise self._damaged(f"{layer.name} makes more numbers than its codes are")
        return first * second if layer.kind == "Multiply" else first - second

    def _constant(self, layer: _Layer, most: int) -> Tensor:
        kind, count = layer.told["element_type"], math.prod(layer.shape)
        offset, n_bytes = self._extent(layer)
        if count > most:
            raise self._damaged(f"{layer.name} has {count:,} numbers for a matrix of {most:,}")
        data = np.fromfile(self.values, np.uint8, n_bytes, offset=offset)
        if kind in _FLOATS:
            return torch.from_numpy(data.view(_FLOATS[kind][1]).astype(np.float32)).view(
                layer.shape
            )
        stored = torch.from_numpy(data)
        if kind in _TORCH_FLOATS:
            return stored.view(_TORCH_FLOATS[kind]).float().view(layer.shape)
        codes = unpack_stream(stored, _BITS[kind], count).view(layer.shape)
        if kind in _TABLES:
            return _TABLES[kind][codes.int()]
        half = 1 << (_BITS[kind] - 1)
        signed = kind.startswith("i")
        return codes.float() - 2 * half * (codes >= half) if signed else codes.float()

    def _extent(self, layer: _Layer) -> tuple[int, int]:
        """Returns offset and bytes of a constant, held against the file and its own shape.

        Raises:
            ModelError: If they do not fit.
        """
        kind = layer.told.get("element_type", "")
        try:
            offset, n_bytes = int(layer.told["offset"]), int(layer.told["size"])
        except (KeyError, ValueError):
            raise self._damaged(f"{layer.name} does not say where its values are") from None
        if kind not in _BITS:
            raise ModelError(
                f"{self.path.name}: {layer.name} has the type {kind!r}, which is not known"
            )
        wanted = -(-math.prod(layer.shape) * _BITS[kind] // 8)
        if min(layer.shape, default=1) < 1 or wanted != n_bytes:
            raise self._damaged(
                f"{layer.name} has {n_bytes:,} bytes, and {times(layer.shape)} of {kind} have "
                f"{wanted:,}"
            )
        if offset < 0 or offset + n_bytes > self._n_bytes:
            raise ModelError(
                f"{self.values.name} ends within {layer.name}; it is cut short: copy or download "
                f"it again"
            )
        return offset, n_bytes

    # -- the graph -------------------------------------------------------------------------------

    def _parsed(self) -> ElementTree.Element:
        if self.path.stat().st_size > _LONGEST_XML_BYTES:
            raise ModelError(
                f"{self.path.name} has {self.path.stat().st_size:,} bytes; it is no IR"
            )
        parser = ElementTree.XMLParser(target=_NoDoctype())
        try:
            root = ElementTree.parse(self.path, parser).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise self._damaged(first_line(error)) from None
        if root is None or root.tag != "net" or root.find("layers") is None:
            raise self._damaged("it has no net with layers")
        return root

    def _read(self, root: ElementTree.Element) -> None:
        inputs: dict[str, dict[int, str]] = {}
        for edge in root.iterfind("edges/edge"):
            told = edge.attrib
            inputs.setdefault(told["to-layer"], {})[int(told["to-port"])] = told["from-layer"]
        for one in root.iterfind("layers/layer"):
            data = one.find("data")
            attributes = {} if data is None else dict(data.attrib)
            port = one.find("output/port")
            dims = () if port is None else (int(d.text or "") for d in port.iterfind("dim"))
            # Ports of inputs count from 0 in the order that the layer lists them.
            ports = sorted(inputs.get(one.attrib["id"], {}).items())
            self._layers[one.attrib["id"]] = _Layer(
                key=one.attrib["id"],
                kind=one.attrib["type"],
                name=one.attrib.get("name", ""),
                told=attributes,
                shape=tuple(dims),
                inputs=dict(enumerate(key for _, key in ports)),
            )

    def _names(self) -> Iterator[str]:
        return (layer.name for layer in self._layers.values())

    def _damaged(self, why: str) -> ModelError:
        return ModelError(
            f"{self.path.name} is no OpenVINO IR that is understood, or a damaged one ({why}); "
            f"copy or download it again"
        )


_TABLES = {"nf4": NF4_VALUES, "f4e2m1": FP4_VALUES}
_NAMED = {"nf4": "NF4", "f4e2m1": "MXFP4", "f8e4m3": "float8", "f8e5m2": "float8 e5m2"}


def _stored(codes: _Layer, constants: list[_Layer], zeros: bool) -> str:
    """Returns what people call a type, such as ``int4 g64 asym``."""
    kind = codes.told["element_type"]
    if kind in _WHOLE:
        return _WHOLE[kind]
    scales = [one for one in constants if one is not codes]
    grain = ""
    if scales:
        paired = zip(codes.shape, scales[-1].shape, strict=False)
        sizes = [n for n, of in paired if of == 1 and n > 1]
        groups = len(codes.shape) > 2 and len(sizes) == 1
        grain = f" g{sizes[0]}" if groups else " channel"
    name = _NAMED.get(kind, f"int{_BITS[kind]}")
    if kind == "f8e4m3" and any(one.told["element_type"] == "f8e8m0" for one in scales):
        name = "MXFP8"
    return f"{name}{grain}{' asym' if zeros else ''}"


def _common_start(paths: list[list[str]]) -> list[str]:
    """Returns the parts that all paths begin with, of each path at most all but the last."""
    if not paths:
        return []
    first, start = min(paths, key=len), 0
    while start < len(first) and all(path[start] == first[start] for path in paths):
        start += 1
    return first[:start]
