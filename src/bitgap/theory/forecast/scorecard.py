"""How good a forecast was, once the model is measured; pure.

A triple's percentile is the share of the other triples that do better, ties counting half: 0 is the
best, and a triple picked at random gets one half on average. Its regret is how much it loses to the
best triple. Both are formed among all C(L, 3) triples, or among those measured if at least
:data:`LEAST_TRIPLES` are; otherwise they are None with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np
from scipy import stats

from bitgap.quant.sets import mask_of
from bitgap.records import Floats
from bitgap.stats.mask_design import original_set
from bitgap.theory.evidence import Evidence
from bitgap.theory.forecast.intervals import Range

LEAST_TRIPLES = 200
"""Random triples that stand for all, where not all were measured; the method's number."""
SUCCESS = 0.10
"""Percentile at or under which a predicted triple is a success; the method's number."""

OBJECTIVES = ("disparity", "damage")
UNITS = {"disparity": "log2 ratio, |D|", "damage": "bits per reference character, mean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """What became of a forecast, JSON-ready."""

    masks: Mapping[str, Any]
    """``n`` that were measured, of ``asked``; ``spearman`` and ``rmse`` of predicted with measured
    D, and ``covered``, the share of intervals that hold it; None with a ``reason``."""
    objectives: Mapping[str, Mapping[str, Any]]
    """By objective: the predicted triple's blocks, percentile and regret, and those of the
    baselines; ``improves_fairly`` says whether |D| falls without more damage to the reference."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the scorecard as JSON."""
        return asdict(self)


def score(
    protect: Mapping[str, Sequence[int]],
    masks: Sequence[Sequence[int]],
    predicted: Sequence[Range],
    evidence: Evidence,
) -> Scorecard:
    """Returns how good a forecast was.

    Args:
        protect: The three blocks to protect, by objective.
        masks: Protected blocks of the masks that D was predicted for.
        predicted: D of each, with its interval.
        evidence: What was measured.
    """
    baselines = baseline_triples(evidence)
    return Scorecard(
        masks=_score_masks(masks, predicted, evidence),
        objectives={
            name: _score_triples(name, protect[name], baselines, evidence) for name in OBJECTIVES
        },
    )


def baseline_triples(evidence: Evidence) -> dict[str, list[int]]:
    """Returns the triples a forecast has to beat; ``largest_damage`` knows the measurement."""
    largest = np.argsort(-evidence.single.mean(1), kind="stable")[:3]
    return {
        "first_three": [0, 1, 2],
        "origin": original_set(evidence.n_blocks),
        "largest_damage": sorted(int(i) for i in largest),
    }


def _score_masks(
    masks: Sequence[Sequence[int]], predicted: Sequence[Range], evidence: Evidence
) -> dict[str, Any]:
    rows, disparity = _rows(evidence), evidence.disparity
    measured = [disparity[rows[m]] if (m := mask_of(s)) in rows else np.nan for s in masks]
    values, truth = np.array(predicted), np.array(measured)
    fine = np.isfinite(truth)
    found: dict[str, Any] = {"asked": len(masks), "n": int(fine.sum())}
    if found["n"] < 3:
        why = f"{found['n']} of the {len(masks)} masks were measured; Spearman's r needs three"
        return found | {"spearman": None, "rmse": None, "covered": None, "reason": why}
    (value, low, high), truth = values[fine].T, truth[fine]
    found["rmse"] = float(np.sqrt(((value - truth) ** 2).mean()))
    found["covered"] = float(((low <= truth) & (truth <= high)).mean())
    if min(np.ptp(value), np.ptp(truth)) < 1e-9:
        return found | {"spearman": None, "reason": "predicted or measured D is one number"}
    ranks = stats.rankdata(value), stats.rankdata(truth)
    return found | {"spearman": float(np.corrcoef(*ranks)[0, 1])}


def _score_triples(
    objective: str,
    blocks: Sequence[int],
    baselines: Mapping[str, Sequence[int]],
    evidence: Evidence,
) -> dict[str, Any]:
    values = _by_triple(objective, evidence)
    found: dict[str, Any] = {
        "blocks": list(blocks),
        "unit": UNITS[objective],
        "triples": len(values),
        **_placed(blocks, values, evidence.n_blocks),
        "improves_fairly": _improves_fairly(blocks, evidence),
    }
    found["baselines"] = {
        name: {"blocks": list(triple), **_placed(triple, values, evidence.n_blocks)}
        for name, triple in baselines.items()
    }
    everything = np.array(list(values.values()))
    found["baselines"]["random"] = {
        "blocks": None,
        "percentile": 0.5,
        "regret": float(everything.mean() - everything.min()) if len(everything) else None,
    }
    return found


def _by_triple(objective: str, evidence: Evidence) -> dict[int, float]:
    """Returns what is to be small, by mask of every measured triple; undefined ones left out."""
    of_three = evidence.protects.sum(1) == 3
    value = np.abs(evidence.disparity) if objective == "disparity" else evidence.damage.mean(1)
    pairs = zip(evidence.masks[of_three], value[of_three], strict=True)
    return {int(mask): float(v) for mask, v in pairs if np.isfinite(v)}


def _placed(blocks: Sequence[int], values: Mapping[int, float], n_blocks: int) -> dict[str, Any]:
    wanted = min(LEAST_TRIPLES, comb(n_blocks, 3))
    mine = values.get(mask_of(blocks))
    if mine is None or len(values) < max(wanted, 2):
        why = (
            "this set was not measured"
            if mine is None
            else f"{len(values)} triples were measured; it takes {wanted}"
        )
        return {"percentile": None, "regret": None, "reason": why}
    return {"percentile": percentile(mine, values), "regret": mine - min(values.values())}


def percentile(mine: float, values: Mapping[int, float]) -> float:
    """Returns the share of the other values that are smaller, ties counting half."""
    others: Floats = np.array(list(values.values()))
    smaller, equal = (others < mine).sum(), (others == mine).sum() - 1
    return float((smaller + equal / 2) / (len(others) - 1))


def _improves_fairly(blocks: Sequence[int], evidence: Evidence) -> bool | None:
    """Returns whether |D| falls and the reference is hurt no more; None where not measured."""
    rows, disparity = _rows(evidence), evidence.disparity
    after, before = rows.get(mask_of(blocks)), rows[0]
    if after is None or not np.isfinite(disparity[[before, after]]).all():
        return None
    falls = abs(disparity[after]) < abs(disparity[before])
    return bool(falls and evidence.damage[after, 0] <= evidence.damage[before, 0])


def _rows(evidence: Evidence) -> dict[int, int]:
    return {int(mask): row for row, mask in enumerate(evidence.masks)}


def summarize(rows: Sequence[Mapping[str, Any]], success_share: float) -> list[dict[str, Any]]:
    """Returns by kind of forecast and objective how many families were a success.

    A family's percentile is the mean over its models. The baselines are judged by the same rule.

    Args:
        rows: As :func:`~bitgap.theory.forecast.prediction.leave_one_family_out` returns them.
        success_share: Of families that must succeed.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    return [
        {"kind": kind, "objective": objective, "who": who}
        | _successes([r for r in rows if r["kind"] == kind], objective, who, success_share)
        for kind in kinds
        for objective in OBJECTIVES
        for who in ("forecast", "first_three", "origin", "largest_damage")
    ]


def _successes(
    rows: Sequence[Mapping[str, Any]], objective: str, who: str, success_share: float
) -> dict[str, Any]:
    by_family: dict[str, list[float]] = {}
    for row in rows:
        scored = row["objectives"][objective]
        place = (scored if who == "forecast" else scored["baselines"][who])["percentile"]
        if place is not None:
            by_family.setdefault(row["family"], []).append(place)
    means = [float(np.mean(places)) for places in by_family.values()]
    n = len(means)
    hits = sum(mean <= SUCCESS for mean in means)
    return {
        "families": n,
        "successes": hits,
        "mean_percentile": float(np.mean(means)) if means else None,
        "success": hits >= success_share * n - 1e-3 if n else None,
    }
