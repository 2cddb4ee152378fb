"""A recipe as files: expressed or refused, written whole or not at all, counted and compared.

Nothing here needs a toolchain; ``test_export_loaded.py`` has what does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_samples import mixed, recipe_of, saved
from safetensors.torch import load_file, save_file

from bitgap.cli.main import main
from bitgap.codec import decode
from bitgap.corpora.parallel import load_corpus
from bitgap.errors import EngineError, ExportError, MissingExtra, ModelError, PlanError, UsageError
from bitgap.formats import loading, simulated
from bitgap.formats.counted import opened, stored_values
from bitgap.formats.fused import fused_siblings
from bitgap.formats.packing import pack_stream, unpack_stream
from bitgap.formats.safetensors_file import SafetensorsFile, ToStore
from bitgap.formats.source import Source
from bitgap.formats.symmetric import half_scale
from bitgap.formats.targets import TARGETS, find_target
from bitgap.jobs.export import RECORD, Check, export, nearest_recipe, schemes_of, verify
from bitgap.jobs.export_records import Verification
from bitgap.models.load import load_model
from bitgap.protect.recipe import read_recipe, write_recipe
from bitgap.quant.codes import codes_of
from bitgap.quant.rounding import round_weight

FEW = load_corpus(languages="en,ar")
COUNT_ONLY = Check(corpus=FEW, load=False)


# -- arithmetic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", ["", "-mse"])
@pytest.mark.parametrize("grain", ["tensor", "channel", "g32", "g64", "g128"])
def test_levels_times_scales_are_the_rounded_matrix_to_the_bit(grain: str, clip: str) -> None:
    for n_out, n_in in ((7, 80), (3, 16), (4, 128)):
        weight = torch.randn(n_out, n_in, generator=torch.Generator().manual_seed(n_in))
        weight[1] = 0  # a group of zeros has levels 0 and any scale
        for bits in range(2, 9):
            scheme = f"rtn{bits}-{grain}{clip}"
            codes = codes_of(weight, scheme)
            group = torch.arange(n_in) // codes.size
            scale = codes.scale_OG if grain == "tensor" else codes.scale_OG[:, group]
            assert torch.equal(codes.levels_OI * scale, round_weight(weight, scheme, stream="a"))
            assert int(codes.levels_OI.abs().max()) <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", range(1, 9))
def test_what_is_packed_is_what_is_read(bits: int) -> None:
    for n in (1, 7, 32, 33, 100):
        codes = torch.randint(0, 2**bits, (5, n), generator=torch.Generator().manual_seed(n))
        packed = pack_stream(codes, bits)
        assert packed.shape[-1] == -(-n * bits // 32)
        assert torch.equal(unpack_stream(packed, bits, n).long(), codes)


def test_a_safetensors_file_is_the_library_s_own(tmp_path: Path) -> None:
    values = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, -2], dtype=torch.int8)}
    with SafetensorsFile(
        tmp_path / "a.safetensors", [ToStore("b", "F32", (2, 3)), ToStore("a", "I8", (2,))]
    ) as file:
        file.write("b", iter(values["b"]))
        file.write("a", values["a"])
    read = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], value) for name, value in values.items())


@pytest.mark.parametrize("fault", ["order", "type", "short", "left"])
def test_a_safetensors_file_holds_what_its_header_says(fault: str, tmp_path: Path) -> None:
    listed = [ToStore("a", "F32", (2,)), ToStore("b", "F32", (1,))]
    with pytest.raises(EngineError), SafetensorsFile(tmp_path / "x", listed) as file:
        if fault == "order":
            file.write("b", torch.zeros(1))
        file.write("a", torch.zeros(1 if fault == "short" else 2))
        if fault == "type":
            file.write("b", torch.zeros(1, dtype=torch.float16))


def test_scales_beyond_float16_are_refused_by_the_name_of_their_matrix() -> None:
    with pytest.raises(ModelError, match=r"layer.weight: 1 scales .* beyond float16"):
        half_scale(torch.tensor([0.1, 1e5]), "layer.weight")


def test_scales_below_float16_s_normal_numbers_are_kept_with_fewer_bits() -> None:
    small = torch.tensor([2.2e-5, 1.3e-7, 1e-9])
    kept = half_scale(small, "a").float()
    assert bool(((kept - small).abs() <= 2.0**-25).all()) and bool((kept != small).all())


def test_an_export_of_groups_of_next_to_nothing_passes(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    saved(folder, "llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][:, :32] *= 1e-4
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    source = Source(load_model(folder), folder)
    assert float(source.stored("model.layers.0.mlp.up_proj.weight")[:, :32].abs().max()) < 1e-4
    written(source, tmp_path / "o", "rtn8-g32")


# -- what a source is ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return saved(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return saved(tmp_path_factory.mktemp("models") / "qwen3", "qwen3", torch.bfloat16)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return saved(tmp_path_factory.mktemp("models") / "gpt2", "gpt2")


def test_places_are_the_matrices_seen_as_outputs_by_inputs(
    llama: Source, qwen: Source, gpt2: Source
) -> None:
    kinds = {place.name: place.kind for place in llama.places.values()}
    assert kinds["model.embed_tokens.weight"] == "embedding"
    assert kinds["lm_head.weight"] == "head"
    assert sum(kind == "linear" for kind in kinds.values()) == 14
    assert {p.kind for p in qwen.places.values()} == {"tied", "linear"}
    assert qwen.place("lm_head.weight") is qwen.place("model.embed_tokens.weight")
    turned = gpt2.places["transformer.h.0.mlp.c_fc.weight"]
    assert (turned.kind, turned.shape, turned.block) == ("conv1d", (256, 64), 0)
    assert tuple(gpt2.matrix(turned.name).shape) == turned.shape
    assert "transformer.wpe.weight" not in gpt2.places, "positions are a table, no matrix"


def test_a_recipe_that_names_another_matrix_is_refused(llama: Source) -> None:
    recipe = recipe_of(llama, mixed(llama, "rtn4-g32"))
    unit = next(iter(recipe.units.values()))
    strange = replace(recipe, units={**recipe.units, "x": replace(unit, matrices=("a.weight",))},
                      bytes=recipe.bytes + unit.bytes)  # fmt: skip
    with pytest.raises(PlanError, match=r"unit 'x' .* no matrix 'a.weight'"):
        schemes_of(strange, llama)
    twice = replace(recipe, units={**recipe.units, "x": unit}, bytes=recipe.bytes + unit.bytes)
    with pytest.raises(PlanError, match="which another has"):
        schemes_of(twice, llama)


# -- what a target can hold ------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_the_nearest_recipe_can_be_expressed_and_has_no_fewer_bits(
    name: str, llama: Source, gpt2: Source, qwen: Source
) -> None:
    target = find_target(name)
    for source in (llama, gpt2, qwen):
        recipe = recipe_of(
            source, mixed(source, "rtn3-g128", "rtn5-channel-mse", "rtn8-g32", outside="rtn4-g64")
        )
        near = nearest_recipe(target, recipe, source)
        schemes = schemes_of(near, source)
        assert not target.refusals(source.places, schemes)
        for place, asked in schemes_of(recipe, source).items():
            assert target.code_bits(schemes[place]) >= int(asked[3]), (place, schemes[place])
        assert near.bytes == near.fixed_bytes + sum(u.bytes for u in near.units.values())


@pytest.mark.parametrize("name", TARGETS)
def test_a_recipe_that_can_be_expressed_is_its_own_nearest(name: str, llama: Source) -> None:
    target = find_target(name)
    recipe = nearest_recipe(target, recipe_of(llama, mixed(llama, "rtn4-g32")), llama)
    again = nearest_recipe(target, recipe, llama)
    assert again.schemes == recipe.schemes and again.bytes == recipe.bytes


def test_vllm_refuses_unlike_bits_in_what_it_makes_one_matrix_of(llama: Source) -> None:
    assert ("model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight") in (
        fused_siblings(llama.places).values()
    )
    schemes = mixed(llama, "rtn4-g32") | {"model.layers.0.self_attn.k_proj.weight": "rtn8-g32"}
    refused = find_target("vllm").refusals(llama.places, schemes)
    assert {one.place.split(".")[-2] for one in refused} == {"q_proj", "v_proj"}
    assert all(one.nearest == "rtn8-g32" and "one matrix" in one.why for one in refused)
    assert not find_target("compressed-tensors").refusals(llama.places, schemes)


def test_compressed_tensors_refuses_what_its_library_passes_over(
    llama: Source, gpt2: Source
) -> None:
    target = find_target("compressed-tensors")
    conv = gpt2.places["transformer.h.0.mlp.c_fc.weight"]
    assert "Conv1D" in str(target.refusal(conv, "rtn4-g32"))
    assert "embedding" in str(target.refusal(llama.places["model.embed_tokens.weight"], "rtn8-g32"))
    narrow = replace(conv, kind="linear", n_in=80)
    assert "no whole number of groups of 64" in str(target.refusal(narrow, "rtn4-g64"))
    assert target.nearest(narrow, "rtn4-g64") == "rtn4-channel"
    assert target.refusal(narrow, "rtn4-g128") is None, "a row shorter than a group is one"


def test_openvino_refuses_what_its_plugin_makes_float32_of(gpt2: Source) -> None:
    target = find_target("openvino")
    conv = gpt2.places["transformer.h.0.mlp.c_fc.weight"]
    assert "kernels for 2, 4 and 8 bits" in str(target.refusal(conv, "rtn6-g32"))
    assert target.nearest(conv, "rtn3-channel") == "rtn4-channel"
    assert "groups of 64" in str(target.refusal(replace(conv, n_in=80), "rtn4-g64"))
    assert "no whole bytes" in str(target.refusal(replace(conv, n_in=81), "rtn4-channel"))
    assert target.refusal(replace(conv, n_in=81), "rtn8-channel") is None
    # Codes without a sign have one zero, of a byte.
    size = conv.n_weights // 4 + 2 * conv.n_out
    assert target.bytes_of(conv, "rtn2-channel") == size + 1
    assert target.bytes_of(conv, "rtn4-channel") == conv.n_weights // 2 + 2 * conv.n_out


@pytest.mark.parametrize(("name", "module"), [("openvino", "openvino"), ("onnxruntime", "onnx")])
def test_a_library_that_writing_needs_and_lacks_is_named_first(
    name: str, module: str, llama: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=f"needs the {module} library.*pip install 'bitgap"):
        export(recipe_of(llama, mixed(llama, "rtn4-g32")), [name], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_expressed_is_told_by_unit_before_anything_is_written(
    gpt2: Source, tmp_path: Path
) -> None:
    recipe = recipe_of(gpt2, mixed(gpt2, "rtn4-g32"))
    with pytest.raises(PlanError) as error:
        export(recipe, ["compressed-tensors"], tmp_path / "out", check=COUNT_ONLY)
    said = str(error.value)
    assert "unit transformer.h.0.attn.c_attn: rtn4-g32" in said and "--nearest" in said
    assert "nearest: fp" in said and f"{recipe.bytes:,}" in said
    assert not (tmp_path / "out").exists()


# -- what is written -------------------------------------------------------------------------------


def written(source: Source, out: Path, *cycle: str, name: str = "compressed-tensors") -> Path:
    """Writes a mixed recipe, counted but not loaded, and returns the folder."""
    recipe = recipe_of(source, mixed(source, *cycle))
    made = export(recipe, [name], out, check=COUNT_ONLY)
    assert made[0].passed and not made[0].loaded and "not loaded" in made[0].notes[0]
    return out / name


def test_an_export_is_a_whole_folder_with_its_recipe_and_record(
    llama: Source, tmp_path: Path
) -> None:
    folder = written(llama, tmp_path, "rtn4-g32", "rtn3-channel", "fp", "rtn8-g64-mse")
    files = {"config.json", "model.safetensors", "tokenizer.json", RECORD, "recipe.toml"}
    assert {p.name for p in folder.iterdir()} >= files
    assert [p.name for p in tmp_path.iterdir()] == ["compressed-tensors"]
    record = decode(Verification, (folder / RECORD).read_text())
    assert record.recipe == read_recipe(folder / "recipe.toml").seal
    asked = {m.asked: m.code_bits for m in record.matrices}
    assert asked == {"rtn4-g32": 4, "rtn3-channel": 3, "fp": 16, "rtn8-g64-mse": 8}
    told = json.loads((folder / "config.json").read_text())["quantization_config"]
    named = {m for group in told["config_groups"].values() for m in group["targets"]}
    assert named | {*told["ignore"]} == {p.module for p in llama.places.values()}
    assert not any(m.startswith("re:") for m in named), "patterns decide nothing"


def test_bytes_are_those_of_the_recipe_within_a_thousandth_and_a_header(
    tmp_path: Path,
) -> None:
    source = saved(tmp_path / "m", "llama", torch.bfloat16, hidden_size=256, intermediate_size=512,
                   num_hidden_layers=3)  # fmt: skip
    recipe = recipe_of(source, mixed(source, "rtn4-g64", "rtn8-g32", "fp"))
    (made,) = export(recipe, ["compressed-tensors"], tmp_path / "out", check=COUNT_ONLY)
    with (tmp_path / "out" / "compressed-tensors" / "model.safetensors").open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    assert abs(made.file_bytes - header - made.recipe_bytes) <= 0.001 * made.recipe_bytes
    assert made.units_bytes == sum(m.n_bytes for m in made.matrices if m.unit)


def test_a_tied_head_is_ignored_by_name(qwen: Source, tmp_path: Path) -> None:
    folder = written(qwen, tmp_path, "rtn4-g32")
    told = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert "lm_head" in told["ignore"]
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")


def test_a_folder_that_is_there_is_left_alone(llama: Source, tmp_path: Path) -> None:
    folder = written(llama, tmp_path, "rtn4-g32")
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    with pytest.raises(UsageError, match="is there already"):
        written(llama, tmp_path, "rtn8-g32")
    assert before == {p: p.stat().st_mtime_ns for p in folder.iterdir()}


def test_a_model_with_other_weights_is_refused(llama: Source, qwen: Source, tmp_path: Path) -> None:
    recipe = recipe_of(llama, mixed(llama, "rtn4-g32"))
    with pytest.raises(PlanError, match="other weights"):
        export(recipe, ["vllm"], tmp_path / "out", model=qwen.folder, check=COUNT_ONLY)


# -- what is verified ------------------------------------------------------------------------------


def damage(folder: Path, fault: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    at = "model.layers.1.mlp.down_proj"
    if fault == "codes":
        tensors[f"{at}.weight_packed"][3, 1] ^= 5
    elif fault == "scale":
        tensors[f"{at}.weight_scale"][0, 0] *= 1.01
    elif fault == "bits":
        other = codes_of(torch.randn(64, 128), "rtn8-g32")
        tensors[f"{at}.weight_packed"] = pack_stream(other.levels_OI + 128, 8)
    elif fault == "whole":
        for leaf in ("weight_packed", "weight_scale", "weight_shape"):
            del tensors[f"{at}.{leaf}"]
        tensors[f"{at}.weight"] = torch.randn(64, 128, dtype=torch.float16)
    else:
        for leaf in ("weight_packed", "weight_scale", "weight_shape"):
            del tensors[f"{at}.{leaf}"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("fault", ["codes", "scale", "bits", "whole", "absent"])
def test_what_is_not_as_the_recipe_has_it_is_told_by_matrix(
    fault: str, llama: Source, tmp_path: Path
) -> None:
    folder = written(llama, tmp_path, "rtn4-g32")
    damage(folder, fault)
    with pytest.raises(ExportError, match=r"model\.layers\.1\.mlp\.down_proj\.weight: "):
        verify(folder, check=COUNT_ONLY)
    record = decode(Verification, (folder / RECORD).read_text())
    assert not record.passed and sum(bool(m.wrong) for m in record.matrices) == 1


def test_what_rounding_scales_costs_is_told_apart_from_what_running_does(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    # All but destroyed, so that the last bit of a scale is seen in the logits.
    source = saved(tmp_path / "m", "llama", num_hidden_layers=6)
    recipe = recipe_of(source, mixed(source, "Q4_0", "rtn4-g32", outside="rtn4-g32"))
    (made,) = export(recipe, ["gguf"], tmp_path / "o", check=Check(corpus=FEW, load=False))
    # Our reader runs the file: with the file's values nothing is left to be off by.
    assert all(one.relative < 1e-6 < 1e-4 < one.storing for one in made.logits)
    assert max(one.storing for one in made.logits) > made.tolerance


@pytest.mark.parametrize("bits", ["rtn2-g32", "rtn3-channel"])
def test_logits_are_to_be_those_of_the_file_s_own_values(bits: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "m", "gpt2")
    target, schemes = find_target("auto-round"), mixed(source, bits, "fp")
    (tmp_path / "o").mkdir()
    target.write(source, schemes, tmp_path / "o")
    values = stored_values(source, target, opened(tmp_path / "o"))
    # What is rounded, and what becomes float16 of float32: embedding, and every other matrix.
    assert values.keys() == source.places.keys()
    texts = [("a", (5, 9, 40, 41, 7))]
    (text,), (moved,) = simulated.write_logits(
        source, target, schemes, texts, tmp_path, stored=values
    )
    plain = Source.open(tmp_path / "m")
    for name, place in plain.places.items():
        value = values[name]()
        assert value.shape == place.shape
        whole = schemes[name] == "fp"
        wanted = source.matrix(name).half().float() if whole else target.rounded(
            source.matrix(name), schemes[name], name
        )  # fmt: skip
        assert torch.allclose(value, wanted, rtol=0 if whole else 2.0**-10, atol=0)
        with torch.no_grad():
            plain.stored(name).copy_(value.T if place.kind == "conv1d" else value)
    with torch.no_grad():
        wanted = plain.loaded.model(torch.tensor([texts[0][1]])).logits[0].float()
    assert torch.allclose(torch.from_numpy(np.load(text.logits)), wanted, rtol=1e-5, atol=1e-5)
    assert 0 < moved.storing < 1e-4 * moved.plan


def test_another_library_is_named_where_the_first_is_not_installed(
    llama: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(llama, tmp_path, "rtn4-g32", name="gptq")
    run: list[str] = []

    def lacks(python: str, packages: Sequence[str]) -> tuple[str, ...]:
        return tuple({"gptqmodel"} & {*packages})

    def answers(command: list[str], place: str, threads: int) -> Any:
        run.append(Path(command[2]).name)
        asked = json.loads(Path(command[3]).read_text())
        assert asked["settings"] == {"read_by_auto_round": True}
        same = {"largest": 0, "sum": 0, "squares": 0, "squares_of_wanted": 1, "count": 1}
        held = {m: "int4 g32" if ".layers." in m else "float16" for m in asked["matrices"]}
        told = {"matrices": held, "texts": [same] * len(asked["texts"]), "versions": {}}
        Path(asked["out"]).write_text(json.dumps(told))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(loading, "missing_packages", lacks)
    monkeypatch.setattr(loading, "_run", answers)
    made = verify(folder, check=Check(corpus=FEW))
    assert made.loaded and run == ["transformers_folder.py"]
    assert any("as gptqmodel is not installed" in note for note in made.notes)
    monkeypatch.setattr(loading, "missing_packages", lambda *_: ("gptqmodel", "auto_round"))
    with pytest.raises(ExportError, match="not loaded by its toolchain"):
        verify(folder, check=Check(corpus=FEW))


def test_an_export_that_fails_is_left_under_another_name(
    llama: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = find_target("compressed-tensors")
    writes = type(target).write

    def badly(self: object, source: Source, schemes: object, folder: Path) -> None:
        writes(target, source, schemes, folder)  # type: ignore[arg-type]
        damage(folder, "codes")

    monkeypatch.setattr(type(target), "write", badly)
    with pytest.raises(ExportError, match=r"compressed-tensors\.failed"):
        written(llama, tmp_path, "rtn4-g32")
    assert [p.name for p in tmp_path.iterdir()] == ["compressed-tensors.failed"]
    monkeypatch.undo()
    written(llama, tmp_path, "rtn4-g32")


def test_verifying_needs_an_export_and_its_toolchain(
    llama: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"has no bitgap-verification\.json"):
        verify(tmp_path)
    folder = written(llama, tmp_path, "rtn4-g32")
    assert main(["verify", str(folder), "--python", str(tmp_path / "nowhere")]) == 2
    assert "cannot be run" in capsys.readouterr().err


# -- stopped ---------------------------------------------------------------------------------------


KILLS = int(os.environ.get("BITGAP_KILLS", "3"))
"""How often a command is killed; `make kills` asks for 20."""


@pytest.mark.alone
@pytest.mark.timeout(180 * (KILLS + 3))
@pytest.mark.parametrize("name", ["compressed-tensors", "onnxruntime", "openvino"])
def test_a_command_that_is_killed_leaves_nothing_or_a_whole_export(
    name: str, tmp_path: Path
) -> None:
    writes_with = {"onnxruntime": "onnx", "openvino": "openvino"}
    if extra := writes_with.get(name):
        pytest.importorskip(extra, reason=f"the extra bitgap[{extra}] is not installed")
    source = saved(tmp_path / "m", "llama", num_hidden_layers=6, hidden_size=128)
    write_recipe(recipe_of(source, mixed(source, "rtn4-g32", "rtn8-g64")), tmp_path / "r.toml")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "bitgap", "export", str(tmp_path / "r.toml"), "--no-load",
               "--to", name, "--out", str(out), "--languages", "en,de"]  # fmt: skip
    # How long a whole command takes, and how long its hidden folder is there, files warm.
    took, seen = 0.0, [0.0, 0.0]
    for _ in range(2):
        shutil.rmtree(out / name, ignore_errors=True)
        whole, began = subprocess.Popen(command, cwd=tmp_path), time.monotonic()
        seen = [0.0, 0.0]
        while whole.poll() is None:
            if (out / f".{name}.part-{whole.pid}").exists():
                seen = [seen[0] or time.monotonic(), time.monotonic()]
            time.sleep(0.002)
        took = time.monotonic() - began
        assert whole.returncode == 0
    assert seen[0], "its folder was seen"
    at_work_s, moment = seen[1] - seen[0], random.Random(16)
    at_work = whole_ones = 0
    assert is_whole(out / name)
    shutil.rmtree(out / name)
    for i in range(KILLS):
        running = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
        )
        # Every third at any moment; the others once the hidden folder of this process is there.
        part = out / f".{name}.part-{running.pid}"
        while i % 3 and running.poll() is None and not part.exists():
            time.sleep(0.002)
        time.sleep(moment.random() * (at_work_s if i % 3 else took))
        at_work += running.poll() is None and part.exists()
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert not (out / name).exists() or is_whole(out / name)
        whole_ones += (out / name).exists()
        shutil.rmtree(out / name, ignore_errors=True)
    assert at_work, "at least one is killed while it writes or verifies"
    print(f"{name}: {KILLS} kills, {at_work} while it wrote or verified, {whole_ones} left whole")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert is_whole(out / name)
    assert not list(out.glob(".*")), "what a killed command left is taken away by the next"


def is_whole(folder: Path) -> bool:
    """Counts every matrix anew, from the files alone."""
    return verify(folder, check=Check(corpus=FEW, load=False)).passed


# -- the command -----------------------------------------------------------------------------------


def test_the_command_writes_shows_and_keeps_what_it_found(
    llama: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(recipe_of(llama, mixed(llama, "rtn4-g32", "rtn8-g32")), tmp_path / "r.toml")
    asked = ["export", str(tmp_path / "r.toml"), "--to", "compressed-tensors", "--no-load"]
    assert main([*asked]) == 2
    assert "--out names the folder" in capsys.readouterr().err
    assert main([*asked, "--out", str(tmp_path / "o"), "--languages", "en,de"]) == 0
    said = capsys.readouterr()
    assert "int4 g32" in said.out and "counted; not loaded back" in said.out
    assert "writing compressed-tensors" in said.err
    kept = json.loads((tmp_path / "o" / "export.json").read_text())
    assert kept["exports"][0]["target"] == "compressed-tensors"
    assert main(["export", str(tmp_path / "r.toml"), "--to", "nobody", "--out", "x"]) == 2
    assert "target 'nobody' is not known" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none.toml"), "--to", "vllm", "--out", "x"]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_choices_of_protect_for_a_target_are_what_it_can_be_given(llama: Source) -> None:
    from bitgap.protect.records import Matrix, Unit
    from bitgap.protect.toolchains import TOOLCHAINS, can_load

    kinds = {"linear": "o", "embedding": "embedding", "head": "head"}
    for name in TOOLCHAINS.keys() & TARGETS.keys():
        for place in llama.places.values():
            matrix = Matrix(name="w", n_out=place.n_out, n_in=place.n_in)
            unit = Unit(name="u", kind=kinds[place.kind], block=place.block, matrices=(matrix,))
            for bits in range(2, 9):
                for grain in ("channel", "g32", "g64", "g128"):
                    scheme = f"rtn{bits}-{grain}"
                    if can_load(TOOLCHAINS[name], unit, scheme):
                        assert find_target(name).refusal(place, scheme) is None, (name, scheme)


# -- GGUF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0"])
def test_blocks_of_our_levels_are_what_the_gguf_library_reads(kind: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    from bitgap.formats.gguf.write import block_bytes

    bits = {"Q4_0": 4, "Q5_0": 5, "Q8_0": 8}[kind]
    weight = torch.randn(6, 96, generator=torch.Generator().manual_seed(bits))
    codes = codes_of(weight, f"rtn{bits}-g32")
    scale = codes.scale_OG.half()
    data = block_bytes(codes.levels_OI.view(-1, 32), scale.reshape(-1, 1), kind)
    read = gguf.dequantize(data.numpy(), gguf.GGMLQuantizationType[kind]).reshape(6, 96)
    wanted = codes.levels_OI * scale.float().repeat_interleave(32, 1)
    assert torch.equal(torch.from_numpy(read), wanted)
    # ggml's own choice for the type is another, which is why both can be asked for.
    own = gguf.dequantize(gguf.quantize(weight.numpy(), gguf.GGMLQuantizationType[kind]),
                          gguf.GGMLQuantizationType[kind])  # fmt: skip
    assert (bits == 8) == bool(np.allclose(own, wanted.numpy(), atol=1e-3))


@pytest.mark.parametrize("shape", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2"])
def test_a_gguf_file_is_the_model_that_was_simulated(shape: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    source = saved(tmp_path / "m", shape, torch.bfloat16 if shape == "qwen3" else None)
    recipe = recipe_of(
        source, mixed(source, "rtn4-g32", "rtn5-g32-mse", "rtn8-g32", "Q4_0", outside="rtn8-g32")
    )
    (made,) = export(recipe, ["gguf"], tmp_path / "o", check=Check(corpus=FEW, load=False))
    # By our reader, which rebuilds configuration and tokenizer from the file alone.
    assert made.passed and len(made.logits) == 2
    assert all(4 * one.relative < 4 * one.storing < one.plan for one in made.logits)
    assert {m.stored for m in made.matrices} == {"Q4_0", "Q5_0", "Q8_0"}
    # Units that name a scheme take what the recipe counts, to the byte.
    assert all(u.file_bytes == u.recipe_bytes for u in made.units)


LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}  # fmt: skip


@pytest.mark.parametrize("kind", ["llama3", "linear"])
def test_rotary_scaling_is_written(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    source = saved(
        tmp_path / "m", "llama", rope_parameters=LLAMA3 if kind == "llama3" else linear, head_dim=32
    )
    recipe = recipe_of(source, mixed(source, "rtn8-g32"))
    (made,) = export(recipe, ["gguf"], tmp_path / "o", check=Check(corpus=FEW, load=False))
    assert made.passed and made.logits


def test_what_gguf_has_no_key_for_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    source = saved(tmp_path / "m", "llama", hidden_act="gelu")
    recipe = recipe_of(source, mixed(source, "rtn8-g32"))
    with pytest.raises(ModelError, match="its activation is gelu"):
        export(recipe, ["compressed-tensors", "gguf"], tmp_path / "o", check=COUNT_ONLY)
    assert not (tmp_path / "o").exists(), "not even for the target that could hold it"


def test_k_types_are_left_to_llama_cpp(llama: Source) -> None:
    target = find_target("gguf")
    place = llama.places["model.layers.0.mlp.up_proj.weight"]
    assert "llama-quantize" in str(target.refusal(place, "Q4_K"))
    assert target.nearest(place, "rtn6-g64") == "rtn8-g32"
    assert "whole number of blocks" in str(target.refusal(replace(place, n_in=80), "rtn4-g32"))


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma3"])
def test_simulated_logits_are_those_of_the_rounded_model_sentence_by_sentence(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, plain = saved(tmp_path / "m", shape), Source.open(tmp_path / "m")
    target = find_target("gguf")
    schemes = mixed(source, "rtn4-g32", "fp", "rtn8-g32", outside="rtn4-g32")
    texts = [("a", (5, 9, 40, 41, 7)), ("b", (3, 4)), ("c", tuple(range(20, 40)))]
    # Two sentences at a time, of unlike lengths.
    row_bytes = 4 * 300 * 20
    monkeypatch.setattr(simulated, "_LOGITS_BYTES", 2 * row_bytes)
    made, moved = simulated.write_logits(source, target, schemes, texts, tmp_path)
    assert [(t.language, t.ids) for t in made] == texts

    def logits(ids: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            return plain.loaded.model(torch.tensor([ids])).logits[0].float()

    whole = [logits(ids) for _, ids in texts]
    for name, place in plain.places.items():
        if schemes[name] != "fp":
            value = target.rounded(plain.matrix(name), schemes[name], name)
            with torch.no_grad():
                plain.stored(name).copy_(value.T if place.kind == "conv1d" else value)
    for one, before, change in zip(made, whole, moved, strict=True):
        found, wanted = torch.from_numpy(np.load(one.logits)), logits(one.ids)
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
        assert change.plan == pytest.approx(float((wanted - before).square().sum()), rel=1e-3)
        assert change.plan > 0 == change.storing
    # The model is as it was, embedding and head too.
    for name in source.places:
        path, _, key = name.rpartition(".")
        held = source.loaded.model.get_submodule(path)._parameters[key]
        assert held is not None and held.is_set_to(source.stored(name))
