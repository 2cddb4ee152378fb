"""Recipes told to tools that round by themselves: by matrix, in full, and nothing else matched.

The readers here are written apart from those of the package. Where a tool is installed it is run.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from export_samples import mixed, recipe_of, saved

from bitgap.cli.main import main
from bitgap.errors import ExportError, ModelError, PlanError
from bitgap.formats.open import open_checkpoint
from bitgap.formats.source import Source
from bitgap.formats.targets import CONFIGURATIONS, TARGETS, find_target
from bitgap.jobs.export import Check, export, nearest_recipe, schemes_of, verify
from bitgap.protect.recipe import write_recipe
from cli_samples import save_model

_GGUF = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}  # fmt: skip
_KINDS = {"rtn4-g32": "q4_0", "rtn8-g32": "q8_0", "fp": "f16", "Q4_K": "q4_k", "Q6_K": "q6_k"}
MIX = ("rtn4-g32", "fp", "rtn8-g32")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return saved(tmp_path_factory.mktemp("models") / "llama", "llama", num_hidden_layers=12,
                 intermediate_size=96)  # fmt: skip


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return saved(tmp_path_factory.mktemp("models") / "gpt2", "gpt2")


def gguf_name(name: str) -> str:
    number, _, module = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
    return f"blk.{number}.{_GGUF[module]}.weight"


def wanted(source: Source, schemes: Mapping[str, str]) -> dict[str, tuple[int, int] | None]:
    """Bits and group of each module of a block; None of what stays whole."""
    return {
        name.removesuffix(".weight"): None
        if scheme == "fp"
        else (int(scheme[3]), int(scheme.partition("-g")[2] or -1))
        for name, scheme in schemes.items()
        if source.places[name].block is not None
    }


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_it_is_written_read_again_and_counted(name: str, llama: Source, tmp_path: Path) -> None:
    recipe = recipe_of(llama, mixed(llama, *MIX))
    (made,) = export(recipe, [name], tmp_path)
    assert made.passed and made.configures and not made.loaded
    assert made.units_bytes == sum(unit.file_bytes for unit in made.units)
    for unit in made.units:
        if name == "llama-quantize" or unit.scheme == "fp":
            assert unit.file_bytes == unit.recipe_bytes
        else:  # zeros or shapes beside codes and scales
            assert unit.recipe_bytes <= unit.file_bytes < 1.2 * unit.recipe_bytes + 64
    assert verify(tmp_path / name).matrices == made.matrices


def test_llama_quantize_is_told_the_type_of_every_tensor_once(
    llama: Source, tmp_path: Path
) -> None:
    schemes = mixed(llama, *MIX, outside="rtn8-g32")
    export(recipe_of(llama, schemes), ["llama-quantize"], tmp_path)
    text = (tmp_path / "llama-quantize" / "llama-quantize.sh").read_text()
    told = re.findall(r"--tensor-type '([^=']+)=([a-z0-9_]+)'", text)
    inside = {n: s for n, s in schemes.items() if llama.places[n].block is not None}
    assert len(told) == len(inside)
    for name, scheme in inside.items():
        found = [kind for pattern, kind in told if re.search(pattern, gguf_name(name))]
        assert found == [_KINDS[scheme]], name
    assert "--token-embedding-type q8_0" in text and "--output-tensor-type q8_0" in text
    # Block 1 is no start of block 10 or 11.
    assert sum(bool(re.search(p, "blk.11.attn_q.weight")) for p, _ in told) == 1
    assert text.rstrip().endswith('"$1" "$2" Q8_0')
    assert subprocess.run(["sh", "-n", tmp_path / "llama-quantize" / "llama-quantize.sh"],
                          check=False).returncode == 0  # fmt: skip


def test_llm_compressor_s_targets_match_one_module_each(llama: Source, tmp_path: Path) -> None:
    schemes = mixed(llama, "rtn4-g32", "rtn8-channel", "fp", "rtn3-g32")
    export(recipe_of(llama, schemes), ["llm-compressor"], tmp_path)
    stage = yaml.safe_load((tmp_path / "llm-compressor" / "recipe.yaml").read_text())
    modifier = stage["quantization_stage"]["quantization_modifiers"]["GPTQModifier"]
    for module, own in wanted(llama, schemes).items():
        groups = [
            (group["weights"]["num_bits"], group["weights"]["group_size"] or -1)
            for group in modifier["config_groups"].values()
            for target in group["targets"]
            if re.match(target.removeprefix("re:"), module)
        ]
        ignored = sum(bool(re.match(t.removeprefix("re:"), module)) for t in modifier["ignore"])
        assert groups == ([] if own is None else [own]), module
        assert ignored == (own is None), module
    assert any("lm_head" in target for target in modifier["ignore"])


def test_gptqmodel_s_patterns_match_one_module_each(llama: Source, tmp_path: Path) -> None:
    schemes = mixed(llama, "rtn4-g32", "rtn8-channel", "fp", "rtn3-g32")
    export(recipe_of(llama, schemes), ["gptqmodel"], tmp_path)
    settings = json.loads((tmp_path / "gptqmodel" / "quantize_config.json").read_text())
    for module, own in wanted(llama, schemes).items():
        found = [(p[0], s) for p, s in settings["dynamic"].items() if re.match(p[2:], module)]
        assert len(found) <= 1, module
        if own is None:
            assert found == [("-", {})], module
        else:
            given = {**settings, **(found[0][1] if found else {})}
            assert (given["bits"], given["group_size"]) == own, module


def test_auto_round_names_modules_in_full(llama: Source, tmp_path: Path) -> None:
    schemes = mixed(llama, "rtn4-g32", "rtn8-channel", "fp", "rtn3-g32")
    export(recipe_of(llama, schemes), ["auto-round-config"], tmp_path)
    settings = json.loads((tmp_path / "auto-round-config" / "auto_round.json").read_text())
    for module, own in wanted(llama, schemes).items():
        given = {**settings, **settings["layer_config"].get(module, {})}
        if own is None:
            assert settings["layer_config"][module] == {"bits": 16}
        else:
            assert (given["bits"], given["group_size"]) == own, module


@pytest.mark.parametrize(
    ("name", "scheme", "says"),
    [
        ("llama-quantize", "rtn3-g128", r"nearest: Q?\w+"),
        ("llama-quantize", "Q4_K", "no whole number of blocks of 256"),
        ("llm-compressor", "rtn4-g64", "no whole number of groups of 64"),
        ("gptqmodel", "rtn5-g32", "kernels for 2, 3, 4 and 8 bits"),
        ("auto-round-config", "noise0.1-s0", "symmetric integers"),
    ],
)
def test_what_a_tool_cannot_do_is_refused_before_anything_is_written(
    name: str, scheme: str, says: str, llama: Source, tmp_path: Path
) -> None:
    asked = "model.layers.3.mlp.down_proj.weight"
    recipe = recipe_of(llama, mixed(llama, "rtn4-g32") | {asked: scheme})
    with pytest.raises(PlanError, match=says) as refused:
        export(recipe, [name], tmp_path / "o")
    assert f"unit {asked.removesuffix('.weight')}" in str(refused.value)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_nearest_recipe_has_no_fewer_bits(name: str, llama: Source, gpt2: Source) -> None:
    target = find_target(name)
    for source in (llama, gpt2):
        recipe = recipe_of(source, mixed(source, "rtn3-g128", "rtn5-channel", outside="rtn4-g64"))
        schemes = schemes_of(nearest_recipe(target, recipe, source), source)
        assert not target.refusals(source.places, schemes)
        for place, asked in schemes_of(recipe, source).items():
            assert target.code_bits(schemes[place]) >= int(asked[3]), (place, schemes[place])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_one_that_was_changed_does_not_pass(name: str, llama: Source, tmp_path: Path) -> None:
    export(recipe_of(llama, mixed(llama, *MIX)), [name], tmp_path)
    file = tmp_path / name / find_target(name).file  # type: ignore[attr-defined]
    text = file.read_text()
    # A pattern of block 1 that is no longer anchored, or a name that nothing has.
    changed = text.replace("layers.1.mlp", "layers.one.mlp").replace(r"\.1\.mlp", r"\.one\.mlp")
    changed = changed.replace(r"blk\.1\.ffn", r"blk\.one\.ffn")
    changed = changed.replace(r"\\.1\\.mlp", r"\\.one\\.mlp")  # in JSON
    assert changed != text
    file.write_text(changed)
    with pytest.raises(ExportError, match=r"layers\.1\.mlp"):
        verify(tmp_path / name)


def test_a_recipe_that_rounds_nothing_is_no_configuration(llama: Source, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="leaves every matrix whole"):
        export(recipe_of(llama, mixed(llama, "fp")), ["gptqmodel"], tmp_path / "o")
    assert not [*(tmp_path / "o").iterdir()]


def test_conv1d_is_told_to_those_that_have_it(gpt2: Source, tmp_path: Path) -> None:
    recipe = recipe_of(gpt2, mixed(gpt2, "rtn4-g32"))
    for name in ("llama-quantize", "gptqmodel", "auto-round-config"):
        assert export(recipe, [name], tmp_path)[0].passed
    with pytest.raises(PlanError, match="Conv1D"):
        export(recipe, ["llm-compressor"], tmp_path)


def test_llama_quantize_asks_nothing_of_the_tokenizer(tmp_path: Path) -> None:
    save_model(tmp_path / "words")  # its tokenizer has words, which GGUF has no place for
    source = Source.open(tmp_path / "words")
    recipe = recipe_of(source, mixed(source, "rtn4-g32"))
    assert export(recipe, ["llama-quantize"], tmp_path / "o")[0].passed
    with pytest.raises(ModelError, match="tokenizer"):
        export(recipe, ["gguf"], tmp_path / "o")


def test_names_of_tools_and_of_forms_are_apart() -> None:
    assert not CONFIGURATIONS.keys() & TARGETS.keys()


def test_the_command_says_that_it_is_a_configuration(
    llama: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recipe(recipe_of(llama, mixed(llama, *MIX)), tmp_path / "recipe.toml")
    assert main(["export", "recipe.toml", "--to", "gptqmodel,llama-quantize", "--out", "o"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "gptqmodel: a configuration, read back and counted" in out
    assert "rounds by itself" in out
    assert main(["export", "recipe.toml", "--to", "gptqmodl", "--out", "o2"]) == 2
    assert "auto-round-config" in capsys.readouterr().err
    assert main(["verify", "o/gptqmodel"]) == 0


# -- the tools themselves --------------------------------------------------------------------------

_QUANTIZE = """
import ctypes, re, shlex, sys
import gguf, llama_cpp as lc
script, source, out = sys.argv[1:]
words = shlex.split(open(script).read(), comments=True)
kind = lambda name: int(getattr(gguf.GGMLQuantizationType, name.upper().replace("Q4_k", "Q4_K")))
pairs = [w.rsplit("=", 1) for a, w in zip(words, words[1:]) if a == "--tensor-type"]
made = (lc.llama_model_tensor_override * (len(pairs) + 1))()
for i, (pattern, type_) in enumerate(pairs):
    made[i].pattern, made[i].type = pattern.lower().encode(), kind(type_)
params = lc.llama_model_quantize_default_params()
params.ftype, params.nthread, params.tt_overrides = 7, 1, made
params.token_embedding_type = kind(words[words.index("--token-embedding-type") + 1])
if "--output-tensor-type" in words:
    params.output_tensor_type = kind(words[words.index("--output-tensor-type") + 1])
sys.exit(lc.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)))
"""


@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is missing")
@pytest.mark.skipif(not importlib.util.find_spec("gguf"), reason="gguf is missing")
def test_llama_cpp_makes_of_it_what_the_recipe_says(tmp_path: Path) -> None:
    source = saved(tmp_path / "m", "llama", hidden_size=256, intermediate_size=512, head_dim=64)
    schemes = mixed(source, "rtn4-g32", "Q4_K", "rtn8-g32", "fp", "Q6_K", outside="rtn8-g32")
    (told,) = export(recipe_of(source, schemes), ["llama-quantize"], tmp_path / "o")
    whole = recipe_of(source, mixed(source, "fp"))
    export(whole, ["gguf"], tmp_path / "f16", check=Check(load=False))
    ran = subprocess.run(
        [sys.executable, "-c", _QUANTIZE, tmp_path / "o/llama-quantize/llama-quantize.sh",
         tmp_path / "f16/gguf/model.gguf", tmp_path / "out.gguf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-500:]
    units = {unit.name: unit for unit in open_checkpoint(tmp_path / "out.gguf").units}
    for one in told.matrices:
        if one.name not in units:
            assert one.stored == "F16", one.name
            continue
        assert units[one.name].stored == one.stored, one.name
        assert units[one.name].n_bytes == one.n_bytes, one.name


@pytest.mark.skipif(not importlib.util.find_spec("auto_round"), reason="auto-round is missing")
def test_auto_round_makes_of_it_what_the_recipe_says(tmp_path: Path) -> None:
    source = saved(tmp_path / "m", "llama")
    schemes = mixed(source, "rtn4-g32", "fp", "rtn8-g32")
    (told,) = export(recipe_of(source, schemes), ["auto-round-config"], tmp_path / "o")
    code = (
        "import json, sys\n"
        "from auto_round import AutoRound\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "s = json.load(open(sys.argv[2]))\n"
        "AutoRound(m, t, iters=0, disable_opt_rtn=True, device_map='cpu',\n"
        "          enable_torch_compile=False, **s).quantize_and_save(sys.argv[3],\n"
        "          format='auto_round')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, source.folder,
         tmp_path / "o/auto-round-config/auto_round.json", tmp_path / "made"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-800:]
    (config,) = (tmp_path / "made").rglob("config.json")
    units = {unit.name: unit for unit in open_checkpoint(config.parent).units}
    for one in told.matrices:
        if one.asked != "fp":
            assert units[one.name].code_bits == one.code_bits, one.name
        elif one.name in units:
            assert units[one.name].code_bits >= 16, one.name
