"""The profile of T-009, and the controls that could make its peak worthless.

================  ================================================  ==============================
shuffled pairing  every sentence is given a wrong partner           must be found at chance
random            fresh weights as the class draws them             must add less to its embedding
other scripts     languages in the reference's script left out      the peak must stay
pulled together   parallel sentences moved to their mean (P5)       that block must be the peak
================  ================================================  ==============================

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.controls import detection, not_run
from bitgap.experiments.t009_convergence.statistic import profile_of
from bitgap.records import Control, Floats
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds


def controls(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    used: str,
    peak: Peak,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns T-009's controls.

    Args:
        arrays: As T-009 measures them.
        facts: Likewise.
        used: Which measure the profile is of, ``hits`` or ``separation``.
        peak: Where it peaks.
        thresholds: What was declared.
    """
    return [
        _wrong_partners(arrays),
        _untrained(arrays, used),
        _other_scripts(arrays[used], facts, peak, thresholds),
        _planted(arrays, used, facts["n_blocks"], thresholds),
    ]


def _wrong_partners(arrays: Mapping[str, Floats]) -> Control:
    n, shuffled = arrays["hits"].shape[-1], float(arrays["hits_shuffled"].mean())
    return Control(
        name="shuffled pairing",
        kind="negative",
        passed=shuffled <= 2 / n,
        detail=f"a wrong partner should be found about 1 time in {n}; found {shuffled:.4f}",
    )


def _untrained(arrays: Mapping[str, Floats], used: str) -> Control:
    """Compares how far both profiles rise above their embeddings, on the same sentences."""
    trained, twin = (
        float(profile[1:].max() - profile[0])
        for profile in (arrays[f"{name}_{used}"].mean((1, 2)) for name in ("few", "random"))
    )
    return Control(
        name="random-init twin",
        kind="negative",
        passed=twin < trained,
        detail=f"an untrained twin's best block should add less to its bag of embeddings: "
        f"{twin:+.3f} against {trained:+.3f}",
    )


def _other_scripts(
    values: Floats, facts: Mapping[str, Any], peak: Peak, thresholds: Thresholds
) -> Control:
    """Locates the peak anew without the languages that share the reference's script."""
    name, (own, *scripts) = "languages of other scripts alone", facts["scripts"]
    rows = [row for row, script in enumerate(scripts) if script != own]
    if not rows or len(rows) == len(scripts):
        return not_run(
            name, "invariance", f"{len(rows)} of {len(scripts)} are not written in {own}"
        )
    profile, draws = profile_of(values[:, rows], thresholds)
    found = locate_peak(draws, profile, thresholds.level).place
    assert found.low is not None and found.high is not None
    assert peak.place.low is not None and peak.place.high is not None
    return Control(
        name=name,
        kind="invariance",
        passed=found.low <= peak.place.high + 1e-9 and peak.place.low <= found.high + 1e-9,
        detail=f"the peak should stay where it is without languages in {own}, or shared strings "
        f"make it",
        estimate=found,
    )


def _planted(
    arrays: Mapping[str, Floats], used: str, n_blocks: int, thresholds: Thresholds
) -> Control:
    found = []
    for block in range(n_blocks):
        values = arrays[used].copy()
        values[block + 1] = arrays[f"planted_{used}"][block + 1]
        profile, draws = profile_of(values, thresholds)
        found.append(locate_peak(draws, profile, thresholds.level).layer == block)
    name = "P5: parallel sentences pulled together at one block"
    return detection(name, found, "the peak should be at the planted block", thresholds)
