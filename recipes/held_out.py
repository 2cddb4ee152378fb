"""Bits per byte of a finished model on lines it has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from training_text import find_texts, read_lines

from bitgap.errors import CorpusError, UsageError

_TOKENS_AT_ONCE = 4096
_LOGITS_AT_ONCE = 2**23
_IGNORED = -100


def read_aligned(folder: Path, languages: Iterable[str]) -> dict[str, list[str]]:
    """Returns the lines of aligned text in those languages that it has.

    Args:
        folder: Folder of ``<lang>.txt``, line n being the same sentence in each.
        languages: Languages wanted.

    Raises:
        UsageError: If it has none of the languages.
        CorpusError: If a file cannot be used, or they differ in their number of lines.
    """
    wanted = set(languages)
    texts = find_texts(folder)
    lines = {name: read_lines(path) for name, path in texts.items() if name in wanted}
    if not lines:
        raise UsageError(
            f"--eval {folder} has {', '.join(texts)} and none of the languages trained on: "
            f"{', '.join(sorted(wanted))}"
        )
    counts = {name: len(found) for name, found in lines.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise CorpusError(f"--eval {folder} is not aligned, its lines are: {listed}")
    return lines


def bits_per_byte(
    model: Any, tokenizer: Any, texts: Mapping[str, Sequence[str]], context: int
) -> dict[str, float]:
    """Returns the bits per UTF-8 byte that a model needs for the lines of each language.

    Every line is led by the separator and every one of its tokens is predicted once; a line longer
    than the context is cut, and a later piece is predicted from its own beginning on. Computed in
    the precision of the model's weights.

    Args:
        model: A causal LM.
        tokenizer: Its tokenizer.
        texts: Lines by language; a language without lines is left out.
        context: Longest sequence in tokens.
    """
    model.eval()
    measured = {}
    for language, lines in texts.items():
        if lines:
            nats = sum(_nats(model, batch) for batch in _batches(lines, tokenizer, context))
            n_bytes = sum(len(line.encode()) for line in lines)
            measured[language] = nats / math.log(2) / n_bytes
    return measured


def _batches(lines: Sequence[str], tokenizer: Any, context: int) -> Iterator[Tensor]:
    # Rows are padded with ids below 0; alike lengths go together.
    windows = sorted(_windows(lines, tokenizer, context), key=len, reverse=True)
    while windows:
        n_rows = max(1, _TOKENS_AT_ONCE // len(windows[0]))
        rows, windows = windows[:n_rows], windows[n_rows:]
        batch = torch.full((len(rows), len(rows[0])), _IGNORED)
        for row, ids in zip(batch, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        yield batch


def _windows(lines: Sequence[str], tokenizer: Any, context: int) -> Iterator[list[int]]:
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
    for encoding in encoded:
        ids = [tokenizer.eos_token_id, *encoding.ids]
        for start in range(0, len(ids) - 1, context):
            yield ids[start : start + context + 1]


@torch.inference_mode()
def _nats(model: Any, batch: Tensor) -> float:
    batch = batch.to(model.device)
    # Attention is causal and padding comes last, so what stands in it cannot be seen.
    inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:]
    hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
    kept = targets != _IGNORED
    hidden, targets = hidden[kept], targets[kept]
    head = model.get_output_embeddings()
    n_at_once = max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
    pairs = zip(hidden.split(n_at_once), targets.split(n_at_once), strict=True)
    return sum(float(cross_entropy(head(h), t, reduction="sum")) for h, t in pairs)
