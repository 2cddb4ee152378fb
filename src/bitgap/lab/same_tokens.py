"""Whether a quantized file's token ids mean what the model's do, before its weights are scored.

Weights of another vocabulary fit the model where its size is the same, and every number would then
be of text that the file never saw as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import Checkpoint
from bitgap.formats.gguf.header import is_gguf
from bitgap.formats.open import open_checkpoint

_OTHERS = 0.01
"""Share of tokens that may be spelled otherwise: special tokens are renamed, and rows that a
vocabulary leaves free are filled in by some converters."""


def check_base(name: str) -> None:
    """Refuses a base that is itself quantized: a folder is refused when it is read, a GGUF here.

    Args:
        name: The model, as the user named it.

    Raises:
        ModelError: If it is a GGUF file with quantized tensors.
    """
    if is_gguf(name) and (units := open_checkpoint(name).units):
        types = ", ".join(dict.fromkeys(unit.stored for unit in units))
        raise ModelError(
            f"{name} is itself quantized ({types}), and a file's damage is told against full "
            f"precision; give the model that the file was made from, as its folder or in F16 or "
            f"BF16"
        )


def check_tokens(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """Refuses a file with another tokenizer than the model's; one that holds none is taken.

    Args:
        checkpoint: The file.
        tokenizer: The model's.

    Raises:
        ModelError: If more than a hundredth of the tokens that both have differ; the message names
            the first.
    """
    theirs = checkpoint.tokens or _of_folder(checkpoint.path)
    own = {number: token for token, number in tokenizer.get_vocab().items()}
    shared = sorted(theirs.keys() & own.keys())
    others = [number for number in shared if theirs[number] != own[number]]
    if shared and len(others) > _OTHERS * len(shared):
        first = others[0]
        raise ModelError(
            f"{checkpoint.name} has another tokenizer than the model: token {first} is "
            f"{theirs[first]!r} in the file and {own[first]!r} in the model, and "
            f"{len(others):,} of {len(shared):,} tokens differ; give the model that the file was "
            f"made from"
        )


def _of_folder(path: Path) -> Mapping[int, str]:
    """Returns the tokens of a folder's tokenizer.json by id; empty where there is none to read."""
    try:
        told = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary: Any = told["model"]["vocab"]
        if isinstance(vocabulary, dict):
            found = {int(number): str(token) for token, number in vocabulary.items()}
        else:  # of a unigram model: pieces with their scores, in the order of their ids
            found = {number: str(piece[0]) for number, piece in enumerate(vocabulary)}
        added = told.get("added_tokens") or []
        return found | {int(one["id"]): str(one["content"]) for one in added}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
