from __future__ import annotations

import sys
from pathlib import Path

# The harness stands beside these tests' folder, tiny models and small texts in the lab's, sample
# findings in the theory's; docs/controls.py fills a page that is tested here.
TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), *(str(TESTS / name) for name in ("lab", "models", "theory"))]
sys.path.append(str(TESTS.parent / "docs"))
