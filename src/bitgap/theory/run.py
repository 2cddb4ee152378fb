"""The theory run: every model is investigated once, then all are judged together.

Resumable: what a store holds is not measured again, neither a plan nor a whole model's evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bitgap.codec import from_json
from bitgap.errors import UserError
from bitgap.experiments.catalog import CATALOG
from bitgap.jobs.tiers import Tier
from bitgap.records import Finding, finite
from bitgap.stats.verdicts import Thresholds, load_thresholds, with_holm
from bitgap.theory.answer import answer
from bitgap.theory.evidence import Evidence, disparity_of, families_of
from bitgap.theory.families import across_families
from bitgap.theory.forecast.prediction import (
    forecast_later,
    leave_one_family_out,
    mean_scores,
)
from bitgap.theory.forecast.scorecard import summarize
from bitgap.theory.formal.model import judge_formal
from bitgap.theory.origin.regression import replay_original_regression
from bitgap.theory.outcomes import outcomes, pillars
from bitgap.theory.records import (
    Forecasts,
    Judged,
    MeasuredModel,
    Outcomes,
    Pillar,
    Theory,
)

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


def _forecasts(rows: Sequence[dict[str, Any]]) -> Forecasts:
    """Returns forecasts with what they come to."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    masks = {kind: mean_scores([row for row in rows if row["kind"] == kind]) for kind in kinds}
    summary = summarize(rows, load_thresholds().agreement_share)
    return from_json(Forecasts, {"rows": list(rows), "summary": summary, "masks": masks})


def gather_all(
    models: Sequence[str],
    open_lab: Callable[[str], Lab],
    tier: Tier,
    *,
    announce: Callable[[str], None] = lambda text: None,
    keep: Callable[[Evidence], object] = lambda evidence: None,
) -> list[Evidence]:
    """Returns every model's evidence, measuring what no store holds.

    Args:
        models: Folders or hub ids; ``reference`` is the bundled model.
        open_lab: Returns a lab for one; its store is closed here.
        tier: How much text is looked at.
        announce: Told what begins, one line each.
        keep: Given each model's evidence as soon as it is there, so that a run that is stopped
            has left that of the models before.

    Raises:
        UserError: If a model cannot be used; what the others gave is kept in the store.
    """
    # Imported here: measuring touches torch, judging never does.
    from bitgap.theory.gather import evidence_of

    found = list[Evidence]()
    for i, model in enumerate(models, start=1):
        announce(f"model {i} of {len(models)}: {model}")
        lab = open_lab(model)
        try:
            found.append(evidence_of(lab, tier, announce=announce))
        finally:
            lab.store.close()
        keep(found[-1])
    return found


def judge_all(evidence: Sequence[Evidence], tier: str) -> Theory:
    """Returns what the models say together; pure, so that it can be judged again at any time.

    Confirmation models are judged by themselves, and what exploratory ones say stands beside; where
    there are none, the exploratory ones are judged, and the run says so.

    Args:
        evidence: Of every model.
        tier: That they were investigated at.

    Raises:
        UserError: If some model's findings were judged with other thresholds.
    """
    thresholds = load_thresholds()
    _check_thresholds(evidence, thresholds)
    explored = [one for one in evidence if one.role == "exploratory"]
    confirming = [one for one in evidence if one.role == "confirmation"]
    counted = confirming or explored
    main = _judged(counted, thresholds)
    learned = explored or confirming
    held_out = leave_one_family_out(learned) if _can_hold_out(learned) else []
    later = None
    if confirming and explored and len(families_of(_comparing(explored))) > 1:
        later = _forecasts(forecast_later(explored, confirming))
    return Theory(
        tier=tier,
        models=tuple(_measured(one) for one in evidence),
        findings=main.findings,
        pillars=main.pillars,
        outcomes=from_json(Outcomes, outcomes(main.findings, counted)),
        forecasts=_forecasts(held_out),
        original_regression=replay_original_regression(evidence),
        thresholds_hash=thresholds.hash,
        role=main.role,
        answer=main.answer,
        beside=_judged(explored, thresholds) if confirming and explored else None,
        later=later,
    )


def _check_thresholds(evidence: Sequence[Evidence], thresholds: Thresholds) -> None:
    for one in evidence:
        others = {f.thresholds_hash for f in one.findings.values()} - {"", thresholds.hash}
        if others:
            raise UserError(
                f"the findings of {one.model} were judged with thresholds {min(others)}, today's "
                f"are {thresholds.hash}; judge it again: `bitgap theory MODEL --export FOLDER` "
                f"with the store it was measured into"
            )


def _comparing(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Returns those in which languages can be compared."""
    return [one for one in evidence if len(one.languages) > 1]


def _can_hold_out(evidence: Sequence[Evidence]) -> bool:
    return len(families_of(_comparing(evidence))) > 2


def _judged(evidence: Sequence[Evidence], thresholds: Thresholds) -> Judged:
    findings = theory_findings(evidence, thresholds)
    return Judged(
        role=evidence[0].role,
        findings=tuple(findings),
        pillars=tuple(from_json(Pillar, row) for row in pillars(findings)),
        answer=answer(evidence, findings, thresholds),
    )


def theory_findings(evidence: Sequence[Evidence], thresholds: Thresholds) -> list[Finding]:
    """Returns the twelve theory-level findings, Holm taken over them."""
    findings = [
        across_families(experiment, evidence, thresholds)
        for experiment in CATALOG
        if experiment.hypothesis.across_families
    ]
    findings.append(judge_formal(evidence, thresholds))
    return with_holm(findings, thresholds.alpha)


def _measured(one: Evidence) -> MeasuredModel:
    return MeasuredModel(
        model=one.model,
        family=one.family,
        fingerprint=one.fingerprint,
        n_blocks=one.n_blocks,
        scheme=one.scheme,
        languages=one.languages,
        left_out=dict(one.left_out),
        bits_per_byte=dict(one.bits_per_byte),
        bits_per_byte_reference=one.bits_per_byte.get(one.languages[0]),
        disparity=finite(one.disparity[0]),
        damage=float(one.damage[0].mean()),
        damage_by_block=tuple(float(k) for k in one.single.mean(1)),
        ratio_by_block=tuple(finite(y) for y in disparity_of(one.single)),
        spread=finite(one.spread[0]),
        spread_by_block=tuple(finite(s) for s in one.spread_by_block),
        role=one.role,
        n_parameters=one.n_parameters,
        mix=one.mix,
        corpus=one.corpus,
    )
