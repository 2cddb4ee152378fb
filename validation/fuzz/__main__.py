"""Gives every reader damaged inputs: ``python -m validation.fuzz --seconds 120``; ``make fuzz``.

Prints a table, and with ``--page`` adds the run to those that docs/reliability.md counts. Exits 1
where a reader failed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitgap.show.to_markdown import rows_of
from validation.fuzz.run import LONGEST_S, RELATIVES, SPARE_BYTES, Outcome, Target, fuzz
from validation.reliability import PAGE, Trial, keep, put_section, table_of_runs, trial

MIB = 1 << 20


def chosen(names: Sequence[str] | None, *, torch: bool) -> list[Target]:
    """Returns the readers whose names have one of these words in them; all where none is given."""
    from validation.fuzz.targets import targets

    found = targets()
    if torch:
        from validation.fuzz.checkpoints import checkpoint_targets

        found += checkpoint_targets()
    return [one for one in found if not names or any(word in one.name for word in names)]


def row_of(found: Outcome) -> dict[str, Any]:
    """Returns what became of one reader's inputs, as it is kept."""
    return {
        "reader": found.target,
        "inputs": found.tried,
        "refused": found.refused,
        "n_faults": len(found.faults),
        "faults": sorted(found.faults),
        "took_s": round(found.took_s, 1),
        "longest_s": round(found.longest_s, 3),
        "grew_bytes": found.grew_bytes,
        "seeds": [found.seed, found.last],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns what became of all readers, over all runs, as a Markdown table.

    Args:
        rows: As :func:`row_of` makes them; those of one reader are added up.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        held.setdefault(row["reader"], []).append(row)
    shown = [(name, *_counts(of_one)) for name, of_one in held.items()]
    head = ("reader", "inputs", "refused with a message", "faults", "longest, s of CPU",
            "most memory, MiB")  # fmt: skip
    return rows_of(head, [*shown, ("all", *_counts(rows))])


def _counts(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    n, refused, faults = (
        sum(row[name] for row in rows) for name in ("inputs", "refused", "n_faults")
    )
    longest_s = max(row["longest_s"] for row in rows)
    # A run before this was measured has none.
    grew = [row["grew_bytes"] for row in rows if row["grew_bytes"] is not None]
    most = f"{max(grew) / MIB:.0f}" if grew else "–"
    return f"{n:,}", f"{refused:,}", f"{faults}", f"{longest_s:.2f}", most


def section(found: Sequence[Trial]) -> str:
    """Returns the page's section.

    Args:
        found: The runs that it adds up.
    """
    runs = table_of_runs(found, [("inputs", "inputs"), ("faults", "n_faults")])
    faults = [
        f"- {one.day}, {row['reader']}: {fault}"
        for one in found
        for row in one.rows
        for fault in row["faults"]
    ]
    told = ["Faults, of the run in which they were found:", "\n".join(faults)] if faults else []
    return "\n\n".join(
        (
            "## Damaged inputs",
            f"Good inputs with up to four harms each (bits flipped, numbers made absurd, parts "
            f"cut, doubled or dropped, signs put in), made by hypothesis, and by a random draw "
            f"{RELATIVES} more of each (but for the first run: all by hypothesis). A fault is an "
            f"exception that is not bitgap's own, more than {LONGEST_S:.0f} s of CPU, or more "
            f"memory than 1.5 times the input and {SPARE_BYTES // MIB} MiB; memory is what the "
            f"process held for one input beyond what it held before.",
            table([row for one in found for row in one.rows]),
            "The runs that are added up:",
            runs,
            *told,
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
    logging.disable(logging.WARNING)  # what readers say of every other input
    found: list[Outcome] = []
    stopped = ""
    try:
        for one in todo:
            found.append(
                fuzz(one, seconds=asked.seconds / len(todo), most=asked.most, first=asked.seed)
            )
            told = found[-1]
            print(f"{told.target}: {told.tried:,} inputs, {len(told.faults)} faults", flush=True)
            for what, data in told.faults.items():
                print(f"  {what}\n    {data}", flush=True)
    except KeyboardInterrupt:  # what is finished counts
        stopped = f", stopped after {len(found)} of {len(todo)} readers"
    if not found:
        return 130
    rows = [row_of(one) for one in found]
    print(table(rows))
    tried, took_s = sum(one.tried for one in found), sum(one.took_s for one in found)
    print(f"{tried / took_s:,.0f} inputs a second")
    if asked.page:
        words = argv if argv is not None else sys.argv[1:]
        made = trial("fuzz", f"python -m validation.fuzz {' '.join(words)}{stopped}", rows)
        put_section("fuzz", section(keep(made, asked.page)), asked.page)
    return 1 if any(one.faults for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
