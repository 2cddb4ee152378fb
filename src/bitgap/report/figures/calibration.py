"""The chart of texts of calibration against languages of evaluation."""

from __future__ import annotations

import math
from typing import Any

from bitgap.disparity.calibration import NEAREST, Calibration
from bitgap.report.figures.model import rounded
from bitgap.show.charts import Chart, Figure, matrix
from bitgap.show.numbers import told


def calibration_figures(found: Calibration) -> list[Figure]:
    """Returns the one figure of a comparison: what each text takes off each language's damage."""
    own = found.own_mean
    said = told(own.value, (own.low, own.high))
    return [
        Figure(
            "calibration",
            "Which text should calibrate",
            "Damage taken off by rounding with error feedback, against rounding to nearest, in "
            "log2: +1 is half the damage. A row is the text that calibrated, a column the language "
            "that damage is measured on; a frame stands where they are one.",
            f"A language's own text takes off {said} in log2 more than other languages' texts.",
            calibration_chart(found),
        )
    ]


def calibration_chart(found: Calibration) -> Chart:
    """Returns a heat map: damage taken off, texts by languages; own text has a frame."""
    nearest = next(row for row in found.rows if row.text == NEAREST)
    rows = list[dict[str, Any]]()
    for row in found.rows:
        if row.text == NEAREST:
            continue
        for code, one, base in zip(found.languages, row.damage, nearest.damage, strict=True):
            known = one.value and base.value and one.value > 0 and base.value > 0
            gain = math.log2(base.value / one.value) if known else None  # type: ignore[operator]
            rows.append({"text": row.text, "language": code, "gain": rounded(gain, 3)})
    chart = matrix(
        rows, title="Damage taken off", x="language", y="text", value="gain", x_title="measured on",
        y_title="calibrated on", name="log2 against nearest", signed=True,
        outlined=[{"language": code, "text": code} for code in found.languages],
    )  # fmt: skip
    for layer in chart["layer"]:
        place = layer["encoding"]
        place["x"]["sort"] = list(found.languages)
        place["y"]["sort"] = [row.text for row in found.rows if row.text != NEAREST]
    return chart
