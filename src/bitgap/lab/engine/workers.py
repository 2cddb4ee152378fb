"""Threads that share a list of independent jobs.

A block is some dozens of small steps. Cut across cores, each step ends with all cores waiting for
the slowest; given whole chunks, they never wait. torch counts threads for each calling thread, so
a worker can have fewer than the program without changing the program's own number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A pool of threads, each with its share of the cores and its own scratch memory."""

    def __init__(self, n: int) -> None:
        """Makes no thread yet.

        Args:
            n: Threads; 1 runs everything in the caller's own.
        """
        self._n = n
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()

    def map(self, call: Callable[[T], R], jobs: Sequence[T]) -> list[R]:
        """Returns ``call(job)`` for every job, in their order; the first error is raised.

        An interrupt waits for the jobs in hand and starts no others.
        """
        if self._n == 1 or len(jobs) < 2:
            return [call(job) for job in jobs]
        before = torch.get_num_threads()
        if self._pool is None:
            share = max(1, before // self._n)
            self._pool = ThreadPoolExecutor(
                self._n, "bitgap-worker", initializer=torch.set_num_threads, initargs=(share,)
            )
        futures = [self._pool.submit(call, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)
            raise

    def buffer(self, make: Callable[[], Tensor]) -> Tensor:
        """Returns the calling thread's own tensor, made once."""
        if not hasattr(self._own, "tensor"):
            self._own.tensor = make()
        return self._own.tensor
