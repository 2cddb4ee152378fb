"""How depth judges what was measured: pure, no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.disparity.formulas import (
    Sums,
    damage_bits,
    disparity,
    gap,
    harm_max,
    harm_mean,
    original_disparity,
)
from bitgap.experiments.depth import EXPERIMENT, ID
from bitgap.experiments.depth.controls import depth_controls
from bitgap.experiments.depth.gains import MarginalGains
from bitgap.experiments.depth.ranks import (
    UNIT,
    log_disparity,
    rank_share,
    row_of,
    share_estimate,
    share_p,
)
from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.effects import original_estimate, original_ratios
from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.quant.sets import blocks_in
from bitgap.records import Bools, Estimate, Finding, Observations, Scores, finite
from bitgap.stats.mask_design import original_set
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges depth: the triple beats .9 of the others by |D| and by K, and levels nobody down."""
    n, arrays = observations.facts["n_blocks"], observations.arrays
    scored = [part for part in ("base", "triples") if f"{part}_kl" in arrays]
    languages = eligible_languages(observations, scored, readable=scored)
    displayed = languages.displayed
    gate = _gate(n, len(scored) == 2) or languages.gate_reason
    gains = MarginalGains.of(observations, displayed, thresholds)
    missing = Estimate(value=None, unit=UNIT, reason=gate or "not scored")
    shares = {"beats_disparity": missing, "beats_damage": missing}
    checks, extra = [], (True, "")
    if len(scored) == 2:
        row = row_of(arrays["triples"], original_set(n))
        shares = _shares(observations, row, displayed, thresholds)
        none = unpack_scores(observations, "base")
        checks = [
            *depth_controls(observations, row, displayed, thresholds),
            halves(none, 0, languages.eligible, thresholds),
        ]
        extra = guards(observations, row, displayed)
    parts = [
        _part(name, share, len(arrays["triples"]), thresholds) for name, share in shares.items()
    ]
    return EXPERIMENT.finding(
        thresholds,
        primary="beats_disparity",
        estimates={**shares, **gains.of_the_middle()},
        original_measure=_original_measure(observations),
        controls=checks,
        verdict=judge_parts(parts, checks, alpha=thresholds.alpha, gate=gate, extra=extra),
        sentence=_sentence(shares, gains, gate) + languages.sentence,
        tables={
            "blocks": gains.rows(),
            "triples": _triple_rows(observations, displayed),
            "left_out": languages.left_out,
        },
    )


def _gate(n_blocks: int, scored: bool) -> str | None:
    if len(original_set(n_blocks)) < 3:
        return f"{n_blocks} blocks: {{0, round(.75 L), L−1}} names no three"
    if not scored:
        return f"not all of {math.comb(n_blocks, 3)} triples were scored"
    return None


def _shares(
    observations: Observations, row: int, displayed: Bools, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns the share of triples that the origin's beats, by |D| and by mean K."""
    kl, facts = observations.arrays["triples_kl"], observations.facts
    logs = log_disparity(kl, displayed, facts["languages"].index(facts["reference"]))
    damage, n = kl[:, displayed].mean(1), kl.shape[-1]
    by = {
        "beats_disparity": rank_share(lambda w: np.abs(logs(w)), row),
        "beats_damage": rank_share(lambda w: w @ damage.T, row),
    }
    return {name: share_estimate(statistic, n, thresholds) for name, statistic in by.items()}


def _part(name: str, share: Estimate, n_triples: int, thresholds: Thresholds) -> Part:
    p, smallest = share_p(share, max(n_triples, 1))
    what = "|D|" if name == "beats_disparity" else "damage"
    name = f"share of triples beaten by {what}"
    sesoi = thresholds.of(ID)["sesoi"]
    return Part(name=name, estimate=share, sesoi=sesoi, p=p, p_minimum=smallest)


def guards(observations: Observations, row: int, displayed: Bools) -> tuple[bool, str]:
    """Returns whether the triple levels nobody down and moves D and G the same way, or why not."""
    none = _measures(unpack_scores(observations, "base"), 0, displayed)
    triple = _measures(unpack_scores(observations, "triples"), row, displayed)
    risen = [
        name for name in ("damage_reference", "harm_mean", "harm_max") if triple[name] > none[name]
    ]
    failed = [f"levelling down: {', '.join(risen)} rises under the triple"] if risen else []
    moved = [triple[name] - none[name] for name in ("disparity", "gap")]
    if not moved[0] * moved[1] > 0:
        failed.append("D and G do not move the same way")
    return not failed, "; ".join(failed)


def _measures(scores: Scores, row: int, displayed: Bools) -> dict[str, float]:
    one = scores.select(plans=[scores.plans[row]])
    values = {
        "damage": damage_bits(one)[:, displayed].mean(-1),
        "damage_reference": Sums(one).against(damage_bits(one))[:, 0],
        "harm_mean": harm_mean(one, languages=displayed),
        "harm_max": harm_max(one, languages=displayed),
        "disparity": disparity(one, languages=displayed),
        "gap": gap(one, languages=displayed),
    }
    return {name: float(value[0]) for name, value in values.items()}


def _original_measure(observations: Observations) -> dict[str, Estimate]:
    """Returns the origin's ratio of the ends and of the triple, and the triple's rank by it."""
    ends = float(original_disparity(unpack_scores(observations, "base"))[1])
    if "triples_kl" not in observations.arrays:
        return original_ratios({"d_original_ends": ends})
    ratio = original_disparity(unpack_scores(observations, "triples"))
    triple = original_set(observations.facts["n_blocks"])
    own = float(ratio[row_of(observations.arrays["triples"], triple)])
    rank = float((ratio < own).sum() + 1) if math.isfinite(own) else math.nan
    unit = f"rank among {len(ratio)} triples, 1 the smallest"
    ratios = original_ratios({"d_original_ends": ends, "d_original_triple": own})
    return ratios | {"rank_by_d_original": original_estimate(rank, unit)}


def _sentence(shares: Mapping[str, Estimate], gains: MarginalGains, gate: str | None) -> str:
    by_d, by_k = shares["beats_disparity"].value, shares["beats_damage"].value
    middle = gains.text()
    if by_k is None:
        return f"The triple's rank is not testable here ({gate}); {middle}."
    levels = "an undefined share" if by_d is None else f"{by_d:.0%}"
    return (
        f"{gains.name_of_triple()} beats {levels} of the other triples by |D| and {by_k:.0%} by "
        f"damage; {middle}."
    )


def _triple_rows(observations: Observations, displayed: Bools) -> list[dict[str, Any]]:
    """Returns the best ten triples by damage and by |D|, and the origin's, with both ranks."""
    if "triples_kl" not in observations.arrays:
        return []
    scores, triples = unpack_scores(observations, "triples"), observations.arrays["triples"]
    damage = damage_bits(scores)[:, displayed].mean(-1)
    d = disparity(scores, languages=displayed)
    by_k, by_d = (values.argsort().argsort() for values in (damage, np.abs(d)))
    origin = row_of(triples, original_set(observations.facts["n_blocks"]))
    return [
        {
            "blocks": list(blocks_in(int(mask))),
            "origin": t == origin,
            "damage": float(damage[t]),
            "rank_damage": int(by_k[t]) + 1,
            "disparity": finite(d[t]),
            "rank_disparity": int(by_d[t]) + 1 if np.isfinite(d[t]) else None,
        }
        for t, mask in enumerate(triples)
        if by_k[t] < 10 or by_d[t] < 10 or t == origin
    ]
