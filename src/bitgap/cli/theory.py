"""The theory's commands: theory, predict, check, replicate."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.cli.session import finish, hand_out, lab_of, open_lab, print_result, settings, writable
from bitgap.errors import ModelError, UserError
from bitgap.show.files import write_text

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab
    from bitgap.report.run import Run


def theory(options: argparse.Namespace) -> None:
    """Investigates every model and judges them together."""
    from bitgap.cli import console as terminal
    from bitgap.jobs.investigate import TIERS, foresee
    from bitgap.report.docs_pages.results import results_page
    from bitgap.show import tables_theory as theory_views
    from bitgap.theory.run import gather_all, judge_all
    from bitgap.theory.zoo import zoo_models

    models, tier = zoo_models(options.models or ["reference"]), TIERS[options.tier]
    if options.dry_run:
        costs = []
        for model in models:
            options.model = model
            with lab_of(options, default="fast") as lab:
                costs.append({"model": model} | foresee(lab, tier).as_dict())
        print_result(options, {"preflights": costs}, theory_views.preflights_view)
        return
    if options.page:
        writable(str(Path(options.page).parent), "--page")
    started, options.begun = time.time(), True
    evidence = gather_all(
        models,
        lambda model: open_lab(options, model, "fast"),
        tier,
        announce=terminal.say,
    )
    terminal.say("judging all models together")
    result = judge_all(evidence, tier.name).as_dict()
    run = _finish(options, started, f"{len(models)} models", result, theory_views.theory_view)
    if options.page:
        command = " ".join(["bitgap theory", *options.models, "--tier", tier.name])
        page = results_page(result, {"command": command} | _made_with(run.result["provenance"]))
        write_text(Path(options.page), page)


def predict(options: argparse.Namespace) -> None:
    """Predicts an architecture or a model that is not measured yet, and writes that down."""
    from dataclasses import asdict

    from bitgap.cli import console as terminal
    from bitgap.lab.store import Store
    from bitgap.show import tables_theory as theory_views
    from bitgap.theory.forecast.cards import all_cards, find_card, inputs_of_card
    from bitgap.theory.forecast.prediction import predict, write_prediction
    from bitgap.theory.gather import inputs_of_lab, stored_evidence

    with Store(options.store, read_only=True) as store:
        zoo = stored_evidence(store)
    if not zoo:
        raise UserError(
            f"{options.store} holds no measured models to learn from; run `bitgap theory MODEL …` "
            f"with this store first"
        )
    if options.target.casefold() in {name.casefold() for name in all_cards()}:
        prediction = predict(
            zoo, inputs_of_card(find_card(options.target)), "config", seed=options.seed
        )
    else:
        try:  # what is to be predicted is not measured, so nothing is kept
            lab = open_lab(options, options.target, "fast", keep=False)
        except ModelError as error:
            known = ", ".join(all_cards())
            raise UserError(f"{error}. Architectures known by name: {known}") from None
        inputs = inputs_of_lab(lab.first(options.sentences), options.scheme)
        zoo = [one for one in zoo if one.fingerprint != inputs.fingerprint]
        prediction = predict(zoo, inputs, "weights", seed=options.seed)
    path = write_prediction(prediction, options.out or "predictions")
    terminal.say(f"written to {path}; publish its SHA-256 before the model is measured")
    print_result(options, asdict(prediction) | {"file": str(path), "sha256": prediction.digest},
           theory_views.prediction_view)  # fmt: skip


def check(options: argparse.Namespace) -> None:
    """Scores predictions against what was measured after them."""
    from bitgap.lab.store import Store
    from bitgap.show import tables_theory as theory_views
    from bitgap.theory.forecast.prediction import check_in_store, read_prediction
    from bitgap.theory.gather import stored_evidence

    predictions = [(path, read_prediction(path)) for path in options.files]
    with Store(options.store, read_only=True) as store:
        measured = stored_evidence(store)
        cards = [
            {"file": path, "target": one.target, "kind": one.kind, "made": one.made} | row
            for path, one in predictions
            for row in check_in_store(one, measured, store)
        ]
    hand_out(options, {"checks": cards}, theory_views.check_view)


def replicate(options: argparse.Namespace) -> None:
    """Replays the origin's claims on a model."""
    from bitgap.cli import console as terminal
    from bitgap.jobs.investigate import describe, operating_point
    from bitgap.report.docs_pages.ledger import ledger_page
    from bitgap.show import tables_theory as theory_views
    from bitgap.stats.verdicts import load_thresholds
    from bitgap.theory.origin.measure import replicate
    from bitgap.theory.origin.regression import replay_seed_regression
    from bitgap.theory.zoo import zoo_models

    if options.page:
        writable(str(Path(options.page).parent), "--page")
    with ExitStack() as opened:
        others: dict[str, Lab] = {}
        for model in zoo_models(options.others or []):
            other = open_lab(options, model, "fast")
            opened.callback(other.store.close)
            others.setdefault(other.info.family, other)
        lab = opened.enter_context(lab_of(options, default="fast"))
        started, options.begun = time.time(), True
        options.predicted = {"time_s": None, "memory_bytes": None}
        scheme = options.scheme or operating_point(lab.first(32), load_thresholds())[0]
        terminal.say(f"replaying the origin's claims on {lab.info.name} at {scheme}")
        ledger = replicate(
            lab, scheme, others=others, regression=replay_seed_regression([])[0],
            sentences=options.sentences or 16,
        )  # fmt: skip
        result = describe(lab, scheme) | ledger.as_dict()
        run = _finish(options, started, lab.info.name, result, theory_views.ledger_view)
    if options.page:
        told = [options.model] if options.model else []
        told += [f"--others {' '.join(options.others)}"] if options.others else []
        command = " ".join(["bitgap replicate", *told])
        facts = {"command": command} | _made_with(run.result["provenance"])
        write_text(Path(options.page), ledger_page(result, facts))


def plan(options: argparse.Namespace) -> None:
    """Shows what each experiment is worth and costs here, and what a large model would take."""
    from bitgap.jobs.investigate import TIERS
    from bitgap.show import tables_theory as theory_views
    from bitgap.theory.forecast.cards import find_card
    from bitgap.theory.forecast.plan import at_scale, machine_of, priority_matrix

    card = find_card(options.card)
    with lab_of(options, default="fast", keep=False) as lab:  # only speed is measured
        matrix = priority_matrix(lab.n_blocks, machine_of(lab, TIERS["full"]))
        result = {
            "model": lab.info.name,
            "tier": "full",
            "languages": len(lab.languages),
            "matrix": matrix,
            "at_scale": at_scale(
                card,
                n_languages=options.target_languages,
                n_sentences=options.target_sentences,
                n_gpus=options.gpus,
                tflops=options.tflops,
                utilisation=options.utilisation,
            ),
        }
    hand_out(options, result, theory_views.plan_view)


def _finish(
    options: argparse.Namespace,
    started: float,
    model: str,
    result: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
) -> Run:
    """Hands out a result that is of no single lab; returns its run."""
    from bitgap.lab.settings import provenance
    from bitgap.lab.store import Store
    from bitgap.stats.verdicts import load_thresholds

    made = provenance(settings(options, "fast"), started, load_thresholds().hash)
    about = {"model": model, "corpus": options.corpus or "bundled", "plan": options.command}
    with Store(options.store) as store:
        return finish(options, store, made, about | dict(result), view)


def _made_with(provenance: Mapping[str, Any]) -> dict[str, object]:
    names = ("started", "bitgap", "python", "numpy", "torch", "transformers", "device", "threads",
             "arithmetic", "seed", "thresholds_hash")  # fmt: skip
    return {name: provenance[name] for name in names}
