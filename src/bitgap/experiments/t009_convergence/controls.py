"""The profile of T-009, and the controls that could make its peak worthless. Pure numpy.

================  ================================================  ==============================
shuffled pairing  every sentence is given a wrong partner           must be found at chance
random            fresh weights as the class draws them             must add less to its embedding
other scripts     languages in the reference's script left out      the peak must stay
pulled together   parallel sentences moved to their mean (P5)       that block must be the peak
================  ================================================  ==============================
"""

from __future__ import annotations

from collections.abc import Mapping

from bitgap.experiments.protocol.controls import RANDOM_TWIN, detection, not_run
from bitgap.experiments.protocol.peak_window import must_stay
from bitgap.records import Control, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds


def peak_of(values: Floats, thresholds: Thresholds) -> tuple[Peak, Floats, Floats]:
    """Returns where the profile over blocks peaks, the profile (L), and its draws (B x L).

    Args:
        values: By sentence, (L+1 x A−1 x n); averaged over languages, the embedding subtracted.
        thresholds: With draws and level.
    """
    by_sentence = values.mean(1)
    above = by_sentence[1:] - by_sentence[:1]
    weights = bootstrap_weights(above.shape[1], thresholds.draws, 0)
    profile, draws = above.mean(1), weights @ above.T / above.shape[1]
    return locate_peak(draws, profile, thresholds.level), profile, draws


def controls(
    observations: Observations, measure: str, peak: Peak, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of T-009.

    Args:
        observations: As T-009 measures them.
        measure: Which one the profile is of, ``hits`` or ``separation``.
        peak: Where it peaks.
        thresholds: What was declared.
    """
    arrays = observations.arrays
    return [
        _wrong_partners(arrays),
        _untrained(arrays, measure),
        _other_scripts(arrays[measure], observations.facts["scripts"], peak, thresholds),
        _planted(arrays[measure], arrays[f"planted_{measure}"], thresholds),
    ]


def _wrong_partners(arrays: Mapping[str, Floats]) -> Control:
    n, shuffled = arrays["hits"].shape[-1], float(arrays["hits_shuffled"].mean())
    return Control(
        name="shuffled pairing",
        kind="negative",
        passed=shuffled <= 2 / n,
        detail=f"a wrong partner should be found about 1 time in {n}; found {shuffled:.4f}",
    )


def _untrained(arrays: Mapping[str, Floats], measure: str) -> Control:
    """Compares how far both profiles rise above their embeddings, on the same sentences."""
    trained, twin = (
        float(profile[1:].max() - profile[0])
        for profile in (arrays[f"{name}_{measure}"].mean((1, 2)) for name in ("few", "random"))
    )
    return Control(
        name=RANDOM_TWIN,
        kind="negative",
        passed=twin < trained,
        detail=f"an untrained twin's best block should add less to its bag of embeddings: "
        f"{twin:+.3f} against {trained:+.3f}",
    )


def _other_scripts(
    values: Floats, scripts: list[str], peak: Peak, thresholds: Thresholds
) -> Control:
    """Locates the peak anew without the languages that share the reference's script."""
    name, (reference, *others) = "languages of other scripts alone", scripts
    rows = [row for row, script in enumerate(others) if script != reference]
    if not rows or len(rows) == len(others):
        why = f"{len(rows)} of {len(others)} are not written in {reference}"
        return not_run(name, "invariance", why)
    detail = (
        f"the peak should stay where it is without languages in {reference}, or shared strings "
        f"make it"
    )
    return must_stay(name, peak, peak_of(values[:, rows], thresholds)[0], detail)


def _planted(values: Floats, planted: Floats, thresholds: Thresholds) -> Control:
    """Puts each planted block in the place of the model's, and locates the peak anew."""
    detected = list[bool]()
    for block in range(len(values) - 1):
        changed = values.copy()
        changed[block + 1] = planted[block + 1]
        detected.append(peak_of(changed, thresholds)[0].block == block)
    name = "P5: parallel sentences pulled together at one block"
    return detection(name, detected, "the peak should be at the planted block", thresholds)
