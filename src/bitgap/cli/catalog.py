"""Commands that say what there is: list, show, results. Nothing here measures or needs torch."""

from __future__ import annotations

from argparse import Namespace

from bitgap.cli import console
from bitgap.cli.options import MODEL, option, path, verb
from bitgap.cli.session import Session, writable
from bitgap.errors import UsageError


@verb(
    "list",
    "the experiments, their hypotheses and what they cost",
    MODEL,
    example="bitgap list ./my-model",
)
def list_(options: Namespace, session: Session) -> None:
    """Shows every experiment and what it costs on a model."""
    from bitgap.experiments.catalog import CATALOG, describe
    from bitgap.models.shape import count_blocks
    from bitgap.show import views

    n_blocks = count_blocks(options.model)
    rows = [describe(experiment, n_blocks) for experiment in CATALOG]
    result = {"model": options.model, "n_blocks": n_blocks, "experiments": rows}
    session.show(result, views.list_view)


@verb(
    "show",
    "one experiment: question, method, costs, thresholds",
    option("experiment", "such as T-004", metavar="ID"),
    option("--model", "whose costs to show (default: the bundled model)"),
    example="bitgap show T-004",
)
def show(options: Namespace, session: Session) -> None:
    """Shows one experiment."""
    from bitgap.experiments.catalog import describe, find
    from bitgap.models.shape import count_blocks
    from bitgap.show import views

    experiment = find(options.experiment)
    result = describe(experiment, count_blocks(options.model), full=True)
    session.show(result, views.show_view)


_REPAIR = "put what is whole of a damaged store in its place, and keep that as FILE.damaged"


@verb(
    "results",
    "what a store holds, judged again from stored numbers",
    option("--parquet", "write tidy tables for pandas or DuckDB", metavar="DIR", type=path),
    option("--repair", _REPAIR, action="store_true"),
    example="bitgap results --store bitgap.db --parquet tables",
)
def results(options: Namespace, session: Session) -> None:
    """Shows what a store holds, and writes it as tables and figures."""
    from bitgap.jobs.results import all_judged_again, summary, write_parquet
    from bitgap.lab.store import Store
    from bitgap.report.figures.run import finding_figures
    from bitgap.show import views

    if options.repair:
        from dataclasses import asdict

        from bitgap.lab.store_repair import repair

        if options.parquet:
            raise UsageError("--repair writes a store and --parquet reads one; give one")
        session.show(asdict(repair(options.store)), views.repair_view, keep=False)
        return
    with Store(options.store, read_only=True) as store:
        judged = all_judged_again(store)
        if options.parquet:
            for table in write_parquet(store, writable(options.parquet, "--parquet"), judged):
                console.say(str(table))
        session.show(summary(store, judged), views.results_view)
    if options.out:
        # A later run's figure replaces an earlier one's of the same experiment.
        findings = (finding for of_run in judged.values() for finding in of_run)
        session.write_figures(finding_figures(findings))
