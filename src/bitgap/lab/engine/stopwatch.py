"""What an engine's work takes, noted as it is done."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Stopwatch:
    """What an engine's work took so far, by kind; of whole walks, workers together."""

    block_s: float = 0.0
    block_rows: int = 0
    head_s: float = 0.0
    head_rows: int = 0

    def block(self, since: float, rows: int) -> None:
        """Adds a step through blocks that began at ``since`` (``time.perf_counter()``)."""
        self.block_s += time.perf_counter() - since
        self.block_rows += rows

    def head(self, since: float, rows: int) -> None:
        """Adds a step through the head likewise."""
        self.head_s += time.perf_counter() - since
        self.head_rows += rows

    def add(self, other: Stopwatch) -> None:
        """Adds what another engine's work took."""
        self.block_s += other.block_s
        self.block_rows += other.block_rows
        self.head_s += other.head_s
        self.head_rows += other.head_rows
