"""Effects of protected sets: a gap by sentence, the p of an effect on few, and the origin's ratios.

Also the controls that such effects share: what was planted, and what a twin shows. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    absent,
    clear,
    detection,
    must_agree,
    must_not_show,
    not_run,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations, Units
from bitgap.stats.bootstrap import bootstrap_p, bootstrap_p_equivalence, n_units
from bitgap.stats.verdicts import Thresholds

LARGEST_PLANT = 1.25
"""How many times what was asked for a plant may be: found, a larger one would say too little."""


def gap_per_sentence(nll: Floats, displayed: Bools, reference: int) -> Floats | None:
    """Returns the mean over other languages less the reference, of (P x A x N), (P x N).

    None where the reference or every other language is left out.

    Args:
        nll: Negative log-likelihood or its increase, (P x A x N).
        displayed: Languages that enter, (A).
        reference: Row of the reference.
    """
    others = displayed.copy()
    others[reference] = False
    if not (displayed[reference] and others.any()):
        return None
    return nll[:, others].mean(1) - nll[:, reference]


def bounded_p(draws: Floats, units: Units) -> tuple[float, float]:
    """Returns the bootstrap p of "above 0" and the smallest it can be.

    N sentences without an effect agree in its sign by chance once in 2^N, and then no resample of
    them disagrees; so no p is under that. Sentences of one document count as one.

    Args:
        draws: The statistic on resampled texts, (B).
        units: N, or each sentence's document, (N): what was resampled.
    """
    smallest = max(1 / (1 + len(draws)), 0.5 ** n_units(units))
    return max(bootstrap_p(draws), smallest), smallest


def bounded_p_equivalence(draws: Floats, sesoi: float, units: Units) -> float:
    """Returns the bootstrap p of "at least the SESOI", bounded as :func:`bounded_p`.

    Args:
        draws: The statistic on resampled texts, (B).
        sesoi: Smallest effect of interest.
        units: N, or each sentence's document, (N): what was resampled.
    """
    return max(bootstrap_p_equivalence(draws, sesoi), 0.5 ** n_units(units))


def planted(name: str, found: Sequence[Estimate], sesoi: float, thresholds: Thresholds) -> Control:
    """Returns the positive control of an effect planted at so many times its SESOI.

    Each planting is found where its effect would pass: at least the SESOI, and its interval above
    0. The plant is in the judged statistic itself, so how large it came out is seen and told; one
    that is much larger than declared would be found by a design that finds nothing smaller, and
    counts as not run.

    Args:
        name: What was planted.
        found: The judged statistic of every planting, with its interval.
        sesoi: Its smallest effect of interest.
        thresholds: With the declared strength and the share that must be found.
    """
    values = [e.value for e in found if e.value is not None]
    if not values:
        return not_run(name, "positive", "the statistic is undefined where the effect was planted")
    times = float(np.median(values)) / sesoi
    sought = f"planted at {times:.1f} smallest effects of interest, it should be clear"
    if times > LARGEST_PLANT * thresholds.planted_strength:
        most = f"{thresholds.planted_strength:g} were to be planted, and more would say too little"
        return not_run(
            name, "positive", f"{times:.1f} smallest effects of interest stand where {most}"
        )
    return detection(name, [clear(e, sesoi) for e in found], sought, thresholds)


def twin_control(
    observations: Observations,
    twin: str,
    name: str,
    estimate_of: Callable[[Mapping[str, Any]], Estimate],
    *,
    theta: Estimate | None = None,
    sesoi: float,
    detail: str,
) -> Control:
    """Returns the control that a twin must pass on the scale of the judged statistic.

    Args:
        observations: With arrays ``<twin>_…``, or the fact ``no_<twin>``.
        twin: Such as ``random``.
        name: Of the control.
        estimate_of: From the arrays to the judged statistic of the twin.
        theta: The model's own where the twin must show the effect exactly where the model does;
            None where it must not show it.
        sesoi: Smallest effect of interest.
        detail: What should be so.
    """
    if not any(key.startswith(f"{twin}_") for key in observations.arrays):
        return not_run(name, "negative", absent(observations.facts, twin))
    effect = estimate_of(observations.arrays)
    if theta is None:
        return must_not_show(name, effect, sesoi, detail)
    return must_agree(name, effect, theta, sesoi, detail)


def control_units(observations: Observations, n: int) -> Units:
    """Returns what is resampled of the few sentences that controls are run on.

    Args:
        observations: With ``control_documents``, (N'), where documents are known.
        n: How many sentences they are, N'.
    """
    return observations.arrays.get("control_documents", n)


def original_ratios(values: Mapping[str, float]) -> dict[str, Estimate]:
    """Returns the original study's ratios of perplexity increases by name, without intervals."""
    unit = "mean ratio of relative perplexity increases"
    return {name: original_estimate(value, unit) for name, value in values.items()}


def original_estimate(value: float, unit: str) -> Estimate:
    """Returns a number as the original study gave it, None where its ratio is undefined."""
    if np.isfinite(value):
        return Estimate(value=float(value), unit=unit, reason="the origin gave no uncertainty")
    return Estimate(value=None, unit=unit, reason="the reference's increase is not above 0")
