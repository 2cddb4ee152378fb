"""How a lab works and whom it tells, apart from what it measures."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import torch
import transformers

from bitgap.errors import UsageError
from bitgap.lab.engine.budget import DEFAULT_MEMORY_BYTES
from bitgap.records import Arithmetic, Provenance
from bitgap.version import __version__


class Progress(Protocol):
    """What a caller may pass to be told how far a long job is."""

    def start(self, label: str, total_s: float) -> None:
        """A phase of about ``total_s`` predicted seconds begins; 0 where nobody can say."""

    def advance(self, seconds: float) -> None:
        """Work worth so many predicted seconds is done."""

    def stop(self) -> None:
        """The job ended, well or not."""


@contextmanager
def phase(progress: Progress, label: str) -> Iterator[None]:
    """Tells of a phase whose length nobody can say, for as long as the body runs.

    Args:
        progress: Who is told.
        label: What is done.
    """
    progress.start(label, 0)
    try:
        yield
    finally:
        progress.stop()


class Silence:
    """Progress that nobody watches."""

    def start(self, label: str, total_s: float) -> None:
        """Says nothing."""

    def advance(self, seconds: float) -> None:
        """Says nothing."""

    def stop(self) -> None:
        """Says nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a lab works; nothing here changes what is measured beyond the numerical floor.

    Attributes:
        arithmetic: ``exact`` or ``fast`` matrix products.
        memory_bytes: What may be used beside the model itself.
        seed: Where every random choice starts.
        device: ``cpu`` or a CUDA device.
        walkers: Threads that take whole batches of text each, with the cut and the bits of one
            thread; 1 for torch's threads, by which the text is cut.
    """

    arithmetic: Arithmetic = "exact"
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    seed: int = 0
    device: str = "cpu"
    walkers: int = 1


def set_threads(n: int | None) -> None:
    """Sets how many threads torch uses; leaves it alone when None.

    Raises:
        UsageError: If ``n`` is below 1.
    """
    if n is None:
        return
    if n < 1:
        raise UsageError(f"--threads {n} is no number of threads; give 1 or more")
    torch.set_num_threads(n)


@dataclass(slots=True)
class Ledger:
    """Work in padded token rows through one block, or through the head.

    A lab, its parts and its twins write into one ledger. Work is counted where it is asked for, as
    one forward pass a plan, and again where it is run; the difference is what plans that share a
    prefix, experiments that share plans, and the store saved.
    """

    asked_block_rows: int = 0
    """Rows through blocks if every plan of every request were a forward pass of its own."""
    asked_head_rows: int = 0
    """Rows through heads likewise."""
    block_rows: int = 0
    """Rows that did go through blocks."""
    head_rows: int = 0
    """Rows that did go through heads."""

    def asked(self, rows: int, blocks: int, heads: int) -> None:
        """Counts a request.

        Args:
            rows: Token rows of the text.
            blocks: Block evaluations it would take alone.
            heads: Head evaluations likewise.
        """
        self.asked_block_rows += rows * blocks
        self.asked_head_rows += rows * heads

    def ran(self, block_rows: int, head_rows: int = 0) -> None:
        """Counts work done, in token rows."""
        self.block_rows += block_rows
        self.head_rows += head_rows

    def passes(self, rows: int) -> dict[str, int]:
        """Returns the work as block and head evaluations of a text of so many token rows."""
        return {
            "block_evaluations": round(self.block_rows / rows),
            "block_evaluations_without_sharing": round(self.asked_block_rows / rows),
            "head_evaluations": round(self.head_rows / rows),
            "head_evaluations_without_sharing": round(self.asked_head_rows / rows),
        }


def provenance(settings: Settings, started: float, thresholds_hash: str) -> Provenance:
    """Returns where numbers measured from ``started`` (``time.time()``) until now come from."""
    return Provenance(
        bitgap=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        device=settings.device,
        threads=torch.get_num_threads(),
        arithmetic=settings.arithmetic,
        seed=settings.seed,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        wall_s=round(time.time() - started, 3),
        thresholds_hash=thresholds_hash,
    )


def checked_device(name: str) -> str:
    """Returns the name of a device that torch finds here.

    Raises:
        UsageError: If it finds none of that name.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name!r} is no device to measure on; give cpu, cuda or cuda:1")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise UsageError(f"--device {name}: torch finds {found} CUDA devices here; give cpu")
    return name
