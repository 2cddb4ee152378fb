"""The scoring engine: many plans, one walk.

Plans that agree on the embedding and on blocks 0…l share every hidden state up to there, so the
plans form a tree (:mod:`bitgap.lab.engine.tree`) whose edges are (block, variant), and each edge is
run once. The walk goes depth first over groups of at most ``nodes`` tree nodes; nodes of a group
that take the same variant go through the block as one batch. The text moves down the tree chunk by
chunk, all of it together (or a segment, where all does not fit the memory), so that one stack of
states, a level each, is all that is held. All 2^L masks of L blocks cost 2^(L+1) − 2 block
evaluations instead of L·2^L.

Chunks are independent of each other, so each worker thread takes whole chunks; the many small steps
of a block then wait for no other core.

What is run for a group depends on the request, the text and the layout, never on what was already
known: a group whose plans are all known is skipped whole, any other is run whole. So a run that was
killed and repeated gives the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bitgap.lab.engine.arithmetic import fast_products_round, products
from bitgap.lab.engine.head import TILE, Head, Target, make_target, score_tokens
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.lab.engine.text import Chunk
from bitgap.lab.engine.tree import Node, PlanTree
from bitgap.lab.engine.workers import Workers
from bitgap.models.decoder import Decoder
from bitgap.quant.bank import FP, Bank
from bitgap.quant.plan import Plan
from bitgap.records import Arithmetic, Floats

ENGINE_VERSION = 1
"""Raised whenever scores change meaning; part of every key in the store."""
PLANS_PER_BATCH = 64
"""Plans scored together when the text is too long to walk the tree in one piece."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the work is cut to fit the memory; made by :func:`bitgap.lab.engine.budget.make_layout`.

    Attributes:
        chunk_rows: Padded token rows of a piece of the text, at most.
        nodes: Tree nodes that are walked together.
        head_rows: Tokens that meet a tile of the vocabulary at a time, in each worker.
        segment_rows: Padded token rows that walk the tree together.
        bank_bytes: Memory for rounded blocks.
        workers: Threads that take chunks.
        streams: Whether the block is the outer loop, as the model is larger than the memory.
        product_rows: Padded token rows that plans share in one product of one worker; 0 for as many
            as a piece of the text has.
    """

    chunk_rows: int
    nodes: int
    head_rows: int
    segment_rows: int
    bank_bytes: int
    workers: int = 1
    streams: bool = False
    product_rows: int = 0


@dataclass(frozen=True, slots=True)
class Leaf:
    """One plan's finished scores: per-sentence sums in nats, (A·N) each."""

    plan: Plan
    nll_nats: Floats
    kl_nats: Floats
    flips: Floats | None = None
    """Tokens whose most likely next one changed; None where nobody asked."""


Emit = Callable[[list[Leaf]], None]
Tick = Callable[[int, int], None]


class Watch(Protocol):
    """Who is shown what full precision says of the text, as the engine comes by it."""

    @property
    def again(self) -> list[Chunk]:
        """Text that full precision is to be evaluated on a second time, in these very batches."""
        ...

    def second(self, hidden: list[Tensor]) -> None:
        """Takes what that second evaluation gave, (T x d) before the head for each batch."""

    def ran(self, block_rows: int, head_rows: int) -> None:
        """So many token rows went through a block, or the head; called from any thread."""

    def see(self, chunk: Chunk, target: Target) -> None:
        """Full precision was run on a chunk; called once for each, before leaves are emitted."""


@dataclass(slots=True)
class _Walk:
    """What one walk carries along: the tree, what is known of it, and where results go."""

    tree: PlanTree
    known: list[bool]
    segment: Sequence[Chunk]
    targets: Sequence[Target]
    sink: Callable[[int, Floats], None]
    tick: Tick

    def is_known(self, nodes: Sequence[Node]) -> bool:
        return all(all(self.known[node.lo : node.hi]) for node in nodes)


class Engine:
    """Scores plans of one model on one text."""

    def __init__(
        self,
        decoder: Decoder,
        bank: Bank,
        chunks: Sequence[Chunk],
        n_sequences: int,
        arithmetic: Arithmetic,
        layout: Layout,
        device: str = "cpu",
    ) -> None:
        """Binds the parts; nothing is computed yet.

        Args:
            decoder: The split model.
            bank: Its block variants.
            chunks: The text.
            n_sequences: Languages times sentences, A·N.
            arithmetic: How products are computed.
            layout: How the work is cut.
            device: Where the model is.
        """
        self.decoder, self.bank, self.layout = decoder, bank, layout
        self.arithmetic: Arithmetic = arithmetic
        self.segments = [list(s) for s in _segments(chunks, layout.segment_rows)]
        self.device, self.n_sequences = device, n_sequences
        self.rounds = arithmetic == "fast" and fast_products_round(device)
        self.watch = Stopwatch()
        self.tops = False
        """Whether leaves tell where the most likely next token changed."""
        self.tile_width = min(TILE, decoder.tail.weight.shape[0])
        self._heads: dict[str, Head] = {}
        self._kept_targets: tuple[tuple[str, ...], list[Target]] | None = None
        self._workers = Workers(layout.workers)

    @property
    def n_sums(self) -> int:
        """Sums over tokens that a leaf holds: NLL, KL, and flips where asked for."""
        return 3 if self.tops else 2

    def forget(self, scheme: str) -> None:
        """Forgets a head that was made of a variant which the bank has dropped."""
        self._heads.pop(scheme, None)
        if self._kept_targets and scheme in self._kept_targets[0]:
            self._kept_targets = None

    @torch.inference_mode()
    def score(
        self,
        plans: Sequence[Plan],
        emit: Emit,
        *,
        known: Callable[[Plan], bool] = lambda plan: False,
        tick: Tick = lambda blocks, heads: None,
        watch: Watch | None = None,
    ) -> None:
        """Scores the plans that are not yet known.

        Args:
            plans: What to score; repeats are scored once.
            emit: Called with finished leaves, a few at a time; what was emitted is final.
            known: Whether a plan's scores exist already; asked once per plan.
            tick: Called with the block and head evaluations done since the last call, in token
                rows.
            watch: Shown what full precision says of every chunk, in the pass that serves the
                plans too; also where no plan is left to score.

        Raises:
            PlanError: If a plan does not fit the model.
        """
        ordered = PlanTree(plans).plans
        for plan in ordered:
            self.bank.check(plan)
        whole = len(self.segments) == 1
        size = len(ordered) if whole else PLANS_PER_BATCH
        for start in range(0, len(ordered), max(size, 1)):
            tree = PlanTree(ordered[start : start + size])
            flags = [known(plan) for plan in tree.plans]
            if all(flags):
                continue
            if whole:
                self._score_whole(tree, flags, emit, tick, watch)
            else:
                self._score_in_segments(tree, flags, emit, tick, watch)
            watch = None
        if watch is not None:
            for segment in self.segments:
                self.targets(segment, [FP], watch)

    @torch.inference_mode()
    def reference(self) -> Floats:
        """Returns the full-precision NLL in nats of every sequence, (A·N)."""
        nll = torch.zeros(self.n_sequences, dtype=torch.float64)
        for segment in self.segments:
            for chunk, target in zip(segment, self.targets(segment, [FP]), strict=True):
                nll.index_add_(0, chunk.owners.cpu(), target.nll.cpu().double())
        return nll.numpy()

    def _score_whole(
        self, tree: PlanTree, known: list[bool], emit: Emit, tick: Tick, watch: Watch | None
    ) -> None:
        def sink(first: int, sums: Floats) -> None:
            last = first + sums.shape[1]
            emit(_leaves(tree.plans[first:last], sums, known[first:last]))

        segment = self.segments[0]
        targets = self.targets(segment, [plan.head for plan in tree.plans], watch)
        self._walk(_Walk(tree, known, segment, targets, sink, tick))

    def _score_in_segments(
        self, tree: PlanTree, known: list[bool], emit: Emit, tick: Tick, watch: Watch | None
    ) -> None:
        sums = np.zeros((self.n_sums, len(tree.plans), self.n_sequences))

        def sink(first: int, part: Floats) -> None:
            sums[:, first : first + part.shape[1]] += part

        for segment in self.segments:
            targets = self.targets(segment, [plan.head for plan in tree.plans], watch)
            self._walk(_Walk(tree, known, segment, targets, sink, tick))
        emit(_leaves(tree.plans, sums, known))

    # -- down the tree ------------------------------------------------------------------------

    def _walk(self, walk: _Walk) -> None:
        for root in walk.tree.roots():
            if not walk.is_known([root]):
                replaced = self.bank.embedding(root.variant)
                with products(self.arithmetic, self.device):
                    states = [
                        self.decoder.embed_with(chunk.input_ids, replaced)[None]
                        for chunk in walk.segment
                    ]
                self._descend(walk, 0, [root], states)

    def _descend(
        self, walk: _Walk, block: int, nodes: Sequence[Node], states: list[Tensor]
    ) -> None:
        """Runs everything below ``nodes``; ``states`` holds (n x B x S x d) for every chunk."""
        if block == walk.tree.n_blocks:
            self._finish(walk, nodes, states)
            return
        for group in walk.tree.groups(block, nodes, self.layout.nodes):
            if not walk.is_known(group):
                below = self.advance(block, group, states)
                walk.tick(len(group) * sum(chunk.n_rows for chunk in walk.segment), 0)
                self._descend(walk, block + 1, group, below)

    def advance(
        self,
        block: int,
        group: Sequence[Node],
        states: list[Tensor],
    ) -> list[Tensor]:
        """Runs one block for every node of a group, on every chunk.

        Args:
            block: Number of the block.
            group: The nodes after it.
            states: The states of the nodes' parents for every chunk, (p x B x S x d).

        Returns:
            The states of the nodes for every chunk, (n x B x S x d).
        """
        modules = {name: self.bank.block(block, name) for name in {n.variant for n in group}}
        began = time.perf_counter()
        out = self.each(lambda state, _: self.run_group(block, group, modules, state), states)
        self.watch.block(began, len(group) * sum(s.shape[1] * s.shape[2] for s in states))
        return out

    def _exact_block(self, block: int, state: Tensor, _: Tensor) -> Tensor:
        """Returns the state of one node, (1 x B x S x d), after the model's own block."""
        context = self.decoder.context_for(state.shape[1], state.shape[2])
        return self.decoder.run_block(block, state[0], context)[None]

    def run_group(
        self, block: int, group: Sequence[Node], modules: dict[str, nn.Module], state: Tensor
    ) -> Tensor:
        """Runs a block for nodes on one chunk.

        Args:
            block: Number of the block.
            group: The nodes after it.
            modules: The block's variants that they take, by name.
            state: States of the nodes' parents, (p x B x S x d).

        Returns:
            States of the nodes, (n x B x S x d).
        """
        _, rows, length, width = state.shape
        order = sorted(range(len(group)), key=lambda i: group[i].variant)
        runs = [
            run
            for _, same in groupby(order, key=lambda i: group[i].variant)
            for run in self._batches(list(same), rows * length)
        ]
        out = state.new_empty(len(group), rows, length, width) if len(runs) > 1 else None
        for run in runs:
            entering = _rows_of(state, [group[i].parent for i in run])
            left = self.decoder.run_block(
                block,
                entering.view(len(run) * rows, length, width),
                self.decoder.context_for(len(run) * rows, length),
                modules[group[run[0]].variant],
            ).view(len(run), rows, length, width)
            if out is None:
                return left
            out[run] = left
        assert out is not None
        return out

    def _batches(self, nodes: list[int], rows_each: int) -> Iterator[list[int]]:
        """Yields as many nodes at a time as one product may hold."""
        size = max(1, (self.layout.product_rows or self.layout.chunk_rows) // rows_each)
        for start in range(0, len(nodes), size):
            yield nodes[start : start + size]

    def _finish(self, walk: _Walk, nodes: Sequence[Node], states: list[Tensor]) -> None:
        """Scores the leaves under ``nodes``: one plan for each head variant of a node."""
        leaves = [(place, i) for place, node in enumerate(nodes) for i in range(node.lo, node.hi)]
        heads = [walk.tree.plans[i].head for _, i in leaves]
        sums = self.finish(
            walk.segment, walk.targets, states, [place for place, _ in leaves], heads
        )
        walk.tick(0, len(leaves) * sum(chunk.n_rows for chunk in walk.segment))
        walk.sink(leaves[0][1], sums)

    def finish(
        self,
        segment: Sequence[Chunk],
        targets: Sequence[Target],
        states: list[Tensor],
        places: Sequence[int],
        heads: Sequence[str],
    ) -> Floats:
        """Scores leaves.

        Args:
            segment: The chunks.
            targets: What full precision said of each.
            states: States after the last block for every chunk, (n x B x S x d).
            places: For each leaf, its place among the n.
            heads: For each leaf, its head variant.

        Returns:
            Sums of NLL and KL in nats, and of flips where asked for, by leaf and sequence, (2 or 3
            x leaves x A·N).
        """

        def one(job: tuple[Chunk, Target, Tensor], buffer: Tensor) -> Tensor:
            chunk, target, state = job
            mine = torch.zeros(self.n_sums, len(places), chunk.shape[0], dtype=torch.float64)
            for name in dict.fromkeys(heads):
                same = [k for k, head in enumerate(heads) if head == name]
                for batch in self._batches(same, chunk.n_rows):
                    hidden = self.before_head(chunk, _rows_of(state, [places[k] for k in batch]))
                    scored = score_tokens(self._heads, name, hidden, target, buffer)
                    for total, values in zip(mine, scored, strict=True):
                        part = torch.zeros(len(batch), chunk.shape[0], dtype=torch.float64)
                        total[batch] += part.index_add_(1, chunk.rows, values.cpu().double())
            return mine

        jobs = list(zip(segment, targets, states, strict=True))
        sums = np.zeros((self.n_sums, len(places), self.n_sequences))
        began = time.perf_counter()
        for chunk, part in zip(segment, self.each(one, jobs), strict=True):
            # A sequence is in one chunk only, so nothing is added twice.
            sums[:, :, chunk.where] = part.numpy()
        self.watch.head(began, len(places) * sum(chunk.n_rows for chunk in segment))
        return sums

    def each(
        self,
        call: Callable[[T, Tensor], R],
        jobs: Sequence[T],
        arithmetic: Arithmetic | None = None,
    ) -> list[R]:
        """Calls ``call`` on every job and scratch for logits, in as many threads as there are.

        Args:
            call: Returns what is wanted of a job.
            jobs: Independent of each other.
            arithmetic: Of products; the engine's own by default.
        """
        chosen = arithmetic or self.arithmetic

        def one(job: T) -> R:
            with torch.inference_mode(), products(chosen, self.device):
                return call(job, self._workers.buffer(self.make_buffer))

        with products(chosen, self.device):
            return self._workers.map(one, jobs)

    def make_buffer(self) -> Tensor:
        """Returns scratch for logits of a slab of tokens and a tile of the vocabulary."""
        return torch.empty(self.layout.head_rows, self.tile_width, device=self.device)

    def before_head(self, chunk: Chunk, state: Tensor) -> Tensor:
        """Returns the finished states that predict something, (n x T x d), of (n x B x S x d)."""
        flat = state.flatten(1, 2)
        return self.decoder.tail.finish(flat[:, chunk.positions])

    # -- full precision -----------------------------------------------------------------------

    def targets(
        self, segment: Sequence[Chunk], heads: Sequence[str], watch: Watch | None = None
    ) -> list[Target]:
        """Returns what full precision says of each chunk, as these heads need it.

        Args:
            segment: The chunks.
            heads: Head variants of the plans that will be compared with it.
            watch: Shown every chunk with its target.
        """
        names = tuple(sorted({FP, *heads}))
        whole = len(self.segments) == 1
        # What is known of full precision beyond need does no harm.
        kept = self._kept_targets if whole else None
        if kept and kept[0] == names and (not self.tops or kept[1][0].top is not None):
            made = [replace(one, top=None) for one in kept[1]] if not self.tops else kept[1]
        else:
            made = self._make_targets(segment, names, watch)
        if whole:
            self._kept_targets = names, made
        if watch is not None:
            for chunk, target in zip(segment, made, strict=True):
                watch.see(chunk, target)
        return made

    def forget_heads(self) -> None:
        """Forgets rounded heads, and the targets that were made with them."""
        self._heads = {name: head for name, head in self._heads.items() if name == FP}
        self._kept_targets = None

    def head_variants(self, names: Sequence[str]) -> dict[str, Head]:
        """Returns heads by scheme name, as products will see them."""
        for name in set(names) - self._heads.keys():
            tail = self.decoder.tail
            weight = self.bank.head(name)
            self._heads[name] = Head.prepared(weight, tail.bias, tail.softcap, self.rounds)
        return {name: self._heads[name] for name in names}

    def _make_targets(
        self, segment: Sequence[Chunk], names: Sequence[str], watch: Watch | None
    ) -> list[Target]:
        wanted = self.head_variants(names)
        hidden = self.full_precision(segment, watch)

        def one(job: tuple[Chunk, Tensor], scratch: Tensor) -> Target:
            chunk, states = job
            target = make_target(wanted, states, chunk.targets, scratch, tops=self.tops)
            if watch is not None:
                watch.ran(0, chunk.n_rows)
            return target

        jobs = list(zip(segment, hidden, strict=True))
        if not self.rounds:
            return self.each(one, jobs)
        # Not shared among workers: one product in here is exact, a setting of the whole process.
        with products(self.arithmetic, self.device):
            scratch = self.make_buffer()
            return [one(job, scratch) for job in jobs]

    def full_precision(
        self, chunks: Sequence[Chunk], watch: Watch | None = None, *, exact: bool = False
    ) -> list[Tensor]:
        """Returns full-precision states before the head for every chunk, (T x d).

        Args:
            chunks: The text, not necessarily the engine's own; all of it goes through a block
                before the next one is touched.
            watch: Told of the work.
            exact: Run the model's own blocks; else those that plans run, so that what a plan
                leaves in full precision before its first rounded block is this to the bit.
        """
        group = [Node(0, 1, 0, FP)]
        arithmetic = "exact" if exact else self.arithmetic
        with products(arithmetic, self.device):
            states = [self.decoder.embed(chunk.input_ids)[None] for chunk in chunks]
        for block in range(self.decoder.n_blocks):
            if exact:
                states = self.each(partial(self._exact_block, block), states, "exact")
            else:
                states = self.advance(block, group, states)
            if watch is not None:
                watch.ran(sum(chunk.n_rows for chunk in chunks), 0)
        return [self.before_head(c, state)[0] for c, state in zip(chunks, states, strict=True)]


def _rows_of(state: Tensor, parents: list[int]) -> Tensor:
    # A node with one child of this variant, the common case, is passed on without a copy.
    if parents == list(range(parents[0], parents[0] + len(parents))):
        return state[parents[0] : parents[0] + len(parents)]
    return state[parents]


def _leaves(plans: Sequence[Plan], sums: Floats, known: Sequence[bool]) -> list[Leaf]:
    rows = zip(plans, known, *sums, strict=True)
    return [Leaf(plan, *of_plan) for plan, have, *of_plan in rows if not have]


def _segments(chunks: Sequence[Chunk], max_rows: int) -> Iterator[list[Chunk]]:
    segment: list[Chunk] = []
    held = 0
    for chunk in chunks:
        if segment and held + chunk.n_rows > max_rows:
            yield segment
            segment, held = [], 0
        segment.append(chunk)
        held += chunk.n_rows
    if segment:
        yield segment
