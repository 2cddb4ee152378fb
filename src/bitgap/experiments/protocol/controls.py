"""Controls that several experiments share, judged from stored numbers. Pure numpy.

A control must be able to fail. Detection is judged over many plantings, since one may be lucky: a
positive control that is found less often than declared leaves an experiment unable to refute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from bitgap.records import Bools, Control, ControlKind, Estimate, Floats, Scores, Units
from bitgap.stats.bootstrap import estimates, n_units, spread_over
from bitgap.stats.verdicts import PLANTED_SIGN, Thresholds

PLANTED_LANGUAGES = 3
"""Languages that effects are planted for: a planted error does not ask which one it is in."""

RANDOM_TWIN = "random-init twin"
"""Name of the control on fresh weights as the model's class draws them."""

HALVES = "A/A: random halves of the reference's text"
"""Name of the control that guards every refutation, as all names that begin with A/A."""

IN_PROFILES = PLANTED_SIGN
"""How the name of a correlation planted in one model's profiles begins. Over families, one planted
in all of them at once takes its place."""

STRETCHES = 16
"""Most stretches of text that random halves are made of."""

LEAST_UNITS = 8
"""Fewest sentences or documents that halves can be made of."""


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
    """Returns the A/A control: random halves of the reference's text as two languages.

    Halves of one text differ by chance only, so about one interval in twenty may leave out 0; if
    significantly more do, intervals over this text are too short (see :func:`halves_agree`).

    Args:
        scores: Of the plan.
        plan: Row of the plan.
        eligible: Languages that may enter the verdict, (A).
        thresholds: With halves, draws and level.
    """
    row = scores.languages.index(scores.reference)
    if not eligible[row]:
        return not_run(HALVES, "negative", f"{scores.reference} may not enter the verdict")
    kl, characters = scores.kl_nats[plan, row], scores.counts.characters[row]

    def ratio(weights: Floats, half: Floats) -> Floats:
        def rate(chosen: Floats) -> Floats:
            length = weights @ (characters[:, None] * chosen)
            return weights @ (kl[:, None] * chosen) / np.where(length > 0, length, np.nan)

        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log2(rate(half)) - np.log2(rate(1 - half))
        return np.where(np.isfinite(logs), logs, np.nan)

    return halves_agree(ratio, scores.units, thresholds, unit="log2 ratio of damages")


def random_halves(units: Units, times: int) -> tuple[Floats, int]:
    """Returns random halves of a text, (N x times) of 0 and 1, and of how many stretches each is.

    A half is made of whole stretches of adjacent documents or sentences, at most
    :data:`STRETCHES` in all. Were single sentences of a long text thrown into halves, whatever
    neighbours share would be thrown into both, and intervals that know nothing of it would pass;
    a text too short for stretches of two is all the same divided by its sentences.

    Args:
        units: Number of sentences, or each sentence's document, (N).
        times: How many halves.
    """
    n, rng = n_units(units), np.random.default_rng(0)
    stretches = n if n < STRETCHES else min(STRETCHES, n // 2)
    of_unit = np.arange(n) * stretches // max(n, 1)
    drawn = np.array([rng.permutation(stretches) < stretches // 2 for _ in range(times)])
    chosen = drawn[:, of_unit].astype(np.float64)
    return spread_over(units, chosen).T, stretches


def most_halves(stretches: int, thresholds: Thresholds) -> int:
    """Returns how many random halves may differ where sentences are independent.

    Halves of one text are not independent: all are made of the same stretches, whose spread is one
    draw of a χ² with a degree of freedom less than there are stretches. An interval at level c
    leaves out 0 where that spread, R of what is expected, carries a half beyond the quantile z of
    c: in 2Φ(−z/√R) of the halves. The bound is the binomial upper limit at the R that chance
    exceeds with probability α. In simulations (sentences, documents and clusters; normal to
    exponential damage; ``tests/experiments/test_halves.py``) it raises a false alarm in at most
    5 %, and it finds neighbours that share half of their variance.

    Args:
        stretches: Which the halves are made of.
        thresholds: With halves, level and α.
    """
    dof = max(stretches - 1, 1)
    spread = stats.chi2.isf(thresholds.alpha, dof) / dof
    z = stats.norm.isf((1 - thresholds.level) / 2)
    share = 2 * stats.norm.sf(z / np.sqrt(spread))
    return int(stats.binom.isf(thresholds.alpha, thresholds.halves, share))


def halves_agree(
    difference: Callable[[Floats, Floats], Floats],
    units: Units,
    thresholds: Thresholds,
    *,
    unit: str,
    name: str = "",
) -> Control:
    """Returns the A/A control over random halves of a text, of any difference between two halves.

    Args:
        difference: From weights (W x N) and halves (N x K; 1 in the half, 0 in the other) to how
            much the halves differ, (W x K); NaN where undefined.
        units: Number of sentences, or each sentence's document, (N): what is resampled.
        thresholds: With halves, draws, level and α.
        unit: Of the difference.
        name: Of the control; :data:`HALVES` where none is given.
    """
    name, n = name or HALVES, n_units(units)
    if n < LEAST_UNITS:
        why = f"{n} sentences or documents make no halves; {LEAST_UNITS} are needed"
        return not_run(name, "negative", why)
    chosen, stretches = random_halves(units, thresholds.halves)
    # Each half has half of the units, and its interval is expanded for as many.
    found = estimates(
        lambda weights: difference(weights, chosen),
        units,
        unit=unit,
        as_of=n // 2,
        **thresholds.how,
    )
    told = [e for e in found if e.low is not None and e.high is not None]
    if len(told) < len(found) / 2:
        why = next(str(e.reason) for e in found if e.low is None)
        return not_run(name, "negative", f"most halves have no interval: {why}")
    differ = sum(
        not (e.low <= 0 <= e.high) for e in told if e.low is not None and e.high is not None
    )
    most = most_halves(stretches, thresholds) * len(told) // thresholds.halves
    return Control(
        name=name,
        kind="negative",
        passed=differ <= most,
        detail=f"{differ} of {len(told)} random halves differ; at most {most} should",
    )


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
