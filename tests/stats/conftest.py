from __future__ import annotations

import sys
from pathlib import Path

# Planted games stand beside the layer map's own tests, which need them too.
sys.path.append(str(Path(__file__).parents[1]))
