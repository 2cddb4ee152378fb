"""Walks all classes: ``python -m validation.families --out docs/families.md``.

Some ten minutes of one processor. Classes can be named, to see what becomes of them; nothing is
written then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from validation.families.page import render
from validation.families.walk import Outcome, walk


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; 1 where a class failed with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m validation.families", description=__doc__)
    parser.add_argument("--out", type=Path, help="the page to write")
    parser.add_argument("names", nargs="*", metavar="CLASS", help="classes, instead of all")
    asked = parser.parse_args(arguments)
    if bool(asked.out) == bool(asked.names):
        parser.error("give --out for the page of all classes, or names of classes")
    from validation.families.tiny import class_names

    known = class_names()
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"transformers has no causal LM called {', '.join(unknown)}")
    outcomes = walk(asked.names or known, _tell)
    if asked.out:
        import torch
        import transformers

        versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
        asked.out.write_text(render(outcomes, versions), encoding="utf-8")
    return int(any(outcome.state == "failed" for outcome in outcomes))


def _tell(outcome: Outcome) -> None:
    detail = f"{outcome.off_nats:.1e} nats" if outcome.state == "measured" else outcome.why
    print(f"{outcome.name}: {outcome.state}, {detail}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
