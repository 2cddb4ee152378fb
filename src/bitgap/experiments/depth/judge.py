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
    seed_disparity,
)
from bitgap.disparity.layer_map import origin_set
from bitgap.experiments.depth import EXPERIMENT, ID
from bitgap.experiments.depth.controls import depth_controls
from bitgap.experiments.depth.gains import LayerGains
from bitgap.experiments.depth.ranks import beaten_share, log_disparity, share_estimate, share_p
from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.scores import (
    closed,
    countable,
    scores_of,
    told_left_out,
)
from bitgap.quant.sets import layers_in, mask_of
from bitgap.records import Bools, Estimate, Finding, Observations, Scores
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges depth: the triple beats .9 of the others by |D| and by K, and levels nobody down."""
    n, arrays = observations.facts["n_blocks"], observations.arrays
    scored = [part for part in ("base", "triples") if f"{part}_kl" in arrays]
    counts, left_out = countable(observations, scored, readable=scored)
    gate = _untestable(n, len(scored) == 2) or closed(counts, left_out)
    shown = counts if counts.any() else np.ones_like(counts)
    base = scores_of(observations, "base")
    gains = LayerGains.of(observations, shown, thresholds)
    shares, checks, extra = _nothing(gate), [], (True, "")
    if len(scored) == 2:
        mine = int(np.flatnonzero(arrays["triples"] == mask_of(origin_set(n)))[0])
        shares = _shares(observations, mine, shown, thresholds)
        checks = [
            *depth_controls(observations, mine, shown, thresholds),
            halves(base, 0, counts, thresholds),
        ]
        extra = _guards(observations, mine, shown)
    parts = [
        _part(name, share, len(arrays["triples"]), thresholds) for name, share in shares.items()
    ]
    return Finding(
        experiment=ID,
        hypothesis=ID,
        title=EXPERIMENT.title,
        primary="beats_disparity",
        estimates={**shares, **gains.of_the_middle()},
        seed_measure=_seed_measure(observations, shown),
        controls=tuple(checks),
        verdict=judge_parts(parts, checks, alpha=thresholds.alpha, gate=gate, extra=extra),
        sentence=_sentence(shares, gains, gate) + told_left_out(left_out),
        tables={
            "layers": gains.rows(),
            "triples": _triple_rows(observations, shown),
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _untestable(n_blocks: int, scored: bool) -> str | None:
    if len(origin_set(n_blocks)) < 3:
        return f"{n_blocks} blocks: {{0, round(.75 L), L−1}} names no three"
    if not scored:
        return f"not all of {math.comb(n_blocks, 3)} triples were scored"
    return None


def _nothing(gate: str | None) -> dict[str, Estimate]:
    none = Estimate(value=None, unit="share of other triples", reason=gate or "not scored")
    return {"beats_disparity": none, "beats_damage": none}


def _shares(
    observations: Observations, mine: int, shown: Bools, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns the share of triples that the origin's beats, by |D| and by mean K."""
    kl, facts = observations.arrays["triples_kl"], observations.facts
    logs = log_disparity(kl, shown, facts["languages"].index(facts["reference"]))
    damage, n = kl[:, shown].mean(1), kl.shape[-1]
    by = {
        "beats_disparity": beaten_share(lambda w: np.abs(logs(w)), mine),
        "beats_damage": beaten_share(lambda w: w @ damage.T, mine),
    }
    return {name: share_estimate(statistic, n, thresholds) for name, statistic in by.items()}


def _part(name: str, share: Estimate, n_triples: int, thresholds: Thresholds) -> Part:
    p, smallest = share_p(share, max(n_triples, 1))
    what = "|D|" if name == "beats_disparity" else "damage"
    return Part(name=f"share of triples beaten by {what}", estimate=share, p=p, p_minimum=smallest,
                sesoi=thresholds.of(ID)["sesoi"])  # fmt: skip


def _guards(observations: Observations, mine: int, shown: Bools) -> tuple[bool, str]:
    """Returns whether the triple levels nobody down and moves D and G the same way, or why not."""
    none, triple = _measures(scores_of(observations, "base"), 0, shown), _measures(
        scores_of(observations, "triples"), mine, shown
    )  # fmt: skip
    risen = [
        name for name in ("damage_reference", "harm_mean", "harm_max") if triple[name] > none[name]
    ]
    failed = [f"levelling down: {', '.join(risen)} rises under the triple"] if risen else []
    moved = [triple[name] - none[name] for name in ("disparity", "gap")]
    if not moved[0] * moved[1] > 0:
        failed.append("D and G do not move the same way")
    return not failed, "; ".join(failed)


def _measures(scores: Scores, row: int, shown: Bools) -> dict[str, float]:
    one = scores.select(plans=[scores.plans[row]])
    values = {
        "damage": damage_bits(one)[:, shown].mean(-1),
        "damage_reference": Sums(one).against(damage_bits(one))[:, 0],
        "harm_mean": harm_mean(one, languages=shown),
        "harm_max": harm_max(one, languages=shown),
        "disparity": disparity(one, languages=shown),
        "gap": gap(one, languages=shown),
    }
    return {name: float(value[0]) for name, value in values.items()}


def _seed_measure(observations: Observations, shown: Bools) -> dict[str, Estimate]:
    """Returns the origin's ratio of the ends and of the triple, and the triple's rank by it."""
    why, unit = "the origin gave no uncertainty", "mean ratio of relative perplexity increases"
    found = {"d_seed_ends": (float(seed_disparity(scores_of(observations, "base"))[1]), unit)}
    if "triples_kl" in observations.arrays:
        ratio = seed_disparity(scores_of(observations, "triples"))
        triples = observations.arrays["triples"]
        mine = int(
            np.flatnonzero(triples == mask_of(origin_set(observations.facts["n_blocks"])))[0]
        )
        found["d_seed_triple"] = (float(ratio[mine]), unit)
        rank = float((ratio < ratio[mine]).sum() + 1) if np.isfinite(ratio[mine]) else math.nan
        found["rank_by_d_seed"] = (rank, f"rank among {len(ratio)} triples, 1 the smallest")
    return {
        name: Estimate(value=value, unit=of, reason=why)
        if math.isfinite(value)
        else Estimate(value=None, unit=of, reason="the reference's increase is not above 0")
        for name, (value, of) in found.items()
    }


def _sentence(shares: Mapping[str, Estimate], gains: LayerGains, gate: str | None) -> str:
    by_d, by_k = shares["beats_disparity"].value, shares["beats_damage"].value
    told = gains.told()
    if by_k is None:
        return f"The triple's rank is not testable here ({gate}); {told}."
    levels = "an undefined share" if by_d is None else f"{by_d:.0%}"
    return (
        f"{gains.name_of_triple()} beats {levels} of the other triples by |D| and {by_k:.0%} by "
        f"damage; {told}."
    )


def _triple_rows(observations: Observations, shown: Bools) -> list[dict[str, Any]]:
    """Returns the best ten triples by damage and by |D|, and the origin's, with both ranks."""
    if "triples_kl" not in observations.arrays:
        return []
    scores, triples = scores_of(observations, "triples"), observations.arrays["triples"]
    damage = damage_bits(scores)[:, shown].mean(-1)
    d = disparity(scores, languages=shown)
    by_k, by_d = (values.argsort().argsort() for values in (damage, np.abs(d)))
    mine = mask_of(origin_set(observations.facts["n_blocks"]))
    return [
        {
            "layers": list(layers_in(int(mask))),
            "origin": int(mask) == mine,
            "damage": float(damage[t]),
            "rank_damage": int(by_k[t]) + 1,
            "disparity": float(d[t]) if np.isfinite(d[t]) else None,
            "rank_disparity": int(by_d[t]) + 1 if np.isfinite(d[t]) else None,
        }
        for t, mask in enumerate(triples)
        if by_k[t] < 10 or by_d[t] < 10 or int(mask) == mine
    ]
