"""Controls that several experiments share, judged from stored numbers. Pure numpy.

A control must be able to fail. Detection is judged over many plantings, since one may be lucky: a
positive control that is found less often than declared leaves an experiment unable to refute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.records import Bools, Control, ControlKind, Estimate, Floats, Scores
from bitgap.stats.bootstrap import estimate
from bitgap.stats.verdicts import Thresholds

PLANTED_LANGUAGES = 3
"""Languages that effects are planted for: a planted error does not ask which one it is in."""

RANDOM_TWIN = "random-init twin"
"""Name of the control on fresh weights as the model's class draws them."""


def not_run(name: str, kind: ControlKind, why: str) -> Control:
    """Returns a control that could not be run, and why."""
    return Control(name=name, kind=kind, passed=None, detail=why)


def detection(
    name: str, detected: Sequence[bool] | Bools, sought: str, thresholds: Thresholds
) -> Control:
    """Returns the positive control of an effect that was planted several times.

    Args:
        name: What was planted.
        detected: Whether it was found, for each planting.
        sought: What counts as found, for the detail.
        thresholds: With the share that must be found.
    """
    n, hits = len(detected), int(np.sum(detected))
    passed = n > 0 and hits >= thresholds.detection_share * n
    detail = f"{sought}: in {hits} of {n} plantings, {thresholds.detection_share:.0%} needed"
    return Control(name=name, kind="positive", passed=passed, detail=detail)


def clear(estimate: Estimate, sesoi: float) -> bool:
    """Returns whether an estimate would pass as an effect: at least the SESOI, interval above 0."""
    value, low = estimate.value, estimate.low
    return value is not None and low is not None and value >= sesoi and low > 0


def must_not_show(name: str, effect: Estimate, sesoi: float, detail: str) -> Control:
    """Returns the negative control in which the effect may not be clear, such as a twin's."""
    passed = not clear(effect, sesoi)
    return Control(name=name, kind="negative", passed=passed, detail=detail, estimate=effect)


def must_exceed(name: str, surplus: Estimate, detail: str) -> Control:
    """Returns the negative control in which the effect must clearly exceed a rival's.

    Args:
        name: What the rival is.
        surplus: The effect less the rival's.
        detail: What should be so.
    """
    passed = surplus.low is not None and surplus.low > 0
    return Control(name=name, kind="negative", passed=passed, detail=detail, estimate=surplus)


def must_agree(name: str, effect: Estimate, theta: Estimate, sesoi: float, detail: str) -> Control:
    """Returns the negative control whose effect is clear exactly where the experiment's own is."""
    passed = clear(effect, sesoi) == clear(theta, sesoi)
    return Control(name=name, kind="negative", passed=passed, detail=detail, estimate=effect)


def labels_permuted(passed: bool, detail: str) -> Control:
    """Returns the invariance under :func:`with_labels_permuted`."""
    return Control(name="language labels permuted", kind="invariance", passed=passed, detail=detail)


def with_labels_permuted(values: Floats, languages: Bools) -> Floats:
    """Returns values (P x A x N) with some languages' names shuffled within every sentence."""
    rng, rows, shuffled = np.random.default_rng(0), np.flatnonzero(languages), values.copy()
    for sentence in range(values.shape[-1]):
        shuffled[:, rows, sentence] = values[:, rng.permutation(rows), sentence]
    return shuffled


def halves(scores: Scores, plan: int, eligible: Bools, thresholds: Thresholds) -> Control:
    """Returns the A/A control: two halves of the reference's sentences as two languages.

    Their log2 damage ratio must cover 0, or intervals over sentences are not to be trusted.

    Args:
        scores: Of the plan.
        plan: Row of the plan.
        eligible: Languages that may enter the verdict, (A).
        thresholds: With draws and level.
    """
    name, row = "A/A: two halves of the reference's text", scores.languages.index(scores.reference)
    if not eligible[row]:
        return not_run(name, "negative", f"{scores.reference} may not enter the verdict")
    if scores.n_sentences < 4:
        return not_run(name, "negative", f"{scores.n_sentences} sentences make no two halves")
    kl, characters = scores.kl_nats[plan, row], scores.counts.characters[row]
    first = np.arange(scores.n_sentences) % 2 == 0

    def ratio(weights: Floats) -> Floats:
        def rate(half: Bools) -> Floats:
            length = weights[:, half] @ characters[half]
            return weights[:, half] @ kl[half] / np.where(length > 0, length, np.nan)

        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log2(rate(first)) - np.log2(rate(~first))
        return np.where(np.isfinite(logs), logs, np.nan)

    difference = estimate(ratio, scores.n_sentences, unit="log2 ratio", **thresholds.how)
    return covers_zero(name, difference, "the log2 ratio of their damages should cover 0")


def covers_zero(name: str, difference: Estimate, detail: str) -> Control:
    """Returns the control of two halves that have one truth: their difference must cover 0."""
    if difference.low is None or difference.high is None:
        return not_run(name, "negative", f"no interval: {difference.reason}")
    return Control(
        name=name,
        kind="negative",
        passed=difference.low <= 0 <= difference.high,
        detail=detail,
        estimate=difference,
    )


def absent(facts: Mapping[str, Any], twin: str) -> str:
    """Returns why a twin's numbers are not there."""
    return str(facts.get(f"no_{twin}", f"the {twin} twin was not measured"))
