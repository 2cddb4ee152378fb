from __future__ import annotations

import sys
from pathlib import Path

# The tiny models of every family live beside the decoder's own tests.
sys.path.append(str(Path(__file__).parents[1] / "models"))
