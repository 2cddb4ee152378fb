"""How fast this machine is on a model: probed in a moment, kept, and corrected by what runs take.

A probe pushes a few hundred real token rows through one block, one tile of the vocabulary through
the last product, and a piece of one matrix through rounding. It takes about a second at most,
whatever the model and the text. What a run then takes replaces it, and is kept in the store by
machine, shapes and arithmetic, so that the next forecast rests on real work.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import Head, log_sum_exp
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.quant.bank import FP
from bitgap.quant.rounding import round_weight

if TYPE_CHECKING:
    from bitgap.lab.engine.scoring import Engine
    from bitgap.lab.engine.text import Chunk

_PROBE_ROWS = 384
"""Token rows each worker is given in a probe."""
_PROBE_S = 0.3
"""What each of the three parts of a probe may take beyond one try."""
_PROBED_WEIGHTS = 2**18
_SMALL = 2**-10
_ENOUGH_S = 0.5
"""Work that took less says little of speed."""
_KEPT_SHARE = 0.5
"""How much of what was known stays where a run says otherwise: a busy hour is not the machine."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Speed of this machine on this model.

    Attributes:
        block_s: Seconds for one token row through one block.
        head_s: Seconds for one token row through the head.
        round_s: Seconds to round one weight.
        learned: Whether it is what runs took, and not only a probe.
    """

    block_s: float
    head_s: float
    round_s: float = 0.0
    learned: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Returns the numbers as JSON."""
        return asdict(self)


def corrected(rates: Rates, watch: Stopwatch) -> Rates:
    """Returns rates after work that was timed; the same where there was too little of it.

    The first time measured replaces a probe, later ones are averaged with what was known.

    Args:
        rates: What was thought.
        watch: What was seen.
    """
    kept = _KEPT_SHARE if rates.learned else 0.0

    def mixed(old: float, seconds: float, rows: int) -> float:
        return kept * old + (1 - kept) * seconds / rows if seconds >= _ENOUGH_S else old

    block_s = mixed(rates.block_s, watch.block_s, watch.block_rows)
    head_s = mixed(rates.head_s, watch.head_s, watch.head_rows)
    if (block_s, head_s) == (rates.block_s, rates.head_s):
        return rates
    return Rates(block_s, head_s, rates.round_s, learned=True)


@torch.inference_mode()
def probe_rates(engine: Engine) -> Rates:
    """Times one block, one tile of the head and a piece of one matrix, for about a second at most.

    Args:
        engine: With its layout and text; its workers share the probe as they share the work.
    """
    steps = _steps(engine, _PROBE_ROWS)
    block_s = _best(steps.block, engine.device)
    head_s = _best(steps.head, engine.device)
    view = next(iter(engine.decoder.block_linears(0).values()))
    matrix = view.get()
    piece = matrix[: max(1, _PROBED_WEIGHTS // matrix.shape[1])]
    round_s = _best(lambda: round_weight(piece, "rtn4-g128", stream="probe"), engine.device)
    return Rates(
        block_s / steps.rows, head_s / steps.rows / steps.head_share, round_s / piece.numel()
    )


@torch.inference_mode()
def pace(engine: Engine, rows: int, seconds: float) -> tuple[float, float]:
    """Returns how many token rows a second go through one block, and through the head.

    Of all that was done in the time, so that who else is at work then counts.

    Args:
        engine: With its layout and text; its workers share the work.
        rows: Token rows that each worker is given at a time.
        seconds: For blocks, and again for the head; one step each at least.
    """
    steps = _steps(engine, rows)
    return (
        steps.rows * _a_second(steps.block, seconds),
        steps.rows * _a_second(steps.head, seconds) * steps.head_share,
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    """What is timed: one block, and one tile of the vocabulary, on a few real rows.

    Attributes:
        block: Puts the rows through a block.
        head: Puts them through a tile.
        rows: How many they are, of all workers.
        head_share: The tile's part of the vocabulary.
    """

    block: Callable[[], object]
    head: Callable[[], object]
    rows: int
    head_share: float


def _steps(engine: Engine, rows: int) -> _Steps:
    decoder, workers = engine.decoder, engine.layout.workers
    chunk = _typical(engine)
    ids = chunk.input_ids[: max(1, rows // chunk.shape[1])]
    module = engine.bank.block(0, FP)
    with products(engine.arithmetic, engine.device):
        state = decoder.embed(ids)
        context = decoder.context_for(*ids.shape)
    weight = decoder.tail.weight
    tile = weight[: engine.tile_width]
    head = Head.prepared(tile, None, None, engine.rounds)
    # Small, as states of the first block may give logits that no later ones do, and whose sums of
    # exponentials have to be taken again.
    hidden = decoder.tail.finish(state).flatten(0, 1) * _SMALL
    entered = head.enter(hidden)
    return _Steps(
        lambda: engine.each(
            lambda s, _: decoder.run_block(0, s, context, module), [state] * workers
        ),
        lambda: engine.each(lambda h, scratch: log_sum_exp(head, h, scratch), [entered] * workers),
        ids.numel() * workers,
        len(tile) / len(weight),
    )


def _a_second(call: Callable[[], object], seconds: float) -> float:
    """Returns how often a second something is done, over some time."""
    n, began = 0, time.perf_counter()
    while True:
        call()
        n += 1
        took = time.perf_counter() - began
        if took >= seconds:
            return n / took


def _typical(engine: Engine) -> Chunk:
    """Returns the chunk that the median padded row is in."""
    chunks = [chunk for segment in engine.segments for chunk in segment]
    half = sum(chunk.n_rows for chunk in chunks) / 2
    for chunk in chunks:
        half -= chunk.n_rows
        if half <= 0:
            return chunk
    return chunks[-1]


def _best(call: Callable[[], object], device: str) -> float:
    """Returns the least seconds of a few calls; one, after one that does not count, if it is slow.

    The first call pays for memory that later ones find.
    """
    best, began = float("inf"), time.perf_counter()
    for turn in range(6):
        start = time.perf_counter()
        call()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        best = min(best, took) if turn else took
        if time.perf_counter() - began > _PROBE_S:
            break
    return best


def rates_about(engine: Engine) -> list[Any]:
    """Returns what rates hang on: machine, libraries, shapes and arithmetic; JSON-serialisable."""
    decoder = engine.decoder
    linears = [list(view.shape) for view in decoder.block_linears(0).values()]
    tail = decoder.tail.weight
    # Threads that torch does not know of, where each takes text by itself.
    walkers = engine.layout.workers
    threads = torch.get_num_threads()
    return [
        "rates",
        1,
        _processor(),
        os.cpu_count(),
        torch.__version__,
        threads if walkers <= threads else ["one each", walkers],
        engine.device,
        engine.arithmetic,
        type(decoder.model).__name__,
        linears,
        [*tail.shape, str(tail.dtype)],
    ]


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line[:10] == "model name")
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{platform.machine()} {name}"
