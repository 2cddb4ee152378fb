"""Commands on real quantized files: contents, gate, and audits and maps against them."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.cli import console
from bitgap.cli.options import (
    DEFAULT_SCHEME,
    MODEL,
    SENTENCES,
    TRUST,
    above_0,
    option,
    path,
    scheme_name,
    verb,
    whole,
)
from bitgap.cli.session import Session, writable
from bitgap.errors import GateClosed, GateUndecided, MissingExtra, ModelError, UsageError
from bitgap.files import write_text
from bitgap.show.numbers import told

if TYPE_CHECKING:
    from bitgap.formats.checkpoint import Checkpoint
    from bitgap.lab.engine.budget import Preflight
    from bitgap.lab.lab import Lab
    from bitgap.quant.plan import Plan
    from bitgap.report.run import Run

FILE = "a quantized file, folder or hub id (org/name/file.gguf@revision) made of this model"
AGAINST = option("--against", FILE, metavar="FILE", type=path)
"""One file."""
FILES = option("--against", f"{FILE}; several times to compare", metavar="FILE", type=path,
               action="append")  # fmt: skip
RUNTIMES = ("transformers", "llama.cpp", "onnxruntime", "openvino")
"""Names of :data:`bitgap.formats.running.RUNTIMES`, told without its imports."""
_RUNTIME = "also run the file by its toolchain, on the same tokens; several times for several"
_PYTHON = "Python of the environment that has the runtime (default: this one)"
_GENERATE = "also continue N sentences of each language greedily, whole model against file"
AS_RUN = (
    option("--runtime", _RUNTIME, choices=RUNTIMES, action="append"),
    option("--runtime-python", _PYTHON, metavar="FILE", type=path),
    option("--generate", _GENERATE, metavar="N", type=whole(2)),
)
"""What an audit against files takes beside them."""


@verb(
    "contents",
    "what a quantized file really holds, tensor by tensor",
    option("file", "a .gguf or .safetensors file, or a folder", type=path),
    example="bitgap contents model-q4_k_m.gguf",
)
def contents(options: Namespace, session: Session) -> None:
    """Shows what :func:`bitgap.formats.contents.contents_of` finds; reads headers alone."""
    from bitgap.formats.contents import contents_of
    from bitgap.formats.open import open_checkpoint
    from bitgap.show import views

    found = contents_of(open_checkpoint(options.file))
    session.show(found.as_dict(), views.contents_view)


@verb(
    "gate",
    "whether a file may replace its model, by language, for CI",
    *(*TRUST, MODEL, AGAINST),
    option("--protect", "blocks kept whole, such as 0,9,11 or 0-2", metavar="LIST"),
    option("--scheme", "judge a scheme instead of a file", type=scheme_name, metavar="SCHEME"),
    option("--max-harm", "limit of Δ in bits per character of the reference's text, such as 0.02",
           type=above_0(), required=True, metavar="BITS"),
    option("--alpha", "how often it may refuse, or let through, falsely", type=above_0(0.2),
           default=0.05),
    SENTENCES,
    example="bitgap gate ./my-model --against model-q4_k_m.gguf --max-harm 0.02",
)  # fmt: skip
def gate(options: Namespace, session: Session) -> None:
    """Judges by :func:`bitgap.disparity.gate.judge_gate`, and ends with what was found.

    Raises:
        GateClosed: Exit 1, if a language is beyond the limit; the message names each.
        GateUndecided: Exit 3, if none is but it cannot be told of some.
    """
    if (options.scheme is None) == (options.against is None):
        raise UsageError("give what is to be judged: --against FILE, or --scheme SCHEME")
    if options.protect and options.against:
        raise UsageError("--against takes a file as it is; leave out --protect")
    checkpoints = opened([options.against] if options.against else [])
    lab = session.open_lab(options.model, "exact").spread(options.sentences)
    from bitgap.jobs.against import weights_in_hand
    from bitgap.quant.plan import Plan

    if checkpoints:
        with weights_in_hand(lab, checkpoints[0]) as plan:
            _judge(options, session, lab, plan, checkpoints[0])
    else:
        protect = f" protect {options.protect}" if options.protect else ""
        _judge(options, session, lab, Plan.parse(f"{options.scheme}{protect}", lab.n_blocks), None)


def _judge(
    options: Namespace, session: Session, lab: Lab, plan: Plan, file: Checkpoint | None
) -> None:
    from bitgap.disparity.gate import judge_gate
    from bitgap.formats.contents import contents_of
    from bitgap.jobs.investigate import describe
    from bitgap.show import views

    session.announce_cost(lambda: lab.preflight([plan]))
    scores = lab.score([plan], "gate")
    judged = judge_gate(
        scores, plan.text, options.max_harm, alpha=options.alpha, seed=lab.settings.seed
    )
    session.keep(
        lab.store,
        views.gate_view,
        about=describe(lab, plan.text, plan.blocks[0]),
        texts={"audit": lab.text_key},
        gate=judged,
        contents=None if file is None else contents_of(file),
    )
    if judged.outcome == "within":
        return
    named = "; ".join(
        f"{one.language} Δ {told(one.harm.value, (one.harm.low, one.harm.high))} ({one.reason})"
        for one in judged.languages
        if one.outcome == judged.outcome
    )
    of = f"of {options.max_harm:g} bits per character"
    if judged.outcome == "beyond":
        raise GateClosed(f"beyond the limit {of}: {named}")
    raise GateUndecided(
        f"whether harm is within the limit {of} cannot be told with {judged.n_sentences} "
        f"sentences: {named}; give more sentences"
    )


def opened(files: list[str]) -> list[Checkpoint]:
    """Returns files opened, all of them before any is measured.

    Raises:
        ModelError: If one cannot be read.
    """
    # Before the libraries are imported, which takes seconds.
    for file in files:
        console.say(f"reading {file}")
    from bitgap.formats.open import open_checkpoint

    return [open_checkpoint(file) for file in files]


def opened_or_paths(options: Namespace) -> list[Checkpoint | Path]:
    """Returns the files that are audited against, each opened, or its path where it is only run.

    Before a model is read: what is damaged, missing or given twice is told at once.

    Raises:
        UsageError: If a file is given twice, or could only be run and no runtime is named.
    """
    return [_opened_or_path(options, file) for file in _each_once(options.against or [])]


def audit_against(
    options: Namespace, session: Session, lab: Lab, checkpoints: Sequence[Checkpoint | Path]
) -> None:
    """Audits files, a run each; several are then shown side by side.

    Args:
        options: Of the command.
        session: Which shows and keeps.
        lab: Of the model.
        checkpoints: Of :func:`opened_or_paths`.

    Raises:
        ModelError: If a runtime failed, after everything else is kept and shown.
    """
    lab = lab.spread(options.sentences)
    if options.dry_run:
        _tell_cost(session, lab, [one for one in checkpoints if not isinstance(one, Path)])
        return
    several = len(checkpoints) > 1
    runs = [_audit(options, session, lab, one, quiet=several) for one in checkpoints]
    if several:
        _side_by_side(options, session, runs)
    failed = [
        one.failure for run in runs if run.runtimes for one in run.runtimes.runs if one.failure
    ]
    if failed:
        raise ModelError("; ".join(failed))


def check_runtimes(options: Namespace) -> None:
    """Refuses what ``--runtime`` and ``--generate`` cannot be asked of, before a model is read.

    Raises:
        UsageError: If there is no file, or one that a runtime does not run.
        ModelError: If a runtime is not installed.
    """
    if not options.against:
        for name in ("runtime", "runtime_python", "generate"):
            if getattr(options, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is about a file; give one with --against FILE"
                )
        return
    if options.runtime_python and not options.runtime:
        raise UsageError("--runtime-python is of a runtime; name it with --runtime")
    if not options.runtime:
        return
    from bitgap.formats.running import check_installed, find_runtime

    for name in dict.fromkeys(options.runtime):
        runtime = find_runtime(name)
        for file in options.against:
            place = Path(os.path.expanduser(file))
            if place.exists() and (why := runtime.why_not(place)):
                raise UsageError(f"--runtime {name}: {why}")
        check_installed(runtime, options.runtime_python)


def _each_once(files: list[str]) -> list[str]:
    real = [os.path.realpath(os.path.expanduser(file)) for file in files]
    for place, file in zip(real, files, strict=True):
        if real.count(place) > 1:
            raise UsageError(f"--against {file} is given twice; give each file once")
    return files


_GRAPHS = {".onnx": "onnxruntime", ".xml": "openvino"}
"""Files whose weights are in a graph, and what runs them: of some weights are read, any is run."""


def _opened_or_path(options: Namespace, file: str) -> Checkpoint | Path:
    """Returns a file opened, or its path where its weights are not read but it is run."""
    if not file.partition("@")[0].lower().endswith(tuple(_GRAPHS)):
        return opened([file])[0]
    from bitgap.formats.open import local_path

    place = local_path(file)
    no_values = place.suffix.lower() == ".xml" and not place.with_suffix(".bin").is_file()
    if not place.is_file() or no_values:  # nothing to read and nothing to run
        return opened([file])[0]
    try:
        return opened([file])[0]
    except (ModelError, MissingExtra) as error:
        if not options.runtime:
            runtime = _GRAPHS[place.suffix.lower()]
            raise UsageError(
                f"the weights of {place.name} are not read ({_cause(error)}); have it run, with "
                f"--runtime {runtime}"
            ) from None
        why = _cause(error)
    console.say(f"the weights of {place.name} are not read, so it is judged as it runs: {why}")
    if options.generate:
        raise UsageError(f"--generate needs weights that are read, and those of {place.name} are "
                         f"not; leave it out")  # fmt: skip
    return place


def _cause(error: Exception) -> str:
    """Returns what an error says was found, without what it advises."""
    return str(error).partition("; ")[0]


def _tell_cost(session: Session, lab: Lab, checkpoints: list[Checkpoint]) -> None:
    from bitgap.jobs.against import weights_in_hand

    def cost(checkpoint: Checkpoint) -> Preflight:
        with weights_in_hand(lab, checkpoint) as plan:
            return lab.preflight([plan])

    def whole() -> Preflight:
        first, *others = map(cost, checkpoints) if checkpoints else [lab.preflight([])]
        return reduce(lambda all_, one: all_.and_also(one, 1), others, first)

    session.announce_cost(whole)


def _audit(
    options: Namespace, session: Session, lab: Lab, file: Checkpoint | Path, *, quiet: bool
) -> Run:
    from bitgap.disparity.runtimes import Runtimes
    from bitgap.jobs.against import (
        audit_as_run,
        audit_file,
        audit_run_alone,
        check_generation,
        weights_in_hand,
    )
    from bitgap.jobs.investigate import describe
    from bitgap.show import views

    names = list(dict.fromkeys(options.runtime or ()))
    how: dict[str, Any] = {"python": options.runtime_python, "threads": options.threads}
    if isinstance(file, Path):
        session.announce_cost(lambda: lab.preflight([]))
        report, as_run = audit_run_alone(lab, file, names, **how)
        return session.keep(
            lab.store,
            views.audit_view,
            quiet=quiet,
            about=describe(lab, report.plan),
            texts={"audit": lab.text_key},
            report=report,
            runtimes=as_run,
        )
    with weights_in_hand(lab, file) as plan:
        session.announce_cost(lambda: lab.preflight([plan]))
        found = audit_file(lab, file, plan)
        runs = [audit_as_run(lab, file.path, name, found, **how)[0] for name in names]
        written = None
        if options.generate:
            written = check_generation(lab, plan, options.generate)
        return session.keep(
            lab.store,
            views.audit_view,
            quiet=quiet,
            about=describe(lab, plan.text, plan.blocks[0]),
            texts={"audit": lab.text_key},
            report=found.report,
            contents=found.contents,
            flips=found.flips,
            runtimes=Runtimes(runs=tuple(runs)) if runs else None,
            generation=written,
        )


def map_against(options: Namespace, session: Session) -> None:
    """Puts the parts of a file in and out of the full-precision model.

    Raises:
        UsageError: If a scheme or sets of blocks are asked for beside it.
    """
    if options.scheme != DEFAULT_SCHEME or options.within or options.all_masks:
        raise UsageError(
            "--against takes the parts of a file as they are; leave out --scheme, --within and "
            "--all-masks. --units puts in each matrix, --sentences says how much text is scored"
        )
    (checkpoint,) = opened([options.against])
    lab = session.open_lab(options.model, "fast").spread(options.sentences)
    from bitgap.disparity.file_map import part_plans
    from bitgap.jobs.against import map_file, parts_of_file, weights_in_hand
    from bitgap.jobs.investigate import describe
    from bitgap.show import views

    with weights_in_hand(lab, checkpoint) as plan:
        parts = parts_of_file(lab, checkpoint, plan, units=options.units)
        if session.announce_cost(lambda: lab.preflight(part_plans(plan, parts))):
            session.keep(
                lab.store,
                views.file_map_view,
                about=describe(lab, plan.text, plan.blocks[0]),
                texts={"map": lab.text_key},
                file_map=map_file(lab, checkpoint, plan, units=options.units),
            )


def _side_by_side(options: Namespace, session: Session, runs: list[Run]) -> None:
    from bitgap.report.comparison import compared
    from bitgap.report.page import compare_html
    from bitgap.show import views

    result = compared(runs)
    if further := [run.number for run in runs if run.runtimes or run.generation]:
        asked = ", ".join(f"bitgap report {number}" for number in further)
        console.say(f"what each does as it runs, or writes, stands in its own page: {asked}")
    if not options.no_report:
        folder = writable(options.out, "--out") if options.out else Path(options.store).parent
        write_text(folder / "compare.html", compare_html(result))
        console.say(f"page: {folder / 'compare.html'}")
    session.show(result, views.comparison_view)
