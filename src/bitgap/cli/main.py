"""The command line: verbs only, each over one public function.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed or interrupted,
2 misuse. Nothing here imports torch before a verb that measures needs it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from bitgap.cli import pages as report_commands
from bitgap.cli import theory as theory_commands
from bitgap.cli.options import make_parser
from bitgap.cli.session import (
    described,
    dry_run,
    finish_in_lab,
    hand_out,
    lab_of,
    plan_of,
    writable,
    write_figures,
)
from bitgap.errors import BitgapError


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
    from bitgap.cli import console as terminal

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


def _audit(options: argparse.Namespace) -> None:
    from bitgap.disparity.audit import audit
    from bitgap.show import tables_model as views

    with lab_of(options, default="exact") as lab:
        plan = plan_of(options, lab.n_blocks)
        lab = lab.first(options.sentences)
        if dry_run(options, lab.preflight([plan])):
            return
        started = time.time()
        report = audit(lab.score([plan], "audit"), plan.text, seed=options.seed)
        result = described(lab, options, plan.text) | report.as_dict()
        result["texts"] = {"audit": lab.text_key}
        finish_in_lab(options, lab, started, result, views.audit_view)


def _map(options: argparse.Namespace) -> None:
    from bitgap.disparity.layer_map import make_design, make_map
    from bitgap.show import tables_model as views

    with lab_of(options, default="fast") as lab:
        lab = lab.first(options.sentences)
        design = make_design(lab.n_blocks, seed=options.seed)
        if dry_run(options, lab.preflight(design.plans(options.scheme))):
            return
        started = time.time()
        scores = lab.score(design.plans(options.scheme), "map")
        found = make_map(scores, options.scheme, design, seed=options.seed)
        result = described(lab, options, options.scheme) | found.as_dict()
        result["texts"] = {"map": lab.text_key}
        finish_in_lab(options, lab, started, result, views.map_view, map_scores=scores)


def _investigate(options: argparse.Namespace) -> None:
    from bitgap.cli import console as terminal
    from bitgap.jobs.investigate import TIERS, foresee, investigate, result_of
    from bitgap.show import tables_model as views

    with lab_of(options, default="fast") as lab:
        tier = TIERS[options.tier]
        if dry_run(options, foresee(lab, tier)):
            return
        started = time.time()
        found = investigate(lab, tier, announce=terminal.say)
        finish_in_lab(
            options,
            lab,
            started,
            result_of(lab, found),
            views.investigation_view,
            findings=found.findings,
            map_scores=found.map_scores,
        )


def _list(options: argparse.Namespace) -> None:
    from bitgap.experiments.catalog import CATALOG, describe
    from bitgap.models.shape import count_blocks
    from bitgap.show import tables_model as views

    n_blocks = count_blocks(options.model)
    rows = [describe(experiment, n_blocks) for experiment in CATALOG]
    result = {"model": options.model, "n_blocks": n_blocks, "experiments": rows}
    hand_out(options, result, views.list_view)


def _show(options: argparse.Namespace) -> None:
    from bitgap.experiments.catalog import describe, find
    from bitgap.models.shape import count_blocks
    from bitgap.show import tables_model as views

    experiment = find(options.experiment)
    result = describe(experiment, count_blocks(options.model), full=True)
    hand_out(options, result, views.show_view)


def _results(options: argparse.Namespace) -> None:
    from bitgap.cli import console as terminal
    from bitgap.jobs import results
    from bitgap.lab.store import Store
    from bitgap.report.figures.run import finding_figures
    from bitgap.show import tables_model as views

    with Store(options.store, read_only=True) as store:
        judged = results.all_judged_again(store)
        if options.parquet:
            folder = writable(options.parquet, "--parquet")
            for path in results.write_parquet(store, folder, judged):
                terminal.say(str(path))
        hand_out(options, results.summary(store, judged), views.results_view)
    if options.out:
        # A later run's figure replaces an earlier one's of the same experiment.
        write_figures(options, finding_figures(f for findings in judged.values() for f in findings))


_VERBS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "audit": _audit,
    "map": _map,
    "investigate": _investigate,
    "theory": theory_commands.theory,
    "predict": theory_commands.predict,
    "check": theory_commands.check,
    "replicate": theory_commands.replicate,
    "plan": theory_commands.plan,
    "list": _list,
    "show": _show,
    "results": _results,
    "report": report_commands.report,
    "figures": report_commands.figures,
    "paper": report_commands.paper,
    "compare": report_commands.compare,
}


if __name__ == "__main__":
    sys.exit(main())
