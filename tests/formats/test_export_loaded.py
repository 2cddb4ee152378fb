"""Exports loaded by the toolchains they are for, each in a process of its own.

``BITGAP_TOOLCHAINS`` names the Python of an environment that has them (``pip install
'bitgap[toolchains]'``); else this one is asked. Each test skips where its toolchain is absent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from export_samples import mixed, recipe_of, saved

from bitgap.corpora.parallel import load_corpus
from bitgap.errors import ExportError
from bitgap.formats.open import open_checkpoint
from bitgap.formats.running import find_runtime
from bitgap.formats.source import Source
from bitgap.formats.targets import find_target
from bitgap.jobs.export import Check, export, verify
from bitgap.jobs.export_records import Verification

PYTHON = os.environ.get("BITGAP_TOOLCHAINS", sys.executable)
CHECK = Check(corpus=load_corpus(languages="en,de,ar"), python=PYTHON)


def needs(name: str) -> None:
    packages = find_target(name).needs
    code = (
        "import sys; from importlib.util import find_spec; "
        "sys.exit(not all(map(find_spec, sys.argv[1:])))"
    )
    if subprocess.run([PYTHON, "-I", "-c", code, *packages]).returncode:
        pytest.skip(f"{', '.join(packages)}: not all installed; BITGAP_TOOLCHAINS names a Python")


def loaded(source: Source, out: Path, name: str, *cycle: str, outside: str = "fp") -> Verification:
    """Writes a mixed recipe and has the toolchain load it; asserts what it found."""
    needs(name)
    schemes = mixed(source, *cycle, outside=outside)
    recipe = recipe_of(source, schemes)
    (made,) = export(recipe, [name], out, check=CHECK)
    assert made.loaded and made.passed and not made.failures
    assert {m.name: m.asked for m in made.matrices} == schemes
    for one in made.matrices:
        whole = one.loaded.startswith(("float", "bfloat")) or one.loaded in ("F16", "BF16")
        assert whole == (one.asked == "fp"), one
    assert {one.language for one in made.logits} == {"en", "de", "ar"}
    # What was quantized is not nothing: far from the model as it was, near to the simulation.
    assert all(4 * one.relative < one.plan for one in made.logits if made.floor < 1e-5)
    assert all(one.relative < one.plan for one in made.logits)
    # Scales of 16 bits are in the simulation, and said apart.
    assert all(0 < one.storing < one.plan for one in made.logits if "NF4" not in cycle)
    return made


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3"])
def test_compressed_tensors_has_mixed_bits(shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape, None if shape == "llama" else torch.bfloat16)
    cycle = ("rtn4-g32", "rtn3-channel", "rtn6-g64", "fp", "rtn8-g32-mse")
    made = loaded(source, tmp_path / "o", "compressed-tensors", *cycle)
    assert {m.loaded for m in made.matrices} >= {"int4 g32", "int3 channel", "int6 channel"}
    assert "compressed-tensors" in made.versions


def test_compressed_tensors_of_vllm_is_loaded_too(tmp_path: Path) -> None:
    source = saved(tmp_path / "m", "llama")
    loaded(source, tmp_path / "o", "vllm", "rtn4-g32")


def test_logits_that_are_not_the_simulation_s_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("compressed-tensors")
    source = saved(tmp_path / "m", "llama")
    made = loaded(source, tmp_path / "o", "compressed-tensors", "rtn4-g32")
    assert made.loaded
    # A norm is no unit: its values are counted by nobody, and logits tell.
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "o" / "compressed-tensors"
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= 1.05
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="logits of en are off by"):
        verify(folder, check=CHECK)


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma3", "qwen3"])
def test_gguf_is_read_by_transformers(shape: str, tmp_path: Path) -> None:
    # What transformers has no name for in GGUF, it takes to be its class's default.
    usual = {"gpt2": {"n_positions": 1024}, "qwen3": {"head_dim": 128},
             "gemma3": {"query_pre_attn_scalar": 256, "head_dim": 256, "layer_types":
                        ["sliding_attention"] * 2}}  # fmt: skip
    source = saved(tmp_path / "m", shape, None, **usual.get(shape, {}))
    cycle = ("rtn4-g32", "rtn5-g32-mse", "rtn8-g32", "fp")
    made = loaded(source, tmp_path / "o", "gguf", *cycle, outside="rtn8-g32")
    assert {m.loaded for m in made.matrices} == {"Q4_0", "Q5_0", "Q8_0", "F16"}


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3"])
def test_torchao_has_mixed_bits(shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape, None if shape == "llama" else torch.bfloat16)
    outside = "rtn8-g32" if shape == "llama" else "fp"
    cycle = ("rtn4-g32", "rtn3-channel", "rtn6-g32-mse", "fp")
    made = loaded(source, tmp_path / "o", "torchao", *cycle, outside=outside)
    assert any("one code a byte" in note for note in made.notes)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("scheme", ["NF4", "rtn8-channel"])
def test_bitsandbytes_keeps_what_is_left_whole(scheme: str, shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape, None if shape == "llama" else torch.bfloat16)
    if scheme == "NF4":
        made = loaded(source, tmp_path / "o", "bitsandbytes", scheme, "fp")
        assert {m.loaded for m in made.matrices} >= {"NF4 b64 double"}
    else:
        needs("bitsandbytes")
        recipe = recipe_of(source, mixed(source, scheme, "fp"))
        (made,) = export(recipe, ["bitsandbytes"], tmp_path / "o", check=CHECK)
        assert made.loaded and made.passed and made.floor == made.tolerance


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3", "gpt2"])
def test_auto_round_has_mixed_bits(shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape, None if shape == "gpt2" else torch.bfloat16)
    cycle = ("rtn4-g32", "rtn3-channel", "rtn6-g64", "fp", "rtn8-g32-mse", "rtn2-g32")
    made = loaded(source, tmp_path / "o", "auto-round", *cycle)
    assert {m.loaded for m in made.matrices} >= {"int4 g32", "int3 channel", "int6 channel"}


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_gptq_is_read_where_its_kernels_are_not(shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape)
    needs("gptq")
    schemes = mixed(source, "rtn4-g32", "fp") if shape == "gpt2" else {
        name: "fp" if p.block is None else
        ("rtn4-g32", "rtn8-channel")[p.block] if "attn" in name else
        ("rtn3-g32", "fp")[p.block] if "down" not in name else "rtn4-g64"
        for name, p in source.places.items()
    }  # fmt: skip
    (made,) = export(recipe_of(source, schemes), ["gptq"], tmp_path / "o", check=CHECK)
    assert made.loaded and made.passed
    assert all(4 * one.relative < one.plan for one in made.logits)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3", "gpt2"])
def test_mlx_has_mixed_bits_in_embedding_and_head_too(shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape, None if shape == "llama" else torch.bfloat16)
    cycle = ("rtn4-g32", "rtn3-g32", "rtn6-g64", "fp", "rtn8-g32-mse", "rtn5-g32")
    made = loaded(source, tmp_path / "o", "mlx", *cycle, outside="rtn8-g32")
    assert {m.loaded for m in made.matrices} >= {"int4 g32 asym", "int3 g32 asym", "int8 g32 asym"}
    assert "mlx" in made.versions


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3", "gpt2", "gemma2", "qwen2"])
def test_onnx_runtime_has_mixed_bits_in_embedding_and_head_too(shape: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", shape, None if shape == "llama" else torch.bfloat16)
    cycle = ("rtn4-g32", "rtn8-channel", "rtn4-g64-mse", "fp", "rtn8-g32")
    made = loaded(source, tmp_path / "o", "onnxruntime", *cycle, outside="rtn8-g32")
    assert {m.loaded for m in made.matrices} >= {"int4 g32", "int8 channel", "int8 g32"}
    # Codes, scales of 16 bits and nothing else: what the recipe counts.
    assert all(u.file_bytes == u.recipe_bytes for u in made.units if u.scheme != "fp")


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3", "gpt2", "gemma2", "qwen2"])
def test_openvino_has_mixed_bits_in_embedding_and_head_too(shape: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra bitgap[openvino] is not installed")
    source = saved(tmp_path / "m", shape, None if shape == "llama" else torch.bfloat16)
    cycle = ("rtn4-g32", "rtn8-channel", "rtn4-g64-mse", "fp", "rtn8-g32", "rtn2-g32")
    made = loaded(source, tmp_path / "o", "openvino", *cycle, outside="rtn8-g32")
    assert {m.loaded for m in made.matrices} >= {"int4 g32", "int8 channel", "int2 g32 asym"}
    assert "openvino" in made.versions
    # Codes, scales of 16 bits and, of 2 bits, one zero a matrix: what the recipe counts.
    for unit in made.units:
        zero = unit.scheme.startswith("rtn2")
        assert unit.scheme == "fp" or unit.file_bytes == unit.recipe_bytes + zero


def test_openvino_has_square_conv1d_and_table_left_whole_and_a_tokenizer_beside_it(
    tmp_path: Path,
) -> None:
    pytest.importorskip("openvino", reason="the extra bitgap[openvino] is not installed")
    source = saved(tmp_path / "m", "gpt2")
    made = loaded(source, tmp_path / "o", "openvino", "rtn4-g32", "fp")
    assert any(m.loaded == "float16" and "attn.c_proj" in m.name for m in made.matrices)
    folder = tmp_path / "o" / "openvino"
    # As OpenVINO's converter of tokenizers leaves them; the model is still the model.
    for name in ("openvino_tokenizer.xml", "openvino_detokenizer.xml"):
        (folder / name).write_text("<net/>")
    assert open_checkpoint(folder).toolchain == "openvino"
    assert not find_runtime("openvino").why_not(folder)
    assert sorted(p.name for p in folder.glob("*.part")) == []


def test_onnx_runtime_fills_up_groups_that_do_not_divide_a_row(tmp_path: Path) -> None:
    source = saved(tmp_path / "m", "llama", None, intermediate_size=80)
    made = loaded(source, tmp_path / "o", "onnxruntime", "rtn4-g32", outside="fp")
    assert any(m.loaded == "int4 g32" and "down_proj" in m.name for m in made.matrices)
