"""Tables for a page. All text is escaped, and none from data turns its neighbours around."""

from __future__ import annotations

from markupsafe import Markup

from bitgap.languages import named
from bitgap.show.table import Column, Table, unmarked

GLYPHS = {"supported": "✓", "refuted": "✗", "small": "<", "inconclusive": "?", "not testable": "–",
          "held": "✓", "failed": "✗", "not run": "–"}  # fmt: skip
"""A verdict's or a control's sign, so that it is not told by colour alone."""

_TABLE = Markup(
    '<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table class="of-{id}">\n'
    "<caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    "</table></div>"
)


def to_html(table: Table) -> Markup:
    """Returns a table that scrolls by itself, with its caption; missing numbers say why."""
    rows = [
        Markup("<tr>{}</tr>").format(
            Markup("").join(map(_cell, table.columns, row, range(len(row))))
        )
        for row in table.texts(reasons=True)
    ]
    return _TABLE.format(
        title=table.title,
        id=table.id,
        caption=table.caption,
        heads=Markup("").join(
            Markup('<th scope="col">{}</th>').format(c.head) for c in table.columns
        ),
        rows=Markup("\n").join(rows),
    )


def _cell(column: Column, text: str, place: int) -> Markup:
    if column.kind == "language":
        inner = language(text)
    elif column.kind == "label":
        head, colon, rest = text.partition(": ")
        inner = verdict(head) + (Markup("{}<bdi>{}</bdi>").format(colon, rest) if rest else "")
    else:
        inner = Markup("<bdi>{}</bdi>").format(text)
    return Markup("<td>{}</td>" if place else '<th scope="row">{}</th>').format(inner)


def verdict(label: str, hypothesis: str = "") -> Markup:
    """Returns a verdict, or how a control came out, with its sign; with whose it is, if given."""
    whose = Markup(' data-hypothesis="{}"').format(hypothesis) if hypothesis else ""
    return Markup(
        '<span class="verdict v-{}"{}><span aria-hidden="true">{}</span> {}</span>'
    ).format(label.replace(" ", "-"), whose, GLYPHS.get(label, ""), label)


def language(code: str) -> Markup:
    """Returns a language by name, code, whatever marks stand behind it, and its own name."""
    bare = unmarked(code)
    one = named(bare)
    own = Markup(' <bdi lang="{}" dir="{}">{}</bdi>').format(one.code, one.direction, one.own)
    return Markup('<span class="language">{} <span class="code">{}</span>{}{}</span>').format(
        one.name, one.code, code[len(bare) :], own if one.own else ""
    )
