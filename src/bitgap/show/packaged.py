"""Files that come with this package: templates, styles, scripts and references."""

from __future__ import annotations

import functools
from importlib import resources


@functools.cache
def packaged(name: str) -> str:
    """Returns the text of a file in ``templates``."""
    return resources.files("bitgap.report").joinpath("templates", name).read_text(encoding="utf-8")
