"""How T-008 is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.t008_morphology.tables import GROUPS
from bitgap.show.charts import lines, side_by_side

_KINDS = {GROUPS[True]: "morphologically rich languages", GROUPS[False]: "other languages"}


def figure(finding: Any) -> Mapping[str, Any]:
    """Returns selectivity, margin and extra loss by depth, for rich languages and for others."""
    table = finding.tables["profile"]
    last = len(table) - 1
    low, high = finding.tables["window"]
    panels = (
        ("selectivity", "Where number is told", "selectivity of a linear probe"),
        ("margin", "Where the right form is preferred", "margin by tuned lens, nats"),
        ("extra_loss", "What rounding one block costs", "margin lost beyond lexical pairs, nats"),
    )
    charts = list[dict[str, Any]]()
    for field, title, unit in panels:
        rows = [
            {"block": row["block"], "value": row[f"{field}_{name}"], "languages": kind}
            for row in table
            for name, kind in _KINDS.items()
            if row.get(f"{field}_{name}") is not None
        ]
        if rows:
            charts.append(
                lines(
                    rows, title=title, x="block", y="value", series="languages", x_title="block",
                    y_title=unit, band=(low * last, high * last),
                    rules={"": 0.0} if field == "extra_loss" else None,
                )
            )  # fmt: skip
    if not charts:
        n = finding.tables["words"]
        nothing = [{"block": r["block"], "value": n, "languages": "all"} for r in table]
        charts = [lines(nothing, title="Nothing to probe", x="block", y="value",
                        series="languages", x_title="block", y_title="tagged words")]  # fmt: skip
    return side_by_side(*charts)
