"""Several runs side by side: what each loses where, and, of one model, which plan is better.

Two runs of one model on one text are compared sentence by sentence by the rule of
:func:`bitgap.disparity.compare`: better means that S, the spread over languages, falls and nobody
is levelled down. Runs of different models, texts or stores stand side by side and are not
subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bitgap.disparity.compare import compare
from bitgap.disparity.layer_map import LayerMap, shapley_rows
from bitgap.disparity.records import DisparityReport
from bitgap.errors import UsageError
from bitgap.formats.contents import Contents
from bitgap.lab.store import Store
from bitgap.quant.plan import Plan
from bitgap.report.run import Run, scores_by_numbers, scores_on
from bitgap.report.words.answers import answers
from bitgap.show.numbers import plan_name, short_name


def compared(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns runs side by side, as JSON.

    Args:
        runs: Each with an audit or a layer map: runs of audit, map or investigate.

    Raises:
        UsageError: If one has neither.
    """
    for run in runs:
        if run.report is None and run.layer_map is None:
            raise UsageError(
                f"run {run.number} in {run.store} is of {run.command!r}, which has no damage by "
                f"language or block to compare; name runs of audit, map or investigate"
            )
    labels = run_labels(runs)
    first, *others = runs
    return {
        "runs": [_row(run, label) for run, label in zip(runs, labels, strict=True)],
        "changes": [
            {"from": labels[0], "to": label} | change
            for other, label in zip(others, labels[1:], strict=True)
            if (change := _change(first, other)) is not None
        ],
    }


def run_labels(runs: Sequence[Run]) -> list[str]:
    """Returns a short name of each run: its file's, else its model's, its plan or number added."""
    files = [run.contents.file for run in runs if run.contents]
    if len(set(files)) == len(runs):
        return files
    models = [short_name(str(run.about.get("model"))) for run in runs]
    plans = [
        f"{m}, {plan_name(str(run.about.get('plan')))}" for m, run in zip(models, runs, strict=True)
    ]
    for names in (models, plans):
        if len(set(names)) == len(names):
            return names
    return [f"{name}, run {run.number}" for name, run in zip(plans, runs, strict=True)]


def _row(run: Run, label: str) -> dict[str, Any]:
    audit = None if run.report is None else run.report.as_dict()
    return {
        "label": label,
        "run": run.number,
        "store": run.store,
        "command": run.command,
        "model": run.about.get("model"),
        "plan": run.about.get("plan"),
        "n_blocks": run.about.get("n_blocks"),
        "languages": {} if audit is None else audit["languages"],
        **{name: None if audit is None else audit[name]
           for key in ("S", "S_per_text", "D", "D_share", "G") for name in (key, f"{key}_ci")},
        "reference": None if audit is None else audit["reference"],
        "H": {} if audit is None else audit["H"],
        "file": None if run.contents is None else _held(run.contents),
        "flips": None if run.flips is None else run.flips.as_dict(),
        "damage_by_block": [] if run.layer_map is None else _shares(run.layer_map),
        "original_set": None if run.layer_map is None else run.layer_map.origin.as_dict(),
        "verdicts": {f.hypothesis: f.verdict.label for f in run.findings},
        "answers": {answer.key: answer.short for answer in answers(run)},
    }  # fmt: skip


def _held(contents: Contents) -> dict[str, Any]:
    names = ("file", "toolchain", "claim", "bits", "block_bits", "n_bytes")
    return {name: getattr(contents, name) for name in names}


def _shares(layer_map: LayerMap) -> list[float | None]:
    """Returns each block's Shapley share of the damage, (L); None where there is no damage."""
    damage = shapley_rows(layer_map, "damage")
    whole = sum(value or 0.0 for value in damage)
    return [value / whole if value is not None and whole > 0 else None for value in damage]


def _change(first: Run, other: Run) -> dict[str, Any] | None:
    """Returns what changes from one run's plan to another's on the same text, or None."""
    ours, theirs = first.report, other.report
    about = ("model_fingerprint", "corpus_fingerprint", "arithmetic")
    if ours is None or theirs is None or first.store != other.store:
        return None
    if any(first.about.get(name) != other.about.get(name) for name in about):
        return None
    if any(run.runtimes is not None and run.contents is None for run in (first, other)):
        return None  # a graph, which is run and no plan of the model
    if ours.plan == theirs.plan or ours.n_sentences != theirs.n_sentences:
        return None
    if [one.language for one in ours.languages] != [one.language for one in theirs.languages]:
        return None
    plans = [Plan.parse(report.plan, first.about["n_blocks"]) for report in (ours, theirs)]
    keys = [run.texts.get("audit") for run in (first, other)]
    with Store(first.store, read_only=True) as store:
        if None in keys:
            damage = [_mean_damage(report) for report in (ours, theirs)]
            arithmetic = first.about["arithmetic"]
            scores = scores_by_numbers(store, arithmetic, plans, ours.n_sentences, damage)
        else:
            scores = scores_on(store, str(keys[0]), plans) if keys[0] == keys[1] else None
    if scores is None or first.provenance is None:
        return None
    return asdict(compare(scores, *scores.plans, seed=first.provenance.seed))


def _mean_damage(report: DisparityReport) -> float | None:
    known = [v for one in report.languages if (v := one.damage.value) is not None]
    return sum(known) / len(known) if len(known) == len(report.languages) else None
