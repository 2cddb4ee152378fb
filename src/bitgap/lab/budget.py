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
from bitgap.lab.arithmetic import fast_products_round, products
from bitgap.lab.head import Head, log_sum_exp
from bitgap.lab.scoring import Engine, Layout
from bitgap.lab.tree import Work
from bitgap.records import Arithmetic

if TYPE_CHECKING:
    from bitgap.models.decoder import Decoder

MIB = 2**20
GIB = 2**30
DEFAULT_MEMORY_BYTES = 4 * GIB

# Rows in one product: enough to keep the cores at matrix products (launching a block costs about
# 0.4 ms), few enough to keep its activations near the caches. Faster products need more rows.
_CHUNK_ROWS = {"exact": 2048, "fast": 4096, "cuda": 32768}
# Bytes of logits held at once: small enough to stay in cache between product, exp and sum.
_LOGITS_BYTES = 16 * MIB
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
        return cls(max(width, decoder.width), inner, vocabulary, decoder.n_blocks)


def make_layout(
    size: Dimensions,
    *,
    text_rows: int,
    longest: int,
    memory_bytes: int,
    arithmetic: Arithmetic,
    device: str = "cpu",
    n_heads: int = 1,
) -> Layout:
    """Cuts the work so that it fits the memory.

    Args:
        size: The model's dimensions.
        text_rows: Tokens of the whole text.
        longest: Tokens of the longest sequence.
        memory_bytes: What may be used beside the model itself.
        arithmetic: Faster products want more rows at once.
        device: ``cpu`` or a CUDA device.
        n_heads: Head variants among the plans, full precision included.

    Raises:
        BudgetError: If not even one sequence fits.
    """
    rounds = arithmetic == "fast" and fast_products_round(device)
    kind = "cuda" if device.startswith("cuda") else "fast" if rounds else "exact"
    scratch_row = 4 * (2 * size.inner + 8 * size.width)
    # A sequence is never cut, so one that is longer than a good chunk makes its own.
    chunk_rows = max(_CHUNK_ROWS[kind], longest)
    chunk_rows = min(chunk_rows, int(memory_bytes * _SCRATCH_SHARE / scratch_row))
    logits_bytes = min(_LOGITS_BYTES, int(memory_bytes * _SCRATCH_SHARE / 3))
    head_rows = min(max(logits_bytes // (4 * size.vocabulary), 64), 1024)
    # Nodes share a step only where the whole text fits the stack; with one, any segment will do.
    per_node, beside = size.n_blocks + 3, 3 + 2 * n_heads
    text_row = memory_bytes * _STACK_SHARE / (4 * size.width * max(text_rows, 1))
    nodes = max(1, min(chunk_rows // max(text_rows, 1), int((text_row - beside) / per_node)))
    stack_row = 4 * size.width * (per_node * nodes + beside)
    segment_rows = int(memory_bytes * _STACK_SHARE / stack_row)
    chunk_rows = min(chunk_rows, segment_rows)
    logits = 3 * 4 * head_rows * size.vocabulary
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
    return Layout(chunk_rows, nodes, head_rows, segment_rows, int(memory_bytes * _BANK_SHARE))


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
    """Times one block and one head on real text, the faster of two runs each."""
    decoder, chunk = engine.decoder, max(engine.segments[0], key=lambda chunk: chunk.n_rows)
    with products(engine.arithmetic, str(chunk.input_ids.device)):
        state = decoder.embed(chunk.input_ids)
        context = decoder.context_for(*chunk.shape)
        block_s = _best_of(lambda: decoder.run_block(0, state, context)) / chunk.n_rows
        rows = engine.layout.head_rows
        buffer = torch.empty(rows, decoder.tail.weight.shape[0], device=state.device)
        head = Head(decoder.tail.weight, decoder.tail.bias, decoder.tail.softcap, False)
        hidden = decoder.tail.finish(state.flatten(0, 1)[:rows])
        head_s = _best_of(lambda: log_sum_exp(head, hidden, buffer)) / len(hidden)
    scored = len(chunk.targets) / chunk.n_rows
    return Rates(block_s, head_s * scored)


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
    """
    layout = engine.layout
    n_rows = sum(chunk.n_rows for segment in engine.segments for chunk in segment)
    time_s = n_rows * (
        work.block_evaluations * rates.block_s + work.head_evaluations * rates.head_s
    )
    held_rows = max(sum(chunk.n_rows for chunk in segment) for segment in engine.segments)
    stack = 4 * held_rows * size.width * ((size.n_blocks + 3) * layout.nodes + 5)
    scratch = 4 * min(layout.chunk_rows, held_rows) * (2 * size.inner + 8 * size.width)
    logits = 3 * 4 * layout.head_rows * size.vocabulary
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def current_rss_bytes() -> int:
    """Returns the memory this process holds now; the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_rss_bytes()
    return pages * resource.getpagesize()
