"""What can be asked on the command line: verbs, options, and what an option may say.

The options that say what to measure and how are the same for every verb, so that one set of them
can be passed to all; verbs that measure nothing pass over them.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from bitgap.errors import UsageError
from bitgap.version import __version__

DEFAULT_STORE = "bitgap.db"


DEFAULT_SCHEME = "rtn4-g128"


TIERS = ("smoke", "standard", "full")


# torch takes any number of threads, and dies of some.
_MOST_THREADS = 1024


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser; what it returns has the verb's name as ``command``."""
    parser = _Parser(
        prog="bitgap",
        description="Measures the gap that low-bit quantization opens between languages.",
        epilog="Exit codes: 0 done, 1 failed or interrupted, 2 misuse.",
    )
    parser.add_argument("--version", action="version", version=f"bitgap {__version__}")
    verbs = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="command"
    )
    common, trust = _common(), _trust()
    forecast = _Parser(add_help=False, parents=[trust])
    forecast.add_argument("--dry-run", action="store_true",
                          help="print what it would cost, and stop")  # fmt: skip
    loading = _Parser(add_help=False, parents=[forecast])
    _model(loading)

    def add(name: str, help_: str, *parents: _Parser) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=help_, description=help_[0].upper() + help_[1:] + ".",
            parents=[*parents, common],
        )  # fmt: skip

    one = add("audit", "damage by language under one plan", loading)
    one.add_argument("--protect", metavar="LIST", help="blocks kept whole, such as 0,9,11 or 0-2")
    _scheme(one, _scheme_or_plan, "how weights are rounded, or a whole plan in quotes")
    _sentences(one)
    layers = add("map", "what protecting each set of layers does", loading)
    _scheme(layers, _scheme_name, "how weights are rounded")
    _sentences(layers)
    whole = add("investigate", "audit, map and experiments, with verdicts", loading)
    whole.add_argument("--tier", choices=TIERS, default="standard",
                       help="how much text is scored (default: standard)")  # fmt: skip
    _add_theory(add, forecast, trust)
    _add_plan(add, trust)
    _model(add("list", "the experiments, their hypotheses and what they cost"))
    shown = add("show", "one experiment: question, method, costs, thresholds")
    shown.add_argument("experiment", metavar="ID", help="such as T-004")
    shown.add_argument("--model", help="whose costs to show (default: the bundled model)")
    stored = add("results", "what a store holds, judged again from stored numbers")
    stored.add_argument("--parquet", metavar="DIR", type=_path,
                        help="write tidy tables for pandas or DuckDB")  # fmt: skip
    _add_pages(add)
    return parser


def _add_theory(add: Any, forecast: _Parser, trust: _Parser) -> None:
    """Adds the verbs over model families."""
    theory = add("theory", "what all model families say together, with verdicts", forecast)
    theory.add_argument("models", nargs="*", metavar="MODEL",
                        help="models or folders of them (default: the bundled model)")  # fmt: skip
    theory.add_argument("--tier", choices=TIERS, default="standard",
                        help="how much text is scored (default: standard)")  # fmt: skip
    theory.add_argument("--page", metavar="FILE", type=_path,
                        help="also write what came out as a Markdown page")  # fmt: skip
    ahead = add("predict", "what a model not measured yet will lose, dated and hashed", trust)
    ahead.add_argument("target", metavar="TARGET",
                       help="an architecture by name, such as Llama-2-70B, or a model")  # fmt: skip
    ahead.add_argument("--scheme", default="rtn3-g128", type=_scheme_name,
                       help="how blocks will be rounded (default: rtn3-g128)")  # fmt: skip
    _sentences(ahead)
    checked = add("check", "predictions against what was measured after them")
    checked.add_argument("files", nargs="+", metavar="FILE", help="that `bitgap predict` wrote")
    origin = add("replicate", "every claim of the origin replayed: holds, fails or neither", trust)
    _model(origin)
    origin.add_argument("--scheme", type=_scheme_name,
                        help="of our own measure (default: the operating point)")  # fmt: skip
    origin.add_argument("--others", nargs="+", metavar="MODEL",
                        help="models of other families, for the claims about them")  # fmt: skip
    origin.add_argument("--page", metavar="FILE", type=_path,
                        help="also write the ledger as a Markdown page")  # fmt: skip
    _sentences(origin)


def _add_plan(add: Any, trust: _Parser) -> None:
    """Adds the verb that says what to run first, and what a large model would take."""
    ahead = add("plan", "what to run first here, and what a large model would take", trust)
    _model(ahead)
    ahead.add_argument("--card", default="Llama-2-70B", metavar="NAME",
                       help="the large model's architecture (default: Llama-2-70B)")  # fmt: skip
    ahead.add_argument("--target-languages", type=_positive, default=200, metavar="N",
                       help="its languages (default: 200)")  # fmt: skip
    ahead.add_argument("--target-sentences", type=_positive, default=200, metavar="N",
                       help="sentences of each (default: 200)")  # fmt: skip
    ahead.add_argument("--gpus", type=_positive, default=8, metavar="N",
                       help="how many GPUs it runs on (default: 8)")  # fmt: skip
    ahead.add_argument("--tflops", type=_rate, default=312.0, metavar="T",
                       help="peak bf16 rate of one (default: 312, an A100's)")  # fmt: skip
    ahead.add_argument("--utilisation", type=_share, default=0.4, metavar="U",
                       help="share of the peak that is reached (default: 0.4)")  # fmt: skip


def _add_pages(add: Any) -> None:
    """Adds the verbs that write stored runs for people."""
    _run(add("report", "a stored run as one self-contained page, report.html"))
    drawn = add("figures", "every figure of a stored run")
    _run(drawn)
    drawn.add_argument("--format", default="svg", type=_formats, metavar="LIST",
                       help="such as svg,png,pdf (default: svg)")  # fmt: skip
    written = add("paper", "a stored run as a paper, paper.pdf")
    _run(written)
    written.add_argument("--beside", nargs="+", metavar="RUN", type=_run_name,
                         help="runs to add as worked examples")  # fmt: skip
    written.add_argument("--source", action="store_true",
                         help="also write the paper's source and figures")  # fmt: skip
    several = add("compare", "stored runs side by side, in the terminal and as compare.html")
    several.add_argument("runs", nargs="+", metavar="RUN", type=_run_name,
                         help="numbers, latest, or of another store: other.db:12")  # fmt: skip


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", nargs="?", metavar="RUN", type=_run_name, default="latest",
                        help="number of a run, or latest (default: latest); `bitgap results` "
                        "lists them")  # fmt: skip


def _run_name(text: str) -> str:
    from bitgap.report.run import find_run

    try:
        find_run(text, DEFAULT_STORE)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _formats(text: str) -> list[str]:
    from bitgap.show.draw import FORMATS

    names = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"{name!r} is not drawn; give {', '.join(FORMATS)}")
    return names


def _positive(text: str) -> int:
    return _whole(text, 1, None)


def _rate(text: str) -> float:
    return _real(text, 0.0, float("inf"))


def _share(text: str) -> float:
    return _real(text, 0.0, 1.0)


def _real(text: str, above: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (above < number <= most and number != float("inf")):
        upper = "" if most == float("inf") else f" and at most {most:g}"
        raise argparse.ArgumentTypeError(f"{text!r} is no number above {above:g}{upper}")
    return number


def _common() -> _Parser:
    group = _Parser(add_help=False)
    add = group.add_argument
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--out", metavar="DIR", type=_path,
        help="also write the result as JSON, and Vega-Lite figures, to this folder")  # fmt: skip
    add("--no-report", action="store_true", help="leave no page beside the store or in --out")
    add("--store", default=DEFAULT_STORE, metavar="FILE", type=_path,
        help=f"where results are kept (default: {DEFAULT_STORE})")  # fmt: skip
    measuring = group.add_argument_group("measuring")
    add = measuring.add_argument
    add("--corpus", help="folder of <language>.txt, TSV, JSONL, Parquet or dataset id "
        "(default: the bundled sentences)")  # fmt: skip
    add("--pairs", metavar="DIR", type=_path,
        help="minimal pairs, as CLAMS or MultiBLiMP lay them out (default: bundled)")  # fmt: skip
    add("--treebanks", metavar="PATH", type=_path,
        help="CoNLL-U file or folder to probe (default: bundled sentences)")  # fmt: skip
    add("--languages", metavar="CODES", help="such as en,he,ar (default: all of the corpus)")
    add("--arithmetic", choices=("exact", "fast"),
        help="float32, or bfloat16 products where the processor has them")  # fmt: skip
    add("--seed", type=_seed, default=0, help="where random choices start (default: 0)")
    add("--threads", type=_threads, metavar="N", help="processor threads (default: torch's)")
    add("--memory", default="4GiB", help="what may be used beside the model (default: 4GiB)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    return group


def _trust() -> _Parser:
    group = _Parser(add_help=False)
    add = group.add_argument
    add("--allow-pickle", action="store_true", help="read .bin weights too")
    add("--trust-remote-code", action="store_true", help="run code that comes with the model")
    return group


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL",
                        help="folder or hub id (default: the bundled model)")  # fmt: skip


def _sentences(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sentences", type=_sentence_count, metavar="N",
                        help="score the first N sentences only")  # fmt: skip


def _scheme(parser: argparse.ArgumentParser, kind: Any, help_: str) -> None:
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, type=kind,
                        help=f"{help_} (default: {DEFAULT_SCHEME})")  # fmt: skip


def _scheme_or_plan(text: str) -> str:
    # A whole plan is checked against the model later.
    return text if " " in text else _scheme_name(text)


def _scheme_name(text: str) -> str:
    from bitgap.quant.schemes import parse_scheme

    try:
        return parse_scheme(text).name
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _path(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; name a file or folder")
    return text


def _threads(text: str) -> int:
    return _whole(text, 1, _MOST_THREADS)


def _sentence_count(text: str) -> int:
    # Intervals come from drawing sentences again; of one there is nothing to draw.
    return _whole(text, 2, None)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**31 - 1)


def _whole(text: str, least: int, most: int | None) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else None
    if number is None or number < least or (most is not None and number > most):
        wanted = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number {wanted}")
    return number
