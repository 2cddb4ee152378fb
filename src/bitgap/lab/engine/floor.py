"""The numerical floor: the KL that arithmetic alone makes, measured.

Full precision is evaluated twice in ways that are the same function: once as plans are, once with
every chunk cut into other batches and the last product summed in another order. What KL comes out
between the two is noise. In ``fast`` arithmetic the KL between float32 and rounded products is
noise as well, and the larger of the two counts. A damage under ten times the floor is below
resolution.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import Head, Target, make_target, score_tokens
from bitgap.lab.engine.scoring import Engine
from bitgap.lab.engine.text import Chunk
from bitgap.quant.bank import FP

# Text enough to see the noise of every language; more would only cost time.
_MAX_CHUNKS = 8


@torch.inference_mode()
def measure_floor(engine: Engine, n_languages: int, n_sentences: int) -> float:
    """Returns the floor in nats per token.

    It is Σ_sentences |KL| over Σ tokens in the language where that is largest, for up to eight
    chunks of the text, spread evenly.
    """
    chunks = [chunk for segment in engine.segments for chunk in segment]
    chosen = chunks[:: max(1, -(-len(chunks) // _MAX_CHUNKS))]
    kl = torch.zeros(3, n_languages * n_sentences, dtype=torch.float64)
    for chunk in chosen:
        owners = chunk.owners.cpu()
        ones = torch.ones(len(owners), dtype=torch.float64)
        for row, values in zip(kl, [*_noise(engine, chunk), ones], strict=True):
            row.index_add_(0, owners, values.cpu().double())
    batching, rounding, tokens = kl.view(3, n_languages, n_sentences).abs().sum(-1)
    return float((torch.maximum(batching, rounding) / tokens.clamp(min=1)).max())


def _noise(engine: Engine, chunk: Chunk) -> tuple[Tensor, Tensor]:
    tail = engine.decoder.tail
    rounds = engine.rounds
    buffer = engine.make_buffer()
    mine = Head.prepared(tail.weight, tail.bias, tail.softcap, rounds)
    device = str(chunk.input_ids.device)
    with products(engine.arithmetic, device):
        hidden = engine.full_precision(chunk)
        target = make_target({FP: mine}, hidden, chunk.targets, buffer)
        again = engine.full_precision(chunk, split=2)
        batching = _kl_in_another_order(mine, target, again, buffer)
    if not rounds:
        return batching, torch.zeros_like(batching)
    exact = Head.prepared(tail.weight, tail.bias, tail.softcap, False)
    heads = {FP: exact, "rounded": mine}
    with products("exact", device):
        target = make_target(heads, engine.full_precision(chunk, exact=True), chunk.targets, buffer)
    with products(engine.arithmetic, device):
        rounding = score_tokens(heads, "rounded", hidden[None], target, buffer)[1][0]
    return batching, rounding


def _kl_in_another_order(head: Head, target: Target, hidden: Tensor, buffer: Tensor) -> Tensor:
    order = torch.arange(hidden.shape[-1] - 1, -1, -1, device=hidden.device)
    turned = replace(head, weight=head.weight[:, order].contiguous())
    flipped = replace(
        target,
        entered=target.entered[:, order],
        mean_row={name: rows[:, order] for name, rows in target.mean_row.items()},
        chosen_row={name: rows[:, order] for name, rows in target.chosen_row.items()},
    )
    return score_tokens({FP: turned}, FP, hidden[None][..., order], flipped, buffer)[1][0]
