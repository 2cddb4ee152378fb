"""A table is made once: every surface shows the same cells, and each escapes what it must."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import bitgap
from bitgap.disparity.audit import audit
from bitgap.languages import named
from bitgap.show.numbers import Unit
from bitgap.show.table import Column, Table, Value, unmarked
from bitgap.show.tables.audit import damage_table
from bitgap.show.tables.findings import control_table, estimate_table, verdict_table
from bitgap.show.tables.layer_map import best_sets_table, map_table
from bitgap.show.to_html import to_html
from bitgap.show.to_markdown import to_markdown
from bitgap.show.to_terminal import to_terminal
from bitgap.show.to_typst import escape, signs, to_typst
from score_samples import make_scores

EXCERPTS = Path(__file__).parents[2] / "docs" / "excerpts"
HOSTILE = "a|b\n<b>&amp;</b> [bold]x[/] #x $y$ *z* `q` \\"


def excerpt(name: str) -> Any:
    """Returns the result of a real command."""
    return json.loads((EXCERPTS / f"{name}.json").read_text(encoding="utf-8"))


TABLES: dict[str, Callable[[], Table]] = {
    "damage": lambda: damage_table(excerpt("audit")),
    "map": lambda: map_table(excerpt("map")),
    "sets": lambda: best_sets_table(excerpt("map")),
    "verdicts": lambda: verdict_table(excerpt("investigate")["findings"]),
    "estimates": lambda: estimate_table(excerpt("investigate")["findings"]),
    "controls": lambda: control_table(excerpt("investigate")["findings"]),
}


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> Table:
    made = TABLES[request.param]()
    assert made.rows
    return made


def in_terminal(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=10_000, highlight=False).print(to_terminal(table))
    return out.getvalue()


def html_cells(text: str) -> list[str]:
    """Returns what a reader sees in the cells of a page's table, signs aside."""
    bare = re.sub(r'<span aria-hidden="true">[^<]*</span> ', "", text)
    cells = re.findall(r"<t[dh](?: scope=\"row\")?>(.*?)</t[dh]>", bare, re.S)
    return [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells]


def told_as(column: Column, text: str) -> str:
    """Returns how a page names what a cell of codes stands for."""
    if column.kind != "language":
        return text
    one, marks = named(unmarked(text)), text[len(unmarked(text)) :]
    return f"{one.name} {one.code}{marks}{f' {one.own}' if one.own else ''}"


def test_page_and_markdown_have_every_cell_in_its_place(table: Table) -> None:
    rows = table.texts(reasons=True)
    assert html_cells(str(to_html(table))) == [
        told_as(column, cell)
        for row in rows
        for column, cell in zip(table.columns, row, strict=True)
    ]
    lines = to_markdown(table).splitlines()[-len(rows) :]
    for line, row in zip(lines, rows, strict=True):
        cells = re.split(r"(?<!\\)\|", line.removeprefix("|").removesuffix("|"))
        shown = [cell.strip().replace("**", "").replace("\\|", "|") for cell in cells]
        assert shown == [cell.replace("\n", " ").strip() for cell in row]


def test_a_paper_has_every_cell_in_its_place(table: Table) -> None:
    source = to_typst(table, labelled=True)
    assert f"<tab-{table.id}>" in source
    for row in table.texts():
        for column, cell in zip(table.columns, row, strict=True):
            if column.kind not in ("language", "p"):
                assert f"[{escape(signs(cell))}], " in source


def test_a_terminal_has_every_cell_with_an_interval_s_ends_beside_it(table: Table) -> None:
    lines = in_terminal(table).splitlines()[1:]
    for line, row, texts in zip(lines, table.rows, table.texts(), strict=True):
        words = " ".join(line.split())
        for column, cell, text in zip(table.columns, row, texts, strict=True):
            if column.kind != "interval":
                assert " ".join(text.split()) in words
            elif isinstance(cell, Value) and cell.value is not None:
                decimals = column.common_decimals(table.column(column.key))
                number = float(cell_under(line, column, table))
                assert abs(number - cell.value * column.factor) <= 0.501 * 10**-decimals


def cell_under(line: str, column: Column, table: Table) -> str:
    """Returns what stands in a line of a terminal's table under a column of intervals."""
    before = table.columns[: table.columns.index(column)]
    place = sum(2 if c.kind == "interval" else 1 for c in before)
    return re.split(r"\s{2,}", line.strip())[place]


def test_a_frame_has_the_numbers_themselves(table: Table) -> None:
    pytest.importorskip("pandas")
    frame = bitgap.frame(table)
    assert len(frame) == len(table.rows)
    for column in table.columns:
        cells = table.column(column.key)
        for cell, value in zip(cells, frame[column.key], strict=True):
            expected = cell.value if isinstance(cell, Value) else cell
            assert value == expected or (expected is None and value != value) or value is expected


def test_what_data_hold_stays_text_on_every_surface() -> None:
    columns = (Column("a", "a"), Column("b", "b"))
    table = Table(id="t", title="T", columns=columns, rows=((HOSTILE, "1"), ("x", "2")))
    assert html_cells(str(to_html(table)))[0] == HOSTILE and "<b>" not in to_html(table)
    assert len(to_markdown(table).splitlines()) == len(("title", "", "head", "rule", "row", "row"))
    assert "[bold]x[/]" in in_terminal(table)
    assert str(escape(HOSTILE)) in to_typst(table)


def test_a_surface_may_choose_columns_and_rows_but_not_cells() -> None:
    whole = TABLES["damage"]()
    part = whole.only("tokens", "language")
    assert [row[::-1] for row in part.texts()] == [[row[0], row[4]] for row in whole.texts()]
    sizes = [cell.value for cell in whole.largest_first("damage").column("damage")]  # type: ignore[union-attr]
    assert sizes == sorted(sizes, reverse=True)
    others = whole.where("log_ratio", lambda cell: cell is not None)
    assert len(others.rows) == len(whole.rows) - 1


def test_a_record_and_its_json_make_one_table() -> None:
    kl = np.random.default_rng(0).uniform(0.01, 0.05, (1, 3, 12))
    report = audit(make_scores(kl), "plan0", seed=0, draws=50)
    assert damage_table(report) == damage_table(report.as_dict())


def test_notes_tell_of_the_columns_that_are_shown() -> None:
    whole = TABLES["damage"]()
    assert "premium:" in whole.caption
    assert "premium:" not in whole.only("language", "damage").caption
    assert whole.caption.startswith(f"{whole.title}. K: damage.")


def test_a_number_that_is_missing_says_why_in_its_cell_or_below() -> None:
    columns = (Column("name", "name"), Column("k", "K", "interval"))
    rows = (("en", Value(1.0, 0.5, 2.0)), ("he*", Value(None, reason="collapsed")))
    table = Table(id="t", title="T", columns=columns, rows=rows)
    assert table.texts(reasons=True)[1] == ["he*", "– (collapsed)"]
    assert table.gaps == ("K of he: collapsed.",)
    assert "K of he: collapsed" in to_typst(table).replace("\\", "")


def test_a_unit_is_of_the_middle_where_values_lie_far_apart() -> None:
    damages = [None, 0.006, 1.05, 0.03, 0.009, -0.04]
    assert Unit.of(damages).name == "bit"
    assert Unit.typical(damages).name == "mbit"
    assert Unit.typical([None]).name == Unit.of([]).name == "bit"
