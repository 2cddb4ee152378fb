"""The walk for a model that is larger than the memory given: the block is the outer loop.

Every block is read once. All that is asked of it is done while it is there: each of its variants is
made from that read, and every node of the plan tree that takes it is run on every chunk of text.
Full precision is one more path down the tree, so that what plans are compared with costs no walk of
its own, and so is the sample that the numerical floor evaluates twice. The states between two
blocks lie in a file, and only what is being worked on is in memory; the system is told of the next
block while this one runs.

A node is run on its own, so that its numbers hang on no other plan. After every block the states
are safe on disk with a note that says so: a walk that was killed goes on from there, to the same
bits. Scores are final only at the end, when the head was run.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import Target, make_target, score_tokens
from bitgap.lab.engine.scoring import Emit, Engine, Leaf, Tick, Watch
from bitgap.lab.engine.text import Chunk
from bitgap.lab.engine.tree import Node, PlanTree
from bitgap.models.stored import forget
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan

_NOTE = "walk.json"


def score_streaming(
    engine: Engine,
    plans: Sequence[Plan],
    emit: Emit,
    *,
    known: Callable[[Plan], bool] = lambda plan: False,
    tick: Tick = lambda blocks, heads: None,
    watch: Watch | None = None,
    folder: Path | None = None,
    key: str = "",
) -> None:
    """Scores the plans that are not yet known, as :meth:`Engine.score` does, on one walk.

    Args:
        engine: Model, bank, text and layout.
        plans: What to score; repeats are scored once.
        emit: Called with all leaves at the end.
        known: Whether a plan's scores exist already; asked once per plan.
        tick: Told of the plans' work.
        watch: Shown what full precision says of every chunk; also where no plan is left to score.
        folder: Where states lie between blocks, so that a walk that is killed goes on; the caller
            removes it when scores are safe. A temporary one when None.
        key: Of what those states hang on beside plans and layout: model and text.

    Raises:
        PlanError: If a plan does not fit the model.
    """
    for plan in plans:
        engine.bank.check(plan)
    todo = [plan for plan in PlanTree(plans).plans if not known(plan)]
    if todo or watch is not None:
        walk = Stream(engine, todo, tick, watch)
        emit(walk.run(folder, f"{key} {engine.layout} {[plan.text for plan in todo]}"))


class _States:
    """States of the nodes of one level on every chunk, in one file of float32."""

    def __init__(self, path: Path, chunks: Sequence[Chunk], width: int, n_nodes: int) -> None:
        self.path, self._width = path, width
        self._shapes = [chunk.shape for chunk in chunks]
        rows = np.cumsum([0, *(chunk.n_rows for chunk in chunks)])
        self._starts = [int(first) * width * 4 * n_nodes for first in rows]
        self._lock = threading.Lock()
        path.touch()
        self._file = path.open("r+b", buffering=0)

    def read(self, chunk: int, node: int) -> Tensor:
        """Returns (B x S x d) of one node on one chunk."""
        rows, length = self._shapes[chunk]
        out = torch.empty(rows, length, self._width)
        memory = _bytes_of(out)
        with self._lock:
            self._file.seek(self._at(chunk, node))
            done = 0
            while done < len(memory):
                n = self._file.readinto(memory[done:])
                if not n:
                    raise OSError(f"{self.path} ended before its states did")
                done += n
        return out

    def write(self, chunk: int, node: int, state: Tensor) -> None:
        """Keeps (B x S x d) of one node on one chunk."""
        memory = _bytes_of(state.detach().float().cpu().contiguous())
        with self._lock:
            self._file.seek(self._at(chunk, node))
            while len(memory):
                memory = memory[self._file.write(memory) :]

    def keep(self) -> None:
        """Returns when all that was written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file, which stays."""
        self._file.close()

    def _at(self, chunk: int, node: int) -> int:
        rows, length = self._shapes[chunk]
        return self._starts[chunk] + node * rows * length * self._width * 4


def levels(tree: PlanTree) -> list[list[Node]]:
    """Returns the nodes of a tree level by level: embedding variants, then after each block."""
    found = [tree.roots()]
    for block in range(tree.n_blocks):
        found.append([n for group in tree.groups(block, found[-1], 2**31) for n in group])
    return found


def disk_bytes(plans: Sequence[Plan], n_rows: int, width: int) -> int:
    """Returns what the states of a walk take on disk at most, two levels at a time.

    Args:
        plans: Those to score; full precision is added.
        n_rows: Padded token rows of the text.
        width: d.
    """
    counts = [len(nodes) for nodes in levels(_with_full(plans))] if plans else [1, 1]
    return 4 * n_rows * width * max(a + b for a, b in itertools.pairwise(counts))


def _with_full(plans: Sequence[Plan]) -> PlanTree:
    n_blocks = len(plans[0].blocks)
    return PlanTree([*plans, Plan.uniform(FP, n_blocks)])


class Stream:
    """One walk of some plans through one model, block by block."""

    def __init__(
        self, engine: Engine, plans: Sequence[Plan], tick: Tick, watch: Watch | None
    ) -> None:
        """Plans the walk; nothing runs yet.

        Args:
            engine: Model, bank, text and layout.
            plans: To score; none of them full precision, which is run beside them.
            tick: Told of the plans' work.
            watch: Shown what full precision says of every chunk.
        """
        self._engine, self._tick, self._watch = engine, tick, watch
        n_blocks = engine.decoder.n_blocks
        self._full = Plan.uniform(FP, n_blocks)
        self._tree = PlanTree([*plans, self._full])
        self._levels = levels(self._tree)
        self._chunks = [chunk for segment in engine.segments for chunk in segment]
        self._rows = sum(chunk.n_rows for chunk in self._chunks)
        # Evaluated twice, in batches of their own, for the floor.
        self._again = [] if watch is None else watch.again
        self._second: list[Tensor] = []
        self._files = ExitStack()

    @torch.inference_mode()
    def run(self, folder: Path | None = None, key: str = "") -> list[Leaf]:
        """Walks, or goes on with a walk that was killed.

        Args:
            folder: Where states lie between blocks; a temporary one when None.
            key: Of all that the states hang on; a walk under another key is begun anew.
        """
        key = f"{key} again {[chunk.where.tolist() for chunk in self._again]}"
        with _folder(folder) as place, self._files:
            before, begin = self._resumed(place, key)
            for block in range(begin, self._engine.decoder.n_blocks):
                before = self._through(block, before, place, key)
            return self._finish(before)

    # -- through the blocks -------------------------------------------------------------------

    def _resumed(self, place: Path, key: str) -> tuple[_States, int]:
        note = place / _NOTE
        if note.is_file():
            told = json.loads(note.read_text())
            if told["key"] == key:
                done = int(told["blocks"])
                self._second = torch.load(place / f"again-{done}.pt", weights_only=True)
                return self._states(place, done), done
        states = self._states(place, 0)
        for slot, root in enumerate(self._levels[0]):
            replaced = self._engine.bank.embedding(root.variant)
            for number, chunk in enumerate(self._chunks):
                with products(self._engine.arithmetic, self._engine.device):
                    state = self._engine.decoder.embed_with(chunk.input_ids, replaced)
                states.write(number, slot, state)
        with products(self._engine.arithmetic, self._engine.device):
            self._second = [self._engine.decoder.embed(c.input_ids) for c in self._again]
        return states, 0

    def _states(self, place: Path, level: int) -> _States:
        width = self._engine.decoder.state_width
        n_nodes = len(self._levels[level])
        made = _States(place / f"states-{level}.bin", self._chunks, width, n_nodes)
        self._files.callback(made.close)
        return made

    def _through(self, block: int, before: _States, place: Path, key: str) -> _States:
        engine = self._engine
        engine.decoder.bring(block)
        if block + 1 < engine.decoder.n_blocks:
            engine.decoder.expect(block + 1)
        after = self._states(place, block + 1)
        nodes = self._levels[block + 1]
        full = next(i for i, n in enumerate(nodes) if self._is_full(n))
        # All nodes of a variant after each other: it is made once, and may be forgotten after.
        for slot in sorted(range(len(nodes)), key=lambda i: (nodes[i].variant, i)):
            self._node(block, nodes[slot], slot, before, after)
            if slot == full:
                self._run_again(block)
                if self._watch is not None:
                    self._watch.ran(self._rows, 0)
            else:
                self._tick(self._rows, 0)
        engine.bank.release(block)
        for parameter in engine.decoder.blocks[block].parameters():
            forget(parameter)
        after.keep()
        torch.save(self._second, place / f"again-{block + 1}.pt")
        _write_note(place / _NOTE, {"key": key, "blocks": block + 1})
        before.close()
        for old in (before.path, place / f"again-{block}.pt"):
            old.unlink(missing_ok=True)
        return after

    def _node(self, block: int, node: Node, slot: int, before: _States, after: _States) -> None:
        engine = self._engine
        group = [Node(node.lo, node.hi, 0, node.variant)]
        modules = {node.variant: engine.bank.block(block, node.variant)}

        def one(number: int, _: Tensor) -> None:
            state = before.read(number, node.parent)[None].to(engine.device)
            after.write(number, slot, engine.run_group(block, group, modules, state)[0])

        began = time.perf_counter()
        engine.each(one, range(len(self._chunks)))
        engine.watch.block(began, self._rows)

    def _run_again(self, block: int) -> None:
        group = [Node(0, 1, 0, FP)]
        states = [state[None] for state in self._second]
        self._second = [s[0] for s in self._engine.advance(block, group, states)]

    def _is_full(self, node: Node) -> bool:
        return self._full in self._tree.plans[node.lo : node.hi]

    # -- at the head --------------------------------------------------------------------------

    def _finish(self, states: _States) -> list[Leaf]:
        engine, plans = self._engine, self._tree.plans
        leaves = [(i, slot) for slot, n in enumerate(self._levels[-1]) for i in range(n.lo, n.hi)]
        mine = [(i, slot) for i, slot in leaves if plans[i] != self._full]
        full = next(slot for i, slot in leaves if plans[i] == self._full)
        heads = engine.head_variants(sorted({FP, *(plans[i].head for i, _ in mine)}))
        sums = np.zeros((engine.n_sums, len(mine), engine.n_sequences))
        if self._watch is not None:
            hidden = zip(self._again, self._second, strict=True)
            self._watch.second([engine.before_head(c, s[None])[0] for c, s in hidden])

        def one(number: int, scratch: Tensor) -> tuple[Target, Tensor]:
            chunk = self._chunks[number]
            hidden = engine.before_head(chunk, states.read(number, full)[None])[0]
            target = make_target(heads, hidden, chunk.targets, scratch, tops=engine.tops)
            found = torch.zeros(engine.n_sums, len(mine), chunk.shape[0], dtype=torch.float64)
            for k, (i, slot) in enumerate(mine):
                moved = engine.before_head(chunk, states.read(number, slot)[None])
                scored = score_tokens(heads, plans[i].head, moved, target, scratch)
                for total, values in zip(found, scored, strict=True):
                    total[k].index_add_(0, chunk.rows, values[0].cpu().double())
            return target, found

        numbers = range(len(self._chunks))
        # As many at a time as there are workers, so that few targets are held.
        step = 1 if engine.rounds else engine.layout.workers
        for first in range(0, len(numbers), step):
            some = numbers[first : first + step]
            for number, (target, found) in zip(some, engine.each(one, some), strict=True):
                chunk = self._chunks[number]
                sums[:, :, chunk.where] = found.numpy()
                if self._watch is not None:
                    self._watch.ran(0, chunk.n_rows)
                    self._watch.see(chunk, target)
                self._tick(0, len(mine) * chunk.n_rows)
        rows = zip(mine, *sums, strict=True)
        return [Leaf(plans[i], *of_plan) for (i, _), *of_plan in rows]


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    """Makes a folder for a walk; one that was named stays, until its scores are kept elsewhere."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="bitgap-walk-") as made:
            yield Path(made)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _bytes_of(state: Tensor) -> memoryview:
    """Returns a tensor's own memory, to be read into or written from."""
    array: Any = state.numpy()
    return memoryview(array).cast("B")


def _write_note(path: Path, told: dict[str, object]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(told))
    part.replace(path)
