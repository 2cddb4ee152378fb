"""Reading GGUF as a checkpoint; skipped where the gguf library is not installed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import torch
from tiny_checkpoints import tiny_model

from bitgap.errors import MissingExtra, ModelError
from bitgap.formats.contents import contents_of
from bitgap.formats.gguf.header import GGUFFile
from bitgap.formats.gguf.names import ARCHITECTURES
from bitgap.formats.open import open_checkpoint

gguf = pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")

MODELS = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2")


@pytest.mark.parametrize("shape", MODELS)
@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "F16", "BF16"])
def test_names_order_and_values_are_those_of_the_model(
    shape: str, kind: str, tmp_path: Path
) -> None:
    model = tiny_model(shape)
    wanted = gguf_files.write_gguf(tmp_path / "m.gguf", model, kind=kind)
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    found = {unit.name: unit for unit in (*checkpoint.units, *checkpoint.whole)}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name].weight().numpy(), value, err_msg=name)
    quantized = {u.stored for u in checkpoint.units}
    assert quantized == ({kind} if kind in ("Q4_0", "Q8_0") else set())


def test_every_architecture_that_is_read_is_written_and_proved_here() -> None:
    assert set(gguf_files.ARCHITECTURES.values()) == ARCHITECTURES.keys()
    assert {
        tiny_model(shape).config.model_type for shape in MODELS
    } == gguf_files.ARCHITECTURES.keys()


TYPES = [kind for kind in gguf.quants._type_traits if kind.name not in ("F32", "F16", "BF16")]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_type_that_the_library_dequantizes_is_read_as_it_does(
    kind: Any, tmp_path: Path
) -> None:
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = 6, 2 * per_block
    data = np.random.default_rng(0).integers(0, 256, (rows, columns // per_block * block_bytes))
    data = _finite(data.astype(np.uint8), kind)
    tensors = {"blk.0.ffn_up.weight": (kind.name, data, (rows, columns))}
    checkpoint = open_checkpoint(gguf_files.raw_gguf(tmp_path / "m.gguf", tensors))
    (unit,) = checkpoint.units
    assert (unit.stored, unit.shape) == (kind.name, (rows, columns))
    np.testing.assert_array_equal(unit.weight().numpy(), gguf.dequantize(data, kind))
    assert unit.bits == 8 * block_bytes / per_block
    assert 1 <= unit.code_bits <= unit.bits


def _finite(data: np.ndarray, kind: Any) -> np.ndarray:
    """Draws blocks again until random bytes make no infinite scale."""
    for seed in range(400):
        with np.errstate(all="ignore"):
            bad = ~np.isfinite(gguf.dequantize(data, kind)).all(axis=1)
        if not bad.any():
            return data
        new = np.random.default_rng(seed + 1).integers(0, 256, data.shape).astype(np.uint8)
        data[bad] = new[bad]
    raise AssertionError("no finite bytes were drawn")


def test_an_nvfp4_tensor_is_multiplied_by_its_own_scale(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.NVFP4
    data = np.random.default_rng(0).integers(0, 100, (3, gguf.GGML_QUANT_SIZES[kind][1]))
    data = data.astype(np.uint8)
    plain = gguf.dequantize(data, kind)
    for name in ("blk.0.ffn_up.scale", "blk.0.ffn_up.weight.scale"):
        tensors = {
            "blk.0.ffn_up.weight": ("NVFP4", data, plain.shape),
            name: ("F32", np.array([0.375], np.float32), (1,)),
            "blk.0.ffn_up.input_scale": ("F32", np.array([9.0], np.float32), (1,)),
        }
        checkpoint = open_checkpoint(gguf_files.raw_gguf(tmp_path / f"{name}.gguf", tensors))
        (unit,) = checkpoint.units
        np.testing.assert_array_equal(unit.weight().numpy(), plain * np.float32(0.375))
        assert not checkpoint.whole


def test_contents_tell_a_mixed_recipe_by_block(tmp_path: Path) -> None:
    gguf_files.write_gguf(tmp_path / "m.gguf", tiny_model("llama"), kind="Q4_0")
    contents = contents_of(open_checkpoint(tmp_path / "m.gguf"))
    bits = {h.block: h.bits for h in contents.tensors if h.name.endswith("up_proj.weight")}
    assert bits == {0: 4.5, 1: 32.0}
    assert contents.n_bytes == sum(
        t.n_bytes for t in GGUFFile(tmp_path / "m.gguf").tensors.values()
    )


# -- refusals ------------------------------------------------------------------------------------


def _bytes(tmp_path: Path) -> bytearray:
    gguf_files.raw_gguf(
        tmp_path / "m.gguf",
        {"output_norm.weight": ("F32", np.ones(8, np.float32), (8,))},
        general__name="x",
    )
    return bytearray((tmp_path / "m.gguf").read_bytes())


def _opened(tmp_path: Path, data: bytes) -> Any:
    (tmp_path / "n.gguf").write_bytes(data)
    return open_checkpoint(tmp_path / "n.gguf")


def test_versions_and_byte_orders_are_told_apart(tmp_path: Path) -> None:
    data = _bytes(tmp_path)
    data[4:8] = struct.pack(">I", 3)
    with pytest.raises(ModelError, match="is big-endian"):
        _opened(tmp_path, data)
    data[4:8] = struct.pack("<I", 1)
    with pytest.raises(ModelError, match="GGUF version 1"):
        _opened(tmp_path, data)
    data[:4] = b"ggml"
    with pytest.raises(ModelError, match="does not begin as GGUF"):
        _opened(tmp_path, data)


@pytest.mark.parametrize("at", [8, 16])
def test_absurd_counts_are_refused_before_anything_is_taken(at: int, tmp_path: Path) -> None:
    data = _bytes(tmp_path)
    data[at : at + 8] = struct.pack("<Q", 1 << 60)
    with pytest.raises(ModelError, match="do not fit into the"):
        _opened(tmp_path, data)


def test_a_file_that_is_cut_short_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    data = _bytes(tmp_path)
    for end in range(4, len(data)):
        if end < len(data) - 31:  # after the last tensor there is padding only
            with pytest.raises(ModelError):
                _opened(tmp_path, data[:end])


def test_parts_and_unknown_architectures_are_refused_by_name(tmp_path: Path) -> None:
    norm = {"output_norm.weight": ("F32", np.ones(8, np.float32), (8,))}
    split = gguf_files.raw_gguf(tmp_path / "a.gguf", norm, split__count=3, split__no=1)
    with pytest.raises(ModelError, match="one of 3 parts"):
        open_checkpoint(split)
    rwkv = gguf_files.raw_gguf(tmp_path / "b.gguf", norm, arch="rwkv6")
    with pytest.raises(ModelError, match="architecture 'rwkv6'; those that are read are llama"):
        open_checkpoint(rwkv)
    extra = gguf_files.raw_gguf(
        tmp_path / "c.gguf", norm | {"blk.0.ssm_a": norm["output_norm.weight"]}
    )
    with pytest.raises(ModelError, match=r"blk\.0\.ssm_a has no place"):
        open_checkpoint(extra)
    folder = tmp_path / "several"
    folder.mkdir()
    for name in "ab":
        gguf_files.raw_gguf(folder / f"{name}.gguf", norm)
    with pytest.raises(ModelError, match="has 2 GGUF files"):
        open_checkpoint(folder)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bytes(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bitgap\[gguf\]'"):
        open_checkpoint(tmp_path / "m.gguf")


def test_tensors_may_not_share_bytes(tmp_path: Path) -> None:
    ones = np.ones(16, np.float32)
    path = gguf_files.raw_gguf(
        tmp_path / "m.gguf",
        {
            "output_norm.weight": ("F32", ones, (16,)),
            "blk.0.attn_norm.weight": ("F32", ones, (16,)),
        },
    )
    data = path.read_bytes().replace(struct.pack("<IQ", 0, 64), struct.pack("<IQ", 0, 32))
    with pytest.raises(ModelError, match="share bytes"):
        _opened(tmp_path, data)


def test_weights_are_new_each_time_and_float32(tmp_path: Path) -> None:
    gguf_files.write_gguf(tmp_path / "m.gguf", tiny_model("llama"), kind="Q4_0")
    unit = open_checkpoint(tmp_path / "m.gguf").units[0]
    first = unit.weight()
    kept = first.clone()
    first.zero_()
    assert torch.equal(unit.weight(), kept)
    assert kept.dtype == torch.float32
