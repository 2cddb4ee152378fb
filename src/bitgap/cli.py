"""The command line: verbs only, each over one public function.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed or interrupted,
2 misuse. Nothing here imports torch before a verb that measures needs it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap import __version__
from bitgap.errors import BitgapError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitgap.lab.budget import Preflight
    from bitgap.lab.lab import Lab
    from bitgap.records import Arithmetic

DEFAULT_STORE = "bitgap.db"
DEFAULT_SCHEME = "rtn4-g128"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; those of the process when None.

    Returns:
        0 done, 1 failed or interrupted, 2 misuse.
    """
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse prints usage itself; 0 after --help, 2 on misuse
        return int(stop.code or 0)
    logging.basicConfig(format="bitgap: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        options.verb(options)
        sys.stdout.flush()
    except BitgapError as error:
        print(f"bitgap: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        kept = f" in {options.store}" if getattr(options, "store", None) else ""
        print(
            f"\nbitgap: stopped; what was finished is kept{kept}. "
            f"Run the same command again to go on from there.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"bitgap: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    return 0


# -- verbs ----------------------------------------------------------------------------------------


def _audit(options: argparse.Namespace) -> None:
    from bitgap import terminal
    from bitgap.disparity import audit

    with _lab(options, default="exact") as lab:
        plan = _plan(options, lab.n_blocks)
        if _dry_run(options, lab.preflight([plan])):
            return
        started = time.time()
        report = audit(lab.score([plan], "audit"), plan.text, seed=options.seed)
        result = _described(lab, options, plan.text) | report.as_dict()
        _finish(options, lab, started, result, terminal.audit_view)


def _map(options: argparse.Namespace) -> None:
    from bitgap import terminal
    from bitgap.layer_map import make_design, make_map, score_map

    with _lab(options, default="fast") as lab:
        if options.sentences:
            lab = lab.on(sentences=range(min(options.sentences, lab.corpus.n_sentences)))
        design = make_design(lab.n_blocks, seed=options.seed)
        if _dry_run(options, lab.preflight(design.plans(options.scheme))):
            return
        started = time.time()
        scores = score_map(lab, options.scheme, design)
        found = make_map(scores, options.scheme, design, seed=options.seed)
        result = _described(lab, options, options.scheme) | found.as_dict()
        _finish(options, lab, started, result, terminal.map_view)


def _investigate(options: argparse.Namespace) -> None:
    from bitgap import terminal
    from bitgap.investigate import TIERS, foresee, investigate

    with _lab(options, default="fast") as lab:
        tier = TIERS[options.tier]
        if _dry_run(options, foresee(lab, tier)):
            return
        started = time.time()
        found = investigate(lab, tier, announce=_announce)
        result = _described(lab, options, found.scheme) | found.as_dict()
        _finish(options, lab, started, result, terminal.investigation_view, found.findings)


def _list(options: argparse.Namespace) -> None:
    from bitgap import terminal
    from bitgap.experiments.catalog import CATALOG, describe

    n_blocks = _n_blocks(options.model)
    rows = [describe(experiment, n_blocks) for experiment in CATALOG]
    _print(options, {"model": options.model, "n_blocks": n_blocks, "experiments": rows},
           terminal.list_view)  # fmt: skip


def _show(options: argparse.Namespace) -> None:
    from bitgap import terminal
    from bitgap.experiments.catalog import describe, find

    experiment = find(options.experiment)
    result = describe(experiment, _n_blocks(options.model), full=True)
    _print(options, result, terminal.show_view)


def _results(options: argparse.Namespace) -> None:
    from bitgap import results, terminal
    from bitgap.lab.store import Store

    with Store(options.store, read_only=True) as store:
        if options.parquet:
            for path in results.write_parquet(store, Path(options.parquet)):
                print(path, file=sys.stderr)
        _print(options, results.summary(store), terminal.results_view)


# -- what verbs share -----------------------------------------------------------------------------


@contextmanager
def _lab(options: argparse.Namespace, default: Arithmetic) -> Iterator[Lab]:
    """Yields the lab that the options describe."""
    from bitgap import terminal
    from bitgap.lab.budget import current_rss_bytes, keep_freed_memory, parse_bytes
    from bitgap.lab.lab import Lab, Settings, set_threads

    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
    set_threads(options.threads)
    keep_freed_memory()
    settings = Settings(
        arithmetic=options.arithmetic if options.arithmetic else default,
        memory_bytes=parse_bytes(options.memory),
        seed=options.seed,
        device=options.device,
    )
    lab = Lab.from_pretrained(
        options.model,
        options.corpus,
        languages=options.languages,
        store=None if options.dry_run else options.store,
        settings=settings,
        progress=terminal.Bar(),
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
    )
    options.rss_at_start = current_rss_bytes()
    try:
        yield lab
    finally:
        lab.store.close()


def _plan(options: argparse.Namespace, n_blocks: int) -> Any:
    from bitgap.quant.plan import Plan

    protect = f" protect {options.protect}" if options.protect else ""
    return Plan.parse(f"{options.scheme}{protect}", n_blocks)


def _dry_run(options: argparse.Namespace, preflight: Preflight) -> bool:
    """Says what the work would cost; returns whether that is all that was asked."""
    from bitgap import terminal

    options.predicted = preflight.as_dict()
    if options.dry_run:
        _print(options, {"preflight": options.predicted}, terminal.preflight_view)
    else:
        terminal.say(terminal.preflight_line(options.predicted))
    return options.dry_run


def _described(lab: Lab, options: argparse.Namespace, plan: str) -> dict[str, Any]:
    corpus = lab.corpus.info
    return {
        "model": lab.info.name,
        "model_fingerprint": lab.info.fingerprint,
        "n_blocks": lab.n_blocks,
        "scheme": getattr(options, "scheme", plan),
        "plan": plan,
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "sentences": int(lab.text.counts.tokens.shape[1]),
        "sentences_dropped": lab.text.n_dropped,
        "arithmetic": lab.settings.arithmetic,
    }


def _finish(
    options: argparse.Namespace,
    lab: Lab,
    started: float,
    result: dict[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
    findings: Sequence[Any] = (),
) -> None:
    """Stores, writes and prints one result, with what it cost beside what was predicted."""
    from dataclasses import asdict

    from bitgap import terminal
    from bitgap.lab.budget import peak_rss_bytes
    from bitgap.stats.verdicts import load_thresholds

    provenance = lab.provenance(started, load_thresholds().hash)
    cost = {
        "predicted_s": options.predicted["time_s"],
        "took_s": provenance.wall_s,
        "predicted_bytes": options.predicted["memory_bytes"],
        "peak_bytes": max(0, peak_rss_bytes() - options.rss_at_start),
    }
    result = result | {"cost": cost, "provenance": asdict(provenance)}
    run = lab.store.put_run(options.command, provenance, result, findings)
    terminal.say(terminal.cost_line(cost, run, options.store))
    if options.out:
        _write(Path(options.out), options.command, result, [f for f, _ in findings])
    _print(options, result, view)


def _write(folder: Path, command: str, result: Mapping[str, Any], findings: Sequence[Any]) -> None:
    from bitgap.experiments.catalog import find

    (folder / f"{command}.json").write_text(_json(result) + "\n", encoding="utf-8")
    for finding in findings:
        figure = find(finding.experiment).figure
        if figure is not None:
            path = folder / f"{finding.experiment}.vl.json"
            path.write_text(_json(figure(finding)) + "\n", encoding="utf-8")


def _n_blocks(model: str | None) -> int:
    from bitgap.models.shape import count_blocks

    return count_blocks(model)


def _announce(text: str) -> None:
    from bitgap import terminal

    terminal.say(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)


def _print(
    options: argparse.Namespace,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
) -> None:
    from bitgap import terminal

    if options.json:
        print(_json(result))
    else:
        terminal.show(view(result))


# -- arguments ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitgap",
        description="Measures the gap that low-bit quantization opens between languages.",
        epilog="Exit codes: 0 done, 1 failed or interrupted, 2 misuse.",
    )
    parser.add_argument("--version", action="version", version=f"bitgap {__version__}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common, measuring = _common(), _measuring()

    def add(name: str, verb: Callable[..., None], help_: str, *parents: Any) -> Any:
        sub = verbs.add_parser(
            name, help=help_, description=help_[0].upper() + help_[1:] + ".",
            parents=[common, *parents],
        )  # fmt: skip
        sub.set_defaults(verb=verb, command=name)
        return sub

    one = add("audit", _audit, "damage by language under one plan", measuring)
    one.add_argument("--protect", metavar="LIST", help="blocks kept whole, such as 0,9,11 or 0-2")
    _scheme(one)
    layers = add("map", _map, "what protecting each set of layers does", measuring)
    layers.add_argument("--sentences", type=_positive, metavar="N",
                        help="score the first N sentences only")  # fmt: skip
    _scheme(layers)
    whole = add("investigate", _investigate, "audit, map and experiments, with verdicts", measuring)
    whole.add_argument("--tier", choices=("smoke", "standard", "full"), default="standard",
                       help="how much text is scored (default: standard)")  # fmt: skip
    _model(add("list", _list, "the experiments, their hypotheses and what they cost"))
    shown = add("show", _show, "one experiment: question, method, costs, thresholds")
    shown.add_argument("experiment", metavar="ID", help="such as T-004")
    shown.add_argument("--model", help="whose costs to show (default: the bundled model)")
    stored = add("results", _results, "what a store holds, judged again from stored numbers")
    stored.add_argument("--parquet", metavar="DIR", help="write tidy tables for pandas or DuckDB")
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", default=DEFAULT_STORE, metavar="FILE",
                        help=f"where results are kept (default: {DEFAULT_STORE})")  # fmt: skip
    common.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return common


def _measuring() -> argparse.ArgumentParser:
    group = argparse.ArgumentParser(add_help=False)
    _model(group)
    add = group.add_argument
    add("--corpus", help="folder of <language>.txt, TSV, JSONL, Parquet or dataset id")
    add("--languages", metavar="CODES", help="such as en,he,ar (default: all of the corpus)")
    add("--out", metavar="DIR", help="also write the result, and figures, to this folder")
    add("--arithmetic", choices=("exact", "fast"),
        help="float32, or bfloat16 products where the processor has them")  # fmt: skip
    add("--seed", type=_seed, default=0, help="where random choices start (default: 0)")
    add("--threads", type=_positive, metavar="N", help="processor threads (default: torch's)")
    add("--memory", default="4GiB", help="what may be used beside the model (default: 4GiB)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add("--dry-run", action="store_true", help="print what it would cost, and stop")
    add("--allow-pickle", action="store_true", help="read .bin weights too")
    add("--trust-remote-code", action="store_true", help="run code that comes with the model")
    return group


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL",
                        help="folder or hub id (default: the bundled model)")  # fmt: skip


def _scheme(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, type=_scheme_name,
                        help=f"how weights are rounded (default: {DEFAULT_SCHEME})")  # fmt: skip


def _scheme_name(text: str) -> str:
    from bitgap.quant.schemes import parse_scheme

    try:
        if " " in text:  # a whole plan, checked against the model later
            return text
        return parse_scheme(text).name
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2^31 − 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
