"""Interrupts ``bitgap`` at random moments of its start: ``python -m validation.interrupts``.

A hundred times Ctrl-C (or ``--signal SIGTERM``) in the first half second; a try counts where bitgap
was being run, or was done. Before its first line it is Python that is interrupted and shows a
traceback of its own; such tries are counted apart and others are made in their place.
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
from datetime import date
from pathlib import Path

import bitgap
from validation.reliability import PAGE, put_section

# As an installed script begins; of what Python itself shows, no frame is a file of bitgap's.
_CODE = "import sys; from bitgap.__main__ import main; sys.exit(main())"
_FRAME = f'File "{Path(bitgap.__file__).parent}'


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
        _, err = child.communicate()
        took_s = time.monotonic() - sent
    if "bitgap: " not in err and _FRAME not in err and child.returncode != 0:
        counts.python_itself += 1
        return
    if child.returncode == 0:
        counts.done_before += 1
        return
    counts.tried += 1
    if "Traceback" in err or child.returncode != 128 + which:
        counts.tracebacks += 1
        print(f"after {after_s:.3f} s, code {child.returncode}: {err}", file=sys.stderr)
    counts.late += took_s > 1
    counts.longest_s = max(counts.longest_s, took_s)


def main() -> int:
    """Prints the counts; 1 where a try left a traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--signal", default="SIGINT", choices=["SIGINT", "SIGTERM"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=0.5, help="seconds after the start")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, metavar="FILE")
    parser.add_argument("arguments", nargs="*", default=["list"])
    asked = parser.parse_args()
    draw, counts = random.Random(asked.seed), Counts()
    while counts.tried < asked.tries:
        after_s = draw.uniform(0, asked.within)
        one_try(asked.arguments, signal.Signals[asked.signal], after_s, counts)
    told = (
        f"{counts.tried} tries of `bitgap {' '.join(asked.arguments)}` within {asked.within} s: "
        f"{counts.tracebacks} with a traceback or another code, {counts.late} took longer than a "
        f"second (longest {counts.longest_s:.2f} s); beside them {counts.python_itself} met Python "
        f"before a line of bitgap was run, {counts.done_before} a command that was done"
    )
    print(told)
    if asked.page:
        heading = "## Interrupted at the start"
        command = f"`python -m validation.interrupts {' '.join(sys.argv[1:])}`, {date.today()}."
        put_section("interrupts", f"{heading}\n\n{command} {told}.", asked.page)
    return 1 if counts.tracebacks else 0


if __name__ == "__main__":
    sys.exit(main())
