"""What commands share: labs as options describe them, and results handed out.

Data goes to stdout, progress and messages to stderr. Nothing here imports torch before a lab is
asked for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.errors import UserError
from bitgap.show.files import write_text
from bitgap.show.words import cost_line, preflight_line

if TYPE_CHECKING:
    from bitgap.lab.engine.budget import Preflight
    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import Settings
    from bitgap.lab.store import Store
    from bitgap.records import Arithmetic, Finding, Provenance, Scores
    from bitgap.report.run import Run
    from bitgap.show.charts import Figure


REPORT = "report.html"
"""What every run leaves, in ``--out`` or beside the store."""


@contextmanager
def lab_of(options: argparse.Namespace, default: Arithmetic, *, keep: bool = True) -> Iterator[Lab]:
    """Yields the lab that the options describe, and closes it."""
    lab = open_lab(options, options.model, default, keep=keep)
    try:
        yield lab
    finally:
        lab.store.close()


def open_lab(
    options: argparse.Namespace, model: str | None, default: Arithmetic, *, keep: bool = True
) -> Lab:
    """Returns a lab for a model as the options describe it, with a store if it is to keep."""
    from bitgap.cli import console as terminal
    from bitgap.lab.engine.budget import current_rss_bytes, keep_freed_memory
    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import set_threads
    from bitgap.lab.store import Store

    dry = getattr(options, "dry_run", False)  # not all verbs have it
    if options.out and not dry:
        writable(options.out, "--out")
    set_threads(options.threads)
    keep_freed_memory()
    lab = Lab.from_pretrained(
        model,
        options.corpus,
        languages=options.languages,
        pairs=options.pairs,
        treebanks=options.treebanks,
        store=options.store if keep and not dry else None,
        settings=settings(options, default),
        progress=terminal.Bar(),
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
    )
    if dry and Path(options.store).is_file():
        lab.store = Store(options.store, read_only=True)  # what it holds need not be paid for
    options.rss_at_start = current_rss_bytes()
    return lab


def settings(options: argparse.Namespace, default: Arithmetic) -> Settings:
    """Returns how a lab is to work, as the options say."""
    from bitgap.lab.engine.budget import parse_bytes
    from bitgap.lab.settings import Settings, checked_device

    return Settings(
        arithmetic=options.arithmetic if options.arithmetic else default,
        memory_bytes=parse_bytes(options.memory),
        seed=options.seed,
        device=checked_device(options.device),
    )


def writable(folder: str, option: str) -> Path:
    """Returns a folder, made where it is not there, after trying to write in it.

    Raises:
        UserError: If nothing can be written there; better told before a measurement than after.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(
            f"{option} {folder}: cannot write there ({error.strerror or error}); name a folder "
            f"that can be made or written"
        ) from None


def plan_of(options: argparse.Namespace, n_blocks: int) -> Any:
    """Returns the plan that the options describe."""
    from bitgap.quant.plan import Plan

    protect = f" protect {options.protect}" if options.protect else ""
    return Plan.parse(f"{options.scheme}{protect}", n_blocks)


def dry_run(options: argparse.Namespace, preflight: Preflight) -> bool:
    """Says what the work would cost; returns whether that is all that was asked."""
    from bitgap.cli import console as terminal
    from bitgap.show import tables_model as views

    options.predicted = preflight.as_dict()
    if options.dry_run:
        print_result(options, {"preflight": options.predicted}, views.preflight_view)
    else:
        terminal.say(preflight_line(options.predicted))
        options.begun = True
    return options.dry_run


def described(lab: Lab, options: argparse.Namespace, plan: str) -> dict[str, Any]:
    """Returns what a result is about, as JSON."""
    from bitgap.jobs.investigate import describe

    return describe(lab, plan, getattr(options, "scheme", None))


def finish_in_lab(
    options: argparse.Namespace,
    lab: Lab,
    started: float,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
    *,
    findings: Sequence[tuple[Finding, str]] = (),
    map_scores: Scores | None = None,
) -> Run:
    """Hands out what was measured in a lab, with what it cost beside what was predicted.

    Args:
        options: The command line's.
        lab: Where it was measured, and its store.
        started: When, by ``time.time()``.
        result: As JSON.
        view: Shows it in a terminal.
        findings: (finding, key of its observations) for each experiment.
        map_scores: Of every mask of the layer map, where there is one.
    """
    from bitgap.lab.engine.budget import peak_rss_bytes
    from bitgap.stats.verdicts import load_thresholds

    provenance = lab.provenance(started, load_thresholds().hash)
    cost = {
        "predicted_s": options.predicted["time_s"],
        "took_s": provenance.wall_s,
        "predicted_bytes": options.predicted["memory_bytes"],
        "peak_bytes": max(0, peak_rss_bytes() - options.rss_at_start),
    }
    return finish(
        options,
        lab.store,
        provenance,
        {**result, "cost": cost},
        view,
        findings=findings,
        map_scores=map_scores,
    )


def finish(
    options: argparse.Namespace,
    store: Store,
    provenance: Provenance,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
    *,
    findings: Sequence[tuple[Finding, str]] = (),
    map_scores: Scores | None = None,
) -> Run:
    """Stores a result as a run, prints it, and leaves its files; returns the run.

    Args:
        options: The command line's.
        store: Where the run is put.
        provenance: Where the numbers came from.
        result: As JSON, what it cost under ``cost`` where that is known.
        view: Shows it in a terminal.
        findings: (finding, key of its observations) for each experiment.
        map_scores: Of every mask of the layer map, where there is one.

    Raises:
        StoreError: If the store cannot be written; the result is printed all the same.
    """
    from dataclasses import asdict

    from bitgap.cli import console as terminal
    from bitgap.report.run import run_in_hand

    result = {**result, "provenance": asdict(provenance)}
    try:
        options.run = store.put_run(options.command, provenance, result, findings)
    finally:
        # A store that is full is no reason to lose what was measured.
        if "cost" in result:
            terminal.say(cost_line(result["cost"], options.run, options.store))
        hand_out(options, result, view)
    run = run_in_hand(
        store=options.store,
        number=options.run,
        command=options.command,
        provenance=provenance,
        result=result,
        findings=[finding for finding, _ in findings],
        map_scores=map_scores,
    )
    leave_files(options, run)
    return run


def leave_files(options: argparse.Namespace, run: Run) -> None:
    """Writes a run's figures where that was asked for, and its page, and says where that is."""
    from bitgap.cli import console as terminal
    from bitgap.report.figures.run import run_figures
    from bitgap.report.page import report_html

    if options.out:
        write_figures(options, run_figures(run))
    if options.no_report:
        return
    folder = Path(options.out) if options.out else Path(options.store).parent
    write_text(folder / REPORT, report_html(run))
    terminal.say(f"report: {folder / REPORT}")


def write_figures(options: argparse.Namespace, figures: Mapping[str, Figure]) -> None:
    """Writes figures to ``--out`` as Vega-Lite specifications, each under its id."""
    folder = writable(options.out, "--out")
    write(folder, {f"{id_}.vl.json": figure.spec for id_, figure in figures.items()}.items())


def hand_out(
    options: argparse.Namespace,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
) -> None:
    """Prints a result, and writes it where that was asked for."""
    try:
        if options.out:
            write(writable(options.out, "--out"), [(f"{options.command}.json", result)])
    finally:
        print_result(options, result, view)


def write(folder: Path, files: Iterable[tuple[str, Any]]) -> None:
    """Writes JSON files into a folder."""
    for name, content in files:
        write_text(folder / name, as_json(content) + "\n")


def as_json(value: Any, ascii_only: bool = False) -> str:
    """Returns JSON text; NaN is an error."""
    return json.dumps(value, ensure_ascii=ascii_only, indent=1, allow_nan=False)


def print_result(
    options: argparse.Namespace,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
) -> None:
    """Prints a result as its view shows it, or as JSON."""
    from bitgap.cli import console as terminal

    if options.json:
        terminal.write(as_json(result, ascii_only=terminal.is_ascii_only()))
    else:
        terminal.show(view(result))
