"""How a crew is begun: of processes of this machine, or of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from bitgap.errors import UsageError
from bitgap.lab.crew.crew import Crew
from bitgap.lab.crew.processes import Processes
from bitgap.lab.crew.worker import facts


def begin_crew(
    workers: int | Literal["auto"] | None = None,
    *,
    cluster: str | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Crew:
    """Returns workers that begin when there is work that is worth sharing.

    Each has as many threads as torch uses here, and may take the memory that the settings give.

    Args:
        workers: How many; of a cluster as many as it has processors when None. ``auto`` for as
            many of one thread as torch uses threads here, which take work where they are faster
            than threads of this process.
        cluster: Address of a Ray cluster, or ``auto``; processes of this machine when None.
        device: Where models are measured; workers measure on processors.
        say: Told what a user should know, such as that a worker was replaced.

    Raises:
        UsageError: If another device is asked for, or neither workers nor a cluster.
        MissingExtra: If a cluster is asked for and ray is not installed.
    """
    if torch.device(device).type != "cpu":
        raise UsageError(
            f"workers measure on processors, and --device is {device}; leave out --device, or "
            "--workers and --cluster"
        )
    threads = torch.get_num_threads()
    if workers == "auto":
        if cluster is not None:
            raise UsageError(
                "--workers auto chooses between threads and processes of this machine; leave it "
                "out with --cluster, or give a number"
            )
        return Crew(Processes(threads), facts(), say, chooses=True)
    if cluster is not None:
        from bitgap.lab.crew.cluster import Cluster

        return Crew(Cluster(cluster, workers, threads), facts(), say)
    if workers is None or workers < 1:
        raise UsageError(f"--workers {workers} is no number of workers; give 1 or more")
    return Crew(Processes(workers, threads), facts(), say)
