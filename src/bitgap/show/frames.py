"""Results in a notebook: the terminal's own tables as HTML, and tidy frames for pandas.

A notebook is told by ``import bitgap`` to show results so; ``bitgap.frame(result)`` gives the
frame. Rich, which draws the tables, escapes what they hold; only frames need pandas.
"""

# Not strict: pandas has no types.
# pyright: standard
from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group

from bitgap.disparity.layer_map import LayerMap
from bitgap.disparity.records import DisparityReport
from bitgap.errors import MissingExtra, UsageError
from bitgap.records import Estimate, Finding
from bitgap.show.table import Table, Value
from bitgap.show.views import audit_view, map_view, verdicts

if TYPE_CHECKING:
    import pandas as pd


_WIDTH = 96

_FORMAT = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.35;'
    "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\">{code}</pre>"
)


def html(result: Finding | DisparityReport | LayerMap) -> str:
    """Returns a result as the terminal shows it, for a notebook."""
    if isinstance(result, Finding):
        return _html(Group(*verdicts([asdict(result)])))
    if isinstance(result, DisparityReport):
        return _html(audit_view(_headed("audit", result.n_sentences) | result.as_dict()))
    said = result.as_dict()
    return _html(map_view(_headed("map", said["sentences"]) | {"plan": said["scheme"]} | said))


def _headed(model: str, sentences: int) -> dict[str, Any]:
    # A record knows neither model nor corpus; who made it does.
    return {"model": model, "corpus": "text", "sentences": sentences, "arithmetic": "stated"}


def _html(what: Any) -> str:
    console = Console(record=True, file=io.StringIO(), width=_WIDTH, highlight=False)
    console.print(what)
    return console.export_html(inline_styles=True, code_format=_FORMAT)


def frame(
    result: Finding | DisparityReport | LayerMap | Table, table: str | None = None
) -> pd.DataFrame:
    """Returns a result as a tidy pandas frame, with every number, its interval and its reason.

    Args:
        result: A finding (a row an estimate: the rigorous ones, then the origin's own measure), a
            report (a row a language), a layer map (a row a block), or a table that some surface
            shows (its rows, with numbers in their records' units).
        table: Of a finding, the name of one of its tables instead, such as ``blocks``.

    Raises:
        UsageError: If a finding has no such table.
        MissingExtra: If pandas is not installed.
    """
    if isinstance(result, Finding):
        return frame_of(_estimates(result) if table is None else _table(result, table))
    if isinstance(result, Table):
        return frame_of(_values(result))
    if isinstance(result, DisparityReport):
        rows = result.as_dict()["languages"]
        return frame_of({"language": code, **_open(row)} for code, row in rows.items())
    return frame_of(_open(row.as_dict()) for row in result.blocks)


def _values(table: Table) -> Iterable[Mapping[str, Any]]:
    for row in table.rows:
        out: dict[str, Any] = {}
        for column, cell in zip(table.columns, row, strict=True):
            if isinstance(cell, Value):
                names = ("", "_low", "_high", "_reason")
                values = (cell.value, cell.low, cell.high, cell.gap or None)
                out |= {f"{column.key}{n}": v for n, v in zip(names, values, strict=True)}
            else:
                out[column.key] = cell
        yield out


def _estimates(finding: Finding) -> Iterable[Mapping[str, Any]]:
    groups = (("rigorous", finding.estimates), ("origin", finding.original_measure))
    for kind, estimates in groups:
        for name, estimate in estimates.items():
            yield {"measure": kind, "estimate": name, **_row(estimate)}


def _table(finding: Finding, name: str) -> Iterable[Mapping[str, Any]]:
    rows = finding.tables.get(name)
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        known = [k for k, v in finding.tables.items() if isinstance(v, list | tuple) and v
                 and isinstance(v[0], Mapping)]  # fmt: skip
        raise UsageError(
            f"no table {name!r} in this finding; there are {', '.join(known) or 'none'}"
        )
    return rows


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
