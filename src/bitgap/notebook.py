"""Results in a notebook: the terminal's own tables as HTML, and tidy frames for pandas.

Records call these from ``_repr_html_`` and ``frame``, so that a result shows itself as the last
line of a cell. Rich, which draws the tables, escapes what they hold; only frames need pandas.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bitgap.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from bitgap.disparity import DisparityReport
    from bitgap.layer_map import LayerMap
    from bitgap.records import Estimate, Finding

_WIDTH = 96
_FORMAT = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.35;'
    "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\">{code}</pre>"
)


def finding_html(finding: Finding) -> str:
    """Returns one finding as the terminal shows it."""
    from rich.console import Group

    from bitgap.views import verdicts

    return _html(Group(*verdicts([asdict(finding)])))


def report_html(report: DisparityReport) -> str:
    """Returns one plan's damage by language as the terminal shows it."""
    from bitgap.views import audit_view

    return _html(audit_view(_headed("audit", report.n_sentences) | report.as_dict()))


def map_html(layer_map: LayerMap) -> str:
    """Returns a layer map as the terminal shows it."""
    from bitgap.views import map_view

    said = layer_map.as_dict()
    return _html(map_view(_headed("map", said["sentences"]) | {"plan": said["scheme"]} | said))


def _headed(model: str, sentences: int) -> dict[str, Any]:
    # A record knows neither model nor corpus; who made it does.
    return {"model": model, "corpus": "text", "sentences": sentences, "arithmetic": "stated"}


def _html(what: Any) -> str:
    from rich.console import Console

    console = Console(record=True, file=io.StringIO(), width=_WIDTH, highlight=False)
    console.print(what)
    return console.export_html(inline_styles=True, code_format=_FORMAT)


# -- frames ---------------------------------------------------------------------------------------


def finding_frame(finding: Finding) -> pd.DataFrame:
    """Returns a row an estimate: the rigorous ones, then the origin's own measure.

    Columns: ``measure`` (``rigorous`` or ``origin``), ``estimate``, ``value``, ``low``, ``high``,
    ``unit``, ``n``, ``method``, ``reason``.
    """
    groups = (("rigorous", finding.estimates), ("origin", finding.seed_measure))
    return frame_of(
        {"measure": kind, "estimate": name, **_row(estimate)}
        for kind, estimates in groups
        for name, estimate in estimates.items()
    )


def table_frame(finding: Finding, name: str) -> pd.DataFrame:
    """Returns one of a finding's tables, such as its numbers by block.

    Raises:
        UsageError: If there is no table of that name with rows.
    """
    rows = finding.tables.get(name)
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        known = [k for k, v in finding.tables.items() if isinstance(v, list | tuple) and v
                 and isinstance(v[0], Mapping)]  # fmt: skip
        raise UsageError(
            f"no table {name!r} in this finding; there are {', '.join(known) or 'none'}"
        )
    return frame_of(rows)


def report_frame(report: DisparityReport) -> pd.DataFrame:
    """Returns a row a language, with every number of the audit and its interval."""
    rows = report.as_dict()["languages"]
    return frame_of({"language": code, **_open(row)} for code, row in rows.items())


def map_frame(layer_map: LayerMap) -> pd.DataFrame:
    """Returns a row a layer, with every number of the map and its interval."""
    return frame_of(_open(row) for row in layer_map.layers)


def frame_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns rows as a pandas frame.

    Raises:
        MissingExtra: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise MissingExtra(
            "a frame needs pandas, which is not installed; pip install 'bitgap[notebook]'"
        ) from None
    return pandas.DataFrame(list(rows))


def _row(estimate: Estimate) -> dict[str, Any]:
    names = ("value", "low", "high", "unit", "n", "method", "reason")
    return {name: getattr(estimate, name) for name in names}


def _open(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with every interval as two columns, ``<name>_low`` and ``<name>_high``."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name == "ci" or name.endswith("_ci"):
            stem = "damage" if name == "ci" else name.removesuffix("_ci")
            out[f"{stem}_low"], out[f"{stem}_high"] = value or (None, None)
        else:
            out[name] = value
    return out
