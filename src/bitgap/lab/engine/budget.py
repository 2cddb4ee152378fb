"""Memory and time, before a run: how to cut the work, what it will cost, and what it did cost."""

from __future__ import annotations

import ctypes
import math
import re
import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bitgap.errors import BudgetError, UsageError
from bitgap.lab.engine.head import TILE
from bitgap.lab.engine.rates import Rates
from bitgap.lab.engine.scoring import Engine, Layout
from bitgap.lab.engine.stream import disk_bytes
from bitgap.lab.engine.tree import Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bitgap.models.decoder import Decoder
    from bitgap.quant.plan import Plan


MIB = 2**20
GIB = 2**30
DEFAULT_MEMORY_BYTES = 4 * GIB
# Rows in one product: enough to keep a core at matrix products (launching a block costs about
# 0.5 ms), few enough to keep its activations near the caches.
_CHUNK_ROWS = {"cpu": 4096, "cuda": 32768}
# As many where plans share a product: beyond that norms and activations pass the caches by.
_PRODUCT_ROWS = {"cpu": 2048, "cuda": 32768}
# More threads than this share no more chunks; they share each product instead.
_MAX_WORKERS = 4
# Into about so many chunks a short text is cut by length, and so much wider may a level be.
_CHUNKS, _MAX_NODES = 8, 64
# Tokens that meet a tile of the vocabulary at a time: with TILE rows of it, 1 MiB of logits.
_HEAD_ROWS, _MIN_HEAD_ROWS = 512, 64
# What the parts may take of the memory given; the rest is left to the libraries' own scratch. Where
# the longest sequence needs more scratch, stack and bank share what is left to them.
_STACK_SHARE, _BANK_SHARE, _SCRATCH_SHARE, _MOST_SCRATCH = 0.30, 0.25, 0.20, 0.55
_LEAST_LEFT = (_STACK_SHARE + _BANK_SHARE + _SCRATCH_SHARE - _MOST_SCRATCH) / (
    _STACK_SHARE + _BANK_SHARE
)
# Score matrices that eager attention holds at once: raw, masked or capped, and their softmax.
_EAGER_COPIES = 3
# Arrays up to this size come from glibc's heap once one of them was freed, and smaller ones are put
# where they lay: while three copies live, up to three more lie there as holes. Seen for copies of
# 22 MiB: 77 MiB where each is mapped, 100 to 147 MiB from the heap.
_LARGEST_OF_HEAP = 32 * MIB
# Vocabulary visits of full precision: two products where a plan needs one.
FULL_HEADS = 2


def parse_bytes(text: str) -> int:
    """Returns the number of bytes that ``4GiB``, ``512M`` or ``1e9`` names.

    Raises:
        UsageError: If it is no positive amount of memory.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:
        amount = 0.0
    power = "KMGT".index(match[2].upper()) + 1 if match and match[2] else 0
    base = 1000 if match and (match[3] or "").lower() == "b" else 1024
    if not 1 <= amount * base**power < math.inf:
        raise UsageError(f"memory {text!r} is no amount; write for example 4GiB or 800MiB")
    return int(amount * base**power)


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What of a model decides memory, in numbers of float32 for one token row.

    Attributes:
        width: Residual width d.
        inner: Sum of the outputs of a block's linears.
        vocabulary: Number of logits V.
        n_blocks: Number of blocks L.
        eager_heads: Attention heads whose scores are held as a matrix (alibi, soft caps, sinks); 0
            where attention never makes them.
        block_weights: Numbers in the largest block's linears.
    """

    width: int
    inner: int
    vocabulary: int
    n_blocks: int
    eager_heads: int = 0
    block_weights: int = 0

    @classmethod
    def of(cls, decoder: Decoder) -> Dimensions:
        """Reads them off a split model."""
        blocks = [
            [view.shape for view in decoder.block_linears(i).values()]
            for i in range(decoder.n_blocks)
        ]
        vocabulary, width = decoder.tail.weight.shape
        return cls(
            width=max(width, decoder.state_width),
            inner=max(sum(out for out, _ in shapes) for shapes in blocks),
            vocabulary=vocabulary,
            n_blocks=decoder.n_blocks,
            eager_heads=decoder.eager_heads,
            block_weights=max(sum(a * b for a, b in shapes) for shapes in blocks),
        )

    @property
    def block_bytes(self) -> int:
        """Memory of the largest block as it is run, in float32."""
        return 4 * self.block_weights

    def scratch_bytes(self, rows: int, longest: int) -> int:
        """Returns what a block holds of so many token rows while it runs.

        Args:
            rows: Padded token rows.
            longest: Tokens of the longest sequence among them.
        """
        by_row, in_heap = self._scratch_row(longest)
        return rows * by_row + min(rows * in_heap, _EAGER_COPIES * _LARGEST_OF_HEAP)

    def rows_within(self, scratch_bytes: float, longest: int) -> int:
        """Returns how many token rows a block can hold in so much memory; see scratch_bytes."""
        by_row, in_heap = self._scratch_row(longest)
        most_holes = _EAGER_COPIES * _LARGEST_OF_HEAP
        return int(max(scratch_bytes / (by_row + in_heap), (scratch_bytes - most_holes) / by_row))

    def _scratch_row(self, longest: int) -> tuple[int, int]:
        """Returns bytes that a token row takes, and as many as may lie beside it as holes."""
        scores = 4 * _EAGER_COPIES * self.eager_heads * longest
        return 4 * (2 * self.inner + 8 * self.width) + scores, scores


def make_layout(
    size: Dimensions,
    *,
    text_rows: int,
    longest: int,
    memory_bytes: int,
    device: str = "cpu",
    n_heads: int = 1,
    threads: int = 1,
) -> Layout:
    """Cuts the work so that it fits the memory.

    Args:
        size: The model's dimensions.
        text_rows: Tokens of the whole text.
        longest: Tokens of the longest sequence.
        memory_bytes: What may be used beside the model itself.
        device: ``cpu`` or a CUDA device.
        n_heads: Head variants among the plans, full precision included.
        threads: Processor threads that may be used.

    Raises:
        BudgetError: If not even one sequence fits.
    """
    kind = torch.device(device).type
    a_sequence = size.scratch_bytes(longest, longest)
    # A sequence is never cut, so one that is longer than a good chunk makes its own.
    wanted = max(_CHUNK_ROWS.get(kind, _CHUNK_ROWS["cuda"]), longest)
    tile = min(TILE, size.vocabulary)
    one = 1.001 * (a_sequence + _logits_bytes(_MIN_HEAD_ROWS, tile))
    share = min(max(one / memory_bytes, _SCRATCH_SHARE), _MOST_SCRATCH)
    # What scratch takes beyond its share, stack and bank give, each in proportion.
    left = (_STACK_SHARE + _BANK_SHARE + _SCRATCH_SHARE - share) / (_STACK_SHARE + _BANK_SHARE)
    stack_share, bank_share = _STACK_SHARE * left, _BANK_SHARE * left
    workers = 1
    if kind == "cpu":
        # Threads share a text of several chunks; where memory holds one chunk only, each product.
        needs = size.scratch_bytes(wanted, longest) + _logits_bytes(_HEAD_ROWS, tile)
        fitting = int(memory_bytes * share / needs)
        workers = max(1, min(threads, _MAX_WORKERS, fitting, text_rows // max(longest, 1) // 4))
    scratch = memory_bytes * share / workers
    spare = max(scratch / 4, scratch - a_sequence) / 2
    head_rows = max(_MIN_HEAD_ROWS, min(_HEAD_ROWS, int(spare / _logits_bytes(1, tile))))
    if a_sequence + _logits_bytes(head_rows, tile) > scratch:
        head_rows = _MIN_HEAD_ROWS
    room = scratch - _logits_bytes(head_rows, tile)
    chunk_rows = min(wanted, size.rows_within(room, longest))
    product_rows = min(chunk_rows, _PRODUCT_ROWS.get(kind, _PRODUCT_ROWS["cuda"]))
    # Nodes share a step only where the whole text fits the stack; with one, any segment will do.
    # Half the nodes of a mask tree take the same variant, so twice as many fill a product.
    per_node, beside = size.n_blocks + 3, 3 + 2 * n_heads
    text_row = memory_bytes * stack_share / (4 * size.width * max(text_rows, 1))
    filling = 2 * chunk_rows * _CHUNKS // max(text_rows, 1)
    nodes = max(1, min(filling, _MAX_NODES, int((text_row - beside) / per_node)))
    stack_row = 4 * size.width * (per_node * nodes + beside)
    segment_rows = int(memory_bytes * stack_share / stack_row)
    chunk_rows = min(chunk_rows, segment_rows)
    if chunk_rows < longest:
        # Enough for the longest sequence in every part, whatever the shares then are.
        least = longest * 4 * size.width * (per_node + beside)
        need = max(one / _MOST_SCRATCH, least / (_STACK_SHARE * _LEAST_LEFT))
        raise BudgetError(
            f"{memory_bytes / MIB:.0f} MiB beside the model is too little for sequences of "
            f"{longest} tokens; use shorter lines, or give at least "
            f"--memory {need / MIB + 1:.0f}MiB"
        )
    streams = size.n_blocks * size.block_bytes > memory_bytes
    bank_bytes = int(memory_bytes * bank_share)
    return Layout(
        chunk_rows, nodes, head_rows, segment_rows, bank_bytes, workers, streams, product_rows
    )


def walkers_within(
    size: Dimensions, layout: Layout, *, longest: int, memory_bytes: int, threads: int
) -> int:
    """Returns how many threads may take whole batches of text, as a layout cuts it for one thread.

    So the bits are those of one thread, and it is the memory for scratch that has to suffice.

    Args:
        size: The model's dimensions.
        layout: Made for one thread.
        longest: Tokens of the longest sequence.
        memory_bytes: What may be used beside the model itself.
        threads: As many at most.
    """
    tile = min(TILE, size.vocabulary)
    rows = max(layout.chunk_rows, layout.product_rows)
    each = size.scratch_bytes(rows, longest) + _logits_bytes(layout.head_rows, tile)
    return max(1, min(threads, int(memory_bytes * _SCRATCH_SHARE / each)))


def _logits_bytes(rows: int, tile: int) -> int:
    # Logits, and as much again where a shift or a soft cap copies them.
    return 2 * 4 * rows * tile


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a request will cost, known before it starts."""

    n_plans: int
    n_known: int
    work: Work
    n_rows: int
    time_s: float
    memory_bytes: int
    read_bytes: int = 0
    """Of the weights, by the walk; 0 where the model fits the memory and is read by the way."""
    disk_bytes: int = 0
    """States between blocks, where they do not stay in memory."""
    workers: int = 1
    """Processes that share the work, of which each may take the memory given."""
    chosen: str = ""
    """Which way was chosen and why, where that was left to bitgap."""
    of_scoring: bool = False
    """Whether the time is that of scoring alone, and there is more to do that nobody knows."""

    def among(self, workers: int, share: float, each_s: float, begin_s: float) -> Preflight:
        """Returns the cost where workers share the text, as each reads and rounds all blocks.

        Args:
            workers: How many.
            share: The largest part of the text that one has.
            each_s: Seconds of this that every one of them takes, whatever its part.
            begin_s: Seconds until they are up.
        """
        return replace(
            self,
            time_s=begin_s + (self.time_s - each_s) * share + each_s,
            memory_bytes=self.memory_bytes * workers,
            read_bytes=self.read_bytes * workers,
            workers=workers,
        )

    def and_also(self, other: Preflight, n_plans: int) -> Preflight:
        """Returns the cost of this and then another request, on the same text.

        Args:
            other: What is left to do of the other request.
            n_plans: How many plans that asks for, known ones included.
        """
        mine, its = self.work, other.work
        work = Work(
            mine.block_evaluations + its.block_evaluations,
            mine.naive_block_evaluations + its.naive_block_evaluations,
            mine.head_evaluations + its.head_evaluations,
        )
        return Preflight(
            n_plans=self.n_plans + n_plans,
            n_known=self.n_known + n_plans - (other.n_plans - other.n_known),
            work=work,
            n_rows=self.n_rows,
            time_s=self.time_s + other.time_s,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            read_bytes=self.read_bytes + other.read_bytes,
            disk_bytes=max(self.disk_bytes, other.disk_bytes),
            workers=max(self.workers, other.workers),
            chosen=self.chosen or other.chosen,
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the numbers as JSON."""
        return {
            "plans": self.n_plans,
            "plans_in_store": self.n_known,
            "block_evaluations": self.work.block_evaluations,
            "block_evaluations_without_sharing": self.work.naive_block_evaluations,
            "head_evaluations": self.work.head_evaluations,
            "token_rows": self.n_rows,
            "time_s": round(self.time_s, 3),
            "memory_bytes": self.memory_bytes,
            "read_bytes": self.read_bytes,
            "disk_bytes": self.disk_bytes,
            "workers": self.workers,
            "chosen": self.chosen,
            "of_scoring": self.of_scoring,
        }


def predict(
    engine: Engine,
    size: Dimensions,
    work: Work,
    rates: Rates,
    *,
    todo: Sequence[Plan],
    n_plans: int,
    n_variants: int,
    end_bytes: int,
    result_bytes: int,
    again_rows: int | None = None,
) -> Preflight:
    """Returns what a request will cost.

    Args:
        engine: With its layout and text.
        size: The model's dimensions.
        work: Evaluations still to do.
        rates: Measured speed.
        todo: Plans that are still to be scored.
        n_plans: How many are asked for, known ones included.
        n_variants: Blocks that are rounded for the plans, each scheme counted once.
        end_bytes: Embeddings and heads that plans have beside the model's own.
        result_bytes: Scores that are read back at the end.
        again_rows: Where full precision is still to be measured, the rows of the sample that the
            numerical floor evaluates twice.
    """
    layout, n_known = engine.layout, n_plans - len(todo)
    chunks = [chunk for segment in engine.segments for chunk in segment]
    n_rows = sum(chunk.n_rows for chunk in chunks)
    time_s = n_rows * (
        work.block_evaluations * rates.block_s + work.head_evaluations * rates.head_s
    )
    time_s += n_variants * size.block_weights * rates.round_s
    # Targets are made once a process, and where the text is in segments, once a batch of plans.
    full_rows = n_rows if n_plans > n_known or again_rows is not None else 0
    time_s += full_rows * (size.n_blocks * rates.block_s + FULL_HEADS * rates.head_s)
    if again_rows:
        time_s += again_rows * (size.n_blocks * rates.block_s + rates.head_s)
    held_rows = max(sum(chunk.n_rows for chunk in segment) for segment in engine.segments)
    # Few plans fill few nodes.
    nodes = min(layout.nodes, max(1, n_plans - n_known))
    longest = max(chunk.shape[1] for chunk in chunks)
    batch = max(chunk.n_rows for chunk in chunks)
    logits = _logits_bytes(layout.head_rows, engine.tile_width) * layout.workers
    read = disk = 0
    if layout.streams:
        # In memory are a state in and one out, a variant of the block and its pages; the rest is on
        # disk.
        stack = layout.workers * 4 * batch * size.width * 5
        bank = size.block_bytes + max(map(_stored_bytes, engine.decoder.blocks))
        if full_rows:
            read = _stored_bytes(engine.decoder.model)
            disk = disk_bytes(todo, n_rows, engine.decoder.state_width)
    else:
        stack = 4 * held_rows * size.width * ((size.n_blocks + 3) * nodes + 5)
        batch = max(batch, min(layout.product_rows or layout.chunk_rows, batch * nodes))
        bank = min(n_variants * size.block_bytes, layout.bank_bytes)
        bank += size.block_bytes if engine.bank.casts(0) else 0
    scratch = layout.workers * size.scratch_bytes(batch, longest)
    memory = stack + scratch + logits + bank + end_bytes + result_bytes
    return Preflight(n_plans, n_known, work, n_rows, time_s, memory, read, disk)


def _stored_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def tune_heap(*, maps_large: bool = False) -> None:
    """Tells glibc to keep freed memory instead of handing it back after every block.

    A page that is handed back and faulted in again costs more than the arithmetic done on it. To be
    called once a model is read and proved, as what these free, a block or more at a time, would
    stay. It is a setting of the whole process, so only programs (the command line, benchmarks) call
    this.

    Args:
        maps_large: Whether arrays that no heap should hold get pages of their own all the same:
            where attention makes matrices of scores, or the model is walked block by block. Those
            are large, and the holes that they would leave in the heap are beyond any estimate.
    """
    _set_heap({_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: GIB, _MMAP_MAX: 0})
    if maps_large:
        # So many mappings a process may have when it begins.
        _set_heap({_MMAP_THRESHOLD: _LARGEST_OF_HEAP, _MMAP_MAX: 65536})


def tune_heap_for(decoder: Decoder, layout: Layout) -> None:
    """Tunes the heap, once a model is read and proved, for how it will be run.

    Args:
        decoder: The model, split.
        layout: How its work is cut.
    """
    tune_heap(maps_large=bool(decoder.eager_heads) or layout.streams)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h


def _set_heap(settings: Mapping[int, int]) -> None:
    """Sets glibc's heap; does nothing where there is another."""
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for setting, value in settings.items():
        mallopt(setting, ctypes.c_int(value))


def peak_rss_bytes() -> int:
    """Returns the most memory this process has held so far."""
    try:
        # Not the resource usage first: across exec it keeps the peak of the program before.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def current_rss_bytes() -> int:
    """Returns the memory this process holds now; the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_rss_bytes()
    return pages * resource.getpagesize()
