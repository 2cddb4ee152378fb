"""How T-006 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import bars, framed_ends, matrix, side_by_side


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the matrix of correlations, and damage as sum, covariance and remainder."""
    parts = bars(
        finding.tables["decomposition"],
        title="Damage: what single blocks do, what pairs share, what neither shows",
        x="plan",
        y="bits",
        part="part",
        y_title="bits per English character",
    )
    parts["encoding"]["x"]["title"] = "blocks rounded together"
    if not finding.tables["pairs"]:
        return parts
    pairs = matrix(
        finding.tables["pairs"],
        title="Correlation of the errors of two blocks (below 0: they cancel)",
        x="other",
        y="block",
        value="rho",
        x_title="block",
        y_title="block",
        name="correlation ρ",
        signed=True,
        outlined=framed_ends(finding.tables["pairs"], "block", "other"),
    )
    return side_by_side(pairs, parts)
