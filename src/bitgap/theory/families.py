"""Theory-level verdicts: every hypothesis across model families, by method.md §2.

The unit is the family. Where several checkpoints of one are given the first speaks for it: an
average of profiles would have neither one's autocorrelation, which the tests rest on; the others
are shown beside it. A family whose own finding is *not testable* is left out, saying why.

Each hypothesis has its statistics (all must pass), read off the findings of single models:
correlations of two profiles over blocks, effects, peaks in a window, or both ends. Conditions that
a single model must meet for support must hold in the declared share of families (two thirds).

A control was run on every family; at family-wise level one false alarm in seven families is to be
expected. A negative control or an invariance has failed if it fails in more families than chance at
α allows (binomial tail under α); a positive one is detected if it is in the declared share (80 %)
of the families where it could be planted. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from bitgap.experiments.catalog import find
from bitgap.experiments.t005_gateway_structure import NULL
from bitgap.experiments.t010_rate_distortion import Params as RateParams
from bitgap.records import Control, Estimate, Finding, Floats
from bitgap.stats.across import Across, judge_families
from bitgap.stats.families import (
    FamilyEffect,
    FamilyEnds,
    FamilyPeak,
    FamilyProfiles,
    both_ends_across,
    correlation_across,
    effect_across,
    window_across,
)
from bitgap.stats.profiles import Peak
from bitgap.stats.verdicts import Thresholds
from bitgap.theory.evidence import Evidence, families_of

Testable = Sequence[tuple[str, Finding]]
"""(family, finding) of the families whose finding is testable."""

Condition = Callable[[Finding, Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one hypothesis is judged across families.

    Attributes:
        across: (findings, thresholds) -> the statistics, all of which must pass.
        sesois: Keys of the declared smallest effects of interest, one a statistic.
        further: What else a family must show for support, by how it is told.
        informative: Whether a family's finding can speak at all, and how to say that it cannot;
            one that cannot is left out.
    """

    across: Callable[[Testable, Thresholds], list[Across]]
    sesois: tuple[str, ...] = ("sesoi",)
    further: Mapping[str, Condition] | None = None
    informative: tuple[Condition, str] | None = None


EXPONENT_RANGE = RateParams().exponent_range
"""Where damage's exponent must lie for a flat ratio to say anything."""


def _correlation(table: str, x: str, y: str, name: str, sign: float = 1.0) -> Any:
    def across(found: Testable, thresholds: Thresholds) -> Across:
        families = [
            FamilyProfiles(
                family=family,
                predictor=_column(f.tables[table], x),
                outcome=sign * _column(f.tables[table], y),
            )
            for family, f in found
        ]
        return correlation_across(families, name=name, level=thresholds.level)

    return across


def _effect(estimate: str, name: str) -> Any:
    def across(found: Testable, thresholds: Thresholds) -> Across:
        families = [FamilyEffect(family=m, estimate=f.estimates[estimate]) for m, f in found]
        return effect_across(families, name=name, level=thresholds.level)

    return across


def _window(estimate: str, profile: str, name: str) -> Any:
    def across(found: Testable, thresholds: Thresholds) -> Across:
        families = [
            FamilyPeak(family=m, peak=_peak(f.estimates[estimate], len(f.tables[profile])),
                       n_layers=len(f.tables[profile]))
            for m, f in found
        ]  # fmt: skip
        return window_across(families, thresholds.window, name=name, level=thresholds.level)

    return across


def _ends(found: Testable, thresholds: Thresholds) -> Across:
    families = [
        FamilyEnds(family=m, outlyingness=_column(f.tables["outlying"], "value")) for m, f in found
    ]
    return both_ends_across(families, level=thresholds.level)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    if name == "usable_bits":
        both = ("usable_bits_current", "usable_bits_previous")
        return np.mean([_column(rows, one) for one in both], axis=0)
    values = [row[name] for row in rows]
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _peak(place: Estimate, n_layers: int) -> Peak:
    assert place.value is not None
    # The share of draws at the mode is no part of the test across families.
    return Peak(place=place, layer=round(place.value * (n_layers - 1)), share=float("nan"))


def _all(*parts: Callable[[Testable, Thresholds], Across]) -> Any:
    return lambda found, thresholds: [part(found, thresholds) for part in parts]


def _low_above(estimate: str, bound: float) -> Condition:
    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        low = finding.estimates[estimate].low
        return low is not None and low > bound

    return holds


def _at_least(estimate: str, threshold: str) -> Condition:
    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        value = finding.estimates[estimate].value
        return value is not None and value >= declared[threshold]

    return holds


def _same_sign(one: str, other: str) -> Condition:
    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        a, b = finding.estimates[one].value, finding.estimates[other].value
        return a is not None and b is not None and a * b > 0

    return holds


def _lowest_pair(finding: Finding, declared: Mapping[str, Any]) -> bool:
    rank, n = finding.tables["rank_from_below"], finding.tables["n_pairs"]
    return rank is not None and rank <= declared["percentile"] * n


def _beyond_additive(finding: Finding, declared: Mapping[str, Any]) -> bool:
    return bool(finding.tables["further"]["beyond_additive"])


def _top_pair(finding: Finding, declared: Mapping[str, Any]) -> bool:
    return bool(finding.tables["further"]["top_pair"])


def _on_text(finding: Finding, declared: Mapping[str, Any]) -> bool:
    value = finding.estimates["banzhaf_on_text"].value
    return value is not None and value > 0


def _exponent_allows(finding: Finding, declared: Mapping[str, Any]) -> bool:
    """Returns whether a flat ratio would say something: damage itself falls as theory has it."""
    low, high = EXPONENT_RANGE
    end, exponent = finding.estimates["minus_slope"].high, finding.estimates["exponent"].value
    flat = end is not None and 0 <= end < declared["sesoi"]
    return not flat or (exponent is not None and low <= exponent <= high)


def _seed_form(finding: Finding, declared: Mapping[str, Any]) -> bool:
    return bool(finding.tables["seed_form"]["within_2_se"]) and bool(
        finding.tables["seed_form"]["c_above_0"]
    )


RULES: Mapping[str, Rule] = {
    "H1.1": Rule(
        across=_all(_correlation("blocks", "log_variance_fixed", "usable_bits",
                                 "mean r(log variance, usable information)")),
        further={
            "the correlation is above 0 when sentences are resampled": _low_above(
                "variance_and_information_by_sentence", 0.0
            )
        },
    ),
    "H1.2": Rule(
        across=_all(
            _correlation("blocks", "log_variance_fixed", "log_t2",
                         "mean r(log variance, -log RE)", sign=-1.0),
            _correlation("blocks", "log_t2", "log_k", "mean r(log RE, log k)"),
        ),
        sesois=("sesoi", "sesoi"),
        further={"t² has half of log k": _at_least("lmg_share_of_error", "lmg_share")},
    ),
    "H1.3": Rule(
        across=_all(_correlation("blocks", "bias", "benefit_disparity", "mean r(B, benefit)")),
        further={
            "the link to -G has the sign of that to -|D|": _same_sign(
                "bias_and_benefit", "bias_and_gap_benefit"
            )
        },
    ),
    "H2.1": Rule(
        across=_all(
            _effect("snr_contrast", "SNR contrast of block 0"),
            _effect("interaction", "interaction of block 0 with the last"),
        ),
        sesois=("sesoi", "sesoi_interaction"),
    ),
    "H2.2": Rule(
        across=_all(_ends),
        further={
            "the percentile's interval is above the middle": _low_above("percentile_of_ends", NULL)
        },
    ),
    "H2.3": Rule(
        across=_all(_effect("minus_rho", "-rho(0, last)")),
        further={
            "the pair is among the lowest": _lowest_pair,
            "errors cancel enough": _at_least("cancelled_share", "cancelled_share"),
        },
    ),
    "H3.1": Rule(across=_all(_window("minimum_depth", "profile", "dimension minimum in window"))),
    "H3.2": Rule(
        across=_all(
            _window("peak_depth", "profile", "selectivity peak in window"),
            _effect("contrast_d_z", "causal contrast, d_z"),
        ),
        sesois=("sesoi", "d_z"),
    ),
    "H3.3": Rule(across=_all(_window("peak_depth", "profile", "alignment peak in window"))),
    "H4.1": Rule(
        across=_all(_effect("minus_slope", "fall of the log2 damage ratio per bit")),
        further={"the seed's form is as good as the best, and c > 0": _seed_form},
        informative=(
            _exponent_allows,
            "the ratio is flat, but damage's own exponent is not about 2, as theory has it",
        ),
    ),
    "synergy": Rule(
        across=_all(_effect("banzhaf", "interaction of the first and the last block")),
        further={
            "the pair is in the top 5 %": _top_pair,
            "the cells leave what additive damage implies": _beyond_additive,
            "the sign holds on the text's own likelihood": _on_text,
        },
    ),
}  # fmt: skip
"""How each hypothesis but the formal model is judged across families."""


def across_families(
    hypothesis: str, evidence: Sequence[Evidence], thresholds: Thresholds
) -> Finding:
    """Returns the theory-level finding on one hypothesis.

    Args:
        hypothesis: A key of :data:`RULES`.
        evidence: Of all models; the first of each family speaks for it.
        thresholds: What was declared.
    """
    rule, declared = RULES[hypothesis], thresholds.of(hypothesis)
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
    across = rule.across(open_, thresholds)
    checks = pooled_controls(list(spoken.items()), thresholds)
    verdict = judge_families(
        across,
        [declared[key] for key in rule.sesois],
        checks,
        thresholds,
        gate=gate,
        extra=_further(rule, [f for _, f in open_], declared, thresholds),
    )
    if closed and verdict.label == "inconclusive":
        left = f"{len(closed)} of {_families(len(spoken))} left out: {_most(closed.values())}"
        verdict = replace(verdict, reason=f"{verdict.reason} ({left})")
    experiment = find(declared["experiment"])
    return Finding(
        experiment=experiment.id,
        hypothesis=hypothesis,
        title=experiment.title,
        primary=across[0].name,
        estimates={a.name: a.estimate for a in across},
        seed_measure={},
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
    rows = []
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
    for told, holds in (rule.further or {}).items():
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
