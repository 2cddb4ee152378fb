"""How T-001 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.t001_information_content.judge import mean_usable_bits
from bitgap.records import Finding
from bitgap.show.charts import lines, points, side_by_side


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns bits by depth, and usable bits against gauge-fixed variance."""
    table, width = finding.tables["blocks"], finding.tables["width"]
    curves = {
        "current token": ("usable_bits_current", 1),
        "previous token": ("usable_bits_previous", 1),
        "survive rounding, per dimension": ("rate_bits", width),
    }
    depth = lines(
        [
            {"block": row["block"], "bits": row[field] / scale, "what": name}
            for row in table
            for name, (field, scale) in curves.items()
            if row[field] is not None
        ],
        title="What a block's output tells",
        x="block",
        y="bits",
        series="what",
        x_title="output of block",
        y_title="bits per token",
    )
    # Axes are logarithmic, so a block whose probe reads less than nothing has no place there.
    dots = [
        {"block": row["block"], "variance": float(np.exp(row["log_variance_fixed"])), "bits": mean}
        for row in table
        if (mean := mean_usable_bits(row)) is not None and mean > 0
    ]
    if not dots:
        return depth
    scatter = points(
        dots,
        title="Usable information against weight variance",
        x="variance",
        y="bits",
        label="block",
        x_title="gauge-fixed weight variance, standardised",
        y_title="usable bits per token, mean of both",
    )
    return side_by_side(depth, scatter)
