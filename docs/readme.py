"""Fills the marked places of README.md, so that no number in them is typed in.

    python docs/readme.py            # writes README.md
    python docs/readme.py --check    # exits 1 if it differs from what would be written

A table stands between two lines, a number within a sentence::

    <!-- table: audit -->

    …

    <!-- end -->
    S is <!-- number: S -->0.46 [0.41, 0.51]<!-- end -->.

What one model says comes from the records in ``excerpts/readme`` (``excerpts/record.py`` makes them
anew) by the builders of :mod:`bitgap.show.tables`. What families say is measured in an hour, so it
is read off the pages that the same run wrote: ``results.md`` and ``replication.md``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitgap.experiments.catalog import CATALOG
from bitgap.report.docs_pages.results import SHORT
from bitgap.report.words.answers import language_name
from bitgap.show.numbers import told
from bitgap.show.table import Column
from bitgap.show.tables.audit import damage_table
from bitgap.show.tables.findings import verdict_table
from bitgap.show.to_markdown import rows_of, to_markdown
from bitgap.show.withdrawn import withdrawal
from bitgap.show.words import origin_place
from bitgap.theory.formal import HYPOTHESIS as FORMAL

DOCS = Path(__file__).parent
PAGE = DOCS.parent / "README.md"
RECORDS = DOCS / "excerpts" / "readme"
WITHDRAWN = "[withdrawn](#withdrawn)"
NO_ANSWER = (
    "None yet: [docs/results.md](docs/results.md) was judged by older rules than today's; "
    "`make theory` judges again and writes the answer."
)

_PLACE = re.compile(
    r"(?P<head><!-- (?P<kind>table|number): (?P<name>\w+) -->)(?P<body>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)
_CLAIMS = {h.id: h.claim for h in (*(e.hypothesis for e in CATALOG), FORMAL)}


def filled(text: str) -> str:
    """Returns the README with every marked place as records and pages have it.

    Raises:
        KeyError: If a place asks for what is not known.
        ValueError: If a page no longer has the section or row that a place is read off.
    """

    def place(match: re.Match[str]) -> str:
        makers = TABLES if match["kind"] == "table" else NUMBERS
        body = makers[match["name"]]()
        if match["kind"] == "table":
            body = f"\n\n{body}\n\n"
        return match["head"] + body + match["end"]

    return _PLACE.sub(place, text)


def record(name: str) -> dict[str, Any]:
    """Returns a kept record, such as ``audit``."""
    return json.loads((RECORDS / f"{name}.json").read_text("utf-8"))


# -- tables ---------------------------------------------------------------------------------------


def audit() -> str:
    """Returns what each language loses, with how to read it after it."""
    table = damage_table(record("audit"))
    return to_markdown(table.only("language", "damage", "learned_share", "delta", "tokens"), 0)


def one_model() -> str:
    """Returns the verdicts on the bundled model; a withdrawn one says so."""
    findings = record("investigate")["findings"]
    table = verdict_table(findings).only("hypothesis", "verdict", "effect", "p", "p_holm")
    rows = []
    for finding, (name, verdict, *numbers) in zip(findings, table.rows, strict=True):
        note = f": {WITHDRAWN}" if withdrawal(finding) else ""
        parts = [one["label"] for one in finding["verdict"].get("parts") or ()]
        same = parts.count(verdict)
        some = f": {same} of {len(parts)} parts" if 0 < same < len(parts) else ""
        rows.append((name, _CLAIMS[str(name)], f"{verdict}{some}{note}", *numbers))
    columns = (table.columns[0], Column("claim", "says"), *table.columns[1:])
    return to_markdown(replace(table, columns=columns, rows=tuple(rows)), 0)


def families() -> str:
    """Returns the verdicts over families as ``results.md`` has them, without its clauses."""
    # Of exploratory models the page has a table too, without Holm's p.
    head, rows = page_table("results.md", "hypothesis", "verdict", "effect", "p", "Holm p")
    why, scope = head.index("why"), head.index("scope")
    lines = []
    for name, verdict, *numbers in rows:
        one = _id_of(name)
        # The page gives a withdrawal after the clause that decided.
        note = f": {WITHDRAWN}" if "**Withdrawn" in numbers[why - 2] else ""
        # What models they are is the page's to say, once; here how many families speak.
        numbers[scope - 2] = numbers[scope - 2].split(":", 1)[0]
        lines.append([one, _CLAIMS[one], f"{verdict}{note}", *numbers[: why - 2]])
    return rows_of(["hypothesis", "says", *head[1:why]], lines)


def _id_of(name: str) -> str:
    """Returns the id of a hypothesis by its name in a table of the page."""
    known = {one.casefold(): one for one in _CLAIMS}
    return known[re.split(r"[ ,]", name, maxsplit=1)[0].casefold()]


def answer() -> str:
    """Returns the answer in short, as ``results.md`` has it, or that it has none yet."""
    text = (DOCS / "results.md").read_text("utf-8")
    head = f"### {SHORT}\n\n"
    start = text.find(head)
    if start < 0:
        return NO_ANSWER
    body = re.split(r"\n\n#+ ", text[start + len(head) :], maxsplit=1)[0]
    asked_of = text[:start].rsplit("\n\n", 2)[-2]
    return f"{asked_of}\n\n" + "\n".join(f"- {said}" for said in body.split("\n\n"))


def suggested() -> str:
    """Returns what the data suggest over families, as ``results.md`` has it; exploratory."""
    head, rows = page_table("results.md", "hypothesis", "over families")
    return rows_of(head, [[_linked(row[0]), *row[1:]] for row in rows])


def _linked(said: str) -> str:
    """Returns a cell with a withdrawal's reasons replaced by a link to them."""
    return f"{said.split('. **Withdrawn', 1)[0]}: {WITHDRAWN}" if "**Withdrawn" in said else said


def page_table(page: str, *columns: str) -> tuple[list[str], list[list[str]]]:
    """Returns the first table of a page whose columns begin with some names: head, and rows.

    Raises:
        ValueError: If there is none.
    """
    text = (DOCS / page).read_text("utf-8")
    start = text.find("| " + " | ".join(columns) + " |")
    if start < 0:
        raise ValueError(f"docs/{page} has no table of {', '.join(columns)}; `make theory` would")
    lines = text[start:].split("\n\n")[0].splitlines()
    head, _, *rows = ([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return head, rows


TABLES: Mapping[str, Callable[[], str]] = {
    "audit": audit,
    "one_model": one_model,
    "families": families,
    "answer": answer,
    "suggested": suggested,
}

# -- numbers within sentences ---------------------------------------------------------------------


def audit_number(name: str, of: str = "audit") -> str:
    """Returns a summary number of an audit's record with its interval."""
    result = record(of)
    number = told(result[name], result[f"{name}_ci"], signed=not name.startswith("S"))
    return number if result[name] is not None else f"none ({result[f'{name}_reason']})"


def disparity() -> str:
    """Returns D of the audit, and that its sign is not established where it hangs on the unit."""
    unsure = record("audit")["sign_depends_on_unit"]
    return audit_number("D") + (
        ", whose sign is the other one per token and so is not established" if unsure else ""
    )


def real_hurt() -> str:
    """Returns who is hurt most by four bits in the real model, and how much more than English."""
    found = record("gemma")
    code, worst = max(
        ((c, one) for c, one in found["languages"].items() if one["log_ratio"] is not None),
        key=lambda one: one[1]["log_ratio"],
    )
    ends = [2**end for end in worst["log_ratio_ci"]]
    times = told(2 ** worst["log_ratio"], ends, signed=False)
    return f"{language_name(code)} loses {times} times as much"


def origin_standing() -> str:
    """Returns where the origin's set stands by damage and by S, as a predicate."""
    return origin_place(record("investigate")["map"]["original_set"])


def shared_work() -> str:
    """Returns how many blocks would have been evaluated for each one that was."""
    work = record("investigate")["work"]
    return f"{work['block_evaluations_without_sharing'] / work['block_evaluations']:.1f}"


def cell(page: str, columns: tuple[str, ...], first: tuple[str, ...], column: str) -> str:
    """Returns a cell of a page's table: of the one row whose first cells are these, in a column."""
    head, rows = page_table(page, *columns)
    (row,) = (row for row in rows if tuple(row[: len(first)]) == first)
    return row[head.index(column)]


def held_out(rung: str) -> str:
    """Returns R² of a rung of the formal model in the family held out, for S of single blocks."""
    head, rows = page_table("results.md", "response", "rung")
    said = {(row[0], row[1]): row[head.index("R² held out")] for row in rows}
    return said[_response(), rung]


def explained() -> str:
    """Returns what the formal model is asked to explain, as far as the page is of it."""
    return {
        "spread": "what single blocks do to S",
        "ratio": "log ratios of damage to English's, block by block",
    }[_response()]


def _response() -> str:
    # A page of before version 3 of the thresholds has log ratios.
    _, rows = page_table("results.md", "response", "rung")
    return "spread" if any(row[0] == "spread" for row in rows) else "ratio"


def claims(state: str) -> str:
    """Returns how many of the origin's claims came out so in our measure."""
    return cell("replication.md", ("claims",), ("in our measure",), state)


NUMBERS: Mapping[str, Callable[[], str]] = {
    "real_hurt": real_hurt,
    "real_S": lambda: audit_number("S", of="gemma"),
    "S": lambda: audit_number("S"),
    "S_per_text": lambda: audit_number("S_per_text"),
    "D": disparity,
    "D_share": lambda: audit_number("D_share"),
    "origin_place": origin_standing,
    "shared_work": shared_work,
    "explained": explained,
    "budget_r2": lambda: held_out("F0"),
    "theory_r2": lambda: held_out("F3"),
    "position_r2": lambda: held_out("F1"),
    "claims_hold": lambda: claims("holds"),
    "claims_fail": lambda: claims("fails"),
    "claims_unclear": lambda: claims("unclear"),
}


def main(words: list[str]) -> int:
    """Writes the README, or with ``--check`` says whether it is as it would be written."""
    text = PAGE.read_text("utf-8")
    new = filled(text)
    if words == ["--check"]:
        if new != text:
            print("README.md has numbers that its records do not: run `make readme`")
        return int(new != text)
    PAGE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
