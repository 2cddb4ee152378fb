"""How T-002 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.records import Finding
from bitgap.show.charts import bars, points, side_by_side


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns log k = log α + log t² + rest, stacked by block, and error against crest factor²."""
    parts = {
        "log_alpha": "sensitivity log α",
        "log_t2": "error log t²",
        "nonlinearity": "non-linearity",
    }
    blocks = finding.tables["blocks"]
    whole = [row for row in blocks if all(row[key] is not None for key in parts)]
    means = {key: float(np.mean([row[key] for row in whole])) if whole else 0.0 for key in parts}
    stacked = bars(
        [
            {"block": row["block"], "value": row[key] - means[key], "part": name}
            for row in whole
            for key, name in parts.items()
        ],
        title="Why a block's damage differs from the mean block's",
        x="block",
        y="value",
        part="part",
        y_title="against the mean block, nats of log k",
    )
    crests = [row["crest"] for row in blocks]
    law = [{"crest": c, "relative_error": c * finding.tables["law"]}
           for c in (min(crests), max(crests))]  # fmt: skip
    scatter = points(
        [{key: row[key] for key in ("block", "crest", "relative_error")} for row in blocks],
        title="Error follows the crest factor (dashed: C²/12q²)",
        x="crest",
        y="relative_error",
        label="block",
        x_title="crest factor² C²",
        y_title="relative squared error t²",
        law=law,
    )
    return side_by_side(stacked, scatter)
