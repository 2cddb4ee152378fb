"""The options that verbs share, what an option may say, and how a function is made a verb.

The options that say what to measure and how are the same for every verb, so that one set of them
can be passed to all; verbs that measure nothing pass over them.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitgap.errors import UsageError

if TYPE_CHECKING:
    from bitgap.cli.session import Session

Run = Callable[[Namespace, "Session"], None]
"""Does what a verb says: given the options, which it only reads, and the session to work in."""
Option = tuple[str, dict[str, Any]]
"""Its name, and how argparse reads and explains it."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: its name, what it shows or writes in one line, and what only some verbs take."""

    name: str
    summary: str
    options: tuple[Option, ...]
    run: Run
    example: str = ""
    """A command as somebody would type it, at the end of ``--help``."""

    def declare(self, verbs: Any) -> None:
        """Adds it to what :meth:`argparse.ArgumentParser.add_subparsers` gave."""
        description = f"{self.summary[0].upper()}{self.summary[1:]}."
        parser = verbs.add_parser(
            self.name,
            help=self.summary,
            description=description,
            epilog=f"example:\n  {self.example}",
            # The example is one line, which is copied as it stands.
            formatter_class=RawDescriptionHelpFormatter,
        )
        for name, how in (*self.options, *COMMON):
            parser.add_argument(name, **how)
        measuring = parser.add_argument_group("measuring")
        for name, how in MEASURING:
            measuring.add_argument(name, **how)
        parser.set_defaults(run=self.run)


def option(name: str, help_: str, **how: Any) -> Option:
    """Returns an option, or an argument where the name has no dashes.

    Args:
        name: Such as ``--scheme`` or ``model``.
        help_: What it says; a default that it does not explain is added.
        how: As :meth:`argparse.ArgumentParser.add_argument` takes it.
    """
    if "default" in how and "(default" not in help_:
        help_ += f" (default: {how['default']})"
    if not name.startswith("-"):
        how.setdefault("metavar", name.upper())
    return name, how | {"help": help_}


def verb(name: str, summary: str, *options: Option, example: str = "") -> Callable[[Run], Verb]:
    """Makes a function a verb, which takes these options beside those of every verb.

    Args:
        name: What is typed.
        summary: What it shows or writes, in one line.
        options: What only some verbs take.
        example: A command as somebody would type it.
    """
    return lambda run: Verb(name, summary, options, run, example)


# -- what an option may say ------------------------------------------------------------------------


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Returns what reads a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() else None
        if number is None or number < least or (most is not None and number > most):
            wanted = f"from {least} to {most}" if most is not None else f"of {least} or more"
            raise ArgumentTypeError(f"{text!r} is no whole number {wanted}")
        return number

    return read


def whole_or_auto(least: int, most: int) -> Callable[[str], int | str]:
    """Returns what reads ``auto``, or a whole number from ``least`` to ``most``."""
    number = whole(least, most)

    def read(text: str) -> int | str:
        if text == AUTO:
            return text
        try:
            return number(text)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{error}, nor {AUTO!r}") from None

    return read


def above_0(most: float = float("inf")) -> Callable[[str], float]:
    """Returns what reads a finite number above 0 and at most ``most``."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not 0 < number <= most or number == float("inf"):
            upper = "" if most == float("inf") else f" and at most {most:g}"
            raise ArgumentTypeError(f"{text!r} is no number above 0{upper}")
        return number

    return read


def duration_s(text: str) -> float:
    """Returns the seconds of a time such as ``2h``, ``2h30m``, ``45min`` or ``90s``."""
    found = re.fullmatch(
        r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?",
        "".join(text.split()),
        re.ASCII,
    )
    parts = [float(part or 0) for part in found.groups()] if found else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not 0 < seconds < _LONGEST_S:
        raise ArgumentTypeError(f"{text!r} is no time; write for example 2h, 2h30m, 45min or 90s")
    return seconds


def path(text: str) -> str:
    """Returns the path of a file or folder."""
    if not text.strip() or "\0" in text:
        raise ArgumentTypeError(f"{text!r} is no path; name a file or folder")
    return text


def scheme_name(text: str) -> str:
    """Returns a rounding scheme's canonical name."""
    from bitgap.quant.schemes import parse_scheme

    try:
        return parse_scheme(text).name
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from None


def scheme_or_plan(text: str) -> str:
    """Returns a scheme's canonical name, or a whole plan, checked against the model later."""
    return text if " " in text else scheme_name(text)


def run_name(text: str) -> str:
    """Returns how a user names a stored run, once it names one."""
    from bitgap.report.run import find_run

    try:
        find_run(text, DEFAULT_STORE)
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


# -- options of several verbs ----------------------------------------------------------------------

_LONGEST_S = 1e8  # three years

DEFAULT_STORE = "bitgap.db"
DEFAULT_SCHEME = "rtn4-g128"
AUTO = "auto"
TIERS = ("smoke", "standard", "full")
PREFIXES = ("auto", "tokenizer", "bos", "eos", "none")

_OUT = "also write the result as JSON, and Vega-Lite figures, to this folder"
_CORPUS = (
    "folder of <language>.txt, of FLORES, NTREX or Moses, TSV, JSONL, Parquet or dataset id "
    "(default: the bundled sentences)"
)
_PAIRS = "minimal pairs, as CLAMS or MultiBLiMP lay them out (default: bundled)"
_TREEBANKS = "CoNLL-U file or folder to probe (default: bundled sentences)"
_UNIGRAMS = (
    "folder of <language>.txt (text) or .tsv (token ids and counts) by which what a model had "
    "learned is told; 50,000 tokens a language or more (default: those of the bundled models)"
)
_REFERENCE = "language that damage is compared with and normalised by"
_PREFIX = (
    "what stands before every sentence (default: auto, what the tokenizer makes, else BOS, else "
    "EOS, else nothing, and its first token is not scored)"
)
_TIME_LIMIT = (
    "stop after so long, such as 30m, say what is left, and exit 124; the same command goes on"
)
_ARITHMETIC = "float32, or bfloat16 products where the processor has them"
_WORKERS = (
    "processes that share the scoring, each with --threads (default: 1) and --memory of its own; "
    "of a cluster, how many at most; auto takes processes or threads, whichever is measured to be "
    "faster, with --threads and --memory for all together"
)
_CLUSTER = "have a Ray cluster's processes share the scoring: auto, or its address"
_RUN = "number of a run, or latest (default: latest); `bitgap results` lists them"

COMMON = (
    option("--json", "print JSON instead of tables", action="store_true"),
    option("--out", _OUT, metavar="DIR", type=path),
    option("--no-report", "leave no page beside the store or in --out", action="store_true"),
    option("--store", "where results are kept", default=DEFAULT_STORE, metavar="FILE", type=path),
)
MEASURING = (
    option("--corpus", _CORPUS, type=path),
    option("--pairs", _PAIRS, metavar="DIR", type=path),
    option("--treebanks", _TREEBANKS, metavar="PATH", type=path),
    option("--unigrams", _UNIGRAMS, metavar="DIR", type=path),
    option("--languages", "such as en,he,ar (default: all of the corpus)", metavar="CODES"),
    option("--reference", _REFERENCE, default="en", metavar="CODE"),
    option("--prefix", _PREFIX, choices=PREFIXES, default="auto"),
    option("--arithmetic", _ARITHMETIC, choices=("exact", "fast")),
    option("--seed", "where random choices start", type=whole(0, 2**31 - 1), default=0),
    # torch takes any number of threads, and dies of some.
    option("--threads", "processor threads (default: torch's)", type=whole(1, 1024), metavar="N"),
    option("--workers", _WORKERS, type=whole_or_auto(1, 4096), metavar="N"),
    option("--cluster", _CLUSTER, metavar="ADDRESS"),
    option("--memory", "what may be used beside the model", default="4GiB"),
    option("--device", "cpu or cuda", default="cpu"),
    option("--time-limit", _TIME_LIMIT, type=duration_s, metavar="TIME"),
)
TRUST = (
    option("--allow-pickle", "read .bin weights too", action="store_true"),
    option("--trust-remote-code", "run code that comes with the model", action="store_true"),
)
DRY_RUN = option("--dry-run", "print what it would cost, and stop", action="store_true")
MODEL = option(
    "model", "folder or hub id, org/name@revision (default: the bundled model)", nargs="?"
)
# None where it was not given, so that it is told from the default beside --within.
TIER = option("--tier", "how much text is scored (default: standard)", choices=TIERS)
# Intervals come from drawing sentences again; of one there is nothing to draw.
SENTENCES = option(
    "--sentences", "score N sentences only, spread over the text", type=whole(2), metavar="N"
)
_TIER_SENTENCES = "score N sentences instead of the tier's, spread over the text"
TIER_SENTENCES = option("--sentences", _TIER_SENTENCES, type=whole(2), metavar="N")
_WITHIN = "choose sentences, then masks, that take no longer, such as 2h30m; instead of a tier"
WITHIN = option("--within", _WITHIN, type=duration_s, metavar="TIME")


def tier_name(options: Namespace) -> str:
    """Returns the tier that was asked for, or the standard one.

    Raises:
        UsageError: If a time was given as well, which chooses in a tier's place.
    """
    if options.tier is not None and options.within is not None:
        raise UsageError("--within chooses how much text is scored, and --tier names it; give one")
    return options.tier or "standard"


_ALL_MASKS = "score all sets of blocks, up to 14 blocks; not only the standard design's"
UNITS = option(
    "--units", "each matrix alone, by language, instead of sets of blocks", action="store_true"
)
ALL_MASKS = option("--all-masks", _ALL_MASKS, action="store_true")
RUN = option("run_name", _RUN, nargs="?", metavar="RUN", type=run_name, default="latest")
