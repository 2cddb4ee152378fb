"""Commands that read a store and write something for people: report, figures, paper, compare.

Nothing here measures, and nothing needs torch or the model: what is not in the store is not said.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from bitgap.cli import console
from bitgap.cli.options import RUN, option, run_name, verb
from bitgap.cli.session import REPORT, Session, writable
from bitgap.errors import UsageError
from bitgap.files import write_bytes, write_text

_RUNS = "numbers, latest, or of another store: other.db:12"


def _formats(text: str) -> list[str]:
    from bitgap.show.draw import FORMATS

    names = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ArgumentTypeError(f"{name!r} is not drawn; give {', '.join(FORMATS)}")
    return names


@verb(
    "report",
    "a stored run as one self-contained page, report.html",
    RUN,
    example="bitgap report latest --out pages",
)
def report(options: Namespace, session: Session) -> None:
    """Writes the report of a stored run again, judged by today's thresholds."""
    from bitgap.report.page import report_html
    from bitgap.report.run import read_run

    page = report_html(read_run(options.run_name, options.store))
    file = _folder(options) / REPORT
    write_text(file, page)
    console.write(str(file))


@verb(
    "figures",
    "every figure of a stored run",
    RUN,
    option("--format", "such as svg,png,pdf", type=_formats, default="svg", metavar="LIST"),
    example="bitgap figures latest --format svg,pdf",
)
def figures(options: Namespace, session: Session) -> None:
    """Draws every figure of a stored run."""
    from bitgap.report.figures.run import run_figures
    from bitgap.report.run import read_run
    from bitgap.show.draw import write_figures

    drawn = run_figures(read_run(options.run_name, options.store))
    if not drawn:
        raise UsageError(
            f"run {options.run_name} has nothing to draw; audit, map, investigate and theory do"
        )
    for file in write_figures(drawn, _folder(options, "figures"), options.format):
        console.write(str(file))


@verb(
    "paper",
    "a stored run as a paper, paper.pdf",
    RUN,
    option("--beside", "runs to add as worked examples", type=run_name, nargs="+", metavar="RUN"),
    option("--source", "also write the paper's source and figures", action="store_true"),
    example="bitgap paper latest --beside 3 --out paper",
)
def paper(options: Namespace, session: Session) -> None:
    """Writes a stored run as a paper."""
    from bitgap.report.paper import paper_pdf, paper_source
    from bitgap.report.run import read_run

    run = read_run(options.run_name, options.store)
    files = paper_source(run, [read_run(name, options.store) for name in options.beside or ()])
    folder = _folder(options)
    if options.source:
        files.write(writable(str(folder / "paper"), "--out"))
    write_bytes(folder / "paper.pdf", paper_pdf(files))
    console.write(str(folder / "paper.pdf"))


@verb(
    "card",
    "a stored audit as a model card: Markdown and model-index",
    RUN,
    example="bitgap card latest --out shipped",
)
def card(options: Namespace, session: Session) -> None:
    """Prints a run's model card, or writes it to ``--out`` as card.md."""
    from bitgap.report.card import card_markdown
    from bitgap.report.run import read_run

    text = card_markdown(read_run(options.run_name, options.store))
    if options.out:
        file = _folder(options) / "card.md"
        write_text(file, text)
        console.write(str(file))
    else:
        console.write(text)


@verb(
    "compare",
    "stored runs side by side, in the terminal and as compare.html",
    option("runs", _RUNS, type=run_name, nargs="+", metavar="RUN"),
    example="bitgap compare 1 2 other.db:latest",
)
def compare(options: Namespace, session: Session) -> None:
    """Shows several stored runs side by side, in the terminal and as a page."""
    from bitgap.report.comparison import compared
    from bitgap.report.page import compare_html
    from bitgap.report.run import read_run
    from bitgap.show import views

    if len(options.runs) < 2:
        raise UsageError(f"{len(options.runs)} run was named; give two or more to compare")
    result = compared([read_run(name, options.store) for name in options.runs])
    if not options.no_report:
        page = _folder(options) / "compare.html"
        write_text(page, compare_html(result))
        console.say(f"page: {page}")
    session.show(result, views.comparison_view, keep=False)


def _folder(options: Namespace, default: str = ".") -> Path:
    return writable(options.out or default, "--out")
