"""The verdict engine: declared thresholds, estimates and controls in; one of four verdicts out.

* **supported**: Holm p < α, estimate ≥ SESOI, interval above 0, negative controls null, positive
  control detected.
* **refuted**: interval wholly below the SESOI (equivalence logic, Lakens 2018) and positive control
  detected, so that absence is informative.
* **inconclusive**: otherwise, naming the clause that failed.
* **not testable**: a gate failed, or there was nothing to explain.

SESOI is the smallest effect of interest. A verdict on one model has scope ``this model`` and an
approximate p; it never speaks for the theory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from bitgap.errors import UserError
from bitgap.records import Control, Estimate, Finding, Verdict

THIS_MODEL = "this model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Everything that was declared before data were read; field meanings stand in the YAML."""

    version: int
    alpha: float
    level: float
    draws: int
    window: tuple[float, float]
    detection_share: float
    families_min: int
    agreement_share: float
    operating_bits: tuple[int, ...]
    hypotheses: Mapping[str, Mapping[str, Any]]
    hash: str

    def of(self, hypothesis: str) -> Mapping[str, Any]:
        """Returns what was declared for one hypothesis, such as ``H2.1``."""
        return self.hypotheses[hypothesis]


@cache
def load_thresholds() -> Thresholds:
    """Returns the declared thresholds with their hash (12 hexadecimal digits)."""
    return read_thresholds(
        resources.files("bitgap.stats").joinpath("thresholds.yaml").read_text(encoding="utf-8")
    )


def read_thresholds(text: str) -> Thresholds:
    """Returns the thresholds that a YAML text declares.

    Raises:
        UserError: If a key is unknown or missing.
    """
    content = yaml.safe_load(text)
    wanted = {f.name for f in fields(Thresholds)} - {"hash"}
    if set(content) != wanted:
        odd = sorted(set(content) ^ wanted)
        raise UserError(f"thresholds: unknown or missing keys {odd}; they are {sorted(wanted)}")
    canonical = json.dumps(content, sort_keys=True)
    content["window"] = tuple(content["window"])
    content["operating_bits"] = tuple(content["operating_bits"])
    return Thresholds(**content, hash=hashlib.sha256(canonical.encode()).hexdigest()[:12])


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One statistic that must pass.

    Attributes:
        name: What it is, for the reason.
        estimate: Its value and interval; larger supports the hypothesis.
        sesoi: Smallest effect of interest, in the estimate's unit.
        p: One-sided p, or None where no valid p exists.
        p_minimum: Smallest p this design can reach.
    """

    name: str
    estimate: Estimate
    sesoi: float
    p: float | None
    p_minimum: float


def judge(
    parts: Sequence[Part],
    controls: Sequence[Control],
    *,
    alpha: float,
    gate: str | None = None,
    extra: tuple[bool, str] = (True, ""),
    scope: str = THIS_MODEL,
) -> Verdict:
    """Returns the verdict on one hypothesis.

    With several parts all must pass (intersection–union test, Berger 1982): p is the largest, and
    one refuted part refutes the whole, since the hypothesis asserts all of them.

    Args:
        parts: The statistics, at least one.
        controls: What could have made them worthless.
        alpha: Level that p must fall under; Holm raises p later, see :func:`with_holm`.
        gate: Why the hypothesis is not testable here, or None.
        extra: Whether a further declared condition for support holds, and how to say that it does
            not.
        scope: ``this model`` or ``M families``.
    """
    ps = [part.p for part in parts]
    p = None if any(value is None for value in ps) else max(v for v in ps if v is not None)
    made = Verdict(
        label="inconclusive",
        scope=scope,
        reason="",
        sesoi=parts[0].sesoi,
        p=p,
        p_minimum=max(part.p_minimum for part in parts),
    )
    if gate is not None:
        return replace(made, label="not testable", reason=gate, p=None)
    label, reason = _decide(parts, controls, p, alpha, extra)
    return replace(made, label=label, reason=reason)


def _decide(
    parts: Sequence[Part],
    controls: Sequence[Control],
    p: float | None,
    alpha: float,
    extra: tuple[bool, str],
) -> tuple[Any, str]:
    positive = [c for c in controls if c.kind == "positive"]
    undetected = [c.name for c in positive if c.passed is not True]
    refuted = next((part for part in parts if _below(part)), None)
    if refuted is not None:
        shown = f"{refuted.name} is {_show(refuted.estimate)}, under {refuted.sesoi:g}"
        if undetected or not positive:
            missing = ", ".join(undetected) or "none was run"
            return "inconclusive", f"{shown}, but no positive control was detected ({missing})"
        return "refuted", f"{shown}, and the positive control was detected"
    for part in parts:
        if part.estimate.value is None or part.estimate.low is None:
            return "inconclusive", f"{part.name} has no interval: {part.estimate.reason}"
        if part.estimate.value < part.sesoi or part.estimate.low <= 0:
            return (
                "inconclusive",
                f"{part.name} is {_show(part.estimate)}: neither clearly above 0 and at least "
                f"{part.sesoi:g}, nor clearly under it",
            )
        if part.p_minimum > alpha:
            return (
                "inconclusive",
                f"design cannot reach α: the smallest p of {part.name} is {part.p_minimum:.3g}",
            )
    if p is None or p >= alpha:
        return "inconclusive", f"p = {'none' if p is None else f'{p:.3g}'}, not under {alpha:g}"
    if failed := [c.name for c in controls if c.kind != "positive" and c.passed is False]:
        return "inconclusive", f"a control failed: {', '.join(failed)}"
    if undetected or not positive:
        return "inconclusive", "no positive control was detected"
    if not extra[0]:
        return "inconclusive", extra[1]
    return "supported", f"{parts[0].name} is {_show(parts[0].estimate)}, p = {p:.3g}"


def _below(part: Part) -> bool:
    return part.estimate.high is not None and part.estimate.high < part.sesoi


def _show(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Returns Holm-adjusted p by name (Holm 1979): monotone, at most 1."""
    adjusted, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(ps) - rank) * p))
        adjusted[name] = largest
    return adjusted


def with_holm(findings: Sequence[Finding], alpha: float) -> list[Finding]:
    """Returns findings with Holm-adjusted p over those that have one.

    A finding that was supported at its unadjusted p and is not at the adjusted one becomes
    inconclusive.
    """
    adjusted = holm({f.experiment: f.verdict.p for f in findings if f.verdict.p is not None})
    out = []
    for finding in findings:
        verdict = replace(finding.verdict, p_holm=adjusted.get(finding.experiment))
        if verdict.label == "supported" and (verdict.p_holm is None or verdict.p_holm >= alpha):
            shown = "none" if verdict.p_holm is None else f"{verdict.p_holm:.3g}"
            verdict = replace(
                verdict,
                label="inconclusive",
                reason=f"p after Holm is {shown}, not under {alpha:g}",
            )
        out.append(replace(finding, verdict=verdict))
    return out
