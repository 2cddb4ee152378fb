"""The output-Fisher screen: what rounding each matrix would do to each language, in few passes.

To second order the damage of a small change δ of the logits is ½ E_y[(∂ log p(y) · δ)²], with y
drawn from the model itself (the Fisher information is the Hessian of KL; Martens 2020). A matrix
that is rounded by ΔW changes its output by Δy_s = ΔW x_s at every token s, so with g_s the gradient
of Σ_t log p(y_t) at that output

    K ≈ ½ E_y[(Σ_s g_s · Δy_s)²]                                                     (sequence)

summed over sequences: scores of different tokens have mean 0 and are independent, so that cross
terms of the sum over t vanish. One forward and one backward pass serve every matrix and every way
to round it; ΔW is the real quantizer's. Squares of sums over a sequence have the spread of a χ² of
one degree for every draw of y; sums of squares,

    ½ E_y[Σ_s (g_s · Δy_s)²],                                                             (token)

have far less, and leave out that what one matrix does to different tokens adds up. Never used is
the trace of the Fisher matrix times squared error, which knows nothing of directions.

Gradients are taken block by block, from the last to the first, each block run once more: memory is
that of the states between blocks and of one block's own graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bitgap.lab.bench import Bench
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.text import Chunk
from bitgap.quant.bank import FP
from bitgap.records import Floats

# Logits of so many bytes are held at once.
_LOGITS_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Screened:
    """What the screen expects of every matrix alone.

    Attributes:
        units: Block and name of each matrix.
        schemes: Ways to round.
        by_token: Expected KL in nats by unit, scheme, language and sentence, (U x C x A x N), as
            sums of squares.
        by_sequence: The same as squares of sums.
    """

    units: tuple[tuple[int, str], ...]
    schemes: tuple[str, ...]
    by_token: Floats
    by_sequence: Floats


def screen(
    bench: Bench,
    schemes: Sequence[str],
    *,
    draws: int = 2,
    seed: int = 0,
    chunks: Sequence[Chunk] | None = None,
) -> Screened:
    """Returns what rounding each matrix alone is expected to do to every sentence.

    Args:
        bench: Model and text; products must not be rounded.
        schemes: How matrices are rounded.
        draws: Of the labels for every token.
        seed: Of the draws.
        chunks: Batches of the bench's text that are run; all when None. Sentences of others have 0.
    """
    decoder = bench.decoder
    units = tuple((i, name) for i in range(bench.n_blocks) for name in decoder.block_linears(i))
    sums = np.zeros((2, len(units), len(schemes), bench.text.counts.tokens.size))
    row = {unit: u for u, unit in enumerate(units)}
    generator = torch.Generator(device=bench.settings.device).manual_seed(seed)
    with products("exact", bench.settings.device):
        for chunk in bench.chunks if chunks is None else chunks:
            states = _states(bench, chunk)
            gradient = _of_head(bench, chunk, states[-1], draws, generator)
            for block in reversed(range(bench.n_blocks)):
                gradient, seen = _through(bench, chunk, block, states[block], gradient)
                for name, (inputs, gradients) in seen.items():
                    weight = decoder.block_linears(block)[name].get().float()
                    u = row[block, name]
                    for c, scheme in enumerate(schemes):
                        rounded = bench.bank.rounded_linear(block, name, scheme)
                        change = inputs @ (rounded - weight).T  # B x S x out
                        along = (gradients * change).sum(-1).double()  # K x B x S
                        token = (along**2).sum(-1).mean(0) / 2
                        sequence = (along.sum(-1) ** 2).mean(0) / 2
                        sums[0, u, c, chunk.where] += token.cpu().numpy()
                        sums[1, u, c, chunk.where] += sequence.cpu().numpy()
    shape = (len(units), len(schemes), *bench.text.counts.tokens.shape)
    return Screened(units, tuple(schemes), sums[0].reshape(shape), sums[1].reshape(shape))


@torch.no_grad()
def _states(bench: Bench, chunk: Chunk) -> list[Tensor]:
    """Returns the states before every block and after the last, (B x S x d) each."""
    decoder = bench.decoder
    states = [decoder.embed(chunk.input_ids)]
    context = decoder.context_for(*chunk.shape)
    for block in range(decoder.n_blocks):
        module = bench.bank.block(block, FP)
        states.append(decoder.run_block(block, states[-1], context, module))
    return states


def _of_head(
    bench: Bench, chunk: Chunk, state: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """Returns gradients of Σ_t log p(y_t) at the last state, labels drawn, (K x B x S x d)."""
    tail = bench.decoder.tail
    width = state.shape[-1]
    entering = state.reshape(-1, width)[chunk.positions].requires_grad_()
    with torch.enable_grad():
        entered = tail.finish(entering)
    outer = entered.new_empty(draws, *entered.shape)
    rows = max(1, _LOGITS_BYTES // (4 * len(tail.weight)))
    weight = tail.weight.float()
    with torch.no_grad():
        for start in range(0, len(entered), rows):
            part = slice(start, start + rows)
            z = entered.detach()[part] @ weight.T
            if tail.bias is not None:
                z += tail.bias
            slope = None
            if tail.softcap is not None:
                z = torch.tanh(z / tail.softcap)
                slope = 1 - z**2
                z = z * tail.softcap
            p = torch.softmax(z, -1)
            labels = torch.multinomial(p, draws, replacement=True, generator=generator)
            mean = (p if slope is None else p * slope) @ weight
            for k in range(draws):
                chosen = weight[labels[:, k]]
                if slope is not None:
                    chosen = chosen * slope.gather(1, labels[:, k : k + 1])
                outer[k, part] = chosen - mean
    found = state.new_zeros(draws, *state.shape)
    for k in range(draws):
        (inner,) = torch.autograd.grad(entered, entering, outer[k], retain_graph=k < draws - 1)
        found[k].view(-1, width)[chunk.positions] = inner
    return found


def _through(
    bench: Bench, chunk: Chunk, block: int, state: Tensor, gradient: Tensor
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Returns the gradients before a block, and what enters and leaves its matrices.

    Args:
        bench: Model and text.
        chunk: The text.
        block: Number of the block.
        state: Before it, (B x S x d).
        gradient: After it, (K x B x S x d).

    Returns:
        The gradients, (K x B x S x d), and by matrix its inputs (B x S x in) and the gradients at
        its outputs (K x B x S x out).
    """
    decoder, module = bench.decoder, bench.bank.block(block, FP)
    entering = state.detach().requires_grad_()
    context = decoder.context_for(*chunk.shape)
    with torch.enable_grad(), _caught(module, list(decoder.block_linears(block))) as caught:
        out = decoder.run_block(block, entering, context, module)
    names = list(caught)
    per_draw: list[tuple[Tensor, ...]] = []
    for k in range(len(gradient)):
        per_draw.append(
            torch.autograd.grad(
                out,
                [entering, *(caught[name][1] for name in names)],
                gradient[k],
                retain_graph=k < len(gradient) - 1,
            )
        )
    before, *at = (torch.stack(column) for column in zip(*per_draw, strict=True))
    shape = (*chunk.shape, -1)
    seen = {
        name: (
            caught[name][0].detach().reshape(shape),
            gradients.reshape(len(gradient), *shape),
        )
        for name, gradients in zip(names, at, strict=True)
    }
    return before, seen


@contextmanager
def _caught(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Notes what enters and leaves some linears of a block while it runs."""
    caught: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            caught[name] = (inputs[0], output)

        return module.get_submodule(name).register_forward_hook(see)

    handles = [watch(name) for name in names]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
