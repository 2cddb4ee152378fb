"""Two workers of one core each beside the same two cores in one process, on a layer map.

Each is a whole command, with a store of its own, and they take turns. Told are the clock's time,
what all processes took of processors, and whether the stores hold the same scores, to the bit, as
workers promise it of one thread and two may cut the text otherwise; overhead is of workers over
threads. On a machine that does other things only the processor's time says something.
With ``--cluster`` the workers are of a Ray cluster, whose own processes are not counted.

``python benchmarks/workers.py MODEL --languages en,de --sentences 8 --rounds 2``
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

_WAYS = {"one process": ["--threads", "2"], "workers": ["--workers", "2"]}


def measured(words: list[str]) -> dict[str, float]:
    """Runs a command to its end; returns seconds of the clock and of processors."""

    def processor_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before, began = processor_s(), time.perf_counter()
    # Workers end with the command, are waited for by it, and so are counted with it.
    subprocess.run([sys.executable, "-m", "bitgap", *words], check=True, stdout=subprocess.DEVNULL)
    return {"wall_s": time.perf_counter() - began, "cpu_s": processor_s() - before}


def scores(path: Path) -> list[Any]:
    """Returns what a store holds of plans, in the order it was put there."""
    with closing(sqlite3.connect(path)) as store:
        return store.execute("SELECT key, sha256 FROM scores ORDER BY rowid").fetchall()


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default="reference")
    parser.add_argument("--languages", default="en,de,he")
    parser.add_argument("--corpus")
    parser.add_argument("--sentences", default="8")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cluster", metavar="ADDRESS")
    asked = parser.parse_args()
    ways = dict(_WAYS)
    if asked.cluster:
        ways["workers"] = [*ways["workers"], "--cluster", asked.cluster]
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    kept: dict[str, list[Any]] = {}
    for _ in range(asked.rounds):
        for way, how in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                store = Path(folder) / "bitgap.db"
                words = ["map", asked.model, "--sentences", asked.sentences, "--no-report"]
                words += ["--languages", asked.languages, "--arithmetic", "exact", *how]
                words += ["--corpus", asked.corpus] if asked.corpus else []
                runs[way].append(measured([*words, "--store", str(store)]))
                kept[way] = scores(store)
            print(way, {name: round(value, 1) for name, value in runs[way][-1].items()}, flush=True)
    same = kept["one process"] == kept["workers"]
    n_plans = len(kept["workers"])
    print(f"load {os.getloadavg()[0]:.1f}, {n_plans} plans, scores of two threads the same: {same}")
    for name in ("wall_s", "cpu_s"):
        threads, workers = (median(run[name] for run in runs[way]) for way in ways)
        print(f"{name}: {threads:.1f} and {workers:.1f}, overhead {workers / threads - 1:+.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
