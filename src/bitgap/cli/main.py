"""The command line's parser, and how every command begins and ends.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, 2 misuse, 3
where a gate cannot tell, 124 when the time limit is up, 130 after Ctrl-C, 143 after SIGTERM.
Nothing here imports torch before a verb that measures does.
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
from bitgap.cli.stopping import Watch
from bitgap.errors import plain_text
from bitgap.version import __version__

VERBS = (
    *(measure.audit, measure.layer_map, measure.investigate, measure.calibration),
    protect.protect,
    *(export.export, export.verify, export.tasks),
    *(theory.theory, theory.predict, theory.check, theory.replicate, theory.plan),
    *(catalog.list_, catalog.show, catalog.results),
    *(files.contents, files.gate),
    *(pages.report, pages.figures, pages.paper, pages.card, pages.compare),
)


EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 misuse, 3 a gate cannot tell, 124 the time limit\n"
    "is up, 130 Ctrl-C, 143 SIGTERM."
)
_EXAMPLE = (
    "`bitgap COMMAND --help` ends in an example. To begin, on the model that is bundled\n"
    "and then on yours:\n"
    "  bitgap audit --languages en,de,he,ar --sentences 24\n"
    "  bitgap audit ./my-model --languages en,de,he,ar"
)


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain_text(super().formatMessage(record))


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser; what it returns has the verb's name as ``command``."""
    parser = _Parser(
        prog="bitgap",
        description="Measures the gap that low-bit quantization opens between languages.",
        epilog=f"{EXIT_CODES}\n\n{_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # the examples are lines
    )
    parser.add_argument("--version", action="version", version=f"bitgap {__version__}")
    verbs = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="command"
    )
    for verb in VERBS:
        verb.declare(verbs)
    return parser


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns what was asked; argparse itself would send whoever mistypes to the wrong help."""
    parser = make_parser()
    options, rest = parser.parse_known_args(argv)
    if rest:
        parser.prog = f"bitgap {options.command}"
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def main(argv: Sequence[str] | None = None, *, alone: bool = False) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; those of the process when None.
        alone: Whether the process is there for this alone, and may be ended where it is stopped.

    Returns:
        One of :data:`EXIT_CODES`.
    """
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setFormatter(_OneLine("bitgap: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[warnings])
    # Threads that spin while they wait for each other are ten to a hundred times slower where
    # anything else runs. Read when torch and numpy are first imported; what somebody set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # some µs, as blocks are many short steps
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        options = _options(argv)
    except SystemExit as stop:  # argparse prints usage itself; 0 after --help, 2 on misuse
        return int(stop.code or 0)
    session = Session(options)
    with Watch(session.why_it_stopped, alone=alone) as watch, session:
        watch.limit(options.time_limit)
        session.on_begin(watch.winds_up)
        try:
            options.run(options, session)
            watch.ends()
        except (Exception, KeyboardInterrupt) as error:
            watch.ends()
            # What a stop makes of the work in hand is a stop, whatever a library calls it.
            cause = watch.asked or error
            message = session.why_it_ended(cause)
            if message is None:  # a fault of ours
                raise
            console.tell(message)
            return 130 if type(cause) is KeyboardInterrupt else getattr(cause, "exit_code", 1)
    return 0
