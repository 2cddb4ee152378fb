from __future__ import annotations

import sys
from pathlib import Path

# The harness stands beside these tests' folder, tiny models and small texts in the lab's.
TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), str(TESTS / "lab"), str(TESTS / "models")]
