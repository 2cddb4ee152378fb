from __future__ import annotations

import sys
from pathlib import Path

# Recipes are scripts beside the package, and import each other by their bare names.
sys.path.append(str(Path(__file__).parents[2] / "recipes"))
