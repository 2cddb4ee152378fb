"""The verdict engine: declared thresholds, estimates and controls in; one of four verdicts out.

* **supported**: Holm p < α, estimate ≥ SESOI, interval above 0, negative controls null (each was
  run), invariances kept where they could be tried, positive control detected.
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
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from typing import Any, TypeGuard

import yaml

from bitgap.codec import is_array, is_object
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
    planted_strength: float
    halves: int
    families_min: int
    agreement_share: float
    unigram_tokens_min: int
    operating_bits: tuple[int, ...]
    hypotheses: Mapping[str, Mapping[str, Any]]
    hash: str

    def of(self, hypothesis: str) -> Mapping[str, Any]:
        """Returns what was declared for one hypothesis, such as ``H2.1``."""
        return self.hypotheses[hypothesis]

    @property
    def how(self) -> dict[str, Any]:
        """How every statistic is resampled, for :mod:`bitgap.stats.bootstrap`."""
        return {"seed": 0, "draws": self.draws, "level": self.level}

    @property
    def exploratory(self) -> frozenset[str]:
        """Hypotheses outside the family that Holm is taken over."""
        return frozenset(h for h, entry in self.hypotheses.items() if not entry.get("family", True))


@cache
def load_thresholds() -> Thresholds:
    """Returns the declared thresholds with their hash (12 hexadecimal digits).

    Example:
        >>> load_thresholds().alpha
        0.05
    """
    return read_thresholds(
        resources.files("bitgap.stats").joinpath("thresholds.yaml").read_text(encoding="utf-8")
    )


def read_thresholds(text: str) -> Thresholds:
    """Returns the thresholds that a YAML text declares.

    Raises:
        UserError: If it is no YAML, a key is unknown or missing, or a value cannot be.

    Example:
        >>> file = resources.files("bitgap.stats").joinpath("thresholds.yaml")
        >>> declared = file.read_text(encoding="utf-8")
        >>> read_thresholds(declared.replace("alpha: 0.05", "alpha: 5"))
        Traceback (most recent call last):
        bitgap.errors.UserError: thresholds: alpha is 5; it must be a number between 0 and 1
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"thresholds: this is no YAML: {error}") from None
    if not is_object(content):
        found = type(content).__name__
        raise UserError(f"thresholds: found {found}; write a mapping such as 'alpha: 0.05'")
    _check(content)
    canonical = json.dumps(content, sort_keys=True, default=str)
    content["window"] = tuple(content["window"])
    content["operating_bits"] = tuple(content["operating_bits"])
    return Thresholds(**content, hash=hashlib.sha256(canonical.encode()).hexdigest()[:12])


def _check(content: Mapping[Any, Any]) -> None:
    wanted = {f.name for f in fields(Thresholds)} - {"hash"}
    if set(content) != wanted:
        odd = sorted(map(str, set(content) ^ wanted))
        raise UserError(f"thresholds: unknown or missing keys {odd}; they are {sorted(wanted)}")
    for name, (holds, asked) in _RULES.items():
        if not holds(content[name]):
            raise UserError(f"thresholds: {name} is {content[name]!r}; it must be {asked}")
    for name, entry in content["hypotheses"].items():
        sesoi = entry.get("sesoi") if is_object(entry) else None
        if not (isinstance(name, str) and _number(sesoi) and sesoi > 0):
            raise UserError(f"thresholds: {name} declares {entry!r}; it must have a sesoi above 0")


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _share(value: Any) -> bool:
    return _number(value) and 0 < value < 1


def _share_or_all(value: Any) -> bool:
    return _share(value) or value == 1


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _interval(value: Any) -> bool:
    if not (is_array(value) and len(value) == 2 and all(map(_number, value))):
        return False
    return 0 <= value[0] < value[1] <= 1


def _counts(value: Any) -> bool:
    return is_array(value) and bool(value) and all(map(_count, value))


def _mapping(value: Any) -> bool:
    return is_object(value) and bool(value)


_BETWEEN = (_share, "a number between 0 and 1")
_UP_TO_ALL = (_share_or_all, "a number above 0, at most 1")
_WHOLE = (_count, "a whole number above 0")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "version": _WHOLE,
    "alpha": _BETWEEN,
    "level": _BETWEEN,
    "draws": _WHOLE,
    "window": (_interval, "two depths from 0 to 1, the smaller first"),
    "detection_share": _UP_TO_ALL,
    "families_min": _WHOLE,
    "halves": _WHOLE,
    "unigram_tokens_min": _WHOLE,
    "planted_strength": (lambda value: _number(value) and value > 0, "a number above 0"),
    "agreement_share": _UP_TO_ALL,
    "operating_bits": (_counts, "a list of whole numbers above 0"),
    "hypotheses": (_mapping, "a mapping of hypotheses such as 'H2.1: {sesoi: 1.0}'"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One statistic that must pass.

    Attributes:
        name: What it is, for the reason.
        estimate: Its value and interval; larger supports the hypothesis.
        sesoi: Smallest effect of interest, in the estimate's unit.
        p: One-sided p; None or NaN where no valid p exists.
        p_minimum: Smallest p this design can reach.
        p_equivalence: One-sided p that the effect is at least the SESOI (of θ ≥ SESOI as the null
            hypothesis); None where no valid p exists, and then nothing is refuted.
        chance: What the estimate is where there is nothing, such as .5 of a percentile.
        without: The estimate with one block left out, by ``without block 0`` and so on; empty for
            what is no profile over blocks. All must lie under the SESOI for a refutation.
        concurring: p of θ ≥ SESOI by further tests that must concur for a refutation, by name.
        controls: Those that guard this part alone, beside the hypothesis' own.
    """

    name: str
    estimate: Estimate
    sesoi: float
    p: float | None
    p_minimum: float
    p_equivalence: float | None = None
    chance: float = 0.0
    without: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    concurring: Mapping[str, float] = field(default_factory=dict[str, float])
    controls: tuple[Control, ...] = ()


def judge(
    parts: Sequence[Part],
    controls: Sequence[Control],
    *,
    alpha: float,
    gate: str | None = None,
    extra: tuple[bool, str] = (True, ""),
    enough: tuple[bool, str] = (True, ""),
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
        enough: Whether there are units enough for any conclusion, such as five families, and how
            to say that there are not; without, the verdict is inconclusive.
        scope: ``this model`` or ``M families``.

    Example:
        >>> effect = Estimate(value=1.5, low=1.0, high=2.0, unit="bits")
        >>> part = Part(name="gain", estimate=effect, sesoi=1.0, p=0.001, p_minimum=0.0)
        >>> seen = Control(name="planted", kind="positive", passed=True, detail="20 of 20 found")
        >>> judge([part], [seen], alpha=0.05).label
        'supported'
        >>> judge([part], [], alpha=0.05).reason
        'no positive control was detected'
    """
    ps = [part.p for part in parts if part.p is not None and math.isfinite(part.p)]
    p = max(ps) if len(ps) == len(parts) else None
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
    if not enough[0]:
        return replace(made, reason=enough[1])
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
        estimate = part.estimate
        if estimate.value is None or estimate.low is None or estimate.high is None:
            return "inconclusive", f"{part.name} has no interval: {estimate.reason}"
        if estimate.value < part.sesoi or estimate.low <= 0:
            return (
                "inconclusive",
                f"{part.name} is {_show(estimate)}: neither clearly above 0 and at least "
                f"{part.sesoi:g}, nor clearly under it",
            )
        if part.p_minimum >= alpha:
            return (
                "inconclusive",
                f"design cannot reach α: the smallest p of {part.name} is {part.p_minimum:.3g}",
            )
    if p is None or p >= alpha:
        return "inconclusive", f"p = {'none' if p is None else f'{p:.3g}'}, not under {alpha:g}"
    if failed := [c.name for c in controls if c.kind != "positive" and c.passed is False]:
        return "inconclusive", f"a control failed: {', '.join(failed)}"
    if unknown := [c.name for c in controls if c.kind == "negative" and c.passed is None]:
        return "inconclusive", f"a negative control was not run: {', '.join(unknown)}"
    if undetected or not positive:
        return "inconclusive", "no positive control was detected"
    if not extra[0]:
        return "inconclusive", extra[1]
    return "supported", f"{parts[0].name} is {_show(parts[0].estimate)}, p = {p:.3g}"


def _below(part: Part) -> bool:
    estimate = part.estimate
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return False
    return estimate.high < part.sesoi


def _show(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Returns Holm-adjusted p by name (Holm 1979): monotone, at most 1.

    Example:
        >>> holm({"H1.1": 0.01, "H1.2": 0.04})
        {'H1.1': 0.02, 'H1.2': 0.04}
    """
    adjusted, largest = dict[str, float](), 0.0
    for rank, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(ps) - rank) * p))
        adjusted[name] = largest
    return adjusted


def gated(
    findings: Sequence[Finding], nothing_to_explain: bool, need_disparity: Collection[str]
) -> list[Finding]:
    """Returns findings with disparity hypotheses closed where there is no disparity to explain.

    Args:
        findings: Of one model.
        nothing_to_explain: Whether every language's damage ratio to the reference covers 1.
        need_disparity: Hypotheses that a gap between languages must be there for.

    Example:
        >>> gated([FINDING], True, {"H2.1"})[0].verdict.label
        'not testable'
    """
    if not nothing_to_explain:
        return list(findings)
    why = "nothing to explain: every language's damage ratio to the reference covers 1"
    closed = Verdict(label="not testable", scope=THIS_MODEL, reason=why)
    return [replace(f, verdict=closed) if f.hypothesis in need_disparity else f for f in findings]


def with_holm(
    findings: Sequence[Finding], alpha: float, *, exploratory: frozenset[str] = frozenset()
) -> list[Finding]:
    """Returns findings with Holm-adjusted p over those that have one.

    Exploratory hypotheses are no members of the family: they neither get an adjusted p nor cost the
    others anything, and what is said of them is at their own p.

    A finding that was supported at its unadjusted p and is not at the adjusted one becomes
    inconclusive, and it says so where even the smallest p of its design would not have done.

    Example:
        >>> both = [FINDING, replace(FINDING, hypothesis="H2.2")]
        >>> with_holm(both, 0.05)[0].verdict.reason
        'p after Holm is 0.06, not under 0.05'
    """
    # By position: one experiment may have several findings, and each is a test.
    ps = {
        str(i): f.verdict.p
        for i, f in enumerate(findings)
        if f.verdict.p is not None and f.hypothesis not in exploratory
    }
    adjusted = holm(ps)
    out = list[Finding]()
    for i, finding in enumerate(findings):
        if finding.hypothesis in exploratory:
            out.append(finding)
            continue
        verdict = replace(finding.verdict, p_holm=adjusted.get(str(i)))
        if verdict.label == "supported" and (verdict.p_holm is None or verdict.p_holm >= alpha):
            shown = "none" if verdict.p_holm is None else f"{verdict.p_holm:.3g}"
            why = f"p after Holm is {shown}, not under {alpha:g}"
            least = verdict.p_minimum
            if least is not None and holm({**ps, str(i): least})[str(i)] >= alpha:
                why += f"; the design cannot reach α here: its smallest p is {least:.3g}"
            verdict = replace(verdict, label="inconclusive", reason=why)
        out.append(replace(finding, verdict=verdict))
    return out
