"""Interrupts ``bitgap`` at random moments of its start: ``python -m validation.interrupts``.

A hundred times Ctrl-C (or ``--signal SIGTERM``) in the first half second; a try counts where a line
of bitgap had been run. What comes before is Python itself, which shows a traceback of its own; such
tries are counted apart and others are made in their place.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

_MARK = "bitgap-runs"
_CODE = f"import os; os.write(1, b'{_MARK}\\n'); from bitgap.__main__ import main; import sys; sys.exit(main())"


@dataclass(slots=True)
class Counts:
    """What became of the tries."""

    tried: int = 0
    tracebacks: int = 0
    late: int = 0
    python_itself: int = 0
    done_before: int = 0
    longest_s: float = 0.0


def one_try(arguments: list[str], which: signal.Signals, after_s: float, counts: Counts) -> None:
    """Starts a command, sends a signal after some time, and counts what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [sys.executable, "-c", _CODE, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        time.sleep(after_s)
        sent = time.monotonic()
        child.send_signal(which)
        out, err = child.communicate()
        took_s = time.monotonic() - sent
    if not out.startswith(_MARK):
        counts.python_itself += 1
        return
    if child.returncode == 0:
        counts.done_before += 1
        return
    counts.tried += 1
    counts.tracebacks += "Traceback" in err or child.returncode not in (
        128 + which,
        -which,  # in the last moments, when Python has put back what was there before
    )
    counts.late += took_s > 1
    counts.longest_s = max(counts.longest_s, took_s)


def main() -> int:
    """Prints the counts; 1 where a try left a traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--signal", default="SIGINT", choices=["SIGINT", "SIGTERM"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=0.5, help="seconds after the start")
    parser.add_argument("arguments", nargs="*", default=["list"])
    asked = parser.parse_args()
    draw, counts = random.Random(asked.seed), Counts()
    while counts.tried < asked.tries:
        after_s = draw.uniform(0, asked.within)
        one_try(asked.arguments, signal.Signals[asked.signal], after_s, counts)
    print(
        f"{counts.tried} tries of `bitgap {' '.join(asked.arguments)}` within {asked.within} s: "
        f"{counts.tracebacks} with a traceback or another code, {counts.late} took longer than a "
        f"second (longest {counts.longest_s:.2f} s); beside them {counts.python_itself} met Python "
        f"before a line of bitgap was run, {counts.done_before} a command that was done"
    )
    return 1 if counts.tracebacks else 0


if __name__ == "__main__":
    sys.exit(main())
