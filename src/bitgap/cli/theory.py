"""The theory's commands: theory, predict, check, replicate, plan."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.cli import console
from bitgap.cli.measure import tier_of
from bitgap.cli.options import (
    DRY_RUN,
    MODEL,
    SENTENCES,
    TIER,
    TIER_SENTENCES,
    TRUST,
    WITHIN,
    above_0,
    option,
    path,
    scheme_name,
    tier_name,
    verb,
    whole,
)
from bitgap.cli.session import Session, writable
from bitgap.errors import UserError
from bitgap.files import write_text
from bitgap.show.words import count, duration
from bitgap.version import __version__

if TYPE_CHECKING:
    from bitgap.jobs.tiers import Tier
    from bitgap.lab.lab import Lab
    from bitgap.report.run import Run
    from bitgap.theory.evidence import Evidence

_MADE_WITH = (
    *("started", "bitgap", "python", "numpy", "torch", "transformers", "device", "threads"),
    *("arithmetic", "seed", "thresholds_hash"),
)
"""What a page says of a run's provenance, in order."""

_MODELS = "models or folders of them (default: the bundled model)"
_EVIDENCE = "evidence files, or folders of them, of models measured elsewhere"
_EXPORT = "also write each model's evidence there, a small file each"
_OTHERS = "models of other families, for the claims about them"
_TFLOPS = "peak bf16 rate of one (default: 312, an A100's)"
_UTILISATION = "share of the peak that is reached"


@verb(
    "theory",
    "what all model families say together, with verdicts",
    *(*TRUST, DRY_RUN),
    option("models", _MODELS, nargs="*", metavar="MODEL"),
    TIER,
    TIER_SENTENCES,
    option("--evidence", _EVIDENCE, nargs="+", metavar="FILE"),
    option("--export", _EXPORT, type=path, metavar="FOLDER"),
    WITHIN,
    option("--page", "also write what came out as a Markdown page", type=path, metavar="FILE"),
    example="bitgap theory ./models --tier standard --export evidence",
)
def theory(options: Namespace, session: Session) -> None:
    """Investigates every model, reads the evidence of others, and judges them together."""
    from bitgap.jobs.investigate import foresee
    from bitgap.lab.store import Store
    from bitgap.report.docs_pages.results import results_page
    from bitgap.show import views
    from bitgap.theory.files import merged, read_all, write_evidence
    from bitgap.theory.run import gather_all, judge_all
    from bitgap.theory.zoo import zoo_models

    in_hand = read_all(options.evidence or ())
    models = zoo_models(options.models or ([] if in_hand else ["reference"]))
    tier = tier_of(options)

    def open_lab(model: str) -> Lab:
        return session.open_lab(model, "fast")

    if options.within is not None:
        tier = _within(options.within, models, open_lab)
    if options.dry_run:
        costs = [{"model": m} | foresee(open_lab(m), tier).as_dict() for m in models]
        session.show({"preflights": costs}, views.preflights_view, keep=False)
        return
    if options.page:
        writable(str(Path(options.page).parent), "--page")
    if options.export:
        writable(options.export, "--export")
    session.begin()
    done: list[Evidence] = []
    session.tell_left(lambda: f"{len(models) - len(done)} of {count(len(models), 'model')}")

    def export(one: Evidence) -> None:
        if options.export:
            write_evidence(one, options.export)

    def keep(one: Evidence) -> None:
        export(one)
        done.append(one)

    measured = gather_all(models, open_lab, tier, announce=console.say, keep=keep)
    evidence = merged([*measured, *in_hand])
    for one in in_hand:
        if any(one is other for other in evidence):
            export(one)
    console.say("judging all models together")
    corpora = sorted({one.corpus for one in evidence if one.corpus})
    about = {
        "model": f"{len(evidence)} models", "corpus": ", ".join(corpora), "plan": "theory",
    }  # fmt: skip
    found = judge_all(evidence, tier.name)
    with Store(options.store) as store:
        run = session.keep(store, views.theory_view, about=about, theory=found)
    words = [*options.models, *(["--evidence", *options.evidence] if options.evidence else [])]
    # What evidence was measured with is its own; nothing was measured here.
    how = ("--tier", tier_name(options)) if models else ()
    if options.sentences is not None:
        how = (*how, "--sentences", str(options.sentences))
    if options.within is not None:
        how = ("--within", f"{options.within:g}s")
    command = " ".join(["bitgap theory", *words, *how])
    _write_page(options.page, results_page, command, run)


def _within(seconds: float, models: Sequence[str], open_lab: Callable[[str], Lab]) -> Tier:
    """Returns the tier at which all models together fit a time: that of the slowest, for all."""
    from bitgap.jobs.within import speed_of, tier_within

    share = seconds / len(models)
    name = f"within {duration(seconds)}"
    found = [tier_within(speed_of(open_lab(model)), share, name) for model in models]
    tier, why = min(found, key=lambda one: (one[0].map_sentences, one[0].pairs, one[0].sample))
    console.say(f"chosen for each of {len(models)} models: {why}")
    return tier


@verb(
    "predict",
    "what a model not measured yet will lose, dated and hashed",
    *TRUST,
    option("target", "an architecture by name, such as Llama-2-70B, or a model"),
    option("--scheme", "how blocks will be rounded", type=scheme_name, default="rtn3-g128"),
    option(
        "--evidence",
        "learn from these files or folders, not from the store",
        nargs="+",
        metavar="FILE",
    ),
    SENTENCES,
    example="bitgap predict Llama-2-70B --evidence evidence --out predictions",
)
def predict(options: Namespace, session: Session) -> None:
    """Predicts an architecture or a model that is not measured yet, and writes that down."""
    from bitgap.show import views
    from bitgap.theory.forecast.prediction import predict, write_prediction
    from bitgap.theory.forecast.targets import known_beforehand

    # First what is asked for: a name that nobody knows is no matter of what was measured.
    inputs, kind = known_beforehand(
        options.target,
        lambda model: session.open_lab(model, "fast", keep=False),  # it is not measured yet
        scheme=options.scheme,
        sentences=options.sentences,
    )
    zoo, where = _measured(options)
    if not zoo:
        raise UserError(
            f"{where} holds no measured models to learn from; run `bitgap theory MODEL …` "
            f"with this store first"
        )
    others = [one for one in zoo if one.fingerprint != inputs.fingerprint]
    prediction = predict(others, inputs, kind, seed=options.seed)
    file = write_prediction(prediction, options.out or "predictions")
    console.say(f"written to {file}; publish its SHA-256 before the model is measured")
    result = asdict(prediction) | {"file": str(file), "sha256": prediction.digest}
    session.show(result, views.prediction_view, keep=False)


def _measured(options: Namespace) -> tuple[list[Evidence], str]:
    """Returns evidence in the files that are named, or else in the store, and where it was."""
    from bitgap.lab.store import Store
    from bitgap.theory.files import read_all
    from bitgap.theory.gather import stored_evidence

    if options.evidence:
        return read_all(options.evidence), " ".join(options.evidence)
    with Store(options.store, read_only=True) as store:
        return stored_evidence(store), options.store


@verb(
    "check",
    "predictions against what was measured after them",
    option("files", "that `bitgap predict` wrote", nargs="+", metavar="FILE"),
    option(
        "--evidence",
        "measured models, in files or folders, not in the store",
        nargs="+",
        metavar="FILE",
    ),
    option("--page", "also write what came out as a Markdown page", type=path, metavar="FILE"),
    example="bitgap check predictions/llama-2-70b.json --evidence evidence",
)
def check(options: Namespace, session: Session) -> None:
    """Scores predictions against what was measured after them.

    Of several, those that cannot be scored are listed with the reason: the same model may have been
    foretold at more schemes than it was measured at. Where none can be, the first reason is told.
    """
    from bitgap.lab.store import Store
    from bitgap.report.docs_pages.checks import checks_page
    from bitgap.show import views
    from bitgap.theory.forecast.prediction import (
        began_by_evidence,
        check_all,
        check_summary,
        measured_since,
        read_prediction,
    )

    predictions = [(file, read_prediction(file)) for file in options.files]
    measured, where = _measured(options)
    with ExitStack() as stack:
        held = (
            None if options.evidence else stack.enter_context(Store(options.store, read_only=True))
        )

        def began(one: Evidence) -> datetime | None:
            if held is None:
                return began_by_evidence(one)
            return measured_since(held, one.fingerprint, one.model)

        cards, unscored, first = list[dict[str, Any]](), list[dict[str, Any]](), None
        for file, one in predictions:
            facts = {"file": file, "target": one.target, "kind": one.kind, "made": one.made}
            try:
                cards += [facts | row for row in check_all(one, measured, began, where=where)]
            except UserError as error:
                first = first or error
                unscored.append(facts | {"reason": str(error)})
    if first is not None and not cards:
        raise first
    result = {"checks": cards, "summary": check_summary(cards), "unscored": unscored}
    if options.page:
        held_by = ", ".join(options.evidence or [options.store])
        facts = {"predictions": len(predictions), "measured": held_by, "bitgap": __version__}
        write_text(Path(options.page), checks_page(result, facts))
    session.show(result, views.check_view)


@verb(
    "replicate",
    "every claim of the origin replayed: holds, fails or neither",
    *(*TRUST, MODEL),
    option("--scheme", "of our own measure (default: the operating point)", type=scheme_name),
    option("--others", _OTHERS, nargs="+", metavar="MODEL"),
    option("--page", "also write the ledger as a Markdown page", type=path, metavar="FILE"),
    SENTENCES,
    example="bitgap replicate ./my-model --others ./other-model",
)
def replicate(options: Namespace, session: Session) -> None:
    """Replays the origin's claims on a model."""
    from bitgap.jobs.investigate import describe, operating_point
    from bitgap.report.docs_pages.ledger import ledger_page
    from bitgap.show import views
    from bitgap.stats.verdicts import load_thresholds
    from bitgap.theory.origin.measure import replicate
    from bitgap.theory.origin.regression import replay_original_regression
    from bitgap.theory.zoo import zoo_models

    if options.page:
        writable(str(Path(options.page).parent), "--page")
    others: dict[str, Lab] = {}
    for model in zoo_models(options.others or ()):
        other = session.open_lab(model, "fast")
        others.setdefault(other.info.family, other)
    lab = session.open_lab(options.model, "fast")
    session.begin()
    scheme = options.scheme or operating_point(lab.spread(32), load_thresholds())[0]
    console.say(f"replaying the origin's claims on {lab.info.name} at {scheme}")
    if lab.corpus.reference != "en":
        console.say(
            f"the origin compares with English; here {lab.corpus.reference} is in its place"
        )
    ledger = replicate(
        lab,
        scheme,
        others=others,
        regression=replay_original_regression([])[0],
        sentences=options.sentences or 16,
    )
    about = describe(lab, scheme)
    run = session.keep(lab.store, views.ledger_view, about=about, ledger=ledger)
    command = " ".join(["bitgap replicate", *filter(None, [options.model])])
    if options.others:
        command += f" --others {' '.join(options.others)}"
    _write_page(options.page, ledger_page, command, run)


@verb(
    "plan",
    "what to run first here, and what a large model would take",
    *(*TRUST, MODEL),
    option("--card", "the large model's architecture", default="Llama-2-70B", metavar="NAME"),
    option("--target-languages", "its languages", type=whole(1), default=200, metavar="N"),
    option("--target-sentences", "sentences of each", type=whole(1), default=200, metavar="N"),
    option("--gpus", "how many GPUs it runs on", type=whole(1), default=8, metavar="N"),
    option("--tflops", _TFLOPS, type=above_0(), default=312.0, metavar="T"),
    option("--utilisation", _UTILISATION, type=above_0(1.0), default=0.4, metavar="U"),
    example="bitgap plan --card Llama-2-70B --target-languages 200 --gpus 8",
)
def plan(options: Namespace, session: Session) -> None:
    """Shows what each experiment is worth and costs here, and what a large model would take."""
    from bitgap.jobs.tiers import TIERS
    from bitgap.show import views
    from bitgap.theory.forecast.cards import find_card
    from bitgap.theory.forecast.plan import at_scale, machine_of, priority_matrix

    card = find_card(options.card)
    lab = session.open_lab(options.model, "fast", keep=False)  # only speed is measured
    result = {
        "model": lab.info.name,
        "tier": "full",
        "languages": len(lab.languages),
        "matrix": priority_matrix(lab.n_blocks, machine_of(lab, TIERS["full"])),
        "at_scale": at_scale(
            card,
            n_languages=options.target_languages,
            n_sentences=options.target_sentences,
            n_gpus=options.gpus,
            tflops=options.tflops,
            utilisation=options.utilisation,
        ),
    }
    session.show(result, views.plan_view)


def _write_page(
    page: str | None,
    make: Callable[[Mapping[str, Any], Mapping[str, object]], str],
    command: str,
    run: Run,
) -> None:
    """Writes a run as a Markdown page, with the command and versions it was made with."""
    if page:
        made_with = {name: run.result["provenance"][name] for name in _MADE_WITH}
        write_text(Path(page), make(run.result, {"command": command} | made_with))
