"""How T-010 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.t010_rate_distortion.fits import DAMAGE, SPREAD
from bitgap.records import Finding
from bitgap.show.charts import lines, side_by_side

# Codes of the models compared, told in words.
_MODEL_NAMES = {
    "M0": "M0: constant",
    "M1": "M1: the origin's form",
    "M2": "M2: second-order budget",
    "M3": "M3: M1, each language its own",
    "M4": "M4: M1 that saturates",
}


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns damage and its ratio against actual bits per weight, models overlaid."""
    charts = list[dict[str, Any]]()
    for target, title, unit in (
        (DAMAGE, "Damage against rate (grey: some blocks protected)", "mean log2 K"),
        (SPREAD, "Its spread over languages against rate", "S, SD of log2 K per token"),
    ):
        every = [row for row in finding.tables["curves"] if row["target"] == target]
        faint = [row | {"series": f"design {row['design']}"} for row in every if row["design"]]
        rows = [row for row in every if not row["design"]]
        if rows:
            charts.append(
                lines([row | {"series": _MODEL_NAMES.get(row["series"], row["series"])}
                       for row in rows], title=title, x="bits_per_weight", y="value",
                      series="series", x_title="bits per weight, scales and protected blocks "
                      "counted", y_title=unit, faint=faint, blocks=False)
            )  # fmt: skip
    return side_by_side(*charts)
