"""A transformers tokenizer as a GGUF file holds one, or a refusal.

Two kinds can be said: byte-level BPE whose text is split by a rule that llama.cpp has a name for,
and BPE over characters with byte fallback, as Gemma's, which is what sentencepiece makes; its
merges become scores. Whether what was said is what was meant is proved after: the tokenizer that is
read back must give the same ids (:func:`bitgap.formats.gguf.write.GGUF.further`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from bitgap.errors import ModelError

_NORMAL, _CONTROL, _USER, _UNUSED, _BYTE = 1, 3, 4, 5, 6  # ggml's token types
# Several names mean one rule; these are the ones that every llama.cpp of recent years knows.
_PREFERRED = ("llama-bpe", "qwen2", "gpt-4o", "tekken", "falcon3")
_SPECIAL = (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("unk_token_id", "unknown"),
            ("pad_token_id", "padding"))  # fmt: skip
_LOWEST = -1000.0
"""Score of what no merge makes, as converters write it."""


def vocabulary_of(tokenizer: Any, rows: int, name: str) -> dict[str, Any]:
    """Returns the keys under ``tokenizer.ggml`` of a tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers.
        rows: Tokens that the model embeds; the rest are filled as unused ones.
        name: Of the model, for refusals.

    Raises:
        ModelError: If it is of a kind that GGUF has no name for.
    """
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    model = told["model"]
    if model.get("type") != "BPE":
        raise _refused(name, f"its tokenizer is {model.get('type')}, no BPE")
    ids: dict[str, int] = dict(model["vocab"])
    added = {entry["content"]: entry for entry in told["added_tokens"]}
    ids |= {content: entry["id"] for content, entry in added.items()}
    if len({*ids.values()}) != len(ids) or max(ids.values()) >= rows:
        raise _refused(name, f"its tokenizer has {len(ids)} tokens and the model embeds {rows}")
    tokens = [f"[PAD{i}]" for i in range(rows)]
    kinds = [_UNUSED] * rows
    for token, i in ids.items():
        tokens[i] = token
        entry = added.get(token)
        kinds[i] = _NORMAL if entry is None else _CONTROL if entry["special"] else _USER
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    if model.get("byte_fallback"):
        found = _by_characters(told, tokens, kinds, merges, name)
    else:
        found = _by_bytes(told, merges, name)
    found |= {"tokens": tokens, "token_type": kinds}
    for ours, theirs in _SPECIAL:
        if (number := getattr(tokenizer, ours)) is not None:
            found[f"{theirs}_token_id"] = int(number)
    return found | _around(tokenizer, name)


def _by_bytes(told: Mapping[str, Any], merges: list[tuple[str, ...]], name: str) -> dict[str, Any]:
    steps = list(_steps(told.get("pre_tokenizer")))
    last = steps[-1] if steps else {}
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise _refused(name, "its tokens are neither bytes nor characters with byte fallback")
    if (normal := told.get("normalizer")) is not None and normal.get("type") != "NFC":
        raise _refused(name, f"its text is normalized by {normal.get('type')}")
    return {
        "model": "gpt2",
        "pre": _split_name(steps, name),
        "merges": [" ".join(merge) for merge in merges],
    }


def _split_name(steps: list[Mapping[str, Any]], name: str) -> str:
    first = steps[:-1]
    if not first and steps[-1].get("use_regex", True):
        return "gpt-2"
    kinds = [step.get("type") for step in first]
    if kinds == ["Digits"] and first[0].get("individual_digits") and steps[-1].get("use_regex"):
        return "smollm"
    if kinds == ["Split"] and not steps[-1].get("use_regex", True):
        rule = (first[0].get("pattern") or {}).get("Regex")
        splits = _known_splits()
        named = [key for key in (*_PREFERRED, *splits) if splits.get(key) == rule]
        if named:
            return named[0]
    raise _refused(name, "its text is split by a rule that llama.cpp has no name for")


def _known_splits() -> Mapping[str, str]:
    try:
        module = import_module("transformers.integrations.gguf.gguf_tokenizer_mapping")
    except ImportError:
        return {}
    return module.GGUF_PRE_TOKENIZER_SPLITS


def _steps(pre: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(pre, dict):
        return
    if pre.get("type") == "Sequence":
        yield from pre["pretokenizers"]
    else:
        yield pre


def _by_characters(
    told: Mapping[str, Any],
    tokens: list[str],
    kinds: list[int],
    merges: list[tuple[str, ...]],
    name: str,
) -> dict[str, Any]:
    normal = told.get("normalizer") or {}
    steps = normal.get("normalizers", [normal])
    replaces = [s for s in steps if s.get("type") == "Replace" and s.get("content") == "▁"]
    prepends = [s for s in steps if s.get("type") == "Prepend"]
    if len(replaces) != 1 or len(replaces) + len(prepends) != len(steps):
        raise _refused(name, "its text is normalized in a way that sentencepiece does not have")
    rank: dict[str, int] = {}
    for i, merge in enumerate(merges):
        rank.setdefault("".join(merge), i)
    scores: list[float] = []
    for i, token in enumerate(tokens):
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kinds[i] = _BYTE
        scores.append(-float(rank[token]) if token in rank else _LOWEST * 1e3)
    return {"model": "llama", "pre": "default", "scores": scores,
            "add_space_prefix": bool(prepends)}  # fmt: skip


def _around(tokenizer: Any, name: str) -> dict[str, Any]:
    """Returns what is put around a text: nothing, BOS before it, EOS after it."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for begins in (False, True):
        for ends in (False, True):
            before = [tokenizer.bos_token_id] if begins else []
            after = [tokenizer.eos_token_id] if ends else []
            if full == [*before, *bare, *after]:
                return {"add_bos_token": begins, "add_eos_token": ends}
    raise _refused(name, "it puts other tokens around a text than BOS and EOS")


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name} cannot be written as GGUF: {why}; have llama.cpp's converter write it, and its "
        f"llama-quantize give each tensor the recipe's type (--tensor-type)"
    )
