"""Commands that read a store and write something for people: report, figures, paper, compare.

Nothing here measures, and nothing needs torch or the model: what is not in the store is not said.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bitgap.cli.session import REPORT, print_result, writable
from bitgap.errors import UsageError
from bitgap.show.files import write_bytes, write_text


def report(options: argparse.Namespace) -> None:
    """Writes the report of a stored run again, judged by today's thresholds."""
    from bitgap.cli import console as terminal
    from bitgap.report.page import report_html
    from bitgap.report.run import read_run

    page = report_html(read_run(options.run_name, options.store))
    folder = _folder(options)
    write_text(folder / REPORT, page)
    terminal.write(str(folder / REPORT))


def figures(options: argparse.Namespace) -> None:
    """Draws every figure of a stored run."""
    from bitgap.cli import console as terminal
    from bitgap.report.figures.run import run_figures
    from bitgap.report.run import read_run
    from bitgap.show.draw import write_figures

    drawn = run_figures(read_run(options.run_name, options.store))
    if not drawn:
        raise UsageError(
            f"run {options.run_name} has nothing to draw; audit, map, investigate and theory do"
        )
    folder = writable(options.out or "figures", "--out")
    for path in write_figures(drawn, folder, options.format):
        terminal.write(str(path))


def paper(options: argparse.Namespace) -> None:
    """Writes a stored run as a paper."""
    from bitgap.cli import console as terminal
    from bitgap.report.paper import paper_pdf, paper_source
    from bitgap.report.run import read_run

    run = read_run(options.run_name, options.store)
    files = paper_source(run, [read_run(name, options.store) for name in options.beside or ()])
    folder = _folder(options)
    if options.source:
        files.write(writable(str(folder / "paper"), "--out"))
    write_bytes(folder / "paper.pdf", paper_pdf(files))
    terminal.write(str(folder / "paper.pdf"))


def compare(options: argparse.Namespace) -> None:
    """Shows several stored runs side by side, in the terminal and as a page."""
    from bitgap.cli import console as terminal
    from bitgap.report.comparison import compared, comparison_view
    from bitgap.report.page import compare_html
    from bitgap.report.run import read_run

    if len(options.runs) < 2:
        raise UsageError(f"{len(options.runs)} run was named; give two or more to compare")
    runs = [read_run(name, options.store) for name in options.runs]
    result = compared(runs)
    if not options.no_report:
        folder = _folder(options)
        write_text(folder / "compare.html", compare_html(result))
        terminal.say(f"page: {folder / 'compare.html'}")
    print_result(options, result, comparison_view)


def _folder(options: argparse.Namespace) -> Path:
    return writable(options.out or ".", "--out")
