"""Makes the page of error rates: ``python -m validation --out docs/calibration.md``.

The page is written anew after every section, so a run that is stopped loses the section in hand and
no other. ``--quick`` does a little of everything, to see that it works; its rates say nothing.
``--short`` leaves out the experiments on a model: some ten minutes of two processors, of the twenty
that all takes. What is not made stays on the page as it was, and each section says when and under
which thresholds it was made; ``--sections guards,experiments`` makes these alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from validation.run import FULL, QUICK, SECTIONS, SHORT, calibrate


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; 130 where it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m validation", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    parser.add_argument("--quick", action="store_true", help="a little of everything, in a minute")
    parser.add_argument("--short", action="store_true", help="simulations alone")
    parser.add_argument(
        "--sections", default="", help=f"those to make, by commas; of {', '.join(SECTIONS)}"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes for simulations"
    )
    asked = parser.parse_args(arguments)
    if asked.jobs < 1:
        parser.error(f"--jobs {asked.jobs} is no number of processes; give 1 or more")
    only = [name.strip() for name in asked.sections.split(",") if name.strip()]
    if unknown := sorted({*only} - {*SECTIONS}):
        parser.error(f"--sections {', '.join(unknown)}: the page has {', '.join(SECTIONS)}")
    size = QUICK if asked.quick else SHORT if asked.short else FULL
    try:
        calibrate(asked.out, size, jobs=asked.jobs, only=only, announce=_announce)
    except KeyboardInterrupt:
        _announce(f"stopped; {asked.out} holds the sections that were finished")
        return 130
    return 0


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
