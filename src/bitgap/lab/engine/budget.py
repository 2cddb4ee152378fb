"""Memory and time, before a run: how to cut the work, what it will cost, and what it did cost."""

from __future__ import annotations

import ctypes
import math
import re
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bitgap.errors import BudgetError, UsageError
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.scoring import Engine, Layout
from bitgap.lab.engine.tree import Node, Work
from bitgap.quant.bank import FP

if TYPE_CHECKING:
    from bitgap.models.decoder import Decoder


MIB = 2**20
GIB = 2**30
DEFAULT_MEMORY_BYTES = 4 * GIB
# Rows in one product: enough to keep a core at matrix products (launching a block costs about
# 0.5 ms), few enough to keep its activations near the caches.
_CHUNK_ROWS = {"cpu": 4096, "cuda": 32768}
# More threads than this share no more chunks; they share each product instead.
_MAX_WORKERS = 4
# Into about so many chunks a short text is cut by length, and so much wider may a level be.
_CHUNKS, _MAX_NODES = 8, 64
# Bytes of logits each worker holds at once, so that they stay near it from product to sum.
_LOGITS_BYTES = 16 * MIB
_MIN_HEAD_ROWS = 64
# What the parts may take of the memory given; the rest is left to the libraries' own scratch.
_STACK_SHARE, _BANK_SHARE, _SCRATCH_SHARE = 0.30, 0.25, 0.20


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
    """

    width: int
    inner: int
    vocabulary: int
    n_blocks: int

    @classmethod
    def of(cls, decoder: Decoder) -> Dimensions:
        """Reads them off a split model."""
        inner = sum(view.get().shape[0] for view in decoder.block_linears(0).values())
        vocabulary, width = decoder.tail.weight.shape
        return cls(max(width, decoder.state_width), inner, vocabulary, decoder.n_blocks)


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
    scratch_row = 4 * (2 * size.inner + 8 * size.width)
    # A sequence is never cut, so one that is longer than a good chunk makes its own.
    wanted = max(_CHUNK_ROWS.get(kind, _CHUNK_ROWS["cuda"]), longest)
    workers = 1
    if kind == "cpu":
        # Threads share a text of several chunks; where memory holds one chunk only, each product.
        needs = max(scratch_row * wanted, _logits_bytes(_MIN_HEAD_ROWS, size.vocabulary))
        fitting = int(memory_bytes * _SCRATCH_SHARE / needs)
        workers = max(1, min(threads, _MAX_WORKERS, fitting, text_rows // max(longest, 1) // 4))
    scratch = memory_bytes * _SCRATCH_SHARE / workers
    chunk_rows = min(wanted, int(scratch / scratch_row))
    logits_bytes = min(_LOGITS_BYTES, int(scratch / 3))
    head_rows = min(max(logits_bytes // (4 * size.vocabulary), _MIN_HEAD_ROWS), 1024)
    # Nodes share a step only where the whole text fits the stack; with one, any segment will do.
    # Half the nodes of a mask tree take the same variant, so twice as many fill a product.
    per_node, beside = size.n_blocks + 3, 3 + 2 * n_heads
    text_row = memory_bytes * _STACK_SHARE / (4 * size.width * max(text_rows, 1))
    filling = 2 * chunk_rows * _CHUNKS // max(text_rows, 1)
    nodes = max(1, min(filling, _MAX_NODES, int((text_row - beside) / per_node)))
    stack_row = 4 * size.width * (per_node * nodes + beside)
    segment_rows = int(memory_bytes * _STACK_SHARE / stack_row)
    chunk_rows = min(chunk_rows, segment_rows)
    logits = _logits_bytes(head_rows, size.vocabulary) * workers
    if chunk_rows < longest or logits > memory_bytes * _SCRATCH_SHARE:
        need = max(
            longest * scratch_row / _SCRATCH_SHARE,
            longest * stack_row / _STACK_SHARE,
            logits / _SCRATCH_SHARE,
        )
        raise BudgetError(
            f"{memory_bytes / MIB:.0f} MiB beside the model is too little for sequences of "
            f"{longest} tokens; give at least --memory {need / MIB + 1:.0f}MiB"
        )
    bank_bytes = int(memory_bytes * _BANK_SHARE)
    return Layout(chunk_rows, nodes, head_rows, segment_rows, bank_bytes, workers)


def _logits_bytes(rows: int, vocabulary: int) -> int:
    # Logits, and two more of their size where a log-sum-exp or a soft cap copies them.
    return 3 * 4 * rows * vocabulary


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured speed of this machine on this model: seconds for one token row."""

    block_s: float
    head_s: float


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a request will cost, known before it starts."""

    n_plans: int
    n_known: int
    work: Work
    n_rows: int
    time_s: float
    memory_bytes: int

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
        )

    def as_dict(self) -> dict[str, float | int]:
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
        }


@torch.inference_mode()
def measure_rates(engine: Engine) -> Rates:
    """Times one block and one head on real text as the engine runs them, the best of a few."""
    segment = engine.segments[0]
    # As many nodes as share a variant in a mask tree, all children of their own parents.
    n = max(1, engine.layout.nodes // 2)
    group = [Node(i, i + 1, i, FP) for i in range(n)]
    with products(engine.arithmetic, engine.device):
        states = [
            engine.decoder.embed(c.input_ids).expand(n, -1, -1, -1).contiguous() for c in segment
        ]
    targets = engine.targets(segment, [FP])
    block_s = _best_of(lambda: engine.advance(0, group, states))
    head_s = _best_of(lambda: engine.finish(segment, targets, states, range(n), [FP] * n))
    rows = n * sum(chunk.n_rows for chunk in segment)
    return Rates(block_s / rows, head_s / rows)


def _best_of(call, repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def predict(
    engine: Engine,
    size: Dimensions,
    work: Work,
    rates: Rates,
    *,
    n_plans: int,
    n_known: int,
    bank_bytes: int,
    result_bytes: int,
    reference: bool = False,
) -> Preflight:
    """Returns what a request will cost.

    Args:
        engine: With its layout and text.
        size: The model's dimensions.
        work: Evaluations still to do.
        rates: Measured speed.
        n_plans: Plans asked for.
        n_known: Of these, plans already in the store.
        bank_bytes: Rounded blocks the plans need, before the bank's limit.
        result_bytes: Scores that are read back at the end.
        reference: Whether full precision and the numerical floor are still to be measured.
    """
    layout = engine.layout
    n_rows = sum(chunk.n_rows for segment in engine.segments for chunk in segment)
    time_s = n_rows * (
        work.block_evaluations * rates.block_s + work.head_evaluations * rates.head_s
    )
    if reference:
        # Full precision once, and for the floor twice more; each visits the vocabulary three times.
        time_s += n_rows * 3 * (size.n_blocks * rates.block_s + 3 * rates.head_s)
    held_rows = max(sum(chunk.n_rows for chunk in segment) for segment in engine.segments)
    # Few plans fill few nodes; measuring the rates holds half of all before and after a block.
    nodes = min(layout.nodes, max(1, n_plans - n_known))
    states = max((size.n_blocks + 3) * nodes, layout.nodes) + 5
    stack = 4 * held_rows * size.width * states
    scratch = (
        4
        * min(layout.chunk_rows * layout.workers, held_rows * layout.nodes)
        * (2 * size.inner + 8 * size.width)
    )
    logits = _logits_bytes(layout.head_rows, size.vocabulary) * layout.workers
    memory = stack + scratch + logits + min(bank_bytes, layout.bank_bytes) + result_bytes
    return Preflight(n_plans, n_known, work, n_rows, time_s, memory)


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of handing it back after every block.

    A page that is handed back and faulted in again costs more than the arithmetic done on it. It
    is a setting of the whole process, so only programs (the command line, benchmarks) call this.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    mallopt(trim_threshold, ctypes.c_int(2**31 - 1))
    mallopt(mmap_threshold, ctypes.c_int(GIB))
    mallopt(mmap_max, 0)


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
