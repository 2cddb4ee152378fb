"""The tokenizer that a GGUF file holds, built with transformers from values that are read here.

``transformers.integrations.gguf`` turns a sentencepiece vocabulary into its own classes and knows
the rules that text is split by before byte-level merging; its ids were compared with llama.cpp's on
3,520 lines in 16 languages without a difference, and later on 1,920 with one (LOG.md). Its reader
of the file is what takes long, and is not used. What is put around a sequence (BOS, EOS) is what
the file says. Text is not normalized, as llama.cpp does not: a Qwen's own tokenizer composes
characters first (NFC).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from bitgap.errors import MissingExtra, ModelError
from bitgap.formats.gguf.header import GGUFFile

# The file's keys under tokenizer.ggml, and what transformers' builders call them.
_VALUES = {"model": "tokenizer_type", "pre": "pre_tokenizer_type", "tokens": "tokens",
           "scores": "scores", "token_type": "token_type", "merges": "merges",
           "add_space_prefix": "add_prefix_space", "bos_token_id": "bos_token_id",
           "eos_token_id": "eos_token_id", "unknown_token_id": "unk_token_id",
           "padding_token_id": "pad_token_id"}  # fmt: skip
_MODELS = ("llama", "gpt2")
_CONTROL, _USER = 3, 4  # ggml's token types
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
# Splits of text before merging that transformers knows beside its own table of them: GPT-2's own,
# and SmolLM's, which differs from it in digits that no merge joins.
_PLAIN_SPLITS = ("default", "gpt-2", "gpt2", "smollm")


def tokenizer_of(file: GGUFFile, *, rows: int) -> Any:
    """Returns the tokenizer of a file.

    Args:
        file: The file.
        rows: Tokens that the model embeds.

    Raises:
        ModelError: If the file has no vocabulary, or one that cannot be rebuilt.
        MissingExtra: If the installed transformers has no builders of such tokenizers.
    """
    builders = _builders()
    values = {
        name: file.metadata[f"tokenizer.ggml.{key}"]
        for key, name in _VALUES.items()
        if f"tokenizer.ggml.{key}" in file.metadata
    }
    tokens, kind = values.get("tokens"), values.get("tokenizer_type")
    if not isinstance(tokens, list) or kind not in _MODELS:
        raise ModelError(
            f"{file.path.name} has a tokenizer of the kind {kind!r}; those that are rebuilt are "
            f"{', '.join(_MODELS)}: give the model as a folder with its tokenizer.json"
        )
    if not 0 < len(tokens) <= rows:
        raise ModelError(
            f"{file.path.name}: its tokenizer has {len(tokens)} tokens and the model embeds {rows}"
        )
    splits = builders.GGUF_PRE_TOKENIZER_SPLITS
    _check_split(file, kind, values.get("pre_tokenizer_type", "default"), splits)
    for name in ("scores", "token_type"):
        if isinstance(array := values.get(name), np.ndarray):
            if len(array) != len(tokens):
                raise ModelError(
                    f"{file.path.name}: {name} are {len(array)} for {len(tokens)} tokens"
                )
            values[name] = array.tolist()
    try:
        if kind == "gpt2":
            backend = _byte_level(values, splits)
        else:
            name = file.metadata["general.architecture"]
            backend, _ = builders.convert_gguf_tokenizer(name, values)
        special = _special(file, tokens)
        _surround(file, backend, kind, special)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises what it likes, even Exception itself
        raise ModelError(
            f"{file.path.name}: its tokenizer cannot be rebuilt ({error}); give the model as a "
            f"folder with its tokenizer.json"
        ) from error
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= rows:
        raise ModelError(
            f"{file.path.name}: its tokenizer gives the id {largest} and the model embeds {rows}"
        )
    return tokenizer


def _check_split(file: GGUFFile, kind: str, split: object, splits: Mapping[str, str]) -> None:
    # A sentencepiece vocabulary is split by its own rule, whatever this key says.
    if kind == "gpt2" and split not in {*_PLAIN_SPLITS, *splits}:
        raise ModelError(
            f"{file.path.name}: text is split by the rule {split!r} before it is tokenized, which "
            f"is not known; give the model as a folder with its tokenizer.json"
        )


def _builders() -> Any:
    """Returns transformers' room for GGUF tokenizers, which is younger than the oldest allowed."""
    try:
        return import_module("transformers.integrations.gguf.gguf_tokenizer_mapping")
    except ImportError:
        raise MissingExtra(
            "building a tokenizer from GGUF needs a newer transformers; 5.23 has what it takes: "
            "pip install 'transformers>=5.23'"
        ) from None


def _byte_level(values: dict[str, Any], splits: Mapping[str, str]) -> Any:
    """Builds byte-level BPE of the file's tokens and no others.

    transformers' own builder goes through ``GPT2Tokenizer``, which adds ``<|endoftext|>`` to a
    vocabulary that has none: an id that the model does not embed.
    """
    alphabet = set(bytes_to_unicode().values())
    spelling = bytes_to_unicode()
    tokens: list[str] = values["tokens"]
    # Plain spellings of what is no byte sequence, such as <think>, are tokens of their own.
    vocabulary = {
        token if set(token) <= alphabet else "".join(spelling[b] for b in token.encode()): i
        for i, token in enumerate(tokens)
    }
    merges = [tuple(merge.split(" ")) for merge in values.get("merges", ())]
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    split = splits.get(values.get("pre_tokenizer_type", "default"))
    backend.pre_tokenizer = (
        ByteLevel(add_prefix_space=False)
        if split is None
        else Sequence([Split(Regex(split), "isolated"), ByteLevel(False, use_regex=False)])
    )
    backend.decoder = ByteLevelDecoder()
    kinds = values.get("token_type", ())
    marked = list(zip(tokens, kinds, strict=False))
    backend.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t, k in marked
         if k == _CONTROL and set(t) <= alphabet]
    )  # fmt: skip
    backend.add_tokens(
        [AddedToken(t, normalized=False) for t, k in marked if k == _USER and t in vocabulary]
    )
    return backend


def _special(file: GGUFFile, tokens: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, key in _SPECIAL.items():
        number = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if number is None:
            continue
        if not isinstance(number, int) or not 0 <= number < len(tokens):
            raise ModelError(f"{file.path.name}: {name} is number {number!r} of {len(tokens)}")
        found[name] = tokens[number]
    return found


def _surround(file: GGUFFile, backend: Any, kind: str, special: dict[str, str]) -> None:
    """Makes the tokenizer put around a sequence what the file says, and nothing else."""
    # Older files have no flag; llama.cpp then puts BOS before a sentencepiece vocabulary's text.
    adds_bos = bool(file.metadata.get("tokenizer.ggml.add_bos_token", kind == "llama"))
    adds_eos = bool(file.metadata.get("tokenizer.ggml.add_eos_token", False))
    ends = [
        special.get("bos_token") if adds_bos else None,
        special.get("eos_token") if adds_eos else None,
    ]
    pair = [backend.token_to_id(token) if token is not None else None for token in ends]
    if any(number is None and token is not None for number, token in zip(pair, ends, strict=True)):
        raise ModelError(f"{file.path.name}: {ends} are no tokens of its tokenizer")
    template = [*([ends[0]] if ends[0] else []), "$A", *([ends[1]] if ends[1] else [])]
    second = [part.replace("$A", "$B") + ":1" for part in template]
    backend.post_processor = TemplateProcessing(
        single=template,
        pair=[*template, *second],
        special_tokens=[(t, i) for t, i in zip(ends, pair, strict=True) if t is not None],
    )
