"""A whole audit beside a plain script that does the same, each a process of its own, in one run.

The plain script imports, loads, rounds and runs two forward passes with KL and NLL; it is given as
a path and called with model and corpus. ``bitgap audit`` runs on a store of its own, so that
nothing is known before. They take turns; what is compared is the processor's time of each process,
as the clock of a shared machine says little, and the peak of memory. Also told: after how many
seconds the first line of ``bitgap audit`` is there. Damages are thrown away.

``python benchmarks/audit.py MODEL CORPUS PLAIN_SCRIPT --rounds 2``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measured(command: list[str]) -> dict[str, float]:
    """Runs a command to its end.

    Returns:
        Processor seconds, wall seconds, seconds to the first line on stderr, peak memory in bytes.
    """
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    child.stderr.readline()
    first_s = time.perf_counter() - started
    child.stderr.read()
    child.stderr.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - started,
        "first_line_s": first_s,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("model", "corpus", "plain"):
        parser.add_argument(name)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "bitgap": []}
    for _ in range(asked.rounds):
        runs["plain"].append(measured([sys.executable, asked.plain, asked.model, asked.corpus]))
        with tempfile.TemporaryDirectory() as folder:
            store = str(Path(folder) / "bitgap.db")
            audit = [
                "audit",
                asked.model,
                "--corpus",
                asked.corpus,
                "--store",
                store,
                "--no-report",
            ]
            runs["bitgap"].append(measured([sys.executable, "-m", "bitgap", *audit]))
    best = {
        name: {key: min(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    ratio = best["bitgap"]["cpu_s"] / best["plain"]["cpu_s"]
    print(json.dumps({**best, "ratio_cpu": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
