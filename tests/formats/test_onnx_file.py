"""ONNX files: read as ONNX Runtime computes with them; refused in words where they are damaged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitgap.errors import ModelError
from bitgap.formats.contents import contents_of
from bitgap.formats.open import open_checkpoint

onnx = pytest.importorskip("onnx", reason="the extra bitgap[onnx] is not installed")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


def made(nodes: list[Any], values: dict[str, np.ndarray], inputs: list[Any]) -> Any:
    """Returns a model with one output."""
    y = helper.make_tensor_value_info("y", FLOAT, None)
    initializers = [onnx.numpy_helper.from_array(v, k) for k, v in values.items()]
    graph = helper.make_graph(nodes, "g", inputs, [y], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    digits = (codes[..., None] >> np.arange(bits)) & 1
    flat = digits.reshape(*codes.shape[:-1], -1).astype(np.uint8)
    return np.packbits(flat, axis=-1, bitorder="little")


def one_matrix(bits: int, n_in: int, size: int, zeros: bool = False) -> tuple[Any, np.ndarray]:
    """Returns a model of one matrix, and its weights by the operator's formula."""
    dice, n_out, groups = np.random.default_rng(bits), 6, -(-n_in // size)
    codes = dice.integers(0, 2**bits, (n_out, n_in))
    scale = dice.random((n_out, groups)).astype(np.float32)
    zero = dice.integers(0, 2**bits, (n_out, groups)) if zeros else np.full(
        (n_out, groups), 2 ** (bits - 1))  # fmt: skip
    filled = np.pad(codes, ((0, 0), (0, groups * size - n_in))).reshape(n_out, groups, size)
    values = {"a.weight_Q4": packed(filled, bits), "a.weight_scales": scale}
    if zeros:
        values["a.weight_zeros"] = packed(zero, bits)
    node = helper.make_node("MatMulNBits", ["x", *values], ["y"], domain="com.microsoft",
                            K=n_in, N=n_out, bits=bits, block_size=size, name="a")  # fmt: skip
    x = helper.make_tensor_value_info("x", FLOAT, ["n", n_in])
    group = np.arange(n_in) // size
    return made([node], values, [x]), (codes - zero[:, group]) * scale[:, group]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("n_in", [64, 80])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_matrix_is_what_onnx_runtime_multiplies_by(
    bits: int, n_in: int, zeros: bool, tmp_path: Path
) -> None:
    model, weight = one_matrix(bits, n_in, 32, zeros)
    onnx.save(model, tmp_path / "m.onnx")
    unit = open_checkpoint(tmp_path / "m.onnx").unit("a.weight")
    assert torch.allclose(unit.weight(), torch.from_numpy(weight).float(), atol=1e-5)
    assert unit.stored == f"int{bits} g32{' asym' if zeros else ''}" and unit.code_bits == bits
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    run = session.run(None, {"x": np.eye(n_in, dtype=np.float32)})[0].T
    assert np.allclose(run, unit.weight().numpy(), atol=1e-2)


def test_what_onnx_runtime_s_own_quantizer_wrote_is_read(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    quantizer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    weight = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    x = helper.make_tensor_value_info("x", FLOAT, ["n", 64])
    node = helper.make_node("MatMul", ["x", "layer.weight"], ["y"], name="layer")
    made_of = made([node], {"layer.weight": weight}, [x])
    own = quantizer.MatMulNBitsQuantizer(made_of, block_size=32, is_symmetric=True)
    own.process()
    onnx.save(own.model.model, tmp_path / "m.onnx")
    checkpoint = open_checkpoint(tmp_path / "m.onnx")
    assert [unit.name for unit in checkpoint.units] == ["layer.weight"]
    held = contents_of(checkpoint)
    assert held.toolchain == "onnxruntime" and held.tensors[0].code_bits == 4
    found = checkpoint.units[0].weight().numpy()
    # A step of 4 bits is a seventh of the largest of 32 normal numbers, and half of it is erred.
    assert found.shape == (48, 64) and np.abs(found - weight.T).max() < 0.35


def test_a_file_without_codes_says_so(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", FLOAT, ["n", 4])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    onnx.save(made([node], {"w": np.eye(4, dtype=np.float32)}, [x]), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="has no MatMulNBits"):
        open_checkpoint(tmp_path / "m.onnx")


def test_values_are_taken_from_beside_the_file_and_from_nowhere_else(tmp_path: Path) -> None:
    model, weight = one_matrix(4, 64, 32)
    (tmp_path / "in").mkdir()
    onnx.save(model, tmp_path / "in" / "m.onnx", save_as_external_data=True, location="v",
              size_threshold=0)  # fmt: skip
    unit = open_checkpoint(tmp_path / "in").units[0]
    assert torch.allclose(unit.weight(), torch.from_numpy(weight).float(), atol=1e-5)
    with (tmp_path / "in" / "v").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ModelError, match="cut short"):
        open_checkpoint(tmp_path / "in").units[0].weight()
    (tmp_path / "in" / "v").rename(tmp_path / "v")
    model = onnx.load(tmp_path / "in" / "m.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for told in tensor.external_data:
            told.value = "../v" if told.key == "location" else told.value
    (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"lies in '\.\./v'"):
        open_checkpoint(tmp_path / "in").units[0].weight()


def test_damage_ends_in_a_message(tmp_path: Path) -> None:
    data = one_matrix(4, 64, 32, zeros=True)[0].SerializeToString()
    dice, file, refused = random.Random(3), tmp_path / "m.onnx", 0
    for i in range(150):
        broken = bytearray(data[: dice.randrange(len(data))] if i % 3 == 0 else data)
        for _ in range(dice.randrange(1, 4) if broken else 0):
            # Where sizes and names are, not in the codes.
            at = dice.choice([dice.randrange(len(broken)), *range(0, len(broken), 37)])
            broken[at] ^= 1 << dice.randrange(8)
        file.write_bytes(bytes(broken))
        try:
            checkpoint = open_checkpoint(file)
            for unit in (*checkpoint.units, *checkpoint.whole):
                unit.weight()
            contents_of(checkpoint)
        except ModelError:
            refused += 1
    assert refused > 30
