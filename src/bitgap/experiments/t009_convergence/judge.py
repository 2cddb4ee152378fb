"""How T-009 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.peak_window import (
    empty_window,
    is_hit,
    judge_window,
    nothing_to_locate,
    told_without,
)
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t009_convergence import EXPERIMENT
from bitgap.experiments.t009_convergence.controls import UNIT, controls, peak_of, units_of
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.best_block import p_best_by_draws, p_best_by_null
from bitgap.stats.bootstrap import n_units, percentile_ends, percentile_estimate
from bitgap.stats.profiles import Peak, depths
from bitgap.stats.verdicts import Thresholds


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.3 in this model: a hit whose interval lies inside the window, or wholly outside."""
    arrays, facts, window = observations.arrays, observations.facts, thresholds.window
    units, n = units_of(arrays), arrays["separation"].shape[-1]
    peak, profile, draws = peak_of(arrays["separation"], units, thresholds)
    over = "sentences" if isinstance(units, int) else "documents"
    height = percentile_estimate(
        profile[peak.block],
        draws[:, peak.block],
        unit=UNIT,
        level=thresholds.level,
        n=n_units(units),
        method=f"percentile bootstrap over {over}, {thresholds.draws} draws; of one block, chosen",
    )
    checks = controls(observations, peak, thresholds)
    p_best = _p_best(profile, draws, arrays["shuffled"])
    gate = (
        _too_few(n, facts, thresholds)
        or empty_window(facts["n_blocks"], window)
        or nothing_to_locate(
            height, p_best, thresholds.alpha, what="d′", above="a bag of embeddings'"
        )
    )
    verdict = judge_window(
        peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.3", gate=gate
    )
    return EXPERIMENT.finding(
        thresholds,
        primary="peak_depth",
        estimates={"peak_depth": peak.place, "peak_height": height},
        original_measure=_original_measure(arrays["cosine_raw"][1:], facts["languages"][1:]),
        controls=checks,
        verdict=verdict,
        sentence=_sentence(peak, window, facts, gate),
        tables={
            "profile": _table(observations, percentile_ends(draws, thresholds.level)),
            "p_best": p_best,
            "sentences": n,
            "window": list(window),
            "without": told_without(peak),
        },
    )


def _p_best(profile: Floats, draws: Floats, shuffled: Floats) -> float:
    """Returns the p of there being nothing at the best block, the larger of two.

    One asks whether parallel sentences lie closer than shuffled pairs, the other whether any block
    rises above the embedding; both are of the maximum over blocks.
    """
    null = shuffled[:, 1:] - shuffled[:, :1]
    return max(p_best_by_null(profile, null), p_best_by_draws(profile, draws))


def _too_few(n: int, facts: Mapping[str, Any], thresholds: Thresholds) -> str | None:
    least = int(thresholds.of("H3.3")["sentences_min"])
    if n >= least:
        return None
    total = -(-least * (n + facts["n_calibration"]) // max(n, 1))
    return (
        f"{n} test sentences, {least} are needed: give a text of some {total} parallel sentences, "
        f"as {facts['n_calibration']} of {n + facts['n_calibration']} are for calibration"
    )


def _original_measure(cosine: Floats, languages: list[str]) -> dict[str, Estimate]:
    """Returns where raw cosines (L x A−1) peak and how high: on average, and in the origin's pairs.

    These are of English with German and with Hebrew.
    """
    profiles = {"all": cosine.mean(1)}
    profiles |= {
        code: cosine[:, languages.index(code)] for code in ("de", "he") if code in languages
    }
    r, why = depths(len(cosine)), "the origin gave no uncertainty"
    measures: dict[str, Estimate] = {}
    for name, profile in profiles.items():
        numbers = {
            f"peak_of_cosine_{name}": (r[profile.argmax()], "relative depth"),
            f"cosine_at_peak_{name}": (profile.max(), "mean raw cosine"),
        }
        for key, (value, unit) in numbers.items():
            measures[key] = Estimate(value=float(value), unit=unit, reason=why)
    return measures


def _sentence(
    peak: Peak, window: tuple[float, float], facts: Mapping[str, Any], gate: str | None
) -> str:
    if gate:
        return f"Where languages meet cannot be said here: {gate}."
    where = "inside" if is_hit(peak, window) else "outside"
    return (
        f"Languages meet most, by d′, at block {peak.block} of {facts['n_blocks'] - 1}, {where} "
        f"the window around three quarters of the depth."
    )


def _table(observations: Observations, interval: Floats) -> list[dict[str, Any]]:
    """Returns a row for each block, with the interval (2 x L) of its profile."""
    arrays, languages = observations.arrays, observations.facts["languages"][1:]
    above = arrays["separation"].mean(-1)
    rows = block_rows(
        {
            "alignment": (above[1:] - above[:1]).mean(1),
            "low": interval[0],
            "high": interval[1],
            "separation": _block_means(arrays["separation"]),
            "retrieval": _block_means(arrays["hits"]),
            "retrieval_raw": _block_means(arrays["hits_raw"]),
            "retrieval_margin": _block_means(arrays["hits_margin"]),
            "cosine_raw": _block_means(arrays["cosine_raw"]),
            "cka": _block_means(arrays["cka"]),
        }
    )
    for row, own in zip(rows, above[1:] - above[:1], strict=True):
        row["by_language"] = dict(zip(languages, own.tolist(), strict=True))
    return rows


def _block_means(values: Floats) -> Floats:
    """Returns means of what is given by depth, (L+1 x ...), without the embedding's, (L)."""
    return np.array([of_block.mean() for of_block in values[1:]])


def profile(finding: Finding) -> list[float | None]:
    """Returns how far each block's parallel sentences meet above the embedding's."""
    return [row["alignment"] for row in finding.tables["profile"]]
