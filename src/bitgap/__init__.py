"""bitgap measures the gap that low-bit quantization opens between languages.

``import bitgap`` does no work and imports no torch; what needs torch is imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Lab", "Plan", "Scores", "Settings", "__version__", "audit", "load_corpus", "run"]

_HOMES = {
    "Lab": "bitgap.lab.lab",
    "Settings": "bitgap.lab.settings",
    "Plan": "bitgap.quant.plan",
    "Scores": "bitgap.records",
    "audit": "bitgap.disparity",
    "load_corpus": "bitgap.corpora.parallel",
    "run": "bitgap.investigate",
}

if TYPE_CHECKING:
    from bitgap.corpora.parallel import load_corpus
    from bitgap.disparity import audit
    from bitgap.investigate import run
    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import Settings
    from bitgap.quant.plan import Plan
    from bitgap.records import Scores


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitgap' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
