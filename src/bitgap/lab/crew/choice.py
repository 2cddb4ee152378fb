"""Whether processes of one thread are faster than threads of one process, by measurement.

Threads of one process share one interpreter and one heap, processes share nothing but the machine's
memory, and have to come up and round all blocks each. Which is faster hangs on the machine, on what
else it does and on the model's shapes. So both push the model's own rows for a moment, once, and
what that gave is kept in the store by machine and shapes, as rates are. Both ways give the bits of
one process with one thread: a thread takes whole batches of text, with products of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitgap.lab.engine.budget import Preflight
from bitgap.lab.engine.rates import Rates, rates_about
from bitgap.lab.engine.scoring import Engine
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.show.words import duration

WORTH = 10
"""How many times as long as measuring and coming up the work has to be, for that to pay."""
TRY_S = 0.5
"""What blocks, and then the head, are tried for, by threads and by processes."""
_TRY_ROWS, _FEWEST_ROWS = 1024, 64
_SOON_S = 1e-3


@dataclass(frozen=True, slots=True)
class Gain:
    """How much faster processes are than threads: rows a second of theirs over those of threads.

    Attributes:
        block: Through a block.
        head: Through the head.
    """

    block: float
    head: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the numbers as JSON."""
        return asdict(self)

    def of_each(self, rates: Rates, n: int) -> Rates:
        """Returns the rates of one of so many processes at work, from those of threads."""
        return replace(
            rates, block_s=rates.block_s * n / self.block, head_s=rates.head_s * n / self.head
        )

    def of_threads(self, watch: Stopwatch, n: int) -> Stopwatch:
        """Returns what threads would have taken for what each of so many processes was seen at."""
        return replace(
            watch, block_s=watch.block_s * self.block / n, head_s=watch.head_s * self.head / n
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """Which way a request goes, and why.

    Attributes:
        n: Processes; 1 where threads of this process do it.
        why: In a line.
        about: What is said once, however often a choice ends so: why, without how long it takes.
        cost: What it costs so.
        gain: Of processes, where they were chosen.
    """

    n: int
    why: str
    about: str
    cost: Preflight
    gain: Gain | None = None


def gain_about(engine: Engine, n: int) -> list[Any]:
    """Returns what a gain hangs on; JSON-serialisable.

    Args:
        engine: With the threads that processes are compared with.
        n: Processes.
    """
    return ["processes beside threads", 1, n, rates_about(engine)]


def as_process(engine: Engine, share: Sequence[int], n: int) -> Engine:
    """Returns an engine as one of so many processes has it: one thread, and its part of the text.

    The text is cut as it is for all, and so are the plans; of the memory for rounded blocks, which
    decides no bits, it has its part.

    Args:
        engine: Of the whole text.
        share: Numbers of its chunks.
        n: Processes.
    """
    chunks = [chunk for segment in engine.segments for chunk in segment]
    made = copy.copy(engine)
    made.layout = replace(
        engine.layout, workers=1, bank_bytes=max(1, engine.layout.bank_bytes // n)
    )
    made.segments = [[chunks[i] for i in share]]
    return made


def try_rows(block_s: float, threads: int) -> int:
    """Returns how many token rows a thread should be given to be tried for a moment.

    Args:
        block_s: Seconds for one row through one block, by all threads.
        threads: How many they are.
    """
    return max(_FEWEST_ROWS, min(_TRY_ROWS, int(TRY_S / 2 / (block_s * threads))))


def chosen(threads: Preflight, n_threads: int, processes: Preflight, gain: Gain) -> Choice:
    """Returns the faster way of two that were forecast from what was measured.

    Args:
        threads: Cost by threads of this process.
        n_threads: How many they are.
        processes: Cost by processes, with what it takes until they are up.
        gain: Of them, as it was measured.
    """
    n = processes.workers
    told = [(threads.time_s, f"{n_threads} threads of one process"),
            (processes.time_s, f"{n} processes of one thread")]  # fmt: skip
    (fast_s, fast), (slow_s, slow) = sorted(told)
    why = (
        f"{fast}, about {duration(fast_s)}; {slow} would take {slow_s / max(fast_s, _SOON_S):.2f} "
        "times as long, as they were measured here"
    )
    if processes.time_s < threads.time_s:
        return Choice(n, why, fast, replace(processes, chosen=why), gain)
    return Choice(1, why, fast, replace(threads, chosen=why))


def stays(threads: Preflight, n_threads: int, why: str) -> Choice:
    """Returns that threads of this process do it.

    Args:
        threads: Cost by them.
        n_threads: How many they are.
        why: Why nothing else is asked, in words.
    """
    words = f"{n_threads} threads of one process" if n_threads > 1 else "one process of one thread"
    told = f"{words}, as {why}"
    return Choice(1, told, why, replace(threads, chosen=told))


def gain_of(threads: tuple[float, float], processes: Sequence[tuple[float, float]]) -> Gain:
    """Returns the gain of processes that were tried together over threads.

    Args:
        threads: Rows a second through a block and through the head.
        processes: Likewise of each.
    """
    block, head = (sum(rows) for rows in zip(*processes, strict=True))
    return Gain(block / threads[0], head / threads[1])
