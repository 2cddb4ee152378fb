"""The version of the package: imports nothing, so that anything may import it."""

from __future__ import annotations

__version__ = "0.1.0"
