"""Makes importable what the site is built with, and what writes files of other tools."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS / "excerpts")]
sys.path.append(str(Path(__file__).parents[1] / "formats"))
