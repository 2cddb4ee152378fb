"""How T-004 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import lines, matrix, side_by_side


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns signal-to-noise ratio by depth for some masks, and the amplification matrix."""
    rows = list(finding.tables["snr"])
    names = list(dict.fromkeys(row["mask"] for row in rows))
    drawn = {*names[:2], *names[len(names) // 2 : len(names) // 2 + 1], *names[-1:]}
    norm = max((row["depth"] for row in rows), default=None)
    travelling = lines(
        [row | {"mask": _protected(row["mask"])} for row in rows if row["mask"] in drawn],
        title="How errors travel, by protected blocks",
        x="depth",
        y="snr_db",
        series="mask",
        x_title="output of block",
        y_title="signal-to-noise ratio, dB",
        norm=norm,
    )
    amplified = matrix(
        finding.tables["amplification"],
        title="Error from noise in one block on its way",
        x="depth",
        y="injected",
        value="ratio",
        x_title="output of block",
        y_title="block with noise",
        name="relative error, 1 at its own output",
        norm=norm,
    )
    return side_by_side(travelling, amplified)


def _protected(mask: str) -> str:
    """Returns what a mask keeps as people write blocks, such as ``L0 and the last``."""
    first = mask.split(" and ")[0]
    return f"L{first} and the last protected" if first.isdigit() else "the last protected"
