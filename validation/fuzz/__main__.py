"""Gives every reader damaged inputs: ``python -m validation.fuzz --seconds 120``; ``make fuzz``.

Prints a table, and with ``--page`` writes it into docs/reliability.md. Exits 1 where a reader
failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from bitgap.show.to_markdown import rows_of
from validation.fuzz.run import LONGEST_S, SPARE_BYTES, Outcome, Target, fuzz
from validation.reliability import PAGE, put_section


def chosen(names: Sequence[str] | None, *, torch: bool) -> list[Target]:
    """Returns the readers whose names have one of these words in them; all where none is given."""
    from validation.fuzz.targets import targets

    found = targets()
    if torch:
        from validation.fuzz.checkpoints import checkpoint_targets

        found += checkpoint_targets()
    return [one for one in found if not names or any(word in one.name for word in names)]


def table(found: Sequence[Outcome]) -> str:
    """Returns what became of all readers, as a Markdown table."""
    rows: list[tuple[object, ...]] = [
        (one.target, f"{one.tried:,}", f"{one.refused:,}", len(one.faults), f"{one.longest_s:.2f}",
         one.seed)
        for one in found
    ]  # fmt: skip
    tried, refused = sum(one.tried for one in found), sum(one.refused for one in found)
    faults, longest_s = sum(len(one.faults) for one in found), max(one.longest_s for one in found)
    rows.append(("all", f"{tried:,}", f"{refused:,}", faults, f"{longest_s:.2f}", ""))
    head = ("reader", "inputs", "refused with a message", "faults", "longest, s of CPU", "seed")
    return rows_of(head, rows)


def section(found: Sequence[Outcome], command: str) -> str:
    """Returns the page's section."""
    return "\n\n".join(
        (
            "## Damaged inputs",
            f"`{command}`, {date.today()}. Good inputs with up to four harms each (bits flipped, "
            f"numbers made absurd, parts cut, doubled or dropped, signs put in), made by "
            f"hypothesis from the seed that is told and those after it. A fault is an exception "
            f"that is not bitgap's own, more than {LONGEST_S:.0f} s of CPU, or more memory than "
            f"1.5 times the input and {SPARE_BYTES >> 20} MiB.",
            table(found),
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where a reader failed."""
    parser = argparse.ArgumentParser(prog="python -m validation.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="for all readers together")
    parser.add_argument("--most", type=int, default=10**9, help="inputs a reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="readers with this in their name")
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, metavar="FILE")
    asked = parser.parse_args(argv)
    todo = chosen(asked.only, torch=not asked.without_torch)
    found: list[Outcome] = []
    for one in todo:
        found.append(
            fuzz(one, seconds=asked.seconds / len(todo), most=asked.most, first=asked.seed)
        )
        told = found[-1]
        print(f"{told.target}: {told.tried:,} inputs, {len(told.faults)} faults", flush=True)
        for what, data in told.faults.items():
            print(f"  {what}\n    {data}", flush=True)
    print(table(found))
    if asked.page:
        words = argv if argv is not None else sys.argv[1:]
        put_section(
            "fuzz", section(found, f"python -m validation.fuzz {' '.join(words)}"), asked.page
        )
    return 1 if any(one.faults for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
