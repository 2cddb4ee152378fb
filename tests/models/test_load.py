from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers.utils import logging as hf_logging

from bitgap.errors import ModelError
from bitgap.models import hub, load
from bitgap.models.decoder import Decoder
from bitgap.models.load import fingerprint, load_model

GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 1}
ROTARY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
NEO = {
    **{key: ROTARY[key] for key in ("vocab_size", "hidden_size", "bos_token_id", "eos_token_id")},
    "num_heads": 4,
    "num_layers": 2,
    "attention_types": [[["global", "local"], 1]],
}
LLAMA = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


def save(folder: Path, config: Any, *, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Writes a random model of a config and a tokenizer of four words; returns the model."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = hf.AutoModelForCausalLM.from_config(config).to(dtype)
    model.save_pretrained(folder, **settings)
    words = Tokenizer(WordLevel({"[UNK]": 0, "</s>": 1, "one": 2, "two": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    hf.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", bos_token="</s>"
    ).save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save(folder, hf.GPT2Config(**GPT2))
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of a good model folder, for a test to spoil."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(1, 9)[None]).logits


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# -- what loads -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> load.LoadedModel:
    return load_model(None)


def test_reference_model_is_bundled_and_described(reference: load.LoadedModel) -> None:
    info = reference.info
    assert (info.name, info.family, info.class_name) == ("reference", "gpt2", "GPT2LMHeadModel")
    assert (info.n_blocks, info.width, info.vocabulary, info.context) == (12, 256, 8192, 256)
    assert (info.n_parameters, info.tied) == (11_640_320, True)
    assert load_model("reference").info == info


def test_reference_model_is_the_one_measured_before(reference: load.LoadedModel) -> None:
    # Stored scores are keyed by this; it may change only with the weights or the hash itself.
    assert reference.info.fingerprint.startswith("2ea61170180f0ef4")


def test_reference_model_splits_and_has_learned_its_languages(reference: load.LoadedModel) -> None:
    decoder = Decoder.from_model(reference.model, reference.info)
    text = "The old man went down to the sea."
    ids = torch.tensor([[0, *reference.tokenizer(text).input_ids]])
    with torch.inference_mode():
        nll = torch.nn.functional.cross_entropy(decoder.logits(ids)[0, :-1], ids[0, 1:])
    assert reference.tokenizer.decode(ids[0, 1:]) == text
    assert nll < 6  # uniform over 8,192 is 9.0


def test_models_compute_in_float32_and_come_in_eval_mode_without_gradients(tmp_path: Path) -> None:
    save(tmp_path, hf.LlamaConfig(**ROTARY), dtype=torch.bfloat16)
    model = load_model(tmp_path).model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}, "kept as in the file"
    assert {m.weight.dtype for m in model.modules() if hasattr(m, "weight")} == {torch.float32}
    assert model(input_ids=torch.tensor([[1, 2]])).logits.dtype == torch.float32
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "config",
    [
        hf.GPTNeoConfig(**NEO),
        hf.Gemma2Config(**ROTARY),
        hf.Gemma3TextConfig(**ROTARY, attn_logit_softcapping=3.0),
    ],
    ids=lambda config: config.model_type,
)
def test_falls_back_to_eager_attention_where_sdpa_cannot_serve(tmp_path: Path, config: Any) -> None:
    own = save(tmp_path, config)
    loaded = load_model(tmp_path)
    assert loaded.model.config._attn_implementation == "eager"
    own.set_attn_implementation("eager")
    torch.testing.assert_close(logits(loaded.model), logits(own))


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_gives_the_model_that_was_saved(tmp_path: Path, tied: bool) -> None:
    own = save(tmp_path, hf.LlamaConfig(**ROTARY, tie_word_embeddings=tied))
    loaded = load_model(str(tmp_path))
    torch.testing.assert_close(logits(loaded.model), logits(own))
    assert loaded.info.tied is tied
    assert loaded.info.n_parameters == sum(p.numel() for p in own.parameters())
    assert loaded.tokenizer("one two").input_ids == [2, 3]


def test_sharded_weights_load(tmp_path: Path) -> None:
    own = save(tmp_path, hf.GPT2Config(**GPT2), max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(logits(load_model(tmp_path).model), logits(own))


def test_pickled_weights_load_only_when_allowed(folder: Path) -> None:
    expected = logits(load_model(folder).model)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*--allow-pickle"):
        load_model(folder)
    assert torch.equal(logits(load_model(folder, allow_pickle=True).model), expected)


def test_home_and_relative_folders_are_found(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    names = [load_model(name).info.name for name in ("~/model", "./model", "model")]
    assert names == ["~/model", "./model", "model"]


def test_hub_models_are_fetched_without_pickles_or_code(folder: Path, monkeypatch: Any) -> None:
    asked: list[list[str]] = []

    def fetch(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert name == "org/model"
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert load_model("org/model").info.name == "org/model"
    load_model("org/model", allow_pickle=True, trust_remote_code=True)
    assert "*.safetensors" in asked[0] and not {"pytorch_model*.bin", "*.py"} & set(asked[0])
    assert {"pytorch_model*.bin", "*.py"} <= set(asked[1])


# -- fingerprints -----------------------------------------------------------------------------


def test_fingerprint_ignores_name_and_storage(tmp_path: Path) -> None:
    own = save(tmp_path / "half", hf.LlamaConfig(**ROTARY), dtype=torch.bfloat16)
    half = load_model(tmp_path / "half")
    own.float().save_pretrained(tmp_path / "full")
    for file in (tmp_path / "half").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "full")
    edit_config(tmp_path / "full", transformers_version="5.0.0")
    assert load_model(tmp_path / "full").info.fingerprint == half.info.fingerprint


def test_fingerprint_depends_on_every_weight_and_on_the_function(folder: Path) -> None:
    model = load_model(folder).model
    prints = {fingerprint(model)}
    for name, parameter in model.named_parameters():
        kept = parameter.flatten()[-1].item()
        parameter.view(-1)[-1] = kept + 1e-3
        prints.add(fingerprint(model))
        parameter.view(-1)[-1] = kept
        assert len(prints) > 1, name
    assert len(prints) == 1 + len(list(model.parameters()))
    edit_config(folder, attn_pdrop=0.3, use_cache=False)
    assert load_model(folder).info.fingerprint in prints
    edit_config(folder, activation_function="relu")
    assert load_model(folder).info.fingerprint not in prints


# -- refusals ---------------------------------------------------------------------------------


def spoil_truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])


def spoil_remote_code(folder: Path) -> None:
    edit_config(folder, model_type="homemade", auto_map={"AutoConfig": "code.Config"})
    (folder / "code.py").write_text("raise SystemExit('code was run')")


def spoil_lost_shard(folder: Path) -> None:
    save(folder, hf.GPT2Config(**GPT2), max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    min(folder.glob("model-*.safetensors")).unlink()


def spoil_all_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")


def spoil_vocabulary(folder: Path) -> None:
    edit_config(folder, vocab_size=3)
    edit_weights(
        folder, lambda t: t.update({"transformer.wte.weight": t["transformer.wte.weight"][:3]})
    )


def lose_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"no config\.json.*model\.safetensors"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "configuration cannot be"),
    "unknown type": (lambda f: edit_config(f, model_type="nonesuch"), "nonesuch"),
    "own code": (spoil_remote_code, "--trust-remote-code"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "found no weights"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged"),
    "truncated": (spoil_truncate, "weights cannot be read.*damaged"),
    "corrupted": (spoil_header, "weights cannot be read.*damaged"),
    "one shard lost": (spoil_lost_shard, "incomplete"),
    "all shards lost": (spoil_all_shards, "index of weights but none of its files"),
    "matrix missing": (
        lambda f: edit_weights(f, lambda t: t.pop("transformer.h.1.mlp.c_fc.weight")),
        r"1 tensors.*transformer\.h\.1\.mlp\.c_fc\.weight is absent",
    ),
    "gain missing": (
        lambda f: edit_weights(f, lambda t: t.pop("transformer.ln_f.weight")),
        r"transformer\.ln_f\.weight is absent",
    ),
    "head missing": (
        lambda f: edit_config(f, tie_word_embeddings=False),
        r"lm_head\.weight is absent",
    ),
    "block missing": (lambda f: edit_config(f, n_layer=3), r"12 tensors.*h\.2\..* is absent"),
    "wrong shape": (
        lambda f: edit_config(f, n_inner=64),
        r"c_fc\.bias has shape 128 where the config makes 64",
    ),
    "nan": (
        lambda f: edit_weights(f, lambda t: t["transformer.wte.weight"][5].fill_(float("nan"))),
        r"wte\.weight holds NaN",
    ),
    "no tokenizer": (lose_tokenizer, "tokenizer"),
    "broken tokenizer": (
        lambda f: (f / "tokenizer.json").write_text('{"model": 3}'),
        "no tokenizer that can be read",
    ),
    "other tokenizer": (spoil_vocabulary, "4 tokens and the model embeds 3"),
    "encoder-decoder": (
        lambda f: hf.T5Config(num_layers=1).save_pretrained(f),
        "encoder-decoder",
    ),
    "no language model": (lambda f: hf.ViTConfig().save_pretrained(f), "cannot be read"),
    "quantized": (
        lambda f: edit_config(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        "already quantized.*full-precision",
    ),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_folder_is_refused(fault: str, folder: Path, capfd: Any) -> None:
    spoil, message = SPOILED[fault]
    spoil(folder)
    capfd.readouterr()
    with pytest.raises(ModelError, match=message) as refusal:
        load_model(folder)
    assert str(folder) in str(refusal.value)
    assert not any(capfd.readouterr())


@pytest.mark.parametrize("gone", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c", "../x", ""])
def test_a_folder_that_does_not_exist_is_reported_as_such(gone: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="no such folder"):
        load_model(gone)


def test_a_file_is_no_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file; give the folder"):
        load_model(folder / "model.safetensors")


def test_says_that_the_hub_cannot_be_reached(monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=r"'org/model'.*cannot be reached.*no route to host"):
        load_model("org/model")


def test_what_a_folder_says_of_its_weights_is_told_beside_results(folder: Path) -> None:
    plain = load.load_model(folder)
    assert plain.info.note == ""
    note = folder / load.NOTE_FILE
    note.write_text(
        "These weights were rounded to 4 bits before;\n  that is full precision here.\n"
    )
    noted = load.load_model(folder)
    assert noted.info.note == (
        "These weights were rounded to 4 bits before; that is full precision here."
    )
    assert noted.info.fingerprint == plain.info.fingerprint
    note.write_text("word " * 200)
    with pytest.raises(ModelError, match="999 characters; say it in 400"):
        load.load_model(folder)
    note.write_bytes(b"\xff")
    with pytest.raises(ModelError, match="cannot be read as UTF-8"):
        load.load_model(folder)


def test_a_name_that_no_hub_could_have_is_refused() -> None:
    with pytest.raises(ModelError, match="it is no hub id"):
        load_model("two words")


# -- silence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spoiled", [False, True])
def test_loading_is_silent_and_leaves_the_log_as_it_was(
    folder: Path, capfd: Any, caplog: Any, spoiled: bool
) -> None:
    hf_logging.enable_propagation()
    hf_logging.set_verbosity_info()
    try:
        if spoiled:
            spoil_truncate(folder)
            with pytest.raises(ModelError):
                load_model(folder)
        else:
            load_model(folder)
        assert not any(capfd.readouterr()) and not caplog.records
        assert hf_logging.get_verbosity() == logging.INFO
        assert hf_logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    finally:
        hf_logging.set_verbosity_warning()
        hf_logging.disable_propagation()


def test_bars_that_were_off_stay_off(folder: Path) -> None:
    hf_logging.disable_progress_bar()
    try:
        load_model(folder)
        assert not hf_logging.is_progress_bar_enabled() and are_progress_bars_disabled()
        hf_logging.enable_progress_bar()
        disable_progress_bars()
        load_model(folder)
        assert hf_logging.is_progress_bar_enabled() and are_progress_bars_disabled()
    finally:
        hf_logging.enable_progress_bar()


def test_tensors_that_are_not_used_are_logged(folder: Path, caplog: Any) -> None:
    edit_weights(folder, lambda t: t.update({"extra.weight": torch.zeros(2)}))
    with caplog.at_level(logging.WARNING, "bitgap"):
        load_model(folder)
    told = "1 tensors are not used, as they are no part of the language model: extra.weight"
    assert told in caplog.text


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, bitgap.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
