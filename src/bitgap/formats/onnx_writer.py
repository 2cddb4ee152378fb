"""ONNX Runtime, written: a decoder whose matrices are ``MatMulNBits`` of our codes.

``model.onnx`` is the graph (:mod:`bitgap.formats.decoder_graph`), ``model.onnx_data`` the values,
laid down matrix by matrix. A matrix is ``X_Q4G32`` uint8 (out x groups x bytes of a group) and
``X_scales`` float16, which a Cast gives the float32 products (ORT folds it when it loads). A tied
embedding is looked up by ``GatherBlockQuantized`` and multiplied by ``MatMulNBits`` out of one
place of the file. A last group that is short is filled up, so that groups need not divide a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from bitgap.files import write_bytes
from bitgap.formats.decoder_graph import FLOAT, Graph, build, cache_shape, check_family
from bitgap.formats.folder import copy_beside, whole_part, whole_pieces
from bitgap.formats.onnx_file import CONSTANT, library
from bitgap.formats.packing import pack_stream
from bitgap.formats.source import Place, Source
from bitgap.formats.symmetric import SymmetricIntegers, half_scale
from bitgap.formats.target import FP, coded, group_of, rtn
from bitgap.quant.schemes import RoundToNearest

GRAPH, VALUES = "model.onnx", "model.onnx_data"
_DOMAIN = "com.microsoft"
_ALIGNMENT = 64
_SMALLEST_BLOCK = 16
_OPSET = 21
_IR_VERSION = 10  # of that opset
_TYPES = {"F32": 1, "U8": 2, "F16": 10, "F64": 11, "BF16": 16}


class ONNXRuntime(SymmetricIntegers):
    """What ONNX Runtime runs."""

    name = "onnxruntime"
    title = "ONNX Runtime (MatMulNBits)"
    loader = "onnxruntime"
    needs = ("onnxruntime", "onnx")
    bits = (2, 4, 8)
    bytes_note = "a last group of a row is filled up"

    def check_model(self, source: Source) -> None:
        """Refuses models that have no graph here.

        Raises:
            ModelError: Naming what of it is not known.
            MissingExtra: If the onnx library is not installed.
        """
        library()
        check_family(source.loaded.model, source.loaded.model.config)

    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""
        size = _block(place, scheme)
        if size & (size - 1) or size < _SMALLEST_BLOCK:
            return f"a block of {size} is no power of two from {_SMALLEST_BLOCK} on"
        if place.kind in ("embedding", "tied") and place.n_in % size:
            return f"a table's rows of {place.n_in} must be whole groups of {size}"
        return self.other_bits(scheme)

    def uneven(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns None: a short last group is filled up."""
        return None

    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file."""
        size = _block(place, scheme)
        groups = -(-place.n_in // size)
        return place.n_out * groups * (size * scheme.bits // 8 + 2)

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder.

        Raises:
            ModelError: If a scale is beyond float16.
        """
        onnx = library()
        with (folder / VALUES).open("xb") as file:
            graph = _Stored(onnx, source, schemes)
            graph.lay_down(file)
        model, config = source.loaded.model, source.loaded.model.config
        table = source.place(_table_name(model)).name
        build(graph, model, config, scaled_exactly=schemes.get(table, FP) != FP)
        made = onnx.helper.make_model(
            graph.proto(config),
            opset_imports=[
                onnx.helper.make_opsetid("", _OPSET),
                onnx.helper.make_opsetid(_DOMAIN, 1),
            ],
            ir_version=_IR_VERSION,
            producer_name="bitgap",
        )
        onnx.checker.check_model(_without_values(onnx, made))
        write_bytes(folder / GRAPH, made.SerializeToString())
        copy_beside(folder, source, source.config)


def _table_name(model: Any) -> str:
    table = model.get_input_embeddings()
    return next(f"{name}.weight" for name, module in model.named_modules() if module is table)


def _block(place: Place, scheme: RoundToNearest) -> int:
    """Returns how many inputs share a scale; a group that a row does not fill is one block."""
    if scheme.group in ("channel", "tensor"):
        return place.n_in
    return int(scheme.group)


def _without_values(onnx: Any, made: Any) -> Any:
    """Returns a model without initializers, which the checker would look for on disk."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    known = [
        onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        for one in copy.graph.initializer
    ]
    del copy.graph.initializer[:]
    copy.graph.input.extend(known)
    return copy


class _Stored(Graph):
    """A graph whose tensors lie in a file of values."""

    def __init__(self, onnx: Any, source: Source, schemes: Mapping[str, str]) -> None:
        self._onnx = onnx
        self._source, self._schemes = source, schemes
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}
        self._cast: dict[str, str] = {}

    # -- values ------------------------------------------------------------------------------------

    def lay_down(self, file: BinaryIO) -> None:
        """Writes all values, one tensor after the other."""
        source = self._source
        for name in source.names():
            scheme = self._schemes.get(name, FP)
            if name in source.places and scheme != FP:
                self._lay_down_codes(file, source.places[name], scheme)
            else:
                part = whole_part(source, name)
                self._add(file, name, part.dtype, part.shape, whole_pieces(source, name))
            source.forget(name)

    def _lay_down_codes(self, file: BinaryIO, place: Place, scheme: str) -> None:
        parsed = rtn(scheme)
        assert parsed is not None
        size, bits, scales = _block(place, parsed), parsed.bits, list[Tensor]()
        groups = -(-place.n_in // size)

        def packed() -> Iterator[Tensor]:
            for codes in coded(self._source, place, scheme):
                scales.append(half_scale(codes.scale_OG, place.name))
                filled = torch.nn.functional.pad(codes.levels_OI, (0, groups * size - place.n_in))
                yield pack_stream(filled + 2 ** (bits - 1), bits).view(torch.uint8)

        shape = (place.n_out, groups, size * bits // 8)
        self._add(file, _codes_name(place, parsed), "U8", shape, packed())
        self._add(file, f"{place.name}_scales", "F16", (place.n_out, groups), scales)

    def _add(
        self,
        file: BinaryIO,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        pieces: Iterable[Tensor],
    ) -> None:
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        start = file.tell()
        for piece in pieces:
            file.write(piece.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._stored[name] = self._outside(name, dtype, shape, start, file.tell() - start)

    def _outside(
        self, name: str, dtype: str, shape: tuple[int, ...], start: int, n_bytes: int
    ) -> Any:
        tensor = self._onnx.TensorProto(name=name, data_type=_TYPES[dtype], dims=shape)
        tensor.data_location = self._onnx.TensorProto.EXTERNAL
        told = {"location": VALUES, "offset": str(start), "length": str(n_bytes)}
        for key, value in told.items():
            tensor.external_data.add(key=key, value=value)
        return tensor

    # -- graph -------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        out = to or f"{kind.lower()}_{len(self.nodes)}"
        name = attributes.pop("node", f"{kind}_{len(self.nodes)}")
        if (type_ := attributes.pop("to_type", None)) is not None:  # Cast calls it `to`
            attributes["to"] = type_
        node = self._onnx.helper.make_node(kind, list(inputs), [out], name=name, **attributes)
        self.nodes.append(node)
        return out

    def split(self, x: str, sizes: list[int]) -> list[str]:
        """Cuts the last dimension."""
        outs = [f"split_{len(self.nodes)}_{i}" for i in range(len(sizes))]
        node = self._onnx.helper.make_node("Split", [x, self.ints(*sizes)], outs, axis=-1)
        self.nodes.append(node)
        return outs

    def constant(self, value: np.ndarray) -> str:
        """Returns a constant that is no tensor of the model."""
        # Small ones are shared; a name says what it holds.
        told = "_".join(map(str, value.ravel())) if value.size <= 8 else str(len(self.constants))
        name = f"{CONSTANT}{value.dtype}_{value.ndim}_{told}"
        if name not in self.constants:
            self.constants[name] = self._onnx.numpy_helper.from_array(value, name)
        return name

    def has(self, name: str) -> bool:
        """Whether the model has a tensor of that name."""
        return name in self._stored or self._schemes.get(name, FP) != FP

    def tensor(self, name: str) -> str:
        """Returns a whole tensor of the model in float32."""
        if self._stored[name].data_type == _TYPES["F32"]:
            return name
        if name not in self._cast:
            self._cast[name] = self.op("Cast", name, to_type=FLOAT, node=f"{name}/Cast")
        return self._cast[name]

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Returns x times a matrix of the model, whatever it is stored as, plus a bias."""
        place = self._source.places[weight]
        parsed = rtn(self._schemes.get(weight, FP))
        if parsed is None:
            value = self.tensor(weight)
            if place.kind != "conv1d":
                value = self.op("Transpose", value, perm=[1, 0])
            made = self.op("MatMul", x, value, node=f"{place.module}/MatMul")
        else:
            made = self.op(
                "MatMulNBits",
                x,
                _codes_name(place, parsed),
                self._scales(weight),
                domain=_DOMAIN,
                node=f"{place.module}/MatMulNBits",
                K=place.n_in,
                N=place.n_out,
                bits=parsed.bits,
                block_size=_block(place, parsed),
            )
        return made if bias is None else self.op("Add", made, self.tensor(bias))

    def looked_up(self, ids: str, weight: str) -> str:
        """Returns the rows of a table in float32."""
        parsed = rtn(self._schemes.get(weight, FP))
        if parsed is None:
            module = weight.removesuffix(".weight")
            rows = self.op("Gather", weight, ids, node=f"{module}/Gather")
            return self.op("Cast", rows, to_type=FLOAT)
        place = self._source.places[weight]
        codes = self._stored[_codes_name(place, parsed)]
        name = f"{place.name}_rows_Q{parsed.bits}"
        if place.kind == "embedding":
            # The only use: codes are in the shape that looking up takes.
            name = codes.name
            del codes.dims[:]
            codes.dims.extend([place.n_out, place.n_in * parsed.bits // 8])
        else:
            told = {one.key: int(one.value) for one in codes.external_data if one.key != "location"}
            shape = (place.n_out, place.n_in * parsed.bits // 8)
            self._stored[name] = self._outside(name, "U8", shape, told["offset"], told["length"])
        return self.op(
            "GatherBlockQuantized",
            name,
            ids,
            self._scales(place.name),
            domain=_DOMAIN,
            node=f"{place.module}/GatherBlockQuantized",
            bits=parsed.bits,
            block_size=_block(place, parsed),
            gather_axis=0,
            quantize_axis=1,
        )

    def _scales(self, weight: str) -> str:
        return self.tensor(f"{weight}_scales")

    def proto(self, config: Any) -> Any:
        """Returns the graph, with its inputs and outputs."""
        n_blocks, n_kv, width = cache_shape(config)
        info = self._onnx.helper.make_tensor_value_info
        ints, floats = 7, 1
        inputs = [
            info("input_ids", ints, ["batch_size", "sequence_length"]),
            info("attention_mask", ints, ["batch_size", "total_sequence_length"]),
            info("position_ids", ints, ["batch_size", "sequence_length"]),
        ]
        outputs = [info("logits", floats, ["batch_size", "sequence_length", config.vocab_size])]
        for i in range(n_blocks):
            for part in ("key", "value"):
                for listed, name, length in (
                    (inputs, "past_key_values", "past_sequence_length"),
                    (outputs, "present", "total_sequence_length"),
                ):
                    shape = ["batch_size", n_kv, length, width]
                    listed.append(info(f"{name}.{i}.{part}", floats, shape))
        values = [*self._stored.values(), *self.constants.values()]
        return self._onnx.helper.make_graph(self.nodes, "decoder", inputs, outputs, values)


def _codes_name(place: Place, parsed: RoundToNearest) -> str:
    grain = "" if group_of(parsed, place.n_in) == place.n_in else f"G{parsed.group}"
    return f"{place.name}_Q{parsed.bits}{grain}"
