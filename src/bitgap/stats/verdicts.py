"""The verdict engine: declared thresholds, estimates and controls in; one of five verdicts out.

* **supported**: Holm p < α, estimate ≥ SESOI, interval above chance, negative controls null (each
  was run), invariances kept where they could be tried, positive controls detected; a correlation
  over blocks stays at least the SESOI, its interval above chance, without any one block.
* **refuted**: interval under the SESOI and not wholly above chance; "at least the SESOI" rejected
  by a test of equivalence at α after Holm (Lakens 2018) and by every test that must concur; the
  interval stays under the SESOI without any one block; the A/A control and invariances did not
  fail; and every positive control is detected, so that absence is informative.
* **small**: interval above chance and under the SESOI: there, but less than was declared to matter.
  The A/A control and invariances did not fail.
* **inconclusive**: otherwise, naming the clause that failed.
* **not testable**: a gate failed, or there was nothing to explain.

SESOI is the smallest effect of interest; chance is what the estimate is where there is nothing, 0
unless said otherwise. A verdict on one model has scope ``this model`` and an approximate p; it
never speaks for the theory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from typing import Any, TypeGuard

import yaml

from bitgap.codec import is_array, is_object
from bitgap.errors import UserError
from bitgap.records import Control, Estimate, Finding, Label, PartVerdict, Verdict

THIS_MODEL = "this model"
"""Scope of what one model says; ``this model: ...`` where more is known of it."""

HALVES_SIGN = "A/A"
"""How the name of a control of two halves of one text begins; it guards refutations."""

PLANTED_SIGN = "planted in the profiles"
"""How the name of a control begins that plants what matters in the statistic itself. Whether this
design would see it decides what absence is worth; what was found was seen, so support is free of
it."""


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
        over_blocks: Whether it links two profiles over blocks. What one block makes is no link, so
            for support each of ``without`` must then be what the estimate must be: at least the
            SESOI, its interval above chance.
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
    over_blocks: bool = False


class LeftOut(Mapping[str, Estimate]):
    """Estimates without each block, made when they are first asked for.

    Only a verdict that holds in every other respect asks for them.

    Example:
        >>> left_out = LeftOut(
        ...     lambda: {"without block 0": Estimate(value=1.5, unit="bits", reason="by hand")}
        ... )
        >>> left_out["without block 0"].value
        1.5
    """

    def __init__(self, made: Callable[[], Mapping[str, Estimate]]) -> None:
        self._made = cache(made)

    def __getitem__(self, name: str) -> Estimate:
        return self._made()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())


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

    With several parts all must pass (intersection–union test, Berger 1982): p is the largest. One
    refuted part refutes the whole, since the hypothesis asserts all of them; as any of them may,
    each is tested at α over their number (Bonferroni). Each part also has its own label.

    Args:
        parts: The statistics, at least one.
        controls: What could have made them worthless; a part's own controls come on top.
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
        'no positive control was detected (none was run)'
        >>> none = Estimate(value=0.1, low=-0.2, high=0.4, unit="bits")
        >>> part = Part(name="gain", estimate=none, sesoi=1.0, p=0.3, p_minimum=0.0)
        >>> judge([replace(part, p_equivalence=0.001)], [seen], alpha=0.05).label
        'refuted'
        >>> judge([part], [seen], alpha=0.05).reason
        'gain is 0.1 [-0.2, 0.4], under 1, but no test rejects that it is at least that'
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
    said = [_judged(part, (*controls, *part.controls), alpha, len(parts)) for part in parts]
    made = replace(made, p_equivalence=_p_of_refutation(said))
    if not enough[0]:
        return replace(made, reason=enough[1])
    if len(parts) > 1:
        made = replace(made, parts=tuple(said))
    for label in ("refuted", "small", "inconclusive"):
        deciding = next((one for one in said if one.label == label), None)
        if deciding is not None:
            return replace(made, label=deciding.label, reason=deciding.reason)
    if not extra[0]:
        return replace(made, reason=extra[1])
    return replace(
        made,
        label="supported",
        reason=f"{parts[0].name} is {_show(parts[0].estimate)}, p = {p:.3g}",
    )


def _judged(part: Part, controls: Sequence[Control], alpha: float, n_parts: int) -> PartVerdict:
    p, equivalence = _finite(part.p), _finite(part.p_equivalence)
    equivalence = None if equivalence is None else min(1.0, n_parts * equivalence)
    label, reason = _decide(replace(part, p=p, p_equivalence=equivalence), controls, alpha)
    return PartVerdict(name=part.name, label=label, reason=reason, p=p, p_equivalence=equivalence)


def _finite(p: float | None) -> float | None:
    return p if p is not None and math.isfinite(p) else None


def _p_of_refutation(said: Sequence[PartVerdict]) -> float | None:
    """Returns the equivalence p that decides: that of a refuted part, else the smallest."""
    refuted = [one for one in said if one.label == "refuted"] or said
    ps = [one.p_equivalence for one in refuted if one.p_equivalence is not None]
    return min(ps, default=None)


def _decide(part: Part, controls: Sequence[Control], alpha: float) -> tuple[Label, str]:
    estimate = part.estimate
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "inconclusive", f"{part.name} has no interval: {estimate.reason}"
    if estimate.high < part.sesoi:
        shown = f"{part.name} is {_show(estimate)}, under {part.sesoi:g}"
        above = estimate.low > part.chance
        if clause := denies_absence(controls):
            return "inconclusive", f"{shown}, but {clause}"
        if above:
            return "small", f"{shown} and above {part.chance:g}: there, but less than matters"
        if clause := _denies_refutation(part, controls, alpha):
            return "inconclusive", f"{shown}, but {clause}"
        return "refuted", f"{shown}, p of at least that = {part.p_equivalence:.3g}"
    clause = _denies_support(part, controls, alpha)
    if clause is not None:
        return "inconclusive", clause
    return "supported", f"{part.name} is {_show(estimate)}, p = {part.p:.3g}"


def denies_absence(controls: Sequence[Control]) -> str | None:
    """Returns which control forbids to say of an estimate that it is under the SESOI, or None.

    Example:
        >>> apart = Control(name="A/A: halves", kind="negative", passed=False, detail="")
        >>> denies_absence([apart])
        'halves of one text differ more than intervals allow (A/A: halves)'
    """
    wrong = [c for c in controls if c.passed is False and c.kind != "positive"]
    if halves := [c.name for c in wrong if c.name.startswith(HALVES_SIGN)]:
        return f"halves of one text differ more than intervals allow ({', '.join(halves)})"
    if changed := [c.name for c in wrong if c.kind == "invariance"]:
        return f"an invariance did not hold ({', '.join(changed)})"
    return None


def _denies_refutation(part: Part, controls: Sequence[Control], alpha: float) -> str | None:
    """Returns which further clause of a refutation is not met, or None."""
    if part.p_equivalence is None:
        return "no test rejects that it is at least that"
    if part.p_equivalence >= alpha:
        return f"that it is at least that has p = {part.p_equivalence:.3g}, not under {alpha:g}"
    for test, p in part.concurring.items():
        if not p < alpha:
            return f"the {test} does not reject that it is at least that, p = {p:.3g}"
    if missing := undetected(controls):
        return f"no positive control was detected ({missing})"
    for name, left in part.without.items():
        if left.value is None or left.high is None:
            return f"{name} there is no interval: {left.reason}"
        if left.high >= part.sesoi:
            return f"{name} it is {_show(left)}, which reaches {part.sesoi:g}"
    return None


def _denies_support(part: Part, controls: Sequence[Control], alpha: float) -> str | None:
    """Returns which clause of support is not met, or None."""
    estimate = part.estimate
    assert estimate.value is not None and estimate.low is not None
    if estimate.value < part.sesoi or estimate.low <= part.chance:
        return (
            f"{part.name} is {_show(estimate)}: neither clearly above {part.chance:g} and at least "
            f"{part.sesoi:g}, nor clearly under it"
        )
    if part.p_minimum >= alpha:
        return f"design cannot reach α: the smallest p of {part.name} is {part.p_minimum:.3g}"
    if part.p is None or part.p >= alpha:
        return f"p = {'none' if part.p is None else f'{part.p:.3g}'}, not under {alpha:g}"
    if failed := [c.name for c in controls if c.kind != "positive" and c.passed is False]:
        return f"a control failed: {', '.join(failed)}"
    if unknown := [c.name for c in controls if c.kind == "negative" and c.passed is None]:
        return f"a negative control was not run: {', '.join(unknown)}"
    positive = [c for c in controls if c.kind == "positive"]
    others = [c for c in positive if not c.name.startswith(PLANTED_SIGN)]
    if missing := undetected(others or positive):
        return f"no positive control was detected ({missing})"
    for name, left in part.without.items() if part.over_blocks else ():
        shown = f"{part.name} is {_show(estimate)}, but {name}"
        if left.value is None or left.low is None:
            return f"{shown} there is no interval: {left.reason}"
        if left.value < part.sesoi or left.low <= part.chance:
            needed = f"not at least {part.sesoi:g} and clearly above {part.chance:g}"
            return f"{shown} it is {_show(left)}, {needed}"
    return None


def undetected(controls: Sequence[Control]) -> str | None:
    """Returns which positive controls were not detected, or that there is none, or None.

    Example:
        >>> undetected([])
        'none was run'
    """
    positive = [c for c in controls if c.kind == "positive"]
    missed = [c.name for c in positive if c.passed is not True]
    return ", ".join(missed) if missed else None if positive else "none was run"


def _show(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def scoped(finding: Finding, about: str) -> Finding:
    """Returns a finding on one model whose verdict and sentence say what was looked at.

    Every sentence that leaves the tool passes here or, over families, through
    :func:`scoped_sentence` itself. A finding that has its scope stays as it is.

    Args:
        finding: On one model.
        about: Such as ``reference, 12 blocks, bundled text, 32 sentences``.

    Example:
        >>> scoped(FINDING, "toy, 2 blocks").verdict.scope
        'this model: toy, 2 blocks'
        >>> scoped(FINDING, "toy, 2 blocks").sentence.partition(":")[0]
        'In this model (toy, 2 blocks)'
    """
    verdict = finding.verdict
    if about and verdict.scope == THIS_MODEL:
        verdict = replace(verdict, scope=f"{THIS_MODEL}: {about}")
    sentence = scoped_sentence(finding.sentence, f"{THIS_MODEL} ({about})" if about else "")
    return replace(finding, verdict=verdict, sentence=sentence)


def scoped_sentence(sentence: str, where: str) -> str:
    """Returns a sentence behind the words that say of what it speaks, once.

    Example:
        >>> scoped_sentence("Nothing was found.", "7 models")
        'In 7 models: Nothing was found.'
        >>> scoped_sentence("In 7 models: Nothing was found.", "7 models")
        'In 7 models: Nothing was found.'
    """
    head = f"In {where}: "
    return sentence if not (where and sentence) or sentence.startswith(head) else head + sentence


def on_one_model(scope: str) -> bool:
    """Returns whether a scope is that of one model.

    Example:
        >>> on_one_model("this model: reference, 12 blocks"), on_one_model("7 families")
        (True, False)
    """
    return scope.partition(":")[0] == THIS_MODEL


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
    """Returns findings with Holm-adjusted p over those that have one, and equivalence p likewise.

    Support and refutation are two families of tests: one of "nothing is there", the other of "at
    least the SESOI is there", and no hypothesis can err in both. Exploratory hypotheses are no
    members of either: they neither get an adjusted p nor cost the others anything, and what is said
    of them is at their own p.

    A finding that was supported or refuted at its unadjusted p and is not at the adjusted one
    becomes inconclusive, and says so; a design that even at its smallest p could not have been
    supported says that too. A part loses its label likewise.

    Example:
        >>> both = [FINDING, replace(FINDING, hypothesis="H2.2")]
        >>> with_holm(both, 0.05)[0].verdict.reason
        'p after Holm is 0.06, not under 0.05'
    """
    # By position: one experiment may have several findings, and each is a test.
    members = {str(i): f.verdict for i, f in enumerate(findings) if f.hypothesis not in exploratory}
    ps = {i: v.p for i, v in members.items() if v.p is not None}
    equivalence = {i: v.p_equivalence for i, v in members.items() if v.p_equivalence is not None}
    adjusted, adjusted_equivalence = holm(ps), holm(equivalence)
    out = list[Finding]()
    for i, finding in enumerate(findings):
        me, verdict = str(i), finding.verdict
        if me not in members:
            out.append(finding)
            continue
        verdict = replace(
            verdict,
            p_holm=adjusted.get(me),
            p_equivalence_holm=adjusted_equivalence.get(me),
            parts=tuple(_part_after_holm(one, me, ps, equivalence, alpha) for one in verdict.parts),
        )
        if verdict.label == "supported" and not _under(verdict.p_holm, alpha):
            why = _not_under("p after Holm", verdict.p_holm, alpha)
            least = verdict.p_minimum
            if least is not None and holm({**ps, me: least})[me] >= alpha:
                why += f"; the design cannot reach α here: its smallest p is {least:.3g}"
            verdict = replace(verdict, label="inconclusive", reason=why)
        elif verdict.label == "refuted" and not _under(verdict.p_equivalence_holm, alpha):
            why = _not_under("the p of equivalence after Holm", verdict.p_equivalence_holm, alpha)
            verdict = replace(verdict, label="inconclusive", reason=f"{verdict.reason}; {why}")
        out.append(replace(finding, verdict=verdict))
    return out


def _part_after_holm(
    part: PartVerdict,
    me: str,
    ps: Mapping[str, float],
    equivalence: Mapping[str, float],
    alpha: float,
) -> PartVerdict:
    """Returns a part with the label that its own p still carries in its hypothesis' place."""
    for label, p, others, told in (
        ("supported", part.p, ps, "p after Holm"),
        ("refuted", part.p_equivalence, equivalence, "the p of equivalence after Holm"),
    ):
        if part.label == label:
            adjusted = None if p is None else holm({**others, me: p})[me]
            if not _under(adjusted, alpha):
                why = _not_under(told, adjusted, alpha)
                return replace(part, label="inconclusive", reason=f"{part.reason}; {why}")
    return part


def _under(p: float | None, alpha: float) -> bool:
    return p is not None and p < alpha


def _not_under(what: str, p: float | None, alpha: float) -> str:
    return f"{what} is {'none' if p is None else f'{p:.3g}'}, not under {alpha:g}"
