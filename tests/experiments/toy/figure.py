"""How the toy is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Finding
from bitgap.show.charts import bars


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the damage of every language."""
    rows = finding.tables["damage"]
    return bars(rows, title="Damage", x="language", y="damage", part="part", y_title="K")
