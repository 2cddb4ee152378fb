"""Hidden states, streamed: what experiments see of a model beside its scores.

States of several plans go through the model in step, chunk by chunk, so memory holds one chunk of
text for each plan. Sites are numbered by depth: depth l is the output of block l, and depth L is
what the head sees (after the final norm). Sums are float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitgap.lab.arithmetic import products
from bitgap.lab.text import Chunk
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

# Attention sinks: Xiao 2024 and Sun 2024 see norms of 10 to 1000 times the others'.
_SINK_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class Slice:
    """The states of some plans at one depth, on one chunk of text.

    Attributes:
        depth: −1 for what enters block 0, l for the output of block l, L for what the head sees.
        chunk: The text.
        states: For each plan, in the order asked, (B x S x d).
        real: Which of (B x S) are tokens of the text proper: no padding and not position 0.
    """

    depth: int
    chunk: Chunk
    states: tuple[Tensor, ...]
    real: Tensor


def stream(lab: Lab, plans: Sequence[Plan]) -> Iterator[Slice]:
    """Yields the states of all plans at every depth, for every chunk of the text.

    Plans that agree up to a block share its state, as the very same tensor.

    Args:
        lab: Model and text.
        plans: What to run; ``Plan.uniform("fp", L)`` for full precision.
    """
    decoder, device = lab.decoder, lab.settings.device
    for plan in plans:
        lab.bank.check(plan)
    for chunk in lab.chunks:
        real = real_tokens(chunk, device)
        paths: list[tuple[str, ...]] = [(plan.embedding, *plan.blocks) for plan in plans]
        with torch.inference_mode(), products(lab.settings.arithmetic, device):
            made: dict[tuple[str, ...], Tensor] = {
                path[:1]: decoder.embed_with(chunk.input_ids, lab.bank.embedding(path[0]))
                for path in {path[:1] for path in paths}
            }
        yield Slice(-1, chunk, tuple(made[path[:1]] for path in paths), real)
        context = decoder.context_for(*chunk.shape)
        for block in range(decoder.n_blocks):
            with torch.inference_mode(), products(lab.settings.arithmetic, device):
                made = {
                    path: decoder.run_block(
                        block, made[path[:-1]], context, _module(lab, block, path[-1])
                    )
                    for path in sorted({path[: block + 2] for path in paths})
                }
            yield Slice(block, chunk, tuple(made[path[: block + 2]] for path in paths), real)
        with torch.inference_mode():
            finished = tuple(decoder.tail.finish(made[path]) for path in paths)
        yield Slice(decoder.n_blocks, chunk, finished, real)


def _module(lab: Lab, block: int, scheme: str) -> nn.Module:
    # In full precision the model's own, which carries whatever hooks an experiment put there.
    return lab.decoder.blocks[block] if scheme == FP else lab.bank.block(block, scheme)


def real_tokens(chunk: Chunk, device: str) -> Tensor:
    """Returns which of (B x S) are neither padding nor position 0, where a sink sits."""
    rows, width = chunk.shape
    column = torch.arange(width, device=device)
    lengths = torch.from_numpy(chunk.lengths).to(device)
    return (column[None, :] < lengths[:, None]) & (column[None, :] > 0).expand(rows, width)


def without_sinks(state: Tensor, real: Tensor) -> Tensor:
    """Returns ``real`` less the tokens whose norm exceeds ten times the median norm.

    Args:
        state: (B x S x d), full precision.
        real: (B x S) mask of real tokens.
    """
    norms = state.norm(dim=-1)
    return real & (norms <= _SINK_RATIO * norms[real].median())


def sum_by_sequence(values: Tensor, mask: Tensor) -> Floats:
    """Returns Σ over masked tokens of each row, (B), in float64; ``values`` is (B x S)."""
    kept = torch.where(mask, values.double(), torch.zeros((), dtype=torch.float64))
    return kept.sum(1).cpu().numpy()


def pooled_states(lab: Lab, plan: Plan) -> NDArray[np.float32]:
    """Returns the mean state of every sentence, (L+1 x A x N x d), float32.

    Row 0 is what enters block 0 (a bag of embeddings), row l+1 the output of block l. Position 0,
    padding and sinks are left out of the mean.
    """
    shape = lab.text.counts.tokens.shape
    out = np.zeros((lab.n_blocks + 1, shape[0] * shape[1], lab.decoder.width), dtype=np.float32)
    for part in stream(lab, [plan]):
        if part.depth == lab.n_blocks:
            continue
        state = part.states[0]
        mask = without_sinks(state, part.real)
        # A sentence whose every token is a sink keeps them: an empty mean would be no state.
        mask = torch.where(mask.any(1, keepdim=True), mask, part.real)
        weights = mask.to(state.dtype)[..., None]
        out[part.depth + 1, part.chunk.where] = ((state * weights).sum(1) / weights.sum(1)).cpu()
    return out.reshape(lab.n_blocks + 1, *shape, -1)
