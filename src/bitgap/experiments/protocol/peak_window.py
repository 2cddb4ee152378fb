"""Does a profile peak in the declared window of depth? The verdict that such hypotheses share.

A profile over the L blocks is bootstrapped and located (:func:`bitgap.stats.profiles.locate_peak`);
where the profile's *minimum* is asked for, its negative is located. The rule is then one for all:

* **not testable**: a gate failed, or no block lies in the window.
* **refuted**: the interval of the peak's place lies wholly outside the window, also without any one
  block; the share of draws that peak inside it is under α after Holm; the A/A control and
  invariances did not fail; and planted peaks were found.
* **supported**: the modal peak and its whole interval lie inside the window, p = the window's share
  of blocks (the chance that a profile with nothing to it peaks there) is under α, negative controls
  are null and were run, invariances held where they could be tried, planted peaks were found.
* **inconclusive**: otherwise, naming the clause that failed.

One model's p is the window's share of its blocks, so one model of common depth cannot support.
Where a hypothesis asserts more than a peak (intersection–union), the engine's verdict on its other
parts is handed in as ``also``; each part then also has its own label. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bitgap.records import Control, Estimate, PartVerdict, Verdict
from bitgap.stats.profiles import Peak, in_window, window_share
from bitgap.stats.verdicts import THIS_MODEL, Thresholds, denies_absence, undetected

_SLACK = 1e-9


def empty_window(n_blocks: int, window: tuple[float, float]) -> str | None:
    """Returns why no block can be hit, for a gate, or None.

    Args:
        n_blocks: L.
        window: Relative depths that count.
    """
    if window_share(n_blocks, window) > 0:
        return None
    return f"none of {n_blocks} blocks lies at r in [{window[0]}, {window[1]}]"


def nothing_to_locate(
    height: Estimate, p_best: float, alpha: float, *, what: str, above: str
) -> str | None:
    """Returns why there is no peak, by a test of the best of L blocks, or None.

    Args:
        height: How far the profile's best block rises above ``above``.
        p_best: Of "nothing is at the best block" (:mod:`bitgap.stats.best_block`).
        alpha: Level that p must fall under.
        what: What is profiled, such as ``d′``.
        above: What it rises above, such as ``the embedding's``.
    """
    if p_best < alpha:
        return None
    assert height.value is not None and height.low is not None
    return (
        f"nothing to locate: the best block's {what} is {height.value:+.3f} "
        f"[{height.low:+.3f}, {height.high:+.3f}] above {above}, and the best of as many blocks "
        f"is as good without anything there with p = {p_best:.2g}"
    )


def is_hit(peak: Peak, window: tuple[float, float]) -> bool:
    """Returns whether the modal peak lies in the window, ends included."""
    return bool(in_window(np.array(peak.place.value), window))


def must_stay(name: str, peak: Peak, other: Peak, detail: str) -> Control:
    """Returns the invariance under which the peak stays: both places' intervals overlap."""
    a, b = peak.place, other.place
    assert a.low is not None and a.high is not None and b.low is not None and b.high is not None
    passed = a.low <= b.high + _SLACK and b.low <= a.high + _SLACK
    return Control(name=name, kind="invariance", passed=passed, detail=detail, estimate=b)


def judge_window(
    peak: Peak,
    n_blocks: int,
    checks: Sequence[Control],
    thresholds: Thresholds,
    *,
    hypothesis: str,
    gate: str | None = None,
    what: str = "peak",
    also: Verdict | None = None,
) -> Verdict:
    """Returns the verdict on "the profile peaks in the window".

    Args:
        peak: Where the profile peaks, with the interval of its place.
        n_blocks: L.
        checks: The controls.
        thresholds: With window and α.
        hypothesis: Whose SESOI is stamped, such as ``H3.3``.
        gate: Why there is nothing to locate, or None; that no block lies in the window is seen
            here.
        what: What is located, for the reason: ``peak``, or ``minimum``.
        also: The engine's verdict on further parts that the hypothesis asserts too. It must be
            supported for support, p is the larger one, and one refuted side refutes: as either
            may, each is tested at α over the number of parts.
    """
    gate = empty_window(n_blocks, thresholds.window) or gate
    share, theirs = window_share(n_blocks, thresholds.window), _parts(also)
    verdict = Verdict(
        label="inconclusive",
        scope=THIS_MODEL,
        reason="",
        sesoi=thresholds.of(hypothesis)["sesoi"],
        p=_p(peak, share, thresholds, also),
        p_minimum=max(share, (also.p_minimum if also else None) or 0.0),
    )
    if gate:
        return replace(verdict, label="not testable", reason=gate, p=None)
    if also is not None and also.label == "not testable":
        return replace(verdict, label="not testable", reason=also.reason, p=None)
    n_parts = 1 + len(theirs)
    own = _judged(peak, share, checks, thresholds, what, n_parts)
    theirs = [_at_more_parts(one, n_parts, len(theirs), thresholds.alpha) for one in theirs]
    parts = [own, *theirs]
    refuted = [one for one in parts if one.label == "refuted"]
    ps = [one.p_equivalence for one in refuted or parts if one.p_equivalence is not None]
    verdict = replace(
        verdict, p_equivalence=min(ps, default=None), parts=tuple(parts) if theirs else ()
    )
    if refuted:
        return replace(verdict, label="refuted", reason=refuted[0].reason)
    for label in ("small", "inconclusive"):
        for one in parts:
            if one.label == label:
                head = own.reason.partition(", p =")[0]
                reason = one.reason if one is own else f"{head}, but {one.reason}"
                return replace(verdict, label=label, reason=reason)
    if also is not None and also.label != "supported":  # by a condition of the whole
        return replace(verdict, reason=f"{own.reason}, but {also.reason}")
    reason = own.reason + (f"; {also.reason}" if also else "")
    return replace(verdict, label="supported", reason=reason)


def _parts(also: Verdict | None) -> list[PartVerdict]:
    """Returns the further parts with p of equivalence as if each were the only one."""
    if also is None:
        return []
    if also.parts:
        return list(also.parts)
    label = also.label
    one = PartVerdict(
        name="further claims", label=label, reason=also.reason, p=also.p,
        p_equivalence=also.p_equivalence,
    )  # fmt: skip
    return [one]


def _at_more_parts(part: PartVerdict, n: int, before: int, alpha: float) -> PartVerdict:
    """Returns a part of so many, whose p of equivalence was multiplied by fewer before."""
    if part.p_equivalence is None:
        return part
    p = min(1.0, part.p_equivalence * n / before)
    part = replace(part, p_equivalence=p)
    if part.label == "refuted" and p >= alpha:
        why = f"as one of {n} parts its p of equivalence is {p:.3g}, not under {alpha:g}"
        return replace(part, label="inconclusive", reason=f"{part.reason}, but {why}")
    return part


def _judged(
    peak: Peak,
    share: float,
    checks: Sequence[Control],
    thresholds: Thresholds,
    what: str,
    n_parts: int,
) -> PartVerdict:
    """Returns what is said of the peak alone."""
    window, place = thresholds.window, peak.place
    assert place.value is not None and place.low is not None and place.high is not None
    inside = peak.p_inside(window)
    equivalence = None if inside is None else min(1.0, n_parts * inside)
    made = PartVerdict(
        name=f"the {what} lies in the window",
        label="inconclusive",
        reason="",
        p=share if is_hit(peak, window) else 1.0,
        p_equivalence=equivalence,
    )
    where = f"the {what} is at r = {place.value:.2f} [{place.low:.2f}, {place.high:.2f}]"
    if _outside(place, window):
        where = f"{where}, wholly outside [{window[0]}, {window[1]}]"
        if clause := _denied(peak, equivalence, checks, thresholds):
            return replace(made, reason=f"{where}, but {clause}")
        return replace(made, label="refuted", reason=f"{where}, and planted effects were found")
    missed = undetected(checks)
    if clause := _failing(peak, share, checks, missed, thresholds):
        return replace(made, reason=f"{where}{clause}")
    return replace(made, label="supported", reason=f"{where}, inside the window, p = {made.p:.3g}")


def _denied(
    peak: Peak, equivalence: float | None, checks: Sequence[Control], thresholds: Thresholds
) -> str | None:
    """Returns which guard of a refutation does not hold, or None."""
    if clause := denies_absence(checks):
        return clause
    if equivalence is None:
        return "no test rejects that it lies inside"
    if equivalence >= thresholds.alpha:
        return f"that it lies inside has p = {equivalence:.3g}, not under {thresholds.alpha:g}"
    if missed := undetected(checks):
        return f"planted effects were missed: {missed}"
    for name, left in peak.without.items():
        if left.low is None or left.high is None:
            return f"{name} it has no interval: {left.reason}"
        if not _outside(left, thresholds.window):
            return f"{name} it is at r = {left.value:.2f} [{left.low:.2f}, {left.high:.2f}]"
    return None


def _outside(place: Estimate, window: tuple[float, float]) -> bool:
    """Returns whether the interval of a place lies wholly outside the window."""
    assert place.low is not None and place.high is not None
    return place.high < window[0] - _SLACK or place.low > window[1] + _SLACK


def told_without(peak: Peak) -> dict[str, dict[str, Any]]:
    """Returns where the peak is without each block, JSON-ready: the finding's table ``without``,
    by which families are pooled without each block.
    """
    return {name: asdict(place) for name, place in peak.without.items()}


def read_without(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    """Returns what :func:`told_without` told."""
    return {name: Estimate(**place) for name, place in table.items()}


def _p(peak: Peak, share: float, thresholds: Thresholds, also: Verdict | None) -> float | None:
    own = share if is_hit(peak, thresholds.window) else 1.0
    if also is None:
        return own
    return None if also.p is None else max(own, also.p)


def _failing(
    peak: Peak,
    share: float,
    checks: Sequence[Control],
    missed: str | None,
    thresholds: Thresholds,
) -> str | None:
    """Returns the first clause of support that fails, as the end of a sentence, or None."""
    if not is_hit(peak, thresholds.window):
        return ": not in the window, which its interval still touches"
    if not in_window(np.array([peak.place.low, peak.place.high]), thresholds.window).all():
        return ": in the window, but its interval reaches outside"
    if share >= thresholds.alpha:
        return (
            f", inside the window, but one model cannot reach α: {share:.0%} of its blocks lie "
            f"there, so p = {share:.3g} at best"
        )
    if failed := [c.name for c in checks if c.kind != "positive" and c.passed is False]:
        return f", inside the window, but a control failed: {', '.join(failed)}"
    if unknown := [c.name for c in checks if c.kind == "negative" and c.passed is None]:
        return f", inside the window, but a control was not run: {', '.join(unknown)}"
    return f", inside the window, but planted effects were missed: {missed}" if missed else None
