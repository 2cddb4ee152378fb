from __future__ import annotations

import sys
from pathlib import Path

# Tiny models and small texts stand in other folders.
TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "lab"), str(TESTS / "models")]
