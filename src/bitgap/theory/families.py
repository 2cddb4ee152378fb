"""Theory-level verdicts: every hypothesis across model families, by method.md §2.

The unit is the family. Where several checkpoints of one are given the first speaks for it: an
average of profiles would have neither one's autocorrelation, which the tests rest on; the others
are shown beside it. A family whose own finding is *not testable* is left out, saying why.

Each experiment declares its rule (:mod:`bitgap.experiments.protocol.family_rule`) in its part
``families``: statistics, all of which must pass, read off the findings of single models. Conditions
that a single model must meet for support must hold in the declared share of families (two thirds).

A control was run on every family; at family-wise level one false alarm in seven families is to be
expected. A negative control or an invariance has failed if it fails in more families than chance at
α allows (binomial tail under α); a positive one is detected if it is in the declared share (80 %)
of the families where it could be planted. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.family_rule import Rule
from bitgap.records import Control, Estimate, Finding
from bitgap.stats.across import Across, judge_families
from bitgap.stats.verdicts import Thresholds
from bitgap.theory.evidence import Evidence, families_of


def across_families(
    experiment: Experiment, evidence: Sequence[Evidence], thresholds: Thresholds
) -> Finding:
    """Returns the theory-level finding on an experiment's hypothesis.

    Args:
        experiment: Whose hypothesis is judged, by its own rule.
        evidence: Of all models; the first of each family speaks for it.
        thresholds: What was declared.
    """
    rule, hypothesis = experiment.rule, experiment.hypothesis.id
    declared = thresholds.of(hypothesis)
    spoken = {
        family: models[0].findings[hypothesis] for family, models in families_of(evidence).items()
    }
    closed = {m: f.verdict.reason for m, f in spoken.items() if f.verdict.label == "not testable"}
    gate = None
    if len(closed) == len(spoken):
        gate = f"not testable in any family: {_most(closed.values())}"
    if rule.informative is not None:
        speaks, why = rule.informative
        closed = {m: why for m, f in spoken.items() if not speaks(f, declared)} | closed
    open_ = [(m, f) for m, f in spoken.items() if m not in closed]
    across = [statistic(open_, thresholds) for statistic in rule.statistics]
    checks = pooled_controls(list(spoken.items()), thresholds)
    verdict = judge_families(
        across,
        [declared[statistic.sesoi] for statistic in rule.statistics],
        checks,
        thresholds,
        gate=gate,
        extra=_further(rule, [f for _, f in open_], declared, thresholds),
    )
    if closed and verdict.label == "inconclusive":
        left = f"{len(closed)} of {_families(len(spoken))} left out: {_most(closed.values())}"
        verdict = replace(verdict, reason=f"{verdict.reason} ({left})")
    return Finding(
        experiment=experiment.id,
        hypothesis=hypothesis,
        title=experiment.title,
        primary=across[0].name,
        estimates={a.name: a.estimate for a in across},
        original_measure={},
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(across, len(spoken), closed),
        tables={
            "families": family_rows(hypothesis, evidence),
            "concurring": [
                {"statistic": a.name, "test": test, "p": p}
                for a in across
                for test, p in a.concurring.items()
            ],
            "left_out": closed | {m: why for a in across for m, why in a.left_out.items()},
        },
        thresholds_hash=thresholds.hash,
    )


def family_rows(hypothesis: str, evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Returns what every model says of a hypothesis by itself, JSON-ready; all checkpoints."""
    rows = list[dict[str, Any]]()
    for family, models in families_of(evidence).items():
        for i, one in enumerate(models):
            finding = one.findings[hypothesis]
            primary = finding.estimates[finding.primary]
            rows.append(
                {
                    "family": family,
                    "model": one.model,
                    "speaks": i == 0,
                    "n_blocks": one.n_blocks,
                    "verdict": finding.verdict.label,
                    "reason": finding.verdict.reason,
                    "value": primary.value,
                    "low": primary.low,
                    "high": primary.high,
                    "unit": primary.unit,
                }
            )
    return rows


def _most(reasons: Any) -> str:
    listed = sorted(reasons)
    return max(listed, key=listed.count) if listed else "no family was given"


def _further(
    rule: Rule, findings: Sequence[Finding], declared: Mapping[str, Any], thresholds: Thresholds
) -> tuple[bool, str]:
    """Returns whether enough families meet every further condition, and which one is not met."""
    for told, holds in rule.further.items():
        share = float(np.mean([holds(f, declared) for f in findings])) if findings else 0.0
        if share < thresholds.agreement_share - 1e-3:
            return False, (
                f"of {len(findings)} families {share:.0%} show that {told}; "
                f"{thresholds.agreement_share:.0%} needed"
            )
    return True, ""


def pooled_controls(
    findings: Sequence[tuple[str, Finding]], thresholds: Thresholds
) -> list[Control]:
    """Returns each control once, as it came out over families; see the module's text."""
    by_name: dict[tuple[str, str], list[tuple[str, bool | None]]] = {}
    for family, finding in findings:
        for control in finding.controls:
            entry = by_name.setdefault((control.name, control.kind), [])
            entry.append((family, control.passed))
    return [_pooled(*key, seen, thresholds) for key, seen in by_name.items()]


def _pooled(
    name: str, kind: Any, seen: Sequence[tuple[str, bool | None]], thresholds: Thresholds
) -> Control:
    ran = [(family, bool(passed)) for family, passed in seen if passed is not None]
    n, failed = len(ran), [family for family, passed in ran if not passed]
    if not n:
        return Control(name=name, kind=kind, passed=None, detail="could be run in no family")
    told = f"{n - len(failed)} of {_families(n)}" + (
        f"; not in {', '.join(failed)}" if failed else ""
    )
    if kind == "positive":
        passed = 1 - len(failed) / n >= thresholds.detection_share
        return Control(name=name, kind=kind, passed=passed, detail=f"detected in {told}")
    # P(this many failures or more) where each family fails with probability α.
    chance = float(stats.binom.sf(len(failed) - 1, n, thresholds.alpha))
    detail = f"null in {told}; chance of so many failures at α: {chance:.2g}"
    return Control(name=name, kind=kind, passed=chance >= thresholds.alpha, detail=detail)


def _sentence(across: Sequence[Across], n: int, closed: Mapping[str, str]) -> str:
    said = "; ".join(
        f"{a.name} is {_told(a.estimate)} over {_families(a.n)}" if a.estimate.value is not None
        else f"{a.name}: {a.estimate.reason}"
        for a in across
    )  # fmt: skip
    left = f", {len(closed)} of {_families(n)} left out" if closed else ""
    return f"{said[:1].upper()}{said[1:]}{left}."


def _families(n: int) -> str:
    return "1 family" if n == 1 else f"{n} families"


def _told(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
