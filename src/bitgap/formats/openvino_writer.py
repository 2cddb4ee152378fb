"""OpenVINO, written: a decoder whose matrices are compressed constants, as NNCF lays them out.

``openvino_model.xml`` is the graph (:mod:`bitgap.formats.decoder_graph`, its operators translated)
with its values in ``openvino_model.bin``, under the names that Optimum and OpenVINO GenAI look for.
A matrix is

    Convert(Reshape(Convert(codes) · scale))        codes i4 or i8 (out x groups x size), scale f16

and of 2 bits u2 less a zero of 2, one for the whole matrix, as OpenVINO has no signed codes of 2
bits. Whole matrices stay f16 or bf16, cast where they are used. The cache of keys and values is a
state of the model, so that it has inputs ``input_ids``, ``attention_mask``, ``position_ids`` and
``beam_idx``, and one output, ``logits``. Operators have the names that conversion from PyTorch
gives them (``__module.X/aten::linear/MatMul``), by which the reader names matrices.

Values are laid down in a file first and mapped from it, so that no more than a matrix is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import import_extra
from bitgap.formats.decoder_graph import (
    FLOAT,
    Graph,
    build,
    cache_shape,
    check_family,
)
from bitgap.formats.folder import copy_beside, whole_part, whole_pieces
from bitgap.formats.source import Place, Source
from bitgap.formats.symmetric import SymmetricIntegers, packed_rows
from bitgap.formats.target import FP, group_of, rtn
from bitgap.quant.schemes import RoundToNearest

GRAPH, VALUES = "openvino_model.xml", "openvino_model.bin"
_LAID_DOWN = "values.part"
"""Values before the library has the graph; taken away when it has written its own file."""
_ALIGNMENT = 64
_CODES = {2: "u2", 4: "i4", 8: "i8"}
_ZERO_BYTES = 1
"""Of the one zero that codes without a sign need."""
_FLOATS = {"F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64"}
_LINEAR, _BIASED = "aten::linear/MatMul", "aten::linear/Add"
_LOOKED_UP = "aten::embedding/Gather"
_CACHE, _PRESENT = "past_key_values.", "present."


def library() -> Any:
    """Returns the openvino library.

    Raises:
        MissingExtra: If it is not installed.
    """
    return import_extra("openvino", "openvino", "writing OpenVINO's IR")


class OpenVINO(SymmetricIntegers):
    """What OpenVINO runs."""

    name = "openvino"
    title = "OpenVINO (compressed weights)"
    loader = "openvino"
    needs = ("openvino",)
    bits = tuple(_CODES)
    bytes_note = "codes of 2 bits have a zero"

    def check_model(self, source: Source) -> None:
        """Refuses models that have no graph here.

        Raises:
            ModelError: Naming what of it is not known.
            MissingExtra: If the openvino library is not installed.
        """
        library()
        check_family(source.loaded.model, source.loaded.model.config)

    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""
        return self.other_bits(scheme)

    def uneven(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why groups do not fit a matrix, or None if they do."""
        if why := super().uneven(place, scheme):
            return why
        if place.n_in * scheme.bits % 8 and scheme.bits in self.bits:
            return f"its rows of {place.n_in} codes of {scheme.bits} bits are no whole bytes"
        return None

    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file."""
        groups = place.n_in // group_of(scheme, place.n_in)
        zero = 0 if _is_signed(scheme) else _ZERO_BYTES
        return place.n_out * (place.n_in * scheme.bits // 8 + 2 * groups) + zero

    def stored_as(self, place: Place, scheme: RoundToNearest) -> str:
        """Returns what the reader calls the type of a rounded matrix."""
        return super().stored_as(place, scheme) + ("" if _is_signed(scheme) else " asym")

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder.

        Raises:
            ModelError: If a scale is beyond float16.
        """
        openvino = library()
        laid_down = folder / _LAID_DOWN
        graph = _Translated(openvino, source, schemes, laid_down)
        model, config = source.loaded.model, source.loaded.model.config
        graph.begin(config)
        table = source.place(f"{graph.path_of(model.get_input_embeddings())}.weight").name
        build(graph, model, config, scaled_exactly=schemes.get(table, FP) != FP)
        openvino.serialize(graph.model(), str(folder / GRAPH), str(folder / VALUES))
        del graph
        laid_down.unlink()
        copy_beside(folder, source, source.config)


def _is_signed(scheme: RoundToNearest) -> bool:
    return _CODES[scheme.bits].startswith("i")


class _Translated(Graph):
    """A graph of OpenVINO's operators, whose constants are mapped from a file of values."""

    def __init__(
        self, openvino: Any, source: Source, schemes: Mapping[str, str], laid_down: Path
    ) -> None:
        from importlib import import_module

        self._ov, self._opset = openvino, import_module("openvino.opset13")
        self._source, self._schemes = source, schemes
        self._paths = {id(m): path for path, m in source.loaded.model.named_modules()}
        self._file = laid_down
        self._extents: dict[str, tuple[int, int]] = {}
        """Where each tensor of the model lies in the file of values, codes and scales apart."""
        self._values: dict[str, Any] = {}
        self._constants: dict[str, str] = {}
        self._sinks: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        with laid_down.open("xb") as file:
            self._lay_down(file)
        # Copies of pages are made where they are written to, which nobody does.
        self._mapped = np.memmap(laid_down, np.uint8, "c")

    def path_of(self, module: Any) -> str:
        """Returns where a module stands in the model."""
        return self._paths[id(module)]

    # -- values ------------------------------------------------------------------------------------

    def _lay_down(self, file: BinaryIO) -> None:
        source = self._source
        for name in source.names():
            place, scheme = source.places.get(name), self._schemes.get(name, FP)
            if place is not None and scheme != FP:
                scales = list[Tensor]()
                self._add(file, name, self._packed(place, scheme, scales))
                self._add(file, _scales_of(name), scales)
            else:
                self._add(file, name, whole_pieces(source, name))
            source.forget(name)

    def _packed(self, place: Place, scheme: str, scales: list[Tensor]) -> Iterator[Tensor]:
        parsed = rtn(scheme)
        assert parsed is not None
        row_bytes = place.n_in * parsed.bits // 8
        signed = _is_signed(parsed)
        for words in packed_rows(self._source, place, scheme, scales, signed=signed):
            yield words.view(torch.uint8)[:, :row_bytes]

    def _add(self, file: BinaryIO, name: str, pieces: Iterable[Tensor]) -> None:
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        start = file.tell()
        for piece in pieces:
            file.write(piece.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._extents[name] = start, file.tell() - start

    def _stored(self, name: str, type_name: str, shape: tuple[int, ...]) -> Any:
        """Returns a constant whose values are those of the file."""
        start, n_bytes = self._extents[name]
        type_, shape_ = getattr(self._ov.Type, type_name), self._ov.Shape(shape)
        values = self._ov.Tensor(self._mapped[start : start + n_bytes], shape_, type_)
        made = self._opset.constant(values, shared_memory=True)
        made.set_friendly_name(name)
        return made

    # -- the model's tensors -----------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the model has a tensor of that name."""
        return name in self._extents

    def tensor(self, name: str) -> str:
        """Returns a whole tensor of the model in float32."""
        key = f"{name}/float32"
        if key not in self._values:
            self._values[key] = self._cast(self._whole(name))
        return key

    def _cast(self, value: Any) -> Any:
        is_float32 = value.get_output_element_type(0) == self._ov.Type.f32
        return value if is_float32 else self._opset.convert(value, "f32")

    def _whole(self, name: str) -> Any:
        if name not in self._values:
            part = whole_part(self._source, name)
            self._values[name] = self._stored(name, _FLOATS[part.dtype], part.shape)
        return self._values[name]

    def _matrix(self, place: Place, parsed: RoundToNearest) -> Any:
        """Returns a rounded matrix in float32, (out x in), of one set of constants."""
        if place.name in self._values:
            return self._values[place.name]
        op, size = self._opset, group_of(parsed, place.n_in)
        groups = place.n_in // size
        grouped = groups > 1
        shape = (place.n_out, groups, size) if grouped else place.shape
        scale_shape = (*shape[:-1], 1)
        value = op.convert(self._stored(place.name, _CODES[parsed.bits], shape), "f16")
        if not _is_signed(parsed):
            zero = np.full((1,) * len(shape), 2 ** (parsed.bits - 1), np.uint8)
            value = op.subtract(value, op.convert(op.constant(zero), "f16"))
        value = op.multiply(value, self._stored(_scales_of(place.name), "f16", scale_shape))
        if grouped:
            value = op.reshape(value, op.constant(np.array(place.shape, np.int64)), False)
        self._values[place.name] = op.convert(value, "f32")
        return self._values[place.name]

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Returns x times a matrix of the model, whatever it is stored as, plus a bias."""
        place = self._source.places[weight]
        parsed = rtn(self._schemes.get(weight, FP))
        turned = parsed is not None or place.kind != "conv1d"
        if parsed is not None:
            value = self._matrix(place, parsed)
        else:
            value = self._values[self.tensor(weight)]
        module = place.module
        if place.kind == "tied":
            module = self.path_of(self._source.loaded.model.get_output_embeddings())
        made = self._opset.matmul(self._values[x], value, False, turned)
        made.set_friendly_name(f"__module.{module}/{_LINEAR}")
        if bias is not None:
            made = self._opset.add(made, self._values[self.tensor(bias)])
            made.set_friendly_name(f"__module.{module}/{_BIASED}")
        return self._set(made)

    def looked_up(self, ids: str, weight: str) -> str:
        """Returns the rows of a table in float32."""
        parsed = rtn(self._schemes.get(weight, FP))
        if parsed is None:
            table = self._whole(weight)
        else:
            table = self._matrix(self._source.places[weight], parsed)
        rows = self._opset.gather(table, self._values[ids], self._axis(0))
        rows.set_friendly_name(f"__module.{weight.removesuffix('.weight')}/{_LOOKED_UP}")
        return self._set(self._cast(rows))

    # -- operators ---------------------------------------------------------------------------------

    def begin(self, config: Any) -> None:
        """Adds the inputs, and the cache of keys and values as states."""
        op, ov = self._opset, self._ov
        for name in ("input_ids", "attention_mask", "position_ids", "beam_idx"):
            shape = [-1] if name == "beam_idx" else [-1, -1]
            made = op.parameter(shape, ov.Type.i32 if name == "beam_idx" else ov.Type.i64)
            made.output(0).get_tensor().set_names({name})
            self._inputs.append(made)
            made.set_friendly_name(name)
            self._values[name] = made
        n_texts = op.gather(op.shape_of(self._values["input_ids"]), self._axis(0), self._axis(0))
        n_blocks, n_kv, width = cache_shape(config)
        tail = (op.constant(np.array([n], np.int64)) for n in (n_kv, 0, width))
        empty = op.concat([op.unsqueeze(n_texts, self._axis(0)), *tail], 0)
        nothing = op.broadcast(op.constant(np.float32(0)), empty)
        for i in range(n_blocks):
            for part in ("key", "value"):
                name = f"{_CACHE}{i}.{part}"
                state = op.read_value(
                    nothing, f"{name}{_PRESENT}{i}.{part}", ov.Type.f32, [-1, n_kv, -1, width]
                )
                self._values[name] = op.gather(state, self._values["beam_idx"], self._axis(0))

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Adds an operator and returns its output's name."""
        made = _TRANSLATED[kind](self._opset, [self._values[i] for i in inputs], attributes)
        if to.startswith(_PRESENT):
            key = f"{_CACHE}{to.removeprefix(_PRESENT)}{to}"
            self._sinks.append(self._opset.assign(made, key))
        elif to:
            result = self._opset.result(made)
            made.output(0).get_tensor().set_names({to})
            self._outputs.append(result)
        return self._set(made, to)

    def split(self, x: str, sizes: list[int]) -> list[str]:
        """Cuts the last dimension."""
        lengths = self._opset.constant(np.array(sizes, np.int64))
        made = self._opset.variadic_split(self._values[x], self._axis(-1), lengths)
        return [self._set(made.output(i)) for i in range(len(sizes))]

    def constant(self, value: np.ndarray) -> str:
        """Returns a constant that is no tensor of the model."""
        told = f"{value.dtype}{value.shape}{value.tobytes()!r}"
        if told not in self._constants:
            self._constants[told] = self._set(self._opset.constant(value))
        return self._constants[told]

    def model(self) -> Any:
        """Returns the whole model."""
        return self._ov.Model(self._outputs, self._sinks, self._inputs, "decoder")

    def _axis(self, axis: int) -> Any:
        return self._opset.constant(np.int64(axis))

    def _set(self, value: Any, name: str = "") -> str:
        name = name or f"value_{len(self._values)}"
        self._values[name] = value
        return name


def _scales_of(weight: str) -> str:
    return f"{weight}/scale"


_Made = Callable[[Any, list[Any], Mapping[str, Any]], Any]


def _plain(name: str) -> _Made:
    """Returns what makes an operator that takes its inputs and nothing else."""
    return lambda op, inputs, _: getattr(op, name)(*inputs)


def _layer_norm(op: Any, inputs: list[Any], told: Mapping[str, Any]) -> Any:
    x, weight, bias = inputs
    axes = op.constant(np.array([told["axis"]], np.int64))
    even = op.mvn(x, axes, True, float(told["epsilon"]), "inside_sqrt")
    return op.add(op.multiply(even, weight), bias)


_TRANSLATED: Mapping[str, _Made] = {
    "Add": _plain("add"),
    "And": _plain("logical_and"),
    "Cast": lambda op, i, told: op.convert(i[0], "f32" if told["to_type"] == FLOAT else "boolean"),
    "Concat": lambda op, i, told: op.concat(i, told["axis"]),
    "Cos": _plain("cos"),
    "Div": _plain("divide"),
    "Gather": lambda op, i, _: op.gather(*i, op.constant(np.int64(0))),
    "Gelu": lambda op, i, told: op.gelu(i[0], _GELUS[told["approximate"]]),
    "Greater": _plain("greater"),
    "Identity": lambda op, i, _: i[0],
    "LayerNormalization": _layer_norm,
    "LessOrEqual": _plain("less_equal"),
    "MatMul": lambda op, i, _: op.matmul(*i, False, False),
    "Mul": _plain("multiply"),
    "Neg": _plain("negative"),
    "Range": lambda op, i, _: op.range(*i, "i64"),
    "ReduceMean": lambda op, i, told: op.reduce_mean(*i, bool(told["keepdims"])),
    "Reshape": lambda op, i, _: op.reshape(*i, True),
    "Shape": _plain("shape_of"),
    "Sigmoid": _plain("sigmoid"),
    "Sin": _plain("sin"),
    "Softmax": lambda op, i, told: op.softmax(i[0], told["axis"]),
    "Sqrt": _plain("sqrt"),
    "Sub": _plain("subtract"),
    "Tanh": _plain("tanh"),
    "Transpose": lambda op, i, told: op.transpose(
        i[0], op.constant(np.array(told["perm"], np.int64))
    ),
    "Unsqueeze": _plain("unsqueeze"),
    "Where": _plain("select"),
}
"""Operators of the description in OpenVINO's words; where it has no one, several."""
_GELUS = {"none": "erf", "tanh": "tanh"}
