"""How T-009 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.peak_window import empty_window, is_hit, judge_window
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t009_convergence import EXPERIMENT
from bitgap.experiments.t009_convergence.controls import controls, peak_of
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import percentile_ends, percentile_estimate
from bitgap.stats.profiles import Peak, depths
from bitgap.stats.verdicts import Thresholds


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.3 in this model: a hit whose interval lies inside the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    window, measure = thresholds.window, _measure(arrays["hits"], thresholds)
    n, n_blocks = arrays["hits"].shape[-1], facts["n_blocks"]
    peak, profile, draws = peak_of(arrays[measure], thresholds)
    height = percentile_estimate(
        profile[peak.block],
        draws[:, peak.block],
        unit="retrieval above the embedding's, or d′",
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over sentences, {thresholds.draws} draws",
    )
    checks = controls(observations, measure, peak, thresholds)
    gate = empty_window(n_blocks, window) or _nothing_to_locate(height)
    return EXPERIMENT.finding(
        thresholds,
        primary="peak_depth",
        estimates={"peak_depth": peak.place, "peak_height": height},
        original_measure=_original_measure(arrays["cosine_raw"][1:], facts["languages"][1:]),
        controls=checks,
        verdict=judge_window(peak, n_blocks, checks, thresholds, hypothesis="H3.3", gate=gate),
        sentence=_sentence(peak, window, facts, n, gate),
        tables={
            "profile": _table(observations, measure, percentile_ends(draws, thresholds.level)),
            "measure": measure,
            "window": list(window),
        },
    )


def _measure(hits: Floats, thresholds: Thresholds) -> str:
    """Returns which measure the profile is of: retrieval, or d′ where retrieval saturates."""
    highest = float(hits.mean((1, 2)).max())
    return "separation" if highest > thresholds.of("H3.3")["saturation"] else "hits"


def _nothing_to_locate(height: Estimate) -> str | None:
    """Returns why there is no peak, or None."""
    assert height.value is not None and height.low is not None
    if height.low > 0:
        return None
    return (
        f"nothing to locate: the best block finds {height.value:+.3f} "
        f"[{height.low:+.3f}, {height.high:+.3f}] more than a bag of embeddings does"
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
    peak: Peak, window: tuple[float, float], facts: Mapping[str, Any], n: int, gate: str | None
) -> str:
    where = "inside" if is_hit(peak, window) else "outside"
    wanted = facts["params"]["wanted_sentences"]
    few = f" ({n} test sentences, fewer than the {wanted} asked for)" if n < wanted else ""
    weak = "; but the verdict is not testable" if gate else ""
    return (
        f"Languages meet most at block {peak.block} of {facts['n_blocks'] - 1}, {where} the window "
        f"around three quarters of the depth{few}{weak}."
    )


def _table(observations: Observations, measure: str, interval: Floats) -> list[dict[str, Any]]:
    """Returns a row for each block, with the interval (2 x L) of its profile."""
    arrays, languages = observations.arrays, observations.facts["languages"][1:]
    rows = block_rows(
        {
            "alignment": _block_means(arrays[measure]) - arrays[measure][0].mean(),
            "low": interval[0],
            "high": interval[1],
            "retrieval": _block_means(arrays["hits"]),
            "retrieval_raw": _block_means(arrays["hits_raw"]),
            "retrieval_margin": _block_means(arrays["hits_margin"]),
            "separation": _block_means(arrays["separation"]),
            "cosine_raw": _block_means(arrays["cosine_raw"]),
            "cka": _block_means(arrays["cka"]),
        }
    )
    for row, hits in zip(rows, arrays["hits"][1:], strict=True):
        row["by_language"] = dict(zip(languages, hits.mean(1).tolist(), strict=True))
    return rows


def _block_means(values: Floats) -> Floats:
    """Returns means of what is given by depth, (L+1 x ...), without the embedding's, (L)."""
    return np.array([of_block.mean() for of_block in values[1:]])


def profile(finding: Finding) -> list[float | None]:
    """Returns how far each block's parallel sentences meet above the embedding's."""
    return [row["alignment"] for row in finding.tables["profile"]]
