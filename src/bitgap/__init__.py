"""bitgap measures the gap that low-bit quantization opens between languages.

``import bitgap`` does no work and imports no torch; what needs torch is imported when first used.
"""

from __future__ import annotations

import sys

from bitgap.version import __version__

# As typing has it, which takes longer to import than all that is done here; so does importlib.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from bitgap.corpora.parallel import load_corpus
    from bitgap.disparity.audit import audit
    from bitgap.jobs.investigate import run
    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import Settings
    from bitgap.quant.plan import Plan
    from bitgap.records import Scores
    from bitgap.show.frames import frame

__all__ = [
    "Lab",
    "Plan",
    "Scores",
    "Settings",
    "__version__",
    "audit",
    "frame",
    "load_corpus",
    "run",
]

_HOMES = {
    "Lab": "bitgap.lab.lab",
    "Settings": "bitgap.lab.settings",
    "Plan": "bitgap.quant.plan",
    "Scores": "bitgap.records",
    "audit": "bitgap.disparity.audit",
    "frame": "bitgap.show.frames",
    "load_corpus": "bitgap.corpora.parallel",
    "run": "bitgap.jobs.investigate",
}
# Results that show themselves as the last line of a notebook's cell.
_SHOWN = (
    ("bitgap.records", "Finding"),
    ("bitgap.disparity.records", "DisparityReport"),
    ("bitgap.disparity.layer_map", "LayerMap"),
)


def _module(name: str) -> Any:
    from importlib import import_module

    return import_module(name)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitgap' has no attribute {name!r}")
    return getattr(_module(_HOMES[name]), name)


def _html(result: Any) -> str:
    return _module("bitgap.show.frames").html(result)


def _register_with_notebooks() -> None:
    """Tells a running notebook how results look, by name, so that records need not know."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    formatter = getattr(shell, "display_formatter", None)
    if formatter is not None:
        for module, name in _SHOWN:
            formatter.formatters["text/html"].for_type_by_name(module, name, _html)


_register_with_notebooks()
