"""The theory run: every model is investigated once, then all are judged together.

Resumable: what a store holds is not measured again, neither a plan nor a whole model's evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.codec import from_json
from bitgap.experiments.catalog import CATALOG
from bitgap.jobs.tiers import Tier
from bitgap.records import Finding, finite
from bitgap.stats.verdicts import Thresholds, load_thresholds, with_holm
from bitgap.theory.evidence import Evidence, disparity_of, families_of
from bitgap.theory.families import across_families
from bitgap.theory.forecast.prediction import leave_one_family_out
from bitgap.theory.forecast.scorecard import summarize
from bitgap.theory.formal.model import judge_formal
from bitgap.theory.origin.regression import replay_original_regression
from bitgap.theory.outcomes import outcomes, pillars
from bitgap.theory.records import Forecasts, MeasuredModel, Outcomes, Pillar, Theory

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


def _forecasts(rows: Sequence[dict[str, Any]]) -> Forecasts:
    """Returns every forecast of a family held out, and what they come to."""
    share = load_thresholds().agreement_share
    masks = dict[str, dict[str, float | None]]()
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row["masks"] for row in rows if row["kind"] == kind]
        masks[kind] = {
            name: float(np.mean(found)) if (found := _defined(mine, name)) else None
            for name in ("spearman", "rmse", "covered")
        }
    summary = summarize(rows, share)
    return from_json(Forecasts, {"rows": list(rows), "summary": summary, "masks": masks})


def _defined(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def gather_all(
    models: Sequence[str],
    open_lab: Callable[[str], Lab],
    tier: Tier,
    *,
    announce: Callable[[str], None] = lambda text: None,
) -> list[Evidence]:
    """Returns every model's evidence, measuring what no store holds.

    Args:
        models: Folders or hub ids; ``reference`` is the bundled model.
        open_lab: Returns a lab for one; its store is closed here.
        tier: How much text is looked at.
        announce: Told what begins, one line each.

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
    return found


def judge_all(evidence: Sequence[Evidence], tier: str) -> Theory:
    """Returns what the models say together; pure, so that it can be judged again at any time.

    Args:
        evidence: Of every model; the first of each family speaks for it.
        tier: That they were investigated at.
    """
    thresholds = load_thresholds()
    findings = theory_findings(evidence, thresholds)
    held_out = leave_one_family_out(evidence) if len(families_of(evidence)) > 2 else []
    return Theory(
        tier=tier,
        models=tuple(_measured(one) for one in evidence),
        findings=tuple(findings),
        pillars=tuple(from_json(Pillar, row) for row in pillars(findings)),
        outcomes=from_json(Outcomes, outcomes(findings, evidence)),
        forecasts=_forecasts(held_out),
        original_regression=replay_original_regression(evidence),
        thresholds_hash=thresholds.hash,
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
    )
