from __future__ import annotations

import sys
from pathlib import Path

# The tiny models of every family live beside the decoder's own tests, small texts beside the lab's.
for folder in ("models", "lab"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
