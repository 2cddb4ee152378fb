"""Bits per byte of a finished model on lines it has not seen."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from training_text import encode_lines

_TOKENS_AT_ONCE = 4096
_LOGITS_AT_ONCE = 2**23
_IGNORED = -100


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


def estimate_seconds(
    model: Any, tokenizer: Any, texts: Mapping[str, Sequence[str]], context: int
) -> float:
    """Returns how long :func:`bits_per_byte` will take, from its first batch.

    Args:
        model: A model of the same shape; it is left in training mode.
        tokenizer: Its tokenizer.
        texts: Lines by language.
        context: Longest sequence in tokens.
    """
    batches = [b for lines in texts.values() for b in _batches(lines, tokenizer, context)]
    if not batches:
        return 0.0
    model.eval()
    _nats(model, batches[0])  # the first time prepares threads and kernels
    start = time.monotonic()
    _nats(model, batches[0])
    seconds = time.monotonic() - start
    model.train()
    return seconds * sum(batch.numel() for batch in batches) / batches[0].numel()


def _batches(lines: Sequence[str], tokenizer: Any, context: int) -> Iterator[Tensor]:
    # Rows are padded with ids below 0; alike lengths go together.
    windows = [
        ids[start : start + context + 1]
        for ids in encode_lines(lines, tokenizer)
        for start in range(0, len(ids) - 1, context)
    ]
    windows.sort(key=len, reverse=True)
    while windows:
        n_rows = max(1, _TOKENS_AT_ONCE // len(windows[0]))
        rows, windows = windows[:n_rows], windows[n_rows:]
        batch = torch.full((len(rows), len(rows[0])), _IGNORED)
        for row, ids in zip(batch, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        yield batch


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
