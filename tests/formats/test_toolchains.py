"""What real toolchains write, against their own dequantization; each skips where it is absent.

``pip install 'bitgap[toolchains]'`` in an environment of its own has those that install beside
each other; GPTQModel and ModelOpt declare other versions of torch and transformers and are tried
where somebody put them. The nightly command is ``make toolchains``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch

from bitgap.formats.contents import contents_of
from bitgap.formats.open import open_checkpoint

# Toolchains warn as they like, and their threads are not ours.
pytestmark = pytest.mark.filterwarnings("ignore")
FP16, BF16 = 2.0**-11, 2.0**-8


def needs(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)


def compare(folder: Path, weights: tiny.Weights, toolchain: str, rounding: float = 0.0) -> Any:
    """Asserts that all matrices are found and equal, up to one rounding of the toolchain's type."""
    checkpoint = open_checkpoint(folder)
    assert checkpoint.toolchain == toolchain
    found = {unit.name: unit for unit in checkpoint.units}
    assert found.keys() == weights.keys()
    for name, wanted in weights.items():
        got = found[name].weight()
        if rounding:
            assert ((got - wanted.float()).abs() <= rounding * got.abs()).all(), name
        else:
            assert torch.equal(got, wanted.float()), name
    return checkpoint


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors_integers(bits: int, symmetric: bool, tmp_path: Path) -> None:
    needs("compressed_tensors")
    weights = tiny.write_compressed_tensors(tmp_path, bits=bits, symmetric=symmetric)
    checkpoint = compare(tmp_path, weights, "compressed-tensors")
    assert {unit.code_bits for unit in checkpoint.units} == {bits}


@pytest.mark.parametrize(
    ("kind", "bits", "group", "stored"),
    [
        ("mxfp4", 4, 32, "MXFP4"),
        ("mxfp6", 6, 32, "MXFP6"),
        ("mxfp8", 8, 32, "MXFP8"),
        ("float", 8, None, "f8_e4m3 channel"),
        ("naive", 8, None, "int8 channel"),
        ("int", 4, None, "int4 channel"),
    ],
)
def test_compressed_tensors_of_other_kinds(
    kind: str, bits: int, group: int | None, stored: str, tmp_path: Path
) -> None:
    needs("compressed_tensors")
    weights = tiny.write_compressed_tensors(
        tmp_path, kind=kind, bits=bits, group=group, config_key="compression_config"
    )
    checkpoint = compare(tmp_path, weights, "compressed-tensors")
    assert {unit.stored for unit in checkpoint.units} == {stored}


def test_compressed_tensors_that_compute_in_bfloat16(tmp_path: Path) -> None:
    needs("compressed_tensors")
    half = tiny.write_compressed_tensors(tmp_path / "a", scale_dtype=torch.bfloat16)
    compare(tmp_path / "a", half, "compressed-tensors", BF16)
    nvfp4 = tiny.write_compressed_tensors(tmp_path / "b", kind="nvfp4", group=16)
    compare(tmp_path / "b", nvfp4, "compressed-tensors", BF16)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("how", ["int4", "int3", "asymmetric", "int8", "float8"])
def test_torchao(how: str, shape: str, tmp_path: Path) -> None:
    needs("torchao")
    if shape != "llama" and how != "int4":
        pytest.skip("one kind for each further shape")
    weights = tiny.write_torchao(tmp_path / "made", shape, how)
    checkpoint = compare(tmp_path / "made", weights, "torchao")
    if how == "int4":
        # Stored one code a byte: the file is not smaller than one of 8 bits.
        assert {u.code_bits for u in checkpoint.units} == {4}
        assert all(u.bits > 8 for u in checkpoint.units)


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma3", "qwen3"])
@pytest.mark.parametrize("how", ["nf4 double", "fp4", "int8"])
def test_bitsandbytes(how: str, shape: str, tmp_path: Path) -> None:
    needs("bitsandbytes", "accelerate")
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": how[:3]}
    four["bnb_4bit_use_double_quant"] = "double" in how
    settings = {"load_in_8bit": True} if how == "int8" else four
    weights = tiny.write_bitsandbytes(tmp_path / "made", shape, **settings)
    compare(tmp_path / "made", weights, "bitsandbytes")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", [8, 4, 3, 2, 1])
def test_hqq(bits: int, axis: int, tmp_path: Path) -> None:
    needs("hqq")
    weights = tiny.write_hqq(tmp_path / "made", bits=bits, axis=axis)
    compare(tmp_path / "made", weights, "hqq")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_mlx(bits: int, tmp_path: Path) -> None:
    needs("mlx.core")
    compare(tmp_path, tiny.write_mlx(tmp_path, bits=bits), "mlx")


@pytest.mark.parametrize(
    ("mode", "bits", "group"), [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
)
def test_mlx_microscaling(mode: str, bits: int, group: int, tmp_path: Path) -> None:
    needs("mlx.core")
    compare(tmp_path, tiny.write_mlx(tmp_path, bits=bits, group=group, mode=mode), "mlx")


@pytest.mark.parametrize("how", ["nvfp4", "int4_awq", "fp8"])
def test_modelopt(how: str, tmp_path: Path) -> None:
    needs("modelopt.torch.export")
    compare(tmp_path, tiny.write_modelopt(tmp_path, how), "modelopt")


@pytest.mark.parametrize(
    ("bits", "version", "act_order"),
    [(4, "gptq", False), (4, "gptq_v2", True), (3, "gptq", False), (5, "gptq_p", False)],
)
@pytest.mark.timeout(600)
def test_gptqmodel(bits: int, version: str, act_order: bool, tmp_path: Path) -> None:
    if not os.environ.get("BITGAP_SLOW_TOOLCHAINS"):
        pytest.skip("GPTQModel packs a tiny model in minutes; set BITGAP_SLOW_TOOLCHAINS=1")
    needs("gptqmodel")
    weights = tiny.write_gptq(
        tmp_path, bits=bits, symmetric=False, version=version, act_order=act_order
    )
    checkpoint = compare(tmp_path, weights, "gptq", FP16)
    assert all(("act-order" in unit.stored) == act_order for unit in checkpoint.units)


@pytest.mark.parametrize(
    ("shape", "symmetric", "layout"), [("llama", True, "gptq"), ("llama", False, "awq")]
)
def test_auto_round(shape: str, symmetric: bool, layout: str, tmp_path: Path) -> None:
    needs("auto_round", "accelerate")
    folder = tiny.write_auto_round(
        tmp_path / "made", shape, scheme="W4A16", group_size=32, sym=symmetric
    )
    checkpoint = open_checkpoint(folder)
    assert checkpoint.toolchain == layout
    wanted = tiny.linears(tiny.tiny_model(shape))
    found = {unit.name: unit for unit in checkpoint.units}
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        # Round to nearest with a clipped range: within a step of each weight.
        step = 2 * weight.unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True) / 14
        error = (found[name].weight() - weight).unflatten(-1, (-1, 32)).abs()
        assert (error <= step).all(), name


def test_experts_as_transformers_unpacks_them(tmp_path: Path) -> None:
    import hand_written as written
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    made = written.mxfp4_experts()
    (unit,) = open_checkpoint(made.save(tmp_path)).units
    blocks, scales = (made.tensors[f"{made.name}_{part}"] for part in ("blocks", "scales"))
    wanted = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(unit.weight(), wanted.transpose(-1, -2))


def test_a_tied_head_is_the_embedding_once(tmp_path: Path) -> None:
    needs("bitsandbytes", "accelerate")
    tiny.write_bitsandbytes(tmp_path / "made", "qwen3", load_in_8bit=True)
    names = {held.name for held in contents_of(open_checkpoint(tmp_path / "made")).tensors}
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
