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
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.arguments import make_parser
from bitgap.errors import BitgapError, UsageError, UserError

if TYPE_CHECKING:
    from bitgap.lab.budget import Preflight
    from bitgap.lab.lab import Lab
    from bitgap.records import Arithmetic


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; those of the process when None.

    Returns:
        0 done, 1 failed or interrupted, 2 misuse.
    """
    try:
        options = make_parser().parse_args(argv)
    except SystemExit as stop:  # argparse prints usage itself; 0 after --help, 2 on misuse
        return int(stop.code or 0)
    logging.basicConfig(format="bitgap: %(message)s", level=logging.WARNING, stream=sys.stderr)
    options.begun, options.run = False, None
    # Threads that spin while they wait for each other are ten to a hundred times slower where
    # anything else runs. Read when torch and numpy are first imported; what somebody set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # some µs, as blocks are many short steps
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        _VERBS[options.command](options)
    except BitgapError as error:
        return _failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failed(_interrupted(options))
    except BrokenPipeError:
        return _failed(f"nobody reads the output any more{_kept(options)}")
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _failed(f"cannot write: {what}{error.strerror or error}{_kept(options)}")
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        return _failed(f"out of memory; give less --memory, or fewer sentences{_kept(options)}")
    return 0


def _failed(why: str, code: int = 1) -> int:
    from bitgap import terminal

    terminal.tell(f"bitgap: {why}")
    return code


def _interrupted(options: argparse.Namespace) -> str:
    if not options.begun:
        return "stopped before anything was measured"
    return (
        f"stopped; what was finished is kept in {options.store}. Run the same command again to "
        f"go on from there"
    )


def _kept(options: argparse.Namespace) -> str:
    if options.run is not None:
        return f"; the result is kept as run {options.run} in {options.store}"
    return f"; what was finished is kept in {options.store}" if options.begun else ""


def _is_lack_of_memory(error: Exception) -> bool:
    # torch has an exception of its own for a GPU, and a plain RuntimeError for the processor.
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said


# -- verbs ----------------------------------------------------------------------------------------


def _audit(options: argparse.Namespace) -> None:
    from bitgap import figures, views
    from bitgap.disparity import audit

    with _lab(options, default="exact") as lab:
        plan = _plan(options, lab.n_blocks)
        lab = lab.first(options.sentences)
        if _dry_run(options, lab.preflight([plan])):
            return
        started = time.time()
        report = audit(lab.score([plan], "audit"), plan.text, seed=options.seed)
        result = _described(lab, options, plan.text) | report.as_dict()
        drawn = {"audit": figures.audit_figure(result)}
        _finish(options, lab, started, result, views.audit_view, drawn)


def _map(options: argparse.Namespace) -> None:
    from bitgap import figures, views
    from bitgap.layer_map import make_design, make_map, score_map

    with _lab(options, default="fast") as lab:
        lab = lab.first(options.sentences)
        design = make_design(lab.n_blocks, seed=options.seed)
        if _dry_run(options, lab.preflight(design.plans(options.scheme))):
            return
        started = time.time()
        scores = score_map(lab, options.scheme, design)
        found = make_map(scores, options.scheme, design, seed=options.seed)
        result = _described(lab, options, options.scheme) | found.as_dict()
        drawn = {"map": figures.map_figure(result)}
        _finish(options, lab, started, result, views.map_view, drawn)


def _investigate(options: argparse.Namespace) -> None:
    from bitgap import figures, terminal, views
    from bitgap.investigate import TIERS, foresee, investigate

    with _lab(options, default="fast") as lab:
        tier = TIERS[options.tier]
        if _dry_run(options, foresee(lab, tier)):
            return
        started = time.time()
        found = investigate(lab, tier, announce=terminal.say)
        result = _described(lab, options, found.scheme) | found.as_dict()
        result["sentences"] = found.report.n_sentences
        drawn = {
            "audit": figures.audit_figure(result["audit"]),
            "map": figures.map_figure(result["map"]),
            **figures.finding_figures(finding for finding, _ in found.findings),
        }
        _finish(options, lab, started, result, views.investigation_view, drawn, found.findings)


def _list(options: argparse.Namespace) -> None:
    from bitgap import views
    from bitgap.experiments.catalog import CATALOG, describe
    from bitgap.models.shape import count_blocks

    n_blocks = count_blocks(options.model)
    rows = [describe(experiment, n_blocks) for experiment in CATALOG]
    result = {"model": options.model, "n_blocks": n_blocks, "experiments": rows}
    _hand_out(options, result, views.list_view)


def _show(options: argparse.Namespace) -> None:
    from bitgap import views
    from bitgap.experiments.catalog import describe, find
    from bitgap.models.shape import count_blocks

    experiment = find(options.experiment)
    result = describe(experiment, count_blocks(options.model), full=True)
    _hand_out(options, result, views.show_view)


def _results(options: argparse.Namespace) -> None:
    from bitgap import figures, results, terminal, views
    from bitgap.lab.store import Store

    with Store(options.store, read_only=True) as store:
        if options.parquet:
            folder = _writable(options.parquet, "--parquet")
            for path in results.write_parquet(store, folder):
                terminal.say(str(path))
        # A later run's figure replaces an earlier one's of the same experiment.
        drawn: dict[str, Any] = {}
        if options.out:
            for number, *_ in store.runs():
                drawn |= figures.finding_figures(results.judged_again(store, number))
        _hand_out(options, results.summary(store), views.results_view, drawn)


_VERBS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "audit": _audit,
    "map": _map,
    "investigate": _investigate,
    "list": _list,
    "show": _show,
    "results": _results,
}


# -- what verbs share -----------------------------------------------------------------------------


@contextmanager
def _lab(options: argparse.Namespace, default: Arithmetic) -> Iterator[Lab]:
    """Yields the lab that the options describe."""
    from bitgap import terminal
    from bitgap.lab.budget import current_rss_bytes, keep_freed_memory, parse_bytes
    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import Settings, set_threads
    from bitgap.lab.store import Store

    if options.out and not options.dry_run:
        _writable(options.out, "--out")
    set_threads(options.threads)
    keep_freed_memory()
    settings = Settings(
        arithmetic=options.arithmetic if options.arithmetic else default,
        memory_bytes=parse_bytes(options.memory),
        seed=options.seed,
        device=_device(options.device),
    )
    lab = Lab.from_pretrained(
        options.model,
        options.corpus,
        languages=options.languages,
        pairs=options.pairs,
        treebanks=options.treebanks,
        store=None if options.dry_run else options.store,
        settings=settings,
        progress=terminal.Bar(),
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
    )
    if options.dry_run and Path(options.store).is_file():
        lab.store = Store(options.store, read_only=True)  # what it holds need not be paid for
    options.rss_at_start = current_rss_bytes()
    try:
        yield lab
    finally:
        lab.store.close()


def _device(name: str) -> str:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name!r} is no device to measure on; give cpu, cuda or cuda:1")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise UsageError(f"--device {name}: torch finds {found} CUDA devices here; give cpu")
    return name


def _writable(folder: str, option: str) -> Path:
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


def _plan(options: argparse.Namespace, n_blocks: int) -> Any:
    from bitgap.quant.plan import Plan

    protect = f" protect {options.protect}" if options.protect else ""
    return Plan.parse(f"{options.scheme}{protect}", n_blocks)


def _dry_run(options: argparse.Namespace, preflight: Preflight) -> bool:
    """Says what the work would cost; returns whether that is all that was asked."""
    from bitgap import terminal, views

    options.predicted = preflight.as_dict()
    if options.dry_run:
        _print(options, {"preflight": options.predicted}, views.preflight_view)
    else:
        terminal.say(terminal.preflight_line(options.predicted))
        options.begun = True
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
        "languages_unreadable": lab.unreadable,
        "arithmetic": lab.settings.arithmetic,
    }


def _finish(
    options: argparse.Namespace,
    lab: Lab,
    started: float,
    result: dict[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
    drawn: Mapping[str, Any],
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

    def keep() -> None:
        options.run = lab.store.put_run(options.command, provenance, result, findings)

    try:
        keep()
    finally:
        # A store that is full is no reason to lose what was measured.
        terminal.say(terminal.cost_line(cost, options.run, options.store))
        _hand_out(options, result, view, drawn)


def _hand_out(
    options: argparse.Namespace,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
    drawn: Mapping[str, Any] | None = None,
) -> None:
    """Prints a result, and writes it and its figures where that was asked for."""
    try:
        if options.out:
            folder = _writable(options.out, "--out")
            figures = {f"{name}.vl.json": chart for name, chart in (drawn or {}).items()}
            _write(folder, {f"{options.command}.json": result, **figures}.items())
    finally:
        _print(options, result, view)


def _write(folder: Path, files: Iterable[tuple[str, Any]]) -> None:
    for name, content in files:
        # Whole or not at all, and never half over an older one.
        part = folder / f".{name}.part"
        try:
            part.write_text(_json(content) + "\n", encoding="utf-8")
            os.replace(part, folder / name)
        except OSError as error:
            part.unlink(missing_ok=True)
            # A full disk is told without the name of the file that filled it.
            raise OSError(error.errno, error.strerror, str(folder / name)) from error


def _json(value: Any, ascii_only: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, indent=1, allow_nan=False)


def _print(
    options: argparse.Namespace,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
) -> None:
    from bitgap import terminal

    if options.json:
        terminal.write(_json(result, ascii_only=terminal.is_ascii_only()))
    else:
        terminal.show(view(result))


if __name__ == "__main__":
    sys.exit(main())
