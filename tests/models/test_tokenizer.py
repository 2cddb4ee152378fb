"""Tokenizers read as their own files say, whatever transformers makes of them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers as hf
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from tokenizers.trainers import BpeTrainer

import bitgap.models.tokenizer as reading
from bitgap.errors import MissingExtra, ModelError
from bitgap.models.load import _foreign
from bitgap.models.tokenizer import read_tokenizer

LINES = ["the cat sat on the mat", "it rains in Spain", "five fine words"]
SPECIAL = ["<unk>", "<s>", "</s>"]


def save(folder: Path, engine: Any, cls: str) -> Path:
    engine.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": cls, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def bytes_bpe() -> Any:
    engine: Any = Tokenizer(BPE())
    engine.pre_tokenizer, engine.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=290, initial_alphabet=alphabet, special_tokens=SPECIAL)  # type: ignore[call-arg]
    engine.train_from_iterator(LINES * 9, trainer)
    return engine


def pieces_bpe(normalizer: Any) -> Any:
    engine: Any = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    engine.normalizer = normalizer
    fallback = [f"<0x{i:02X}>" for i in range(256)]
    trainer = BpeTrainer(vocab_size=300, special_tokens=[*SPECIAL, *fallback])  # type: ignore[call-arg]
    engine.train_from_iterator(LINES * 9, trainer)
    return engine


def ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize(
    ("normalizer", "text"),
    [
        (normalizers.Replace(" ", "▁"), "the cat sat on"),  # as Yi's, with no space in front
        (normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")]), "ﬁve ﬁne"),
    ],
)
@pytest.mark.parametrize("cls", ["LlamaTokenizer", "LlamaTokenizerFast", "GemmaTokenizer"])
def test_spaces_and_normalisation_are_those_of_the_file(
    tmp_path: Path, cls: str, normalizer: Any, text: str
) -> None:
    engine = pieces_bpe(normalizer)
    read = read_tokenizer("m", save(tmp_path, engine, cls))
    assert ids(read, text) == engine.encode(text, add_special_tokens=False).ids
    assert (read.bos_token, read.eos_token) == ("<s>", "</s>")


@pytest.fixture
def losing_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers 5.3.0 as it reads a byte-level tokenizer of class LlamaTokenizer."""

    def read(folder: Path, **_: Any) -> Any:
        made: Any = hf.PreTrainedTokenizerFast.from_pretrained(folder)
        made.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
        return made

    monkeypatch.setattr(reading.AutoTokenizer, "from_pretrained", read)


@pytest.mark.usefixtures("losing_spaces")
def test_lost_spaces_are_found_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = bytes_bpe()
    folder = save(tmp_path, engine, "LlamaTokenizer")
    assert reading.AutoTokenizer.from_pretrained(folder).decode(
        ids(reading.AutoTokenizer.from_pretrained(folder), "the cat")
    ).replace(" ", "") == "thecat"  # fmt: skip
    with caplog.at_level(logging.WARNING):
        read = read_tokenizer("m", folder)
    for text in ("the cat sat on the mat", "שלום עולם", "ภาษาไทย", "a\u200fب 12"):
        assert ids(read, text) == engine.encode(text, add_special_tokens=False).ids
        assert read.decode(ids(read, text)) == text
    assert "cuts text otherwise than tokenizer.json says" in caplog.text
    assert "instead of" in caplog.text and "the file is followed" in caplog.text


@pytest.mark.usefixtures("losing_spaces")
def test_what_cannot_be_read_as_the_file_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, bytes_bpe(), "LlamaTokenizer")
    monkeypatch.setattr(reading, "PreTrainedTokenizerFast", reading.AutoTokenizer)
    with pytest.raises(ModelError, match=r"m: transformers .* otherwise .*another version"):
        read_tokenizer("m", folder)


def test_tokenizers_that_agree_with_their_file_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = Tokenizer(WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "one": 3}, unk_token="<unk>"))
    assert ids(read_tokenizer("m", save(tmp_path, words, "PreTrainedTokenizerFast")), "one") == [3]
    assert not caplog.records


# -- sentencepiece alone ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(LINES * 50), model_prefix=str(folder / "tokenizer"), vocab_size=300,
        model_type="bpe", byte_fallback=True, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False,  # as Llama 2's
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def test_what_is_missing_to_read_sentencepiece_is_named_and_not_something_else(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer.model alone used to ask for tiktoken, where protobuf was missing."""

    def read(folder: Path, **_: Any) -> Any:
        raise ValueError("`tiktoken` is required to read a `tiktoken` file.")

    monkeypatch.setattr(reading.AutoTokenizer, "from_pretrained", read)
    monkeypatch.setattr(reading, "_is_there", lambda module: module == "sentencepiece")
    with (
        pytest.raises(MissingExtra, match=r"sentencepiece model \(tokenizer.model.*") as caught,
        _foreign("m", "it has no tokenizer that can be read", "save it"),
    ):
        read_tokenizer("m", model)
    assert "protobuf, which transformers reads those with, is not installed" in str(caught.value)
    assert "pip install 'bitgap[sentencepiece]'" in str(caught.value)
    assert "tiktoken" not in str(caught.value)


def test_sentencepiece_alone_is_cut_as_sentencepiece_cuts_it_or_refused(
    model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("google.protobuf")
    known: Any = sentencepiece.SentencePieceProcessor()
    known.Load(str(model / "tokenizer.model"))
    # Nobody says of which class it is: transformers 5.23 takes it for a generic one, in silence.
    try:
        assert ids(read_tokenizer("m", model), LINES[0]) == known.EncodeAsIds(LINES[0])
    except ModelError as error:
        assert "otherwise than tokenizer.model says" in str(error)
        assert "tokenizer_class" in str(error)
    named = tmp_path / "named"
    named.mkdir()
    (named / "tokenizer.model").write_bytes((model / "tokenizer.model").read_bytes())
    (named / "config.json").write_text('{"model_type": "llama"}')
    (named / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    read = read_tokenizer("m", named)
    for text in (*LINES, "שלום, 3 ﬁne cats"):
        assert ids(read, text) == known.EncodeAsIds(text)
