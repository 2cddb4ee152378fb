"""How good a forecast was, once the model is measured; pure.

A triple's percentile is the share of the other triples that do better, ties counting half: 0 is the
best, and a triple picked at random gets one half on average. Its regret is how much it loses to the
best triple. Both are formed among all C(L, 3) triples where all were measured; otherwise, where all
sets of at most two protected blocks were, among all triples by the expansion to second order,

    K(i,j,k) ≈ K(i,j) + K(i,k) + K(j,k) − K(i) − K(j) − K(k) + K(∅),

which lacks what three blocks do that no two of them do; otherwise among the triples that were drawn
at random, if at least :data:`LEAST_TRIPLES` were. Else they are None with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from scipy import stats

from bitgap.quant.sets import mask_of
from bitgap.records import Floats
from bitgap.stats.mask_design import original_set
from bitgap.theory.evidence import Evidence, spread_of
from bitgap.theory.forecast.intervals import Range, measured

LEAST_TRIPLES = 200
"""Random triples that stand for all, where not all were measured; the method's number."""
SUCCESS = 0.10
"""Percentile at or under which a predicted triple is a success; the method's number."""

OBJECTIVES = ("spread", "damage")
UNITS = {"spread": "log2, S", "damage": "bits per reference character, mean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """What became of a forecast, JSON-ready."""

    masks: Mapping[str, Any]
    """How many were ``asked``, and by quantity (:data:`~.intervals.QUANTITIES`): ``n`` that were
    measured; ``spearman`` and ``rmse``, in log2, of predicted with measured; and ``covered``, the
    share of intervals that hold it. None with a ``reason``."""
    objectives: Mapping[str, Mapping[str, Any]]
    """By objective: the predicted triple's blocks, percentile and regret, and those of the
    baselines; ``improves_fairly`` says whether S falls without more damage to the reference."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the scorecard as JSON."""
        return asdict(self)


def score(
    protect: Mapping[str, Sequence[int]],
    masks: Sequence[Sequence[int]],
    predicted: Mapping[str, Sequence[Range]],
    evidence: Evidence,
) -> Scorecard:
    """Returns how good a forecast was.

    Args:
        protect: The three blocks to protect, by objective.
        masks: Protected blocks of the masks that were predicted.
        predicted: By quantity what was predicted of each, with its interval.
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
    masks: Sequence[Sequence[int]], predicted: Mapping[str, Sequence[Range]], evidence: Evidence
) -> dict[str, Any]:
    rows, truth = _rows(evidence), measured(evidence)
    places = [rows.get(mask_of(blocks)) for blocks in masks]
    found: dict[str, Any] = {"asked": len(masks)}
    for name, ranges in predicted.items():
        came = np.array([np.nan if row is None else truth[name][row] for row in places])
        found[name] = _score_quantity(np.array(ranges), came)
    return found


def _score_quantity(predicted: Floats, truth: Floats) -> dict[str, Any]:
    """Returns how good predicted numbers (P x 3, with their intervals) were."""
    fine = np.isfinite(truth)
    n = int(fine.sum())
    if n < 3:
        why = f"{n} of the {len(truth)} masks were measured; Spearman's r needs three"
        return {"n": n, "spearman": None, "rmse": None, "covered": None, "reason": why}
    (value, low, high), truth = predicted[fine].T, truth[fine]
    found: dict[str, Any] = {
        "n": n,
        "rmse": float(np.sqrt(((value - truth) ** 2).mean())),
        "covered": float(((low <= truth) & (truth <= high)).mean()),
    }
    if min(np.ptp(value), np.ptp(truth)) < 1e-9:
        return found | {"spearman": None, "reason": "what is predicted or measured is one number"}
    ranks = stats.rankdata(value), stats.rankdata(truth)
    return found | {"spearman": float(np.corrcoef(*ranks)[0, 1])}


def _score_triples(
    objective: str,
    blocks: Sequence[int],
    baselines: Mapping[str, Sequence[int]],
    evidence: Evidence,
) -> dict[str, Any]:
    values, how = _by_triple(objective, evidence)
    found: dict[str, Any] = {
        "blocks": list(blocks),
        "unit": UNITS[objective],
        "triples": len(values),
        "triples_are": how,
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


def triples(evidence: Evidence) -> tuple[dict[int, Floats], str]:
    """Returns damage (A) by mask of triples that may be compared, and how it was got.

    See the module's text; empty where too few were measured.
    """
    n, rows = evidence.n_blocks, _rows(evidence)
    every = [mask_of(blocks) for blocks in combinations(range(n), 3)]
    if all(mask in rows for mask in every):
        return {mask: evidence.damage[rows[mask]] for mask in every}, "measured"
    fewer = [mask_of(blocks) for k in range(3) for blocks in combinations(range(n), k)]
    if all(mask in rows for mask in fewer):
        return _expanded(evidence, rows), "expanded from pairs"
    drawn = evidence.sampled
    found = {
        mask: evidence.damage[row]
        for mask, row in rows.items()
        if mask.bit_count() == 3 and (drawn is None or drawn[row])
    }
    return found, "drawn at random"


def _expanded(evidence: Evidence, rows: Mapping[int, int]) -> dict[int, Floats]:
    n, damage = evidence.n_blocks, evidence.damage
    one = damage[[rows[1 << i] for i in range(n)]]
    two = np.zeros((n, n, damage.shape[1]))
    for i, j in combinations(range(n), 2):
        two[i, j] = two[j, i] = damage[rows[(1 << i) | (1 << j)]]
    i, j, k = np.array(list(combinations(range(n), 3)), dtype=np.int64).reshape(-1, 3).T
    left = two[i, j] + two[i, k] + two[j, k] - one[i] - one[j] - one[k] + damage[rows[0]]
    return {mask_of((int(a), int(b), int(c))): values
            for a, b, c, values in zip(i, j, k, left, strict=True)}  # fmt: skip


def _by_triple(objective: str, evidence: Evidence) -> tuple[dict[int, float], str]:
    """Returns what is to be small, by mask of every triple; undefined ones left out."""
    found, how = triples(evidence)
    damage = np.array(list(found.values())).reshape(len(found), len(evidence.languages))
    tokens = evidence.tokens if evidence.mask_tokens is None else evidence.mask_tokens
    value = spread_of(damage, tokens) if objective == "spread" else damage.mean(1)
    pairs = zip(found, value, strict=True)
    return {mask: float(v) for mask, v in pairs if np.isfinite(v)}, how


def standing(blocks: Sequence[int], objective: str, evidence: Evidence) -> float | None:
    """Returns a triple's percentile by an objective, 0 the best; None where it has none."""
    values, _ = _by_triple(objective, evidence)
    return _placed(blocks, values, evidence.n_blocks)["percentile"]


def _placed(blocks: Sequence[int], values: Mapping[int, float], n_blocks: int) -> dict[str, Any]:
    wanted = min(LEAST_TRIPLES, comb(n_blocks, 3))
    mine = values.get(mask_of(blocks))
    if mine is None or len(values) < max(wanted, 2):
        why = (
            f"{len(values)} triples were measured; it takes {wanted}"
            if len(values) < max(wanted, 2)
            else "this set was not measured"
        )
        return {"percentile": None, "regret": None, "reason": why}
    return {"percentile": percentile(mine, values), "regret": mine - min(values.values())}


def percentile(mine: float, values: Mapping[int, float]) -> float:
    """Returns the share of the other values that are smaller, ties counting half."""
    others: Floats = np.array(list(values.values()))
    smaller, equal = (others < mine).sum(), (others == mine).sum() - 1
    return float((smaller + equal / 2) / (len(others) - 1))


def _improves_fairly(blocks: Sequence[int], evidence: Evidence) -> bool | None:
    """Returns whether S falls and the reference is hurt no more; None where not measured."""
    rows, spread = _rows(evidence), evidence.spread
    after, before = rows.get(mask_of(blocks)), rows[0]
    if after is None or not np.isfinite(spread[[before, after]]).all():
        return None
    falls = spread[after] < spread[before]
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
