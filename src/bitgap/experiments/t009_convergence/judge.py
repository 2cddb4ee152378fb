"""How T-009 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.peak_window import empty_window, is_hit, judge_window
from bitgap.experiments.t009_convergence import EXPERIMENT, ID
from bitgap.experiments.t009_convergence.controls import controls
from bitgap.experiments.t009_convergence.statistic import profile_of
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import percentile_ends
from bitgap.stats.profiles import Peak, depths, locate_peak
from bitgap.stats.verdicts import Thresholds


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.3 in this model: a hit whose interval lies inside the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    window, used = thresholds.window, _used(arrays, thresholds)
    profile, draws = profile_of(arrays[used], thresholds)
    peak = locate_peak(draws, profile, thresholds.level)
    height = _height(peak, profile, draws, arrays[used].shape[-1], thresholds)
    checks = controls(arrays, facts, used, peak, thresholds)
    gate = _gate(height, facts["n_blocks"], window)
    return Finding(
        experiment=ID,
        hypothesis="H3.3",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates={"peak_depth": peak.place, "peak_height": height},
        seed_measure=_seed_measure(arrays, facts),
        controls=tuple(checks),
        verdict=judge_window(
            peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.3", gate=gate
        ),
        sentence=_sentence(peak, window, facts, arrays["hits"].shape[-1], gate),
        tables={
            "profile": _table(arrays, facts, used, draws, thresholds),
            "measure": used,
            "window": list(window),
        },
        thresholds_hash=thresholds.hash,
    )


def _used(arrays: Mapping[str, Floats], thresholds: Thresholds) -> str:
    """Returns which measure the profile is of: retrieval, or d′ where retrieval saturates."""
    highest = float(arrays["hits"].mean((1, 2)).max())
    return "separation" if highest > thresholds.of("H3.3")["saturation"] else "hits"


def _height(peak: Peak, profile: Floats, draws: Floats, n: int, thresholds: Thresholds) -> Estimate:
    low, high = percentile_ends(draws[:, peak.layer], thresholds)
    return Estimate(
        value=float(profile[peak.layer]),
        low=float(low),
        high=float(high),
        unit="retrieval above the embedding's, or d′",
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over sentences, {thresholds.draws} draws",
    )


def _gate(height: Estimate, n_blocks: int, window: tuple[float, float]) -> str | None:
    """Returns why there is nothing to locate, or nowhere to hit, or None."""
    if nowhere := empty_window(n_blocks, window):
        return nowhere
    assert height.value is not None and height.low is not None
    if height.low <= 0:
        return (
            f"nothing to locate: the best block finds {height.value:+.3f} "
            f"[{height.low:+.3f}, {height.high:+.3f}] more than a bag of embeddings does"
        )
    return None


def _seed_measure(arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> dict[str, Estimate]:
    """Returns where raw cosines peak and how high, on average and for the origin's two pairs."""
    why, r = "the origin gave no uncertainty", depths(facts["n_blocks"])
    cosine = arrays["cosine_raw"][1:]  # (L x A−1)
    pairs = {"all": cosine.mean(1)}
    others = facts["languages"][1:]
    pairs |= {code: cosine[:, others.index(code)] for code in ("de", "he") if code in others}
    found = {}
    for name, values in pairs.items():
        found[f"peak_of_cosine_{name}"] = Estimate(
            value=float(r[values.argmax()]), unit="relative depth", reason=why
        )
        found[f"cosine_at_peak_{name}"] = Estimate(
            value=float(values.max()), unit="mean raw cosine", reason=why
        )
    return found


def _sentence(
    peak: Peak, window: tuple[float, float], facts: Mapping[str, Any], n: int, gate: str | None
) -> str:
    where = "inside" if is_hit(peak, window) else "outside"
    wanted = facts["params"]["wanted_sentences"]
    few = f" ({n} test sentences, fewer than the {wanted} asked for)" if n < wanted else ""
    weak = "; but the verdict is not testable" if gate else ""
    return (
        f"Languages meet most at block {peak.layer} of {facts['n_blocks'] - 1}, {where} the window "
        f"around three quarters of the depth{few}{weak}."
    )


def _table(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    used: str,
    draws: Floats,
    thresholds: Thresholds,
) -> list[dict[str, Any]]:
    low, high = percentile_ends(draws, thresholds)
    means = {
        "retrieval": arrays["hits"],
        "retrieval_raw": arrays["hits_raw"],
        "retrieval_margin": arrays["hits_margin"],
        "separation": arrays["separation"],
        "cosine_raw": arrays["cosine_raw"],
    }
    rows = []
    for block in range(facts["n_blocks"]):
        depth, cka = block + 1, arrays["cka"][block + 1]
        rows.append(
            {
                "block": block,
                "alignment": float(arrays[used][depth].mean() - arrays[used][0].mean()),
                "low": float(low[block]),
                "high": float(high[block]),
                **{name: float(values[depth].mean()) for name, values in means.items()},
                "cka": float(cka.mean()) if np.isfinite(cka).all() else None,
                "by_language": {
                    code: float(value)
                    for code, value in zip(
                        facts["languages"][1:], arrays["hits"][depth].mean(1), strict=True
                    )
                },
            }
        )
    return rows


def profile(finding: Finding) -> list[float | None]:
    """Returns what the experiment says of every block, for its link with what protection saves."""
    return [row["alignment"] for row in finding.tables["profile"]]
