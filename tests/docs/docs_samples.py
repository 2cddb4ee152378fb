"""What the pages of the site show: commands in order, with why some are not run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

PAGES = ("index", "tutorial", *sorted(f"how-to/{p.stem}" for p in (DOCS / "how-to").glob("*.md")))
"""Whose commands are run, in the order in which a reader comes to them."""

_BLOCK = re.compile(
    r"(?:^% not run: (?P<why>[^\n]+)\n\n?)?^```(?P<kind>console|bash|python)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

_LOOP = re.compile(r"^until ([^;]+); do .*; done$")


@dataclass(frozen=True)
class Step:
    """One command or one piece of Python of a page."""

    page: str
    text: str
    kind: str
    why_not: str | None

    @property
    def words(self) -> list[str]:
        """A command's arguments, ``bitgap`` itself left out."""
        return shlex.split(self.text)[1:]


def steps(page: str) -> list[Step]:
    """Returns what a page shows, in order."""
    return steps_of(page, (DOCS / f"{page}.md").read_text(encoding="utf-8"))


def steps_of(page: str, text: str) -> list[Step]:
    """Returns what a text shows, in order; output after a prompt's command is no step.

    Of a loop that repeats a command until it is done, the command is the step.
    """
    found = []
    for block in _BLOCK.finditer(text):
        kind, body = block["kind"], block["body"].replace("\\\n", " ")
        lines = [body] if kind == "python" else body.splitlines()
        if kind == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        lines = [_LOOP.sub(r"\1", line) for line in lines]
        found += [Step(page, line, kind, block["why"]) for line in lines if line.strip()]
    return found
