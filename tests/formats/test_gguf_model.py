"""A GGUF file as a model: logits of what was written, or a refusal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import torch
from tiny_checkpoints import tiny_model

from bitgap.errors import ModelError
from bitgap.formats.gguf.header import GGUFFile

gguf = pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")

from bitgap.formats.gguf.config import config_of  # noqa: E402
from bitgap.formats.gguf.load import load_gguf  # noqa: E402
from bitgap.models.decoder import Decoder  # noqa: E402
from bitgap.models.stored import lies_in_a_file  # noqa: E402

MODELS = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2")


@pytest.mark.parametrize("shape", MODELS)
def test_logits_are_those_of_the_model_that_was_written(shape: str, tmp_path: Path) -> None:
    model = tiny_model(shape, vocab_size=300)
    gguf_files.write_gguf(tmp_path / "m.gguf", model)
    loaded = load_gguf(tmp_path / "m.gguf")
    assert type(loaded.model) is type(model)
    wanted = gguf_files.logits(model)
    # Norms of Gemma are stored as 1 + weight, which rounds.
    worst = (gguf_files.logits(loaded.model) - wanted).abs().max() / wanted.abs().max()
    assert worst < (1e-5 if shape.startswith("gemma") else 1e-6)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.info.tied == model.config.tie_word_embeddings
    Decoder.from_model(loaded.model)


def test_logits_of_a_quantized_file_are_those_of_its_dequantized_weights(tmp_path: Path) -> None:
    model = tiny_model("llama", vocab_size=300)
    values = gguf_files.write_gguf(tmp_path / "m.gguf", model, kind="Q4_0")
    loaded = load_gguf(tmp_path / "m.gguf")
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in values.items()})
    assert torch.equal(gguf_files.logits(loaded.model), gguf_files.logits(model))
    assert "GGUF file" in loaded.info.note
    assert "Q4_0" in loaded.info.note


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_a_file_that_is_large_in_float32_lies_on_disk_and_is_the_same_model(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf_files.write_gguf(tmp_path / "m.gguf", tiny_model(shape, vocab_size=300))
    small = load_gguf(tmp_path / "m.gguf").model
    monkeypatch.setattr("bitgap.formats.gguf.load.IN_MEMORY_BYTES", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    large = load_gguf(tmp_path / "m.gguf").model
    if sys.platform == "linux":
        assert all(lies_in_a_file(p) for p in large.parameters())
        assert not any(lies_in_a_file(p) for p in small.parameters())
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"], "no file is left behind"
    assert torch.equal(gguf_files.logits(large), gguf_files.logits(small))
    Decoder.from_model(large)

    class Full:
        free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    with pytest.raises(ModelError, match="weights of this file are dequantized on disk, and "):
        load_gguf(tmp_path / "m.gguf")


LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}  # fmt: skip


@pytest.mark.parametrize("ends", [(1.0, 4.0), (2.0, 7.0)])
def test_rotary_scaling_stored_as_factors_is_found_again(
    ends: tuple[float, float], tmp_path: Path
) -> None:
    told = LLAMA3 | {"low_freq_factor": ends[0], "high_freq_factor": ends[1], "rope_theta": 50.0,
                     "original_max_position_embeddings": 64}  # fmt: skip
    model = tiny_model("llama", vocab_size=300, rope_parameters=told, head_dim=32)
    _with_factors(tmp_path / "m.gguf", model, gguf_files.llama3_factors(model.config))
    loaded = load_gguf(tmp_path / "m.gguf")
    rebuilt = loaded.model.config.rope_parameters
    assert rebuilt["rope_type"] == "llama3"
    wanted = gguf_files.logits(model)
    assert (gguf_files.logits(loaded.model) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    plain = tiny_model("llama", vocab_size=300, head_dim=32)
    assert (gguf_files.logits(plain) - wanted).abs().max() > 1e-3 * wanted.abs().max()


def test_factors_that_no_scaling_explains_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llama", vocab_size=300)
    strange = np.array([1, 3, 1, 8, 1, 1, 2, 8], np.float32)
    _with_factors(tmp_path / "m.gguf", model, strange)
    with pytest.raises(ModelError, match="Llama 3's scaling does not explain"):
        load_gguf(tmp_path / "m.gguf")


def _with_factors(path: Path, model: Any, factors: np.ndarray) -> None:
    adds = gguf.GGUFWriter.write_header_to_file

    def with_factors(writer: Any, *arguments: Any) -> None:
        writer.add_tensor("rope_freqs.weight", factors)
        adds(writer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "write_header_to_file", with_factors)
        length = model.config.rope_parameters.get("original_max_position_embeddings", 64)
        key = {"rope.scaling.original_context_length": length}
        gguf_files.write_gguf(path, model, **key)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_rotary_scaling_in_the_metadata_is_kept(kind: str, tmp_path: Path) -> None:
    told: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    keys: dict[str, Any] = {"rope.scaling.type": kind, "rope.scaling.factor": 4.0}
    if kind == "yarn":
        told["original_max_position_embeddings"] = 16
        keys["rope.scaling.original_context_length"] = 16
    model = tiny_model("qwen3", vocab_size=300, rope_parameters=told)
    gguf_files.write_gguf(tmp_path / "m.gguf", model, **keys)
    loaded = load_gguf(tmp_path / "m.gguf")
    wanted = gguf_files.logits(model)
    assert (gguf_files.logits(loaded.model) - wanted).abs().max() < 1e-6 * wanted.abs().max()


@pytest.mark.parametrize(("shape", "blocks"), [("gemma2", 46), ("gemma3", 62)])
def test_query_scale_of_the_largest_gemmas(shape: str, blocks: int, tmp_path: Path) -> None:
    gguf_files.write_gguf(tmp_path / "a.gguf", tiny_model(shape))
    config = config_of(GGUFFile(tmp_path / "a.gguf"))
    assert config.query_pre_attn_scalar == 16
    gguf_files.write_gguf(
        tmp_path / "b.gguf",
        tiny_model(shape),
        **{"block_count": blocks, "embedding_length": 96},
    )
    assert config_of(GGUFFile(tmp_path / "b.gguf")).query_pre_attn_scalar == 96 // 4


def test_windows_of_gemma_3_follow_their_period(tmp_path: Path) -> None:
    def full(pattern: object) -> list[int]:
        keys = {"block_count": 12, "attention.sliding_window_pattern": pattern}
        gguf_files.write_gguf(tmp_path / "m.gguf", tiny_model("gemma3"), **keys)
        types = config_of(GGUFFile(tmp_path / "m.gguf")).layer_types
        return [i for i, t in enumerate(types) if t == "full_attention"]

    assert full(None) == [5, 11]
    assert full(4) == [3, 7, 11]
    assert full([True] * 11 + [False]) == [11]
    config = config_of(GGUFFile(tmp_path / "m.gguf"))
    assert config.sliding_window == 8
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 10000.0


@pytest.mark.parametrize(
    ("shape", "keys", "message"),
    [
        ("llama", {"rope.scaling.type": "longrope"}, "'longrope' is not understood"),
        ("llama", {"expert_count": 8}, "llama.expert_count = 8 may change"),
        ("llama", {"attention.sliding_window": 8}, "a window of 8"),
        ("llama", {"embedding_length": None}, "llama.embedding_length is None"),
        ("llama", {"attention.head_count": 3}, "3 heads cannot share 2"),
        ("llama", {"attention.head_count": [4, 2]}, "blocks all have the same"),
        ("llama", {"feed_forward_length": 64}, "128 x 64 where its metadata make 64"),
        ("llama", {"block_count": 3}, "the model needs model.layers.2"),
        ("llama", {"block_count": 1}, "has no place for model.layers.1"),
        ("llama", {"attention.value_length": 8}, "different sizes"),
        ("llama", {"rope.dimension_count": 8}, "a part of each head"),
        ("llama", {"rope.freq_base": float("nan")}, "rope.freq_base is nan"),
        ("gemma3", {"attention.sliding_window": None}, "sliding_window is None"),
        ("qwen3", {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0}, "yarn without"),
    ],
)  # fmt: skip
def test_what_cannot_be_rebuilt_is_refused(
    shape: str, keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    gguf_files.write_gguf(tmp_path / "m.gguf", tiny_model(shape, vocab_size=300), **keys)
    with pytest.raises(ModelError, match=message):
        load_gguf(tmp_path / "m.gguf")


def test_the_tokenizer_is_that_of_the_file(tmp_path: Path) -> None:
    gguf_files.write_gguf(tmp_path / "m.gguf", tiny_model("llama", vocab_size=300))
    tokenizer = load_gguf(tmp_path / "m.gguf").tokenizer
    file = GGUFFile(tmp_path / "m.gguf")
    tokens = file.metadata["tokenizer.ggml.tokens"]
    ids = tokenizer("river two").input_ids
    assert [tokens[i] for i in ids] == ["<s>", "river", "Ġ", "two"]
    assert tokenizer.decode(ids[1:]) == "river two"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    assert len(tokenizer("ß€中")["input_ids"]) == 1 + 2 + 3 + 3


def test_a_file_is_audited_as_a_model(tmp_path: Path) -> None:
    from bitgap.lab.lab import Lab
    from cli_samples import write_corpus_folder

    model = tiny_model("llama", vocab_size=300, max_position_embeddings=512)
    gguf_files.write_gguf(tmp_path / "m.gguf", model, kind="Q8_0")
    lab = Lab.from_pretrained(tmp_path / "m.gguf", write_corpus_folder(tmp_path / "text"))
    report = lab.audit("rtn4-g32")
    assert any("GGUF file" in caveat for caveat in report.caveats)
    with pytest.raises(ModelError, match="does not begin as GGUF"):
        (tmp_path / "n.gguf").write_bytes(b"nothing of the kind")
        Lab.from_pretrained(tmp_path / "n.gguf", tmp_path / "text")


def test_more_tokens_than_rows_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llama", vocab_size=300)
    gguf_files.write_gguf(tmp_path / "m.gguf", model, vocabulary=310)
    with pytest.raises(ModelError, match="its tokenizer has 310 tokens and the model embeds 300"):
        load_gguf(tmp_path / "m.gguf")
