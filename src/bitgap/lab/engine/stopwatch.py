"""What an engine's work takes, noted as it is done.

Speed is a matter of the machine and not of what else it does meanwhile: beside another program a
step takes twice as long by the clock, and a forecast of hours that was made in such a second is
wrong for as long as it is kept. So of a step's time by the clock no more counts than the processor
gave to this process. On an idle machine the two agree: with one thread they are the same, with
several the processor's time, theirs together, is the larger. Where a step waits for something else
than a processor, an accelerator or a disk, the clock is right and counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """When a step began, by the clock and by the processor's time of this process, in seconds."""

    clock_s: float
    processor_s: float

    @classmethod
    def now(cls) -> Moment:
        """Returns the present."""
        return cls(time.perf_counter(), time.process_time())

    def took_s(self, *, waits: bool = False) -> float:
        """Returns the seconds since then that an idle machine would have taken.

        Args:
            waits: Whether the step waits for a device or a disk, so that the clock counts.
        """
        clock_s = time.perf_counter() - self.clock_s
        return clock_s if waits else min(clock_s, time.process_time() - self.processor_s)


@dataclass(slots=True)
class Stopwatch:
    """What an engine's work took so far, by kind; of whole walks, workers together."""

    block_s: float = 0.0
    block_rows: int = 0
    head_s: float = 0.0
    head_rows: int = 0
    waits: bool = False
    """Whether steps wait for a device or a disk; see :meth:`Moment.took_s`."""

    def block(self, since: Moment, rows: int) -> None:
        """Adds a step through blocks that began at ``since``."""
        self.block_s += since.took_s(waits=self.waits)
        self.block_rows += rows

    def head(self, since: Moment, rows: int) -> None:
        """Adds a step through the head likewise."""
        self.head_s += since.took_s(waits=self.waits)
        self.head_rows += rows
