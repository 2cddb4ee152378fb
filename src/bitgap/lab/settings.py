"""How a lab works and whom it tells, apart from what it measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from bitgap.errors import UsageError
from bitgap.lab.budget import DEFAULT_MEMORY_BYTES
from bitgap.records import Arithmetic


class Progress(Protocol):
    """What a caller may pass to be told how far a long job is."""

    def start(self, label: str, total_s: float) -> None:
        """A job of about ``total_s`` predicted seconds begins."""

    def advance(self, seconds: float) -> None:
        """Work worth so many predicted seconds is done."""

    def stop(self) -> None:
        """The job ended, well or not."""


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
    """

    arithmetic: Arithmetic = "exact"
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    seed: int = 0
    device: str = "cpu"


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
