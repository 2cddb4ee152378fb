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
    harm_max,
    harm_mean,
    original_disparity,
    spread,
)
from bitgap.experiments.depth import EXPERIMENT, ID
from bitgap.experiments.depth.controls import depth_controls
from bitgap.experiments.depth.gains import MarginalGains
from bitgap.experiments.depth.ranks import UNIT, Objective, inverted, row_of, share_part, values_of
from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.effects import original_estimate, original_ratios
from bitgap.experiments.protocol.scores import eligible_languages, units_of, unpack_scores
from bitgap.quant.sets import blocks_in
from bitgap.records import Bools, Estimate, Finding, Floats, Observations, Scores, finite
from bitgap.stats.mask_design import original_set
from bitgap.stats.spreads import inverted_estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

JUDGED: tuple[Objective, ...] = ("spread", "damage")
"""What both the share is judged by."""
_OF_TRIPLE: tuple[Objective, ...] = (*JUDGED, "spread_per_text")


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges depth: the triple beats .9 of the others by S and by K, and levels nobody down."""
    n, arrays = observations.facts["n_blocks"], observations.arrays
    scored = [part for part in ("base", "singles", "triples") if f"{part}_kl" in arrays]
    languages = eligible_languages(observations, scored, readable=scored)
    displayed = languages.displayed
    gate = _gate(n, "triples" in scored) or languages.gate_reason
    gains = MarginalGains.of(observations, displayed, thresholds)
    missing = Estimate(value=None, unit=UNIT, reason=gate or "not scored")
    nothing = Part(name="share", estimate=missing, sesoi=_sesoi(thresholds), p=1.0, p_minimum=1.0)
    parts = dict.fromkeys(_OF_TRIPLE, nothing)
    described: dict[str, Estimate] = {}
    checks, extra = [], (True, "")
    if "triples" in scored:
        row = row_of(arrays["triples"], original_set(n))
        parts = _parts(observations, displayed, thresholds)
        none = unpack_scores(observations, "base")
        checks = [
            *depth_controls(observations, row, displayed, thresholds),
            halves(none, 0, languages.eligible, thresholds),
        ]
        extra = guards(observations, row, displayed, parts)
        described = _changes(observations, row, displayed, thresholds)
    shares = {f"beats_{name}": part.estimate for name, part in parts.items()}
    judged = [parts[name] for name in JUDGED]
    return EXPERIMENT.finding(
        thresholds,
        primary="beats_spread",
        estimates={**shares, **described, **gains.of_the_middle()},
        original_measure=_original_measure(observations),
        controls=checks,
        verdict=judge_parts(judged, checks, alpha=thresholds.alpha, gate=gate, extra=extra),
        sentence=_sentence(shares, described, gains, gate) + languages.sentence,
        tables={
            "blocks": gains.rows(),
            "triples": _triple_rows(observations, displayed),
            "left_out": languages.left_out,
        },
    )


def _sesoi(thresholds: Thresholds) -> float:
    return float(thresholds.of(ID)["sesoi"])


def _gate(n_blocks: int, scored: bool) -> str | None:
    if len(original_set(n_blocks)) < 3:
        return f"{n_blocks} blocks: {{0, round(.75 L), L−1}} names no three"
    if not scored:
        return f"none of the {math.comb(n_blocks, 3)} triples was scored to be ranked"
    return None


def _parts(
    observations: Observations, displayed: Bools, thresholds: Thresholds
) -> dict[Objective, Part]:
    """Returns the share of triples that the origin's beats, by S, by mean K and by S per text."""
    arrays, scores = observations.arrays, unpack_scores(observations, "triples")
    ranked = np.flatnonzero(arrays["ranked"])
    few = scores.select(plans=[scores.plans[i] for i in ranked])
    row = row_of(arrays["triples"][ranked], original_set(observations.facts["n_blocks"]))
    units, n_triples = units_of(observations), observations.facts["n_triples"]
    return {
        name: share_part(name, values_of(few, displayed, name), row, units, thresholds, n_triples)
        for name in _OF_TRIPLE
    }


def guards(
    observations: Observations, row: int, displayed: Bools, parts: Mapping[Objective, Part]
) -> tuple[bool, str]:
    """Returns whether the triple levels nobody down and its place by S is established, or why not.

    Args:
        observations: Of the depth experiment.
        row: Of the triple.
        displayed: Languages that enter, (A).
        parts: Its shares by what triples are compared by.
    """
    none = _measures(unpack_scores(observations, "base"), 0, displayed)
    triple = _measures(unpack_scores(observations, "triples"), row, displayed)
    risen = [name for name in none if triple[name] > none[name]]
    failed = [f"levelling down: {', '.join(risen)} rises under the triple"] if risen else []
    token, text = (parts[name].estimate.value for name in ("spread", "spread_per_text"))
    if token is None or text is None or (token > 0.5) != (text > 0.5):
        failed.append(
            f"not established: it beats {_share(token)} of triples by S per token and "
            f"{_share(text)} per text"
        )
    return not failed, "; ".join(failed)


def _share(value: float | None) -> str:
    return "an undefined share" if value is None else f"{value:.0%}"


def _measures(scores: Scores, row: int, displayed: Bools) -> dict[str, float]:
    one = scores.select(plans=[scores.plans[row]])
    values = {
        "damage_reference": Sums(one).against(damage_bits(one))[:, 0],
        "harm_mean": harm_mean(one, languages=displayed),
        "harm_max": harm_max(one, languages=displayed),
    }
    return {name: float(value[0]) for name, value in values.items()}


def _changes(
    observations: Observations, row: int, displayed: Bools, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns how S changes from nothing protected to the triple, per token and per text."""
    base, triples = (unpack_scores(observations, part) for part in ("base", "triples"))
    none, triple = base.select(plans=[base.plans[0]]), triples.select(plans=[triples.plans[row]])
    out: dict[str, Estimate] = {}
    objectives: tuple[Objective, ...] = ("spread", "spread_per_text")
    for objective in objectives:

        def change(weights: Floats, objective: Objective = objective) -> Floats:
            after, before = (inverted(one, displayed, objective) for one in (triple, none))
            return after(weights) - before(weights)

        units, how = units_of(observations), thresholds.how
        (found,) = inverted_estimates(change, units, unit="log2 units", **how)
        out[f"{objective}_change"] = found
    return out


def _original_measure(observations: Observations) -> dict[str, Estimate]:
    """Returns the origin's ratio of the ends and of the triple, and the triple's rank by it."""
    ends = float(original_disparity(unpack_scores(observations, "base"))[1])
    if "triples_kl" not in observations.arrays:
        return original_ratios({"d_original_ends": ends})
    ranked = observations.arrays["ranked"]
    ratio = original_disparity(unpack_scores(observations, "triples"))[ranked]
    triple = original_set(observations.facts["n_blocks"])
    own = float(ratio[row_of(observations.arrays["triples"][ranked], triple)])
    rank = float((ratio < own).sum() + 1) if math.isfinite(own) else math.nan
    unit = f"rank among {len(ratio)} triples, 1 the smallest"
    ratios = original_ratios({"d_original_ends": ends, "d_original_triple": own})
    return ratios | {"rank_by_d_original": original_estimate(rank, unit)}


def _sentence(
    shares: Mapping[str, Estimate],
    described: Mapping[str, Estimate],
    gains: MarginalGains,
    gate: str | None,
) -> str:
    by_s, by_k = (shares[f"beats_{name}"].value for name in JUDGED)
    middle = gains.text()
    if by_k is None:
        return f"The triple's place is not testable here ({gate}); {middle}."
    said = (
        f"{gains.name_of_triple()} leaves less damage than {by_k:.0%} of the other triples and a "
        f"smaller spread S between languages than {_share(by_s)}"
    )
    change, text = described.get("spread_change"), described.get("spread_per_text_change")
    if change is None or change.value is None or text is None or text.value is None:
        return f"{said}; {middle}."
    if (change.value > 0) != (text.value > 0):
        told = (
            f"whether it evens languages out is not established: S changes by {change.value:+.3g} "
            f"per token and {text.value:+.3g} per text"
        )
    else:
        told = f"against protecting nothing S changes by {change.value:+.3g}{_ends(change)}"
    return f"{said}; {told}; {middle}."


def _ends(one: Estimate) -> str:
    return "" if one.low is None or one.high is None else f" [{one.low:+.3g}, {one.high:+.3g}]"


def _triple_rows(observations: Observations, displayed: Bools) -> list[dict[str, Any]]:
    """Returns the best ten triples by damage and by S, and the origin's, with their ranks."""
    if "triples_kl" not in observations.arrays:
        return []
    scores, triples = unpack_scores(observations, "triples"), observations.arrays["triples"]
    ranked = observations.arrays["ranked"]
    damage = damage_bits(scores)[:, displayed].mean(-1)
    s = spread(scores, languages=displayed)
    text = spread(scores, per="text", languages=displayed)
    d = disparity(scores, languages=displayed)
    by_k, by_s = (_ranks(values, ranked) for values in (damage, s))
    origin = row_of(triples, original_set(observations.facts["n_blocks"]))
    return [
        {
            "blocks": list(blocks_in(int(mask))),
            "origin": t == origin,
            "damage": float(damage[t]),
            "rank_damage": by_k[t],
            "spread": finite(s[t]),
            "rank_spread": by_s[t] if np.isfinite(s[t]) else None,
            "spread_per_text": finite(text[t]),
            "disparity": finite(d[t]),
        }
        for t, mask in enumerate(triples)
        if ranked[t] and (by_k[t] <= 10 or by_s[t] <= 10 or t == origin)
    ]


def _ranks(values: Floats, ranked: Bools) -> list[int]:
    """Returns ranks among the triples that are ranked, from 1, the smallest first."""
    order = np.where(ranked, np.nan_to_num(values, nan=np.inf), np.inf).argsort(kind="stable")
    ranks = np.empty(len(values), dtype=int)
    ranks[order] = np.arange(len(values))
    return [int(rank) + 1 for rank in ranks]
