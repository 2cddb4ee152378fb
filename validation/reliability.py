"""The page of what was tried to make the toolkit fail: docs/reliability.md, a section a command.

Kills and damaged inputs are counted over several runs. Each run is kept as a line of a file beside
the page, and a section adds up what is kept there: ``python -m validation.reliability`` writes both
again from it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bitgap.show.to_markdown import rows_of

PAGE = Path("docs/reliability.md")
_HEAD = """# Reliability

What was tried to make bitgap fail, and what came of it. Every section is written by the command \
that stands in it, by no hand.
"""
ORDER = ("interrupts", "kills", "fuzz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a command that tries to make the toolkit fail.

    Attributes:
        section: One of :data:`ORDER`.
        command: As it was given.
        day: When it ended, as ISO 8601.
        source: The commit that was tried, with a ``+`` where files differed; empty where nobody
            can tell.
        rows: Its counts, one for each reader or verb.
    """

    section: str
    command: str
    day: str
    source: str
    rows: tuple[dict[str, Any], ...]


def trial(section: str, command: str, rows: Sequence[dict[str, Any]]) -> Trial:
    """Returns the record of a run that ends now.

    Args:
        section: One of :data:`ORDER`.
        command: As it was given.
        rows: Its counts.
    """
    day = date.today().isoformat()
    return Trial(section=section, command=command, day=day, source=_source(), rows=tuple(rows))


def _source() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "src", "validation")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def records(page: Path = PAGE) -> Path:
    """Returns where the runs that a page adds up are kept."""
    return page.parent / "excerpts" / f"{page.stem}.jsonl"


def trials(section: str, page: Path = PAGE) -> list[Trial]:
    """Returns the runs of a section that are kept beside a page, oldest first."""
    file = records(page)
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    held = [json.loads(line) for line in lines]
    return [
        Trial(**one | {"rows": tuple(one["rows"])}) for one in held if one["section"] == section
    ]


def keep(made: Trial, page: Path = PAGE) -> list[Trial]:
    """Keeps a run beside a page.

    Args:
        made: The run.
        page: The page.

    Returns:
        All runs of its section, this one last.
    """
    file = records(page)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(made), ensure_ascii=False) + "\n")
    return trials(made.section, page)


def table_of_runs(found: Sequence[Trial], counts: Sequence[tuple[str, str]]) -> str:
    """Returns the runs that a section adds up, as a Markdown table.

    Args:
        found: The runs.
        counts: Names of what is summed over the rows of each, as a heading and in the record.
    """
    head = ("command", "day", "commit", *(heading for heading, _ in counts))
    rows = [
        (f"`{one.command}`", one.day, one.source or "not kept",
         *(f"{sum(row[name] for row in one.rows):,}" for _, name in counts))
        for one in found
    ]  # fmt: skip
    return rows_of(head, rows)


def put_section(name: str, text: str, page: Path = PAGE) -> None:
    """Writes a section in its place on the page, over what stood there.

    Args:
        name: One of :data:`ORDER`.
        text: Markdown, with its heading.
        page: Made where it is not there.
    """
    there = page.read_text(encoding="utf-8") if page.is_file() else ""
    parts = dict(re.findall(r"^% section: (\w+)$(.*?)(?=^% section:|\Z)", there, re.DOTALL | re.M))
    parts[name] = text
    sections = [f"% section: {one}\n\n{parts[one].strip()}\n" for one in ORDER if one in parts]
    page.write_text("\n".join([_HEAD, *sections]), encoding="utf-8")


def main() -> int:
    """Writes the sections of kills and damaged inputs from the runs that are kept."""
    from validation import kills
    from validation.fuzz import __main__ as fuzz

    for name, section in (("kills", kills.section), ("fuzz", fuzz.section)):
        found = trials(name)
        if found:
            put_section(name, section(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
