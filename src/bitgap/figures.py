"""Figures of results as Vega-Lite specifications, for commands that have just measured them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bitgap.experiments.catalog import find
from bitgap.experiments.charts import Chart
from bitgap.records import Finding
from bitgap.report import plots

Json = Mapping[str, Any]


def audit_figure(result: Json) -> Chart:
    """Returns damage, damage over what was learned, and harm, by language with intervals."""
    return plots.languages_chart(result)


def map_figure(result: Json) -> Chart:
    """Returns what protecting each block takes off damage, gap and disparity, with intervals."""
    return plots.layers_chart(result)


def finding_figures(findings: Iterable[Finding]) -> dict[str, Chart]:
    """Returns the figure of each finding's experiment, by id."""
    drawn = ((finding, find(finding.experiment).figure) for finding in findings)
    return {finding.experiment: dict(draw(finding)) for finding, draw in drawn if draw is not None}
