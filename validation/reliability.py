"""The page of what was tried to make the toolkit fail: docs/reliability.md, a section a command."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path("docs/reliability.md")
_HEAD = """# Reliability

What was tried to make bitgap fail, and what came of it. Every section is written by the command \
that stands in it, by no hand.
"""
ORDER = ("interrupts", "kills", "fuzz")


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
