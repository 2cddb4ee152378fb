"""Does a profile peak in the declared window of depth? The verdict that such hypotheses share.

A profile over the L blocks is bootstrapped and located (:func:`bitgap.stats.profiles.locate_peak`);
where the profile's *minimum* is asked for, its negative is located. The rule is then one for all:

* **not testable**: a gate failed, or no block lies in the window.
* **refuted**: the interval of the peak's place lies wholly outside the window, and planted peaks
  were found.
* **supported**: the modal peak and its whole interval lie inside the window, p = the window's share
  of blocks (the chance that a profile with nothing to it peaks there) is under α, negative controls
  are null and were run, invariances held where they could be tried, planted peaks were found.
* **inconclusive**: otherwise, naming the clause that failed.

One model's p is the window's share of its blocks, so one model of common depth cannot support.
Where a hypothesis asserts more than a peak (intersection–union), the engine's verdict on its other
parts is handed in as ``also``. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitgap.records import Control, Verdict
from bitgap.stats.profiles import Peak, in_window, window_share
from bitgap.stats.verdicts import THIS_MODEL, Thresholds

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
            supported for support, p is the larger one, and one refuted side refutes.
    """
    gate = empty_window(n_blocks, thresholds.window) or gate
    share = window_share(n_blocks, thresholds.window)
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
    window, place = thresholds.window, peak.place
    assert place.value is not None and place.low is not None and place.high is not None
    where = f"the {what} is at r = {place.value:.2f} [{place.low:.2f}, {place.high:.2f}]"
    missed = _missed(checks)
    if place.high < window[0] - _SLACK or place.low > window[1] + _SLACK:
        where = f"{where}, wholly outside [{window[0]}, {window[1]}]"
        if missed:
            return replace(verdict, reason=f"{where}, but planted effects were missed: {missed}")
        return replace(verdict, label="refuted", reason=f"{where}, and planted effects were found")
    if also is not None and also.label == "refuted":
        return replace(verdict, label="refuted", reason=also.reason)
    if clause := _failing(peak, share, checks, missed, thresholds):
        return replace(verdict, reason=f"{where}{clause}")
    if also is not None and also.label != "supported":
        return replace(verdict, reason=f"{where}, inside the window, but {also.reason}")
    reason = f"{where}, inside the window, p = {verdict.p:.3g}"
    return replace(verdict, label="supported", reason=reason + (f"; {also.reason}" if also else ""))


def _p(peak: Peak, share: float, thresholds: Thresholds, also: Verdict | None) -> float | None:
    own = share if is_hit(peak, thresholds.window) else 1.0
    if also is None:
        return own
    return None if also.p is None else max(own, also.p)


def _missed(checks: Sequence[Control]) -> str | None:
    """Returns which positive control was not detected, or that there is none, or None."""
    positive = [c for c in checks if c.kind == "positive"]
    missed = [c.name for c in positive if c.passed is not True]
    return ", ".join(missed) if missed else None if positive else "none was run"


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
