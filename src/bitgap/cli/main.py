"""The command line's parser, and how every command begins and ends.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed or interrupted,
2 misuse, 3 where a gate cannot tell. Nothing here imports torch before a verb that measures does.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from bitgap.cli import catalog, console, export, files, measure, pages, protect, theory
from bitgap.cli.session import Session
from bitgap.version import __version__

VERBS = (
    *(measure.audit, measure.layer_map, measure.investigate, protect.protect),
    *(export.export, export.verify, export.tasks),
    *(theory.theory, theory.predict, theory.check, theory.replicate, theory.plan),
    *(catalog.list_, catalog.show, catalog.results),
    *(files.contents, files.gate),
    *(pages.report, pages.figures, pages.paper, pages.card, pages.compare),
)


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser; what it returns has the verb's name as ``command``."""
    parser = _Parser(
        prog="bitgap",
        description="Measures the gap that low-bit quantization opens between languages.",
        epilog="Exit codes: 0 done, 1 failed or interrupted, 2 misuse, 3 a gate cannot tell.",
    )
    parser.add_argument("--version", action="version", version=f"bitgap {__version__}")
    verbs = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="command"
    )
    for verb in VERBS:
        verb.declare(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; those of the process when None.

    Returns:
        0 done, 1 failed or interrupted, 2 misuse, 3 where a gate cannot tell.
    """
    logging.basicConfig(format="bitgap: %(message)s", level=logging.WARNING, stream=sys.stderr)
    # Threads that spin while they wait for each other are ten to a hundred times slower where
    # anything else runs. Read when torch and numpy are first imported; what somebody set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # some µs, as blocks are many short steps
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        options = make_parser().parse_args(argv)
    except SystemExit as stop:  # argparse prints usage itself; 0 after --help, 2 on misuse
        return int(stop.code or 0)
    session = Session(options)
    try:
        with session:
            options.run(options, session)
    except (Exception, KeyboardInterrupt) as error:
        message = session.why_it_ended(error)
        if message is None:  # a fault of ours
            raise
        console.tell(message)
        return getattr(error, "exit_code", 1)
    return 0
