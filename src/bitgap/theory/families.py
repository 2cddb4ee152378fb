"""Theory-level verdicts: every hypothesis across model families, by method.md §2.

The unit is the family, or the training mix where the rule says so (a claim about languages). Of
several checkpoints of one family each is judged alone, and what they say is averaged before
families are pooled: correlations in Fisher's z, effects as their mean, peaks and conditions by
majority. A checkpoint whose own finding is *not testable* is left out, saying why.

Each experiment declares its rule (:mod:`bitgap.experiments.protocol.family_rule`) in its part
``families``: statistics, all of which must pass, read off the findings of single models. Conditions
that a single model must meet for support must hold in the declared share of families (two thirds).

A control was run on every family; at family-wise level one false alarm in seven families is to be
expected. A negative control or an invariance has failed if it fails in more families than chance at
α allows (binomial tail of α or less, so that of one family one failure is one); a positive one is
detected if it is in the declared share (80 %) of the families where it could be planted. A
correlation planted in one model's profiles tells what that model can find alone; for the families
together it is planted again in all of them at once.
Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from bitgap.experiments.protocol.controls import IN_PROFILES
from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.family_rule import Correlation, Rule, Statistic, Testable
from bitgap.records import Control, Estimate, Finding, PartVerdict
from bitgap.stats.across import Across, counted, judge_families
from bitgap.stats.verdicts import HALVES_SIGN, Thresholds, scoped_sentence
from bitgap.theory.evidence import Evidence, families_of


def across_families(
    experiment: Experiment, evidence: Sequence[Evidence], thresholds: Thresholds
) -> Finding:
    """Returns the theory-level finding on an experiment's hypothesis.

    Args:
        experiment: Whose hypothesis is judged, by its own rule.
        evidence: Of all models; checkpoints of a family are averaged before families are pooled.
        thresholds: What was declared.
    """
    rule, hypothesis = experiment.rule, experiment.hypothesis.id
    declared = thresholds.of(hypothesis)
    said = [(_unit(one, rule), one.model, one.findings[hypothesis]) for one in evidence]
    units = list(dict.fromkeys(unit for unit, _, _ in said))
    closed = {
        (unit, model): f.verdict.reason
        for unit, model, f in said
        if f.verdict.label == "not testable"
    }
    gate = None
    if len(closed) == len(said):
        gate = f"not testable in any {'family' if rule.unit == 'family' else 'mix'}: "
        gate += _most(closed.values())
    if rule.informative is not None:
        speaks, why = rule.informative
        closed = {(u, m): why for u, m, f in said if not speaks(f, declared)} | closed
    open_ = [(u, f) for u, m, f in said if (u, m) not in closed]
    across = [statistic(open_, thresholds) for statistic in rule.statistics]
    sesois = [float(declared[statistic.sesoi]) for statistic in rule.statistics]
    planted = _planted(rule, open_, sesois, thresholds)
    checks = pooled_controls([(u, f) for u, _, f in said], thresholds, pooled_plants=any(planted))
    verdict = judge_families(
        across,
        sesois,
        checks,
        thresholds,
        gate=gate,
        extra=_further(rule, open_, declared, thresholds),
        own=planted,
        unit=rule.unit,
    )
    if rule.written is not None and gate is None:
        beside = _written(hypothesis, rule, rule.written, open_, checks, thresholds)
        verdict = replace(verdict, parts=(*verdict.parts, beside))
    left_out = _left_out(closed, [u for u, _ in open_])
    if left_out and verdict.label == "inconclusive":
        left = f"{len(left_out)} of {counted(len(units), rule.unit)} left out: "
        verdict = replace(verdict, reason=f"{verdict.reason} ({left}{_most(left_out.values())})")
    spoke = [one for one in evidence if (_unit(one, rule), one.model) not in closed]
    about = scope_of(spoke or evidence)
    verdict = replace(verdict, scope=f"{verdict.scope}: {about}")
    return Finding(
        experiment=experiment.id,
        hypothesis=hypothesis,
        title=experiment.title,
        primary=across[0].name,
        estimates={a.name: a.estimate for a in across} | _without_ends(across),
        original_measure={},
        controls=(*checks, *(control for own in planted for control in own)),
        verdict=verdict,
        sentence=scoped_sentence(_sentence(across, len(units), left_out, rule.unit), about),
        tables={
            "families": family_rows(hypothesis, evidence),
            "concurring": [
                {"statistic": a.name, "test": test, "p": p}
                for a in across
                for test, p in a.concurring.items()
            ],
            "left_out": left_out | {m: why for a in across for m, why in a.left_out.items()},
        },
        thresholds_hash=thresholds.hash,
    )


def _unit(one: Evidence, rule: Rule) -> str:
    """Returns the name of the unit that a model belongs to; all models of no known mix are one."""
    if rule.unit == "family":
        return one.family
    return getattr(one, "mix", None) or "a mix that is not known"


def _planted(
    rule: Rule, open_: Testable, sesois: Sequence[float], thresholds: Thresholds
) -> list[tuple[Control, ...]]:
    """Returns what was planted in all families at once, one tuple a statistic."""
    return [
        (statistic.planted(open_, thresholds, sesoi),) if isinstance(statistic, Correlation) else ()
        for statistic, sesoi in zip(rule.statistics, sesois, strict=True)
    ]


def _written(
    hypothesis: str,
    rule: Rule,
    statistic: Statistic,
    open_: Testable,
    checks: Sequence[Control],
    thresholds: Thresholds,
) -> PartVerdict:
    """Returns what the same rule says of the origin's own statistic; it enters no verdict.

    Controls of the asked statistic say nothing of it, but for halves of the text.
    """
    asked = statistic(open_, thresholds)
    sesoi = float(thresholds.of(hypothesis)[statistic.sesoi])
    shared = [c for c in checks if c.name.startswith(HALVES_SIGN)]
    if isinstance(statistic, Correlation):
        shared.append(statistic.planted(open_, thresholds, sesoi))
    own = judge_families([asked], [sesoi], shared, thresholds, unit=rule.unit)
    return PartVerdict(
        name=asked.name, label=own.label, reason=own.reason, p=own.p,
        p_equivalence=own.p_equivalence,
    )  # fmt: skip


def _left_out(closed: Mapping[tuple[str, str], str], open_: Sequence[str]) -> dict[str, str]:
    """Returns why a unit is left out, and of one that stays why one of its checkpoints is."""
    return {
        unit if unit not in open_ else f"{unit} ({model})": why
        for (unit, model), why in closed.items()
    }


def _without_ends(across: Sequence[Across]) -> dict[str, Estimate]:
    """Returns each pooled correlation without the first and without the last block."""
    return {
        f"{a.name}, {end}": left[end]
        for a in across
        if (left := a.leave_out())
        for end in ("without block 0", "without block -1")
        if end in left
    }


def scope_of(evidence: Sequence[Evidence]) -> str:
    """Returns what was looked at, such as ``7 models of 3 to 9 million parameters, one corpus``."""
    sizes = [n for one in evidence if (n := getattr(one, "n_parameters", None)) is not None]
    corpora = {name for one in evidence if (name := getattr(one, "corpus", ""))}
    depths = sorted({one.n_blocks for one in evidence})
    n = len(evidence)
    told = [f"{n} model{'' if n == 1 else 's'}{_span([s / 1e6 for s in sizes])}"]
    told.append(f"{_range(depths)} blocks")
    if corpora:
        told.append("one corpus" if len(corpora) == 1 else f"{len(corpora)} corpora")
    return ", ".join(told)


def _span(millions: Sequence[float]) -> str:
    if not millions:
        return ""
    low, high = (f"{x:.2g}" if x < 10 else f"{x:.0f}" for x in (min(millions), max(millions)))
    return f" of {low if low == high else f'{low} to {high}'} million parameters"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def family_rows(hypothesis: str, evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Returns what every model says of a hypothesis by itself, JSON-ready; all checkpoints."""
    rows = list[dict[str, Any]]()
    for family, models in families_of(evidence).items():
        for one in models:
            finding = one.findings[hypothesis]
            primary = finding.estimates[finding.primary]
            rows.append(
                {
                    "family": family,
                    "model": one.model,
                    "speaks": True,
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
    rule: Rule, findings: Testable, declared: Mapping[str, Any], thresholds: Thresholds
) -> tuple[bool, str]:
    """Returns whether enough families meet every further condition, and which one is not met."""
    for told, holds in rule.further.items():
        met = _by_unit([(unit, holds(f, declared)) for unit, f in findings])
        share = float(np.mean([_most_of(m) for m in met.values()])) if met else 0.0
        if share < thresholds.agreement_share - 1e-3:
            return False, (
                f"of {counted(len(met), rule.unit)} {share:.0%} show that {told}; "
                f"{thresholds.agreement_share:.0%} needed"
            )
    return True, ""


def _by_unit(told: Sequence[tuple[str, bool]]) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for unit, held in told:
        found.setdefault(unit, []).append(held)
    return found


def _most_of(held: Sequence[bool]) -> bool:
    return 2 * sum(held) > len(held)


def pooled_controls(
    findings: Testable, thresholds: Thresholds, *, pooled_plants: bool = False
) -> list[Control]:
    """Returns each control once, as it came out over families; see the module's text.

    Args:
        findings: (family, finding) of every model.
        thresholds: What was declared.
        pooled_plants: Whether correlations were planted in all families at once, so that those
            planted in one model's profiles guard that model alone.
    """
    by_name: dict[tuple[str, str], list[tuple[str, bool | None]]] = {}
    for family, finding in findings:
        for control in finding.controls:
            if pooled_plants and control.name.startswith(IN_PROFILES):
                continue
            entry = by_name.setdefault((control.name, control.kind), [])
            entry.append((family, control.passed))
    return [_pooled(*key, seen, thresholds) for key, seen in by_name.items()]


def _pooled(
    name: str, kind: Any, seen: Sequence[tuple[str, bool | None]], thresholds: Thresholds
) -> Control:
    ran = _by_unit([(family, passed) for family, passed in seen if passed is not None])
    # Checkpoints of one family speak with one voice, that of most of them.
    n, failed = len(ran), [family for family, passed in ran.items() if not _most_of(passed)]
    if not n:
        return Control(name=name, kind=kind, passed=None, detail="could be run in no family")
    told = f"{n - len(failed)} of {counted(n)}" + (
        f"; not in {', '.join(failed)}" if failed else ""
    )
    if kind == "positive":
        passed = 1 - len(failed) / n >= thresholds.detection_share
        return Control(name=name, kind=kind, passed=passed, detail=f"detected in {told}")
    # P(this many failures or more) where each family fails with probability α.
    chance = float(stats.binom.sf(len(failed) - 1, n, thresholds.alpha))
    detail = f"null in {told}; chance of so many failures at α: {chance:.2g}"
    held = chance > thresholds.alpha * (1 + 1e-9)  # α itself rejects; of one family it is α
    return Control(name=name, kind=kind, passed=held, detail=detail)


def _sentence(across: Sequence[Across], n: int, left_out: Mapping[str, str], unit: str) -> str:
    said = "; ".join(
        f"{a.name} is {_told(a.estimate)} over {counted(a.n, unit)}" if a.estimate.value is not None
        else f"{a.name}: {a.estimate.reason}"
        for a in across
    )  # fmt: skip
    left = f", {len(left_out)} of {counted(n, unit)} left out" if left_out else ""
    return f"{said[:1].upper()}{said[1:]}{left}."


def _told(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
