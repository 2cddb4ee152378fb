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

A matrix does not do the same within a plan that rounds all others. There KL has a slope, and the
plan lies at a distance B = W_own - W of the whole matrix. With g⁰ the gradient of KL itself, labels
drawn from the rounded model and Δ = ΔW x, B's change b likewise,

    K(rounded) - K(whole)
        ≈ Σ_s g⁰_s · Δ_s + ½ E_y[(Σ_s g_s · Δ_s)²] - E_y[Σ_s g_s · Δ_s Σ_s g_s · b_s]

by the same two passes through the rounded model. A table takes the mean of both ends, as swaps do.

Gradients are taken block by block, from the last to the first, each block run once more: memory is
that of the states between blocks and of one block's own graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bitgap.lab.bench import Bench
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.text import Chunk
from bitgap.models.tail import Tail
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.quant.variants import parse_variant
from bitgap.records import Floats

# Logits of so many bytes are held at once.
_LOGITS_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Screened:
    """What the screen expects of every matrix, rounded within one plan and no other.

    Attributes:
        units: Block and name of each matrix; no experts, which are given some tokens only.
        schemes: Ways to round.
        slope: First order of the expected change of KL in nats by unit, scheme, language and
            sentence, (U x C x A x N); 0 within full precision.
        by_token: Second order, as sums of squares.
        by_sequence: The same as squares of sums.
    """

    units: tuple[tuple[int, str], ...]
    schemes: tuple[str, ...]
    slope: Floats
    by_token: Floats
    by_sequence: Floats


def screen(
    bench: Bench,
    schemes: Sequence[str],
    *,
    draws: int = 2,
    seed: int = 0,
    chunks: Sequence[Chunk] | None = None,
    within: Plan | None = None,
) -> Screened:
    """Returns what each matrix is expected to do to every sentence when it is rounded.

    That is KL with the matrix rounded less KL with it whole, all others as ``within`` has them.

    Args:
        bench: Model and text; products must not be rounded.
        schemes: How matrices are rounded.
        draws: Of the labels for every token.
        seed: Of the draws.
        chunks: Batches of the bench's text that are run; all when None. Sentences of others have 0.
        within: The plan around each matrix; full precision when None.
    """
    decoder = bench.decoder
    blocks = [decoder.block_matrices(i) for i in range(bench.n_blocks)]
    units = tuple((i, name) for i, block in enumerate(blocks) for name in block.see_all_tokens)
    sums = np.zeros((3, len(units), len(schemes), bench.text.counts.tokens.size))
    row = {unit: u for u, unit in enumerate(units)}
    generator = torch.Generator(device=bench.settings.device).manual_seed(seed)
    whole = Plan.uniform(FP, bench.n_blocks)
    plan = whole if within is None else within
    with products("exact", bench.settings.device):
        for chunk in bench.chunks if chunks is None else chunks:
            last = None if within is None else _states(bench, chunk, whole)[-1]
            for block, name, along in _changes(bench, chunk, plan, draws, generator, last):
                u, own = row[block, name], parse_variant(plan.blocks[block]).of(name)
                # Where the plan lies from the whole matrix, along the labels' gradients.
                there = None if own == FP else along(own)[:draws]
                for c, scheme in enumerate(schemes):
                    change = along(scheme)
                    moved, slope = change[:draws], change[draws:].sum((0, -1))
                    token, sequence = moved**2 / 2, moved.sum(-1) ** 2 / 2
                    if there is not None:
                        token = token - moved * there
                        sequence = sequence - moved.sum(-1) * there.sum(-1)
                    sums[0, u, c, chunk.where] += slope.cpu().numpy()
                    sums[1, u, c, chunk.where] += token.sum(-1).mean(0).cpu().numpy()
                    sums[2, u, c, chunk.where] += sequence.mean(0).cpu().numpy()
    shape = (len(units), len(schemes), *bench.text.counts.tokens.shape)
    return Screened(units, tuple(schemes), *(one.reshape(shape) for one in sums))


_Along = Callable[[str], Tensor]
"""What a matrix's change under a scheme does along every gradient, (K x B x S), in nats."""


def _changes(
    bench: Bench,
    chunk: Chunk,
    plan: Plan,
    draws: int,
    generator: torch.Generator,
    whole: Tensor | None,
) -> Iterator[tuple[int, str, _Along]]:
    """Yields every matrix, from the last block to the first, and what its changes do."""
    states = _states(bench, chunk, plan)
    gradient = _of_head(bench, chunk, states[-1], plan.head, draws, generator, whole)
    for block in reversed(range(bench.n_blocks)):
        variant = plan.blocks[block]
        gradient, seen = _through(bench, chunk, block, variant, states[block], gradient)
        for name, (inputs, gradients) in seen.items():
            weight = bench.decoder.block_linears(block)[name].get().float()

            def along(
                scheme: str,
                place: tuple[int, str] = (block, name),
                weight: Tensor = weight,
                inputs: Tensor = inputs,
                gradients: Tensor = gradients,
            ) -> Tensor:
                change = bench.bank.rounded_linear(*place, scheme) - weight
                return (gradients * (inputs @ change.T)).sum(-1).double()

            yield block, name, along


@torch.no_grad()
def _states(bench: Bench, chunk: Chunk, plan: Plan) -> list[Tensor]:
    """Returns the states before every block and after the last, (B x S x d) each."""
    decoder = bench.decoder
    states = [decoder.embed_with(chunk.input_ids, bench.bank.embedding(plan.embedding))]
    context = decoder.context_for(*chunk.shape)
    for block, variant in enumerate(plan.blocks):
        module = bench.bank.block(block, variant)
        states.append(decoder.run_block(block, states[-1], context, module))
    return states


def _of_head(
    bench: Bench,
    chunk: Chunk,
    state: Tensor,
    scheme: str,
    draws: int,
    generator: torch.Generator,
    whole: Tensor | None = None,
) -> Tensor:
    """Returns gradients of Σ_t log p(y_t) at the last state, labels drawn, (K x B x S x d).

    With ``whole``, the last state in full precision, one more follows: the gradient of the KL
    divergence from there.
    """
    tail = bench.decoder.tail
    width = state.shape[-1]
    entering = state.reshape(-1, width)[chunk.positions].requires_grad_()
    with torch.enable_grad():
        entered = tail.finish(entering)
    n = draws + (whole is not None)
    outer = entered.new_empty(n, *entered.shape)
    rows = max(1, _LOGITS_BYTES // (4 * len(tail.weight)))
    full = tail.weight.float()
    weight = full if scheme == FP else bench.bank.head(scheme).float()
    with torch.no_grad():
        target = None if whole is None else tail.finish(whole.reshape(-1, width)[chunk.positions])
        for start in range(0, len(entered), rows):
            part = slice(start, start + rows)
            z, slope = _logits(tail, entered.detach()[part], weight)
            p = torch.softmax(z, -1)
            labels = torch.multinomial(p, draws, replacement=True, generator=generator)
            mean = (p if slope is None else p * slope) @ weight
            for k in range(draws):
                chosen = weight[labels[:, k]]
                if slope is not None:
                    chosen = chosen * slope.gather(1, labels[:, k : k + 1])
                outer[k, part] = chosen - mean
            if target is not None:
                was = torch.softmax(_logits(tail, target[part], full)[0], -1)
                outer[draws, part] = mean - (was if slope is None else was * slope) @ weight
    found = state.new_zeros(n, *state.shape)
    for k in range(n):
        (inner,) = torch.autograd.grad(entered, entering, outer[k], retain_graph=k < n - 1)
        found[k].view(-1, width)[chunk.positions] = inner
    return found


def _logits(tail: Tail, entered: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns logits, and the slope of the soft cap there, if there is one."""
    z = entered @ weight.T
    if tail.bias is not None:
        z += tail.bias
    if tail.softcap is None:
        return z, None
    z = torch.tanh(z / tail.softcap)
    return z * tail.softcap, 1 - z**2


def _through(
    bench: Bench, chunk: Chunk, block: int, variant: str, state: Tensor, gradient: Tensor
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Returns the gradients before a block, and what enters and leaves its matrices.

    Args:
        bench: Model and text.
        chunk: The text.
        block: Number of the block.
        variant: What it is run as.
        state: Before it, (B x S x d).
        gradient: After it, (K x B x S x d).

    Returns:
        The gradients, (K x B x S x d), and by matrix its inputs (B x S x in) and the gradients at
        its outputs (K x B x S x out).
    """
    decoder, module = bench.decoder, bench.bank.block(block, variant)
    entering = state.detach().requires_grad_()
    context = decoder.context_for(*chunk.shape)
    with (
        torch.enable_grad(),
        _caught(module, decoder.block_matrices(block).see_all_tokens) as caught,
    ):
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
