"""Tables inside findings: JSON-serialisable rows, None where a number is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Floats, finite


def block_rows(columns: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """Returns one row a block with its number and the columns' values.

    Args:
        columns: Profiles over blocks, (L) each.
    """
    return [
        {"block": block} | dict(zip(columns, map(finite, values), strict=True))
        for block, values in enumerate(zip(*columns.values(), strict=True))
    ]
