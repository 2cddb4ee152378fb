"""The profile of T-009, and the controls that could make its peak worthless. Pure numpy.

================  ================================================  ==============================
shuffled pairing  every sentence is given a wrong partner           must be found at chance
random            fresh weights as the class draws them             the model must rise higher at
                                                                    the peak, on one scale
other scripts     languages in the reference's script left out      the peak must stay
pulled together   parallel sentences moved to their mean, until d′  that block must be the peak
                  is above the best block's by twice the SESOI
================  ================================================  ==============================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.controls import RANDOM_TWIN, detection, must_exceed, not_run
from bitgap.experiments.protocol.peak_window import must_stay
from bitgap.records import Control, Floats, Observations, Units
from bitgap.stats.bootstrap import bootstrap_weights, n_units, percentile_estimate
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds

UNIT = "d′ above the embedding's"


def units_of(arrays: Mapping[str, Any], name: str = "documents", of: str = "separation") -> Units:
    """Returns what is resampled: test sentences, or their documents where these are known."""
    return arrays[name] if name in arrays else int(arrays[of].shape[-1])


def risen(values: Floats) -> Floats:
    """Returns how far each block rises above the embedding, by sentence, (L x n).

    Args:
        values: d′ contributions, (L+1 x A−1 x n).
    """
    by_sentence = values.mean(1)
    return by_sentence[1:] - by_sentence[:1]


def peak_of(values: Floats, units: Units, thresholds: Thresholds) -> tuple[Peak, Floats, Floats]:
    """Returns where the profile over blocks peaks, the profile (L), and its draws (B x L).

    Args:
        values: d′ contributions, (L+1 x A−1 x n); averaged over languages, the embedding
            subtracted.
        units: What is resampled.
        thresholds: With draws and level.
    """
    above = risen(values)
    weights = bootstrap_weights(units, thresholds.draws, 0)
    profile, draws = above.mean(1), weights @ above.T / weights.sum(1, keepdims=True)
    return locate_peak(draws, profile, thresholds.level), profile, draws


def controls(observations: Observations, peak: Peak, thresholds: Thresholds) -> list[Control]:
    """Returns the controls of T-009.

    Args:
        observations: As T-009 measures them.
        peak: Where it peaks.
        thresholds: What was declared.
    """
    arrays, scripts = observations.arrays, observations.facts["scripts"]
    return [
        _wrong_partners(arrays),
        _untrained(arrays, peak, thresholds),
        _other_scripts(arrays["separation"], units_of(arrays), scripts, peak, thresholds),
        _planted(arrays, thresholds),
    ]


def _wrong_partners(arrays: Mapping[str, Floats]) -> Control:
    n, shuffled = arrays["hits"].shape[-1], float(arrays["hits_shuffled"].mean())
    return Control(
        name="shuffled pairing",
        kind="negative",
        passed=shuffled <= 2 / n,
        detail=f"a wrong partner should be found about 1 time in {n}; found {shuffled:.4f}",
    )


def _untrained(arrays: Mapping[str, Floats], peak: Peak, thresholds: Thresholds) -> Control:
    """Compares how far both rise above their embeddings at one block, on the same sentences."""
    units = units_of(arrays, "few_documents", "few_separation")
    surplus = (
        risen(arrays["few_separation"])[peak.block] - risen(arrays["random_separation"])[peak.block]
    )
    weights = bootstrap_weights(units, thresholds.draws, 0)
    more = percentile_estimate(
        surplus.mean(),
        weights @ surplus / weights.sum(1),
        unit=UNIT,
        level=thresholds.level,
        n=n_units(units),
        method=f"percentile bootstrap, {thresholds.draws} draws",
    )
    detail = "at the peak the model should rise further above its embeddings than an untrained twin"
    return must_exceed(RANDOM_TWIN, more, detail)


def _other_scripts(
    values: Floats, units: Units, scripts: list[str], peak: Peak, thresholds: Thresholds
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
    return must_stay(name, peak, peak_of(values[:, rows], units, thresholds)[0], detail)


def _planted(arrays: Mapping[str, Any], thresholds: Thresholds) -> Control:
    """Puts each planting in the place of the model's block, and locates the peak anew."""
    detected, some = list[bool](), arrays["planted_on"]
    own, units = arrays["separation"][..., some], len(some)
    if "documents" in arrays:
        units = arrays["documents"][some]
    for block, planted in zip(arrays["planted_block"], arrays["planted_separation"], strict=True):
        changed = own.copy()
        changed[block + 1] = planted
        detected.append(peak_of(changed, units, thresholds)[0].block == block)
    name = "P5: parallel sentences pulled together at one block"
    return detection(name, detected, "the peak should be at the planted block", thresholds)
