"""What enters the linears of every block, and what rounding does to what leaves them.

In full precision, hooks on every linear see its inputs x and keep sums over each sentence's tokens:
of x, ‖x‖², ‖W x‖² and ‖ΔW x‖², where ΔW is what a plan changes. ΔW knows no language; it acts
differently on languages only as their inputs lie differently to it, and these sums show how much.
Nothing of size d² is kept. A fused query-key-value matrix counts as one linear, as it is rounded as
one. Position 0 and attention sinks are left out, by the state that enters the block.

One pass over the text serves all blocks whose ΔW fit in the bank's memory together; a larger model
takes a pass for every group of blocks that do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import UnsupportedArchitecture
from bitgap.lab.activations import Slice, stream, sum_by_sequence, without_sinks
from bitgap.lab.bench import Bench
from bitgap.lab.engine.arithmetic import float32_results
from bitgap.models.decoder import Decoder
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats

_SUMS = ("total", "square", "output", "error")
_FEW = ("few_output", "few_error")


@contextmanager
def watching(
    decoder: Decoder, blocks: Sequence[int], see: Callable[[int, str, Tensor], None]
) -> Iterator[None]:
    """Has ``see(block, linear, inputs)`` called with what enters each linear of some blocks.

    The hooks sit on the model's own blocks, which full-precision streams run, and are taken off
    whatever happens in the body. Inputs are as the linear gets them: (B x S x in), or flattened.
    """

    def hook(block: int, name: str) -> Callable[[object, tuple[Tensor, ...]], None]:
        return lambda _module, args: see(block, name, args[0].detach())

    hooks = []
    for block in blocks:
        if some := decoder.block_matrices(block).see_some_tokens:
            raise UnsupportedArchitecture(
                f"block {block} has {len(some)} matrices of experts ({some[0]}), which are given "
                f"some tokens and not others; errors of linears can be told by language only where "
                f"each sees all"
            )
    try:
        for block in blocks:
            for name, view in decoder.block_linears(block).items():
                hooks.append(view.module.register_forward_pre_hook(hook(block, name)))
        yield
    finally:
        for each in hooks:
            each.remove()


def linear_inputs(
    bench: Bench, plan: Plan, blocks: Sequence[int] | None = None
) -> dict[str, Floats]:
    """Returns sums over every sentence at every linear of some blocks, in full precision.

    Args:
        bench: Model and text.
        plan: Which ΔW each block's linears get; 0 where it is protected.
        blocks: Which blocks; all when None.

    Returns:
        With M linears, block by block: ``block`` and ``width`` (M), each one's block and number of
        inputs; ``tokens`` (M x A x N), tokens that count; over those, (M x A x N): ``total``, Σ of
        all entries of x; ``square``, Σ‖x‖²; ``output``, Σ‖W x‖²; ``error``, Σ‖ΔW x‖². And
        ``few_output`` and ``few_error``, of no more tokens of a sentence than it has in the
        language that needs fewest, from the left.

    Raises:
        UnsupportedArchitecture: If a linear is given some tokens and not others.
    """
    wanted = range(bench.n_blocks) if blocks is None else blocks
    parts = [_passed(bench, plan, group) for group in _groups(bench, wanted)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _groups(bench: Bench, blocks: Sequence[int]) -> Iterator[list[int]]:
    """Yields blocks whose W and ΔW fit in the bank's memory together; one at least."""
    group: list[int] = []
    held, limit = 0, bench.engine.layout.bank_bytes
    for block in blocks:
        size = sum(
            2 * 4 * math.prod(view.shape) for view in bench.decoder.block_linears(block).values()
        )
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group, held = [*group, block], held + size
    if group:
        yield group


def _passed(bench: Bench, plan: Plan, blocks: Sequence[int]) -> dict[str, Floats]:
    """Makes one pass over the text and returns the sums at some blocks' linears."""
    sums = _Sums(bench, _changes(bench, plan, blocks))
    with watching(bench.decoder, blocks, sums.see):
        for part in stream(bench, [Plan.uniform(FP, bench.n_blocks)]):
            # What leaves one block is what enters the next.
            sums.enter(part)
    return sums.as_arrays(bench.text.counts.tokens.shape)


def _changes(bench: Bench, plan: Plan, blocks: Sequence[int]) -> dict[tuple[int, str], Tensor]:
    """Returns for every linear W over ΔW, (2·out x in), so that one product serves both."""
    changes: dict[tuple[int, str], Tensor] = {}
    for block in blocks:
        scheme = plan.blocks[block]
        rounded = {} if scheme == FP else bench.bank.rounded_linears(block, scheme)
        for name, view in bench.decoder.block_linears(block).items():
            weight = view.get().float()
            change = rounded[name].float() - weight if rounded else torch.zeros_like(weight)
            changes[block, name] = torch.cat([weight, change])
    return changes


class _Sums:
    """Sums over sentences at every linear, filled while the text goes by."""

    def __init__(self, bench: Bench, changes: Mapping[tuple[int, str], Tensor]) -> None:
        self._changes = changes
        self._row = {key: i for i, key in enumerate(changes)}
        n = bench.text.counts.tokens.size
        self._n_sentences = bench.text.counts.tokens.shape[1]
        self._fewest = torch.from_numpy(bench.text.counts.tokens.min(0)).to(bench.settings.device)
        self._sums = {name: np.zeros((len(changes), n)) for name in ("tokens", *_SUMS, *_FEW)}

    def enter(self, part: Slice) -> None:
        """Notes which tokens count in the block that this state enters."""
        self._where, self._shape = part.chunk.where, part.real.shape
        self._mask = without_sinks(part.states[0], part.real)
        column = torch.arange(self._shape[1], device=part.real.device)
        sentence = torch.from_numpy(self._where % self._n_sentences).to(part.real.device)
        # A sentence's scored tokens are as many as its columns from the first scored one on.
        end = self._fewest[sentence][:, None] + part.chunk.first
        self._few = self._mask & (column[None, :] < end)

    def see(self, block: int, name: str, inputs: Tensor) -> None:
        """Adds what enters one linear."""
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        if len(rows) != self._mask.numel():
            raise UnsupportedArchitecture(
                f"linear {name!r} of block {block} was given {len(rows)} of {self._mask.numel()} "
                f"tokens; errors of linears can be told by language only where each sees all"
            )
        both = self._changes[block, name]
        with float32_results(str(rows.device)):
            plain, change = (rows @ both.T).tensor_split(2, dim=1)
        output, error = (x.square().sum(1).view(self._shape) for x in (plain, change))
        self._add(block, name, "tokens", torch.ones_like(output), self._mask)
        self._add(block, name, "total", rows.sum(1).view(self._shape), self._mask)
        self._add(block, name, "square", rows.square().sum(1).view(self._shape), self._mask)
        for start, mask in (("", self._mask), ("few_", self._few)):
            self._add(block, name, f"{start}output", output, mask)
            self._add(block, name, f"{start}error", error, mask)

    def _add(self, block: int, name: str, what: str, values: Tensor, mask: Tensor) -> None:
        self._sums[what][self._row[block, name], self._where] += sum_by_sequence(values, mask)

    def as_arrays(self, shape: tuple[int, ...]) -> dict[str, Floats]:
        """Returns the sums, (M x A x N), and what the M linears are."""
        arrays = {name: values.reshape(-1, *shape) for name, values in self._sums.items()}
        arrays["block"] = np.array([block for block, _ in self._row])
        arrays["width"] = np.array([both.shape[1] for both in self._changes.values()])
        return arrays
