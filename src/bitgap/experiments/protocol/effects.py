"""Effects of protected sets: a gap by sentence, the p of an effect on few, and the origin's ratios.

No torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitgap.records import Bools, Estimate, Floats
from bitgap.stats.bootstrap import bootstrap_p


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


def bounded_p(draws: Floats, n_sentences: int) -> tuple[float, float]:
    """Returns the bootstrap p of "above 0" and the smallest it can be.

    N sentences without an effect agree in its sign by chance once in 2^N, and then no resample of
    them disagrees; so no p is under that.

    Args:
        draws: The statistic on resampled texts, (B).
        n_sentences: N.
    """
    smallest = max(1 / (1 + len(draws)), 0.5**n_sentences)
    return max(bootstrap_p(draws), smallest), smallest


def original_ratios(values: Mapping[str, float]) -> dict[str, Estimate]:
    """Returns the original study's ratios of perplexity increases by name, without intervals."""
    unit = "mean ratio of relative perplexity increases"
    return {name: original_estimate(value, unit) for name, value in values.items()}


def original_estimate(value: float, unit: str) -> Estimate:
    """Returns a number as the original study gave it, None where its ratio is undefined."""
    if np.isfinite(value):
        return Estimate(value=float(value), unit=unit, reason="the origin gave no uncertainty")
    return Estimate(value=None, unit=unit, reason="the reference's increase is not above 0")
