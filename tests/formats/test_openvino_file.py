"""OpenVINO's IR: read as OpenVINO computes with it; refused in words where it is damaged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import torch

from bitgap.errors import ModelError
from bitgap.formats.contents import contents_of
from bitgap.formats.open import open_checkpoint

OUT, IN, GROUP = 6, 32, 16
PRECISION = {"f16": "FP16", "f32": "FP32", "i64": "I64"}


class Ir:
    """A graph that is being written: layers in their order, values in one block of bytes."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.edges: list[str] = []
        self.values = b""
        self.told = ""
        self.n_inputs: dict[int, int] = {}
        self.shapes: dict[int, Any] = {}
        self.types: dict[int, str] = {}

    def layer(
        self, kind: str, name: str, shape: Any, inputs: Any = (), out: str = "f32", /, **data: Any
    ) -> int:
        """Adds an operator of version 1, or as ``version=`` says, and returns its number."""
        number, version = len(self.layers), data.pop("version", "opset1")
        attributes = " ".join(f"{k}={quoteattr(str(v))}" for k, v in data.items())
        ports = ""
        for port, source in enumerate(inputs):
            self.edges.append(
                f'<edge from-layer="{source}" from-port="{self.n_inputs[source]}" '
                f'to-layer="{number}" to-port="{port}"/>'
            )
            ports += f'<port id="{port}" precision="{PRECISION.get(self.types[source], "FP32")}">'
            ports += f"{dims(self.shapes[source])}</port>"
        self.n_inputs[number], self.shapes[number] = len(inputs), shape
        self.types[number] = out
        given = f"<input>{ports}</input>" if ports else ""
        made = "" if kind == "Result" else (
            f'<output><port id="{len(inputs)}" precision="{PRECISION.get(out, out.upper())}">'
            f"{dims(shape)}</port></output>")  # fmt: skip
        self.layers.append(
            f'<layer id="{number}" name={quoteattr(name)} type="{kind}" version="{version}">'
            f"<data {attributes}/>{given}{made}</layer>"
        )
        return number

    def const(self, name: str, kind: str, shape: Any, values: bytes) -> int:
        """Adds a constant, and returns its number."""
        at, self.values = len(self.values), self.values + values
        told = {"element_type": kind, "shape": ", ".join(map(str, shape)), "offset": at}
        return self.layer("Const", name, shape, (), kind, **told, size=len(values))

    def write(self, path: Path) -> Path:
        """Writes it, with its values beside it."""
        path.write_text(
            f'<?xml version="1.0"?><net name="m" version="11"><layers>{"".join(self.layers)}'
            f"</layers><edges>{''.join(self.edges)}</edges><rt_info>{self.told}</rt_info></net>"
        )
        path.with_suffix(".bin").write_bytes(self.values)
        return path


def dims(shape: Any) -> str:
    return "".join(f"<dim>{n}</dim>" for n in shape)


def stream(codes: np.ndarray, bits: int) -> bytes:
    digits = (codes.reshape(-1, 1) >> np.arange(bits)) & 1
    return np.packbits(digits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


NF4 = [-1.0, -0.69619280, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
       0.07958030, 0.16093020, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684,
       1.0]  # fmt: skip
FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
CODES: dict[str, tuple[int, Any]] = {
    "i4": (4, lambda c: c - 16 * (c > 7)),
    "u4": (4, lambda c: c),
    "i8": (8, lambda c: c - 256 * (c > 127)),
    "u8": (8, lambda c: c),
    "u2": (2, lambda c: c),
    "nf4": (4, lambda c: np.array(NF4)[c]),
    "f4e2m1": (4, lambda c: np.array([*FP4, *(-v for v in FP4)])[c]),
}


def matrix(
    ir: Ir, name: str, kind: str, *, grouped: bool = True, turned: bool = False, seed: int = 0
) -> tuple[int, np.ndarray]:
    """Adds a compressed matrix; returns its number and its weights by OpenVINO's formula."""
    dice, (bits, values) = np.random.default_rng(seed), CODES[kind]
    shape: tuple[int, ...] = (OUT, IN // GROUP, GROUP) if grouped else (OUT, IN)
    codes = dice.integers(0, 2**bits, shape)
    # Powers of two, so that a product in half precision is exact.
    scale = 2.0 ** dice.integers(-6, 0, (*shape[:-1], 1))
    kept, kept_scale = (codes, scale)
    full: tuple[int, ...] = (OUT, IN)
    if turned:
        kept, kept_scale = np.moveaxis(codes, 0, -1), np.moveaxis(scale, 0, -1)
        full = full[::-1]
    held = ir.const(name, kind, kept.shape, stream(kept, bits))
    value = ir.layer("Convert", "c", kept.shape, [held], "f16", destination_type="f16")
    weight = values(codes).astype(float)
    if kind.startswith("u"):
        zero = dice.integers(0, 2**bits, kept_scale.shape)
        stored = ir.const(f"{name}/zero", kind, zero.shape, stream(zero, bits))
        cast = ir.layer("Convert", "z", zero.shape, [stored], "f16", destination_type="f16")
        value = ir.layer("Subtract", "s", kept.shape, [value, cast], "f16", auto_broadcast="numpy")
        weight = weight - (np.moveaxis(zero, -1, 0) if turned else zero)
    if kind == "f4e2m1":
        exponents = (np.log2(kept_scale) + 127).astype(np.uint8)
        stored = ir.const(f"{name}/scale", "f8e8m0", kept_scale.shape, exponents.tobytes())
        by = ir.layer("Convert", "e", kept_scale.shape, [stored], "f16", destination_type="f16")
    else:
        by = ir.const(f"{name}/scale", "f16", kept_scale.shape, kept_scale.astype("<f2").tobytes())
    value = ir.layer("Multiply", "m", kept.shape, [value, by], "f16", auto_broadcast="numpy")
    if grouped:
        to = ir.const("shape", "i64", (2,), np.array(full, "<i8").tobytes())
        value = ir.layer("Reshape", "r", full, [value, to], "f16", special_zero="false")
    return (
        ir.layer("Convert", "f", full, [value], "f32", destination_type="f32"),
        (weight * scale).reshape(OUT, IN),
    )


def multiplied(ir: Ir, value: int, module: str, *, turned: bool = False) -> None:
    """Adds the operator that multiplies by a matrix, between an input and an output."""
    x = ir.layer("Parameter", "x", (-1, IN), (), "f32", shape=f"?,{IN}", element_type="f32")
    y = ir.layer("MatMul", f"__module.{module}/aten::linear/MatMul", (-1, OUT), [x, value], "f32",
                 transpose_a="false", transpose_b=str(not turned).lower())  # fmt: skip
    ir.layer("Result", "y", (-1, OUT), [y])


def one_matrix(kind: str, **how: Any) -> tuple[Ir, np.ndarray]:
    ir = Ir()
    value, weight = matrix(ir, "self.m.up.weight", kind, **how)
    multiplied(ir, value, "m.up", turned=how.get("turned", False))
    ir.layer("Parameter", "__module.m.other/in", (1,), (), "f32", shape="1", element_type="f32")
    return ir, weight


STORED = {"i4": "int4", "u4": "int4", "i8": "int8", "u8": "int8", "u2": "int2", "nf4": "NF4",
          "f4e2m1": "MXFP4"}  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("kind", CODES)
def test_a_matrix_is_what_openvino_multiplies_by(
    kind: str, grouped: bool, turned: bool, tmp_path: Path
) -> None:
    ir, weight = one_matrix(kind, grouped=grouped, turned=turned)
    file = ir.write(tmp_path / "m.xml")
    checkpoint = open_checkpoint(tmp_path)
    unit = checkpoint.unit("up.weight")  # what wraps all modules is no part of a name
    assert torch.allclose(unit.weight(), torch.from_numpy(weight).float(), rtol=1e-6)
    grain = f"g{GROUP}" if grouped else "channel"
    assert unit.stored == f"{STORED[kind]} {grain}{' asym' if kind.startswith('u') else ''}"
    assert unit.code_bits == CODES[kind][0]
    held = contents_of(checkpoint)
    assert held.toolchain == "openvino" and held.tensors[0].n_bytes == unit.n_bytes
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    how = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    compiled = openvino.Core().compile_model(str(file), "CPU", how)
    run = compiled({0: np.eye(IN, dtype=np.float32)})[0].T
    assert np.allclose(run, weight, rtol=1e-3, atol=1e-5)


def test_a_table_that_is_the_head_too_is_one_matrix(tmp_path: Path) -> None:
    ir = Ir()
    value, weight = matrix(ir, "t", "u8", grouped=False)
    multiplied(ir, value, "lm_head")
    ids = ir.layer("Parameter", "ids", (-1,), (), "i64", shape="?", element_type="i64")
    axis = ir.const("axis", "i64", (), np.int64(0).tobytes())
    ir.layer("Gather", "__module.model.embed_tokens/aten::embedding/Gather", (-1, IN),
             [value, ids, axis], "f32", batch_dims=0, version="opset8")  # fmt: skip
    (unit,) = open_checkpoint(ir.write(tmp_path / "m.xml")).units
    assert unit.name == "model.embed_tokens.weight"
    assert torch.equal(unit.weight(), torch.from_numpy(weight).float())


def test_matrices_that_are_left_whole_are_read_and_angles_are_not(tmp_path: Path) -> None:
    ir, _ = one_matrix("i4")
    plain = np.random.default_rng(1).standard_normal((OUT, IN)).astype(np.float16)
    half = ir.const("self.m.down.weight", "f16", plain.shape, plain.tobytes())
    value = ir.layer("Convert", "f", plain.shape, [half], "f32", destination_type="f32")
    multiplied(ir, value, "m.down")
    angles = ir.const("c", "f32", (1, OUT, IN), np.zeros((1, OUT, IN), "<f4").tobytes())
    multiplied(ir, angles, "m.rotary_emb")
    checkpoint = open_checkpoint(ir.write(tmp_path / "m.xml"))
    assert [(u.name, u.stored) for u in checkpoint.whole] == [("down.weight", "F16")]
    assert torch.equal(checkpoint.whole[0].weight(), torch.from_numpy(plain).float())


def test_what_cannot_be_read_as_it_is_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.xml"

    def refused(said: str, ir: Ir | None = None, text: str = "") -> None:
        if ir is not None:
            ir.write(file)
        if text:
            file.write_text(text)
        with pytest.raises(ModelError, match=said):
            for unit in open_checkpoint(file).units:
                unit.weight()

    ir, _ = one_matrix("i4")
    ir.told = ('<nncf><weight_compression><awq value="True"/><mode value="int4_sym"/>'
               "</weight_compression></nncf>")  # fmt: skip
    refused("scaled against activations.*--runtime openvino", ir)
    ir.told = ""
    ir.layer("Multiply", "x/awq_mul", (1,), [0, 0])
    refused("awq_mul", ir)
    ir = Ir()
    multiplied(ir, matrix(ir, "w", "i4")[0], "")
    refused("no name of a module", ir)
    ir = Ir()
    half = ir.const("w", "f16", (OUT, IN), np.ones((OUT, IN), "<f2").tobytes())
    multiplied(ir, half, "up")
    refused("has no compressed matrix", ir)
    ir, _ = one_matrix("i4")
    ir.values = ir.values[:40]
    refused("cut short", ir)
    (tmp_path / "m.bin").unlink()
    refused(r"no m\.bin beside it")
    good = one_matrix("u4")[0].write(file).read_text()
    refused("declares a document type", text=f'<!DOCTYPE n [<!ENTITY a "b">]>{good[21:]}')
    refused("no net with layers", text="<net/>")
    refused("damaged one", text=good[:-40])
    refused("bytes, and", text=good.replace(f'size="{OUT * IN // 2}"', 'size="7"'))
    refused("'u5', which is not known", text=good.replace('type="u4"', 'type="u5"'))
    wide = good.replace(f"<dim>{IN}</dim>", "<dim>1000000000</dim>")
    refused("cannot be dequantized|damaged", text=wide)


def test_damage_ends_in_a_message(tmp_path: Path) -> None:
    ir, _ = one_matrix("u4")
    data = ir.write(tmp_path / "m.xml").read_bytes()
    dice, file, refused = random.Random(3), tmp_path / "m.xml", 0
    for i in range(200):
        broken = bytearray(data[: dice.randrange(len(data))] if i % 4 == 0 else data)
        for _ in range(dice.randrange(1, 4) if broken else 0):
            at = dice.randrange(len(broken))
            broken[at] = dice.choice([broken[at] ^ (1 << dice.randrange(7)), *b"0129 -"])
        file.write_bytes(bytes(broken))
        try:
            checkpoint = open_checkpoint(file)
            for unit in (*checkpoint.units, *checkpoint.whole):
                unit.weight()
            contents_of(checkpoint)
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 60


def test_layers_that_go_in_a_circle_end(tmp_path: Path) -> None:
    ir = Ir()
    ir.layer("Convert", "a", (OUT, IN), [], "f32")
    ir.layer("Convert", "b", (OUT, IN), [0], "f32")
    ir.edges.append('<edge from-layer="1" from-port="1" to-layer="0" to-port="0"/>')
    multiplied(ir, 1, "up")
    with pytest.raises(ModelError, match="no compressed matrix"):
        open_checkpoint(ir.write(tmp_path / "m.xml"))


# -- what the toolchain itself writes and runs -----------------------------------------------------


def compressed(model: Any, out: Path) -> Path:
    """Converts a model as users do, its embedding to 8 bits and its matrices to 4."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    nncf = pytest.importorskip("nncf", reason="nncf is not installed")

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.whole(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).logits

    ids = torch.arange(5, 17)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    made = openvino.convert_model(Logits().eval(), example_input=given)
    made.outputs[0].get_tensor().set_names({"logits"})
    mode = nncf.CompressWeightsMode.INT4_SYM
    openvino.save_model(nncf.compress_weights(made, mode=mode, group_size=GROUP), out)
    return out


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma3"])
def test_nncf_s_weights_make_openvino_s_own_logits(shape: str, tmp_path: Path) -> None:
    from tiny_checkpoints import tiny_model

    model = tiny_model(shape)
    file = compressed(model, tmp_path / "q.xml")
    checkpoint = open_checkpoint(file)
    assert {unit.stored for unit in checkpoint.units} == {"int8 channel asym", f"int4 g{GROUP}"}
    named = dict(model.named_parameters(remove_duplicate=False))
    for unit in checkpoint.units:
        value, own = unit.weight(), named[unit.name]
        turned = shape == "gpt2" and ".h." in unit.name
        own.data.copy_(value.T if turned else value)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        wanted = model(input_ids=ids).logits[0].double().log_softmax(-1)
    # Else OpenVINO rounds activations to 8 bits before products with compressed matrices.
    how = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    openvino: Any = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(file), "CPU", how)
    given = {"input_ids": ids.numpy(), "attention_mask": np.ones((1, ids.shape[1]), np.int64)}
    found = torch.from_numpy(compiled(given)["logits"][0]).double().log_softmax(-1)
    assert (found - wanted).abs().max() < 1e-3
    kl = (wanted.exp() * (wanted - found)).sum(-1).mean()
    assert kl < 1e-6


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_an_audit_tells_weights_and_what_running_adds(tiny: Path, run: Any, tmp_path: Path) -> None:
    import transformers as hf

    model: Any = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    file = compressed(model, tmp_path / "q.xml")
    listed = run("contents", file)  # and takes what NNCF has printed
    assert listed.code == 0 and f"int4 g{GROUP}" in listed.out
    asked = ("audit", tiny, "--corpus", "text", "--against", file)
    ran = run(*asked, "--runtime", "openvino", "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.json["runtimes"]["runs"]
    assert not told["failure"] and 0 < told["apart_nats"] < 0.1
    for code, row in told["languages"].items():
        assert row["damage"] == pytest.approx(ran.json["languages"][code]["damage"], rel=0.2)
    assert ran.json["contents"]["toolchain"] == "openvino"
    without = run(*asked, "--no-report")
    assert without.code == 0, without.err
