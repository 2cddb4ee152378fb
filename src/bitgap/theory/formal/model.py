"""The formal model: do variance, boundary and bottleneck say which block is biased, beyond depth?

The origin's formula, disparity ∝ exp(−α·variance − β·boundary − γ·bottleneck), as one rung of a
ladder of models of the same rows (:mod:`bitgap.theory.formal.rows` has responses, signs and units):

==========  ================================================================================
rung        terms
==========  ================================================================================
F0          none: S of the sensitivities, with nothing fitted
F1          position: r, r²
F2          variance
F3          the origin's: variance, boundary, bottleneck
F3 curved   the same with (2r−1)² for the boundary (sensitivity)
F4          F3 and B_l, the mean over languages of the local error ratio
F5          three random smooth features, drawn for each model: what smoothness alone earns
==========  ================================================================================

θ = R²_LOFO(F3) − R²_LOFO(F1), a family held out at a time
(:mod:`bitgap.theory.formal.inference`). Supported further needs F3 above the 95th percentile of
F5's draws and intervals of α, β, γ above 0. Models of fewer blocks or languages than declared are
left out and named; with fewer families than declared nothing is concluded.
Pure numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.errors import UserError
from bitgap.records import Estimate, Finding, Floats, finite
from bitgap.stats.across import judge_families
from bitgap.stats.pooling import pairings
from bitgap.stats.verdicts import Thresholds, scoped_sentence
from bitgap.theory.evidence import Evidence
from bitgap.theory.families import scope_of
from bitgap.theory.formal.budget import forecast_row
from bitgap.theory.formal.controls import formal_controls, found_at
from bitgap.theory.formal.inference import (
    UNIT,
    Moments,
    Swaps,
    gain_across,
    inflation,
    moments,
    slope_estimates,
    swapped_cross,
    terms,
    wild_p,
)
from bitgap.theory.formal.ladder import Ladder, ladder
from bitgap.theory.formal.rows import LADDER, ORIGINAL_TERMS, FamilyRows, Gates, Response
from bitgap.theory.origin.regression import OriginalRegression, evidence_regression

TITLE = "Do variance, boundary and bottleneck predict how unequal a block's damage is?"

PERCENTILE = 95.0
"""Of F5's draws, above which F3 must lie."""

RESPONSES: tuple[Response, ...] = ("spread", "shapley", "original")
COEFFICIENTS: Mapping[str, str] = dict(zip(("alpha", "beta", "gamma"), ORIGINAL_TERMS, strict=True))


def judge_formal(evidence: Sequence[Evidence], thresholds: Thresholds) -> Finding:
    """Returns the finding on the formal model.

    Args:
        evidence: One entry a model; models of one family are one unit.
        thresholds: What was declared.

    Raises:
        UserError: If there is no model at all.
    """
    if not evidence:
        raise UserError("the formal model needs at least one measured model; none was given")
    declared = thresholds.of("formal")
    sesoi = float(declared["sesoi"])
    gates = Gates(blocks=int(declared["blocks_min"]), languages=int(declared["languages_min"]))
    main, *others = (ladder(evidence, response, gates=gates) for response in RESPONSES)
    families = main.families
    swaps = None
    if len(families) > 1:
        swaps = Swaps.of(families, terms(LADDER["F1"]), terms(LADDER["F3"]))
    across = gain_across(families, swaps, thresholds.level, dict(main.left_out))
    slopes = _slopes(families, thresholds.level)
    controls = formal_controls(families, swaps, main.smooth, sesoi, thresholds)
    tables = _tables(evidence, main, others, slopes, thresholds.level)
    tables["power"] = _power(families, sesoi, thresholds.level)
    estimates = {"theta": across.estimate, **slopes, **_estimates(main, tables, thresholds)}
    verdict = judge_families(
        [across], [sesoi], controls, thresholds,
        gate=None if families else f"no model can be asked: {_left(main.left_out)}",
        extra=_further(main, slopes, tables["f5_draws"]),
    )  # fmt: skip
    asked = [one for one in evidence if one.model not in main.left_out]
    about = scope_of(asked or evidence)
    return Finding(
        experiment="formal",
        hypothesis="formal",
        title=TITLE,
        primary="theta",
        estimates=estimates,
        original_measure=_original_measure(evidence),
        controls=tuple(controls),
        verdict=replace(verdict, scope=f"{verdict.scope}: {about}"),
        sentence=scoped_sentence(_sentence(len(families), estimates, main.left_out), about),
        tables=tables,
        thresholds_hash=thresholds.hash,
    )


def _slopes(families: Sequence[FamilyRows], level: float) -> dict[str, Estimate]:
    if not families:
        absent = Estimate(value=None, unit="log2 per predictor unit", reason="no rows")
        return dict.fromkeys(COEFFICIENTS, absent)
    found = slope_estimates(families, ORIGINAL_TERMS, level)
    return {greek: found[term] for greek, term in COEFFICIENTS.items()}


def _tables(
    evidence: Sequence[Evidence],
    main: Ladder,
    others: Sequence[Ladder],
    slopes: Mapping[str, Estimate],
    level: float,
) -> dict[str, Any]:
    return {
        "ladder": [dict(row) for one in (main, *others) for row in one.rows],
        "f0": [forecast_row(one) for one in evidence],
        "vif": _vif(main.families),
        "coefficients": _coefficients(main, slopes) + _other_coefficients(others, level),
        "f5_draws": _draws(main),
        "left_out": [
            {"response": one.response, "model": model, "reason": why}
            for one in (main, *others)
            for model, why in one.left_out.items()
        ],
    }


GAINS = (1.0, 2.0, 4.0, 8.0)
"""Planted for the table of power, in smallest effects of interest."""


def _power(families: Sequence[FamilyRows], sesoi: float, level: float) -> list[dict[str, Any]]:
    """Returns how often gains of several sizes are found in what these families leave unexplained.

    No gain can reach 1.
    """
    if len(families) < 3:
        return []
    rows = list[dict[str, Any]]()
    for times in GAINS:
        if times * sesoi < 1:
            found = found_at(families, times * sesoi, sesoi, level)
            rows.append({"gain": times * sesoi, "found": sum(found), "plantings": len(found)})
    return rows


def _vif(families: Sequence[FamilyRows]) -> list[dict[str, Any]]:
    names = LADDER["F4"]
    kept = [f for f in families if all(np.isfinite(m.design(names)).all() for m in f.models)]
    sets = {"F3": (families, ORIGINAL_TERMS), "F4": (kept, names)}
    rows = list[dict[str, Any]]()
    for rung, (those, predictors) in sets.items():
        found = inflation(those, predictors) if those else np.full(len(predictors), np.inf)
        rows += [
            {"rung": rung, "term": term, "vif": finite(v)}
            for term, v in zip(predictors, found, strict=True)
        ]
    return rows


def _coefficients(main: Ladder, slopes: Mapping[str, Estimate]) -> list[dict[str, Any]]:
    if not main.families:
        return []
    found = moments(main.families, terms(ORIGINAL_TERMS))
    several = len(main.families) > 1
    swap = _slope_swap_p(main.families, found) if several else [None] * len(ORIGINAL_TERMS)
    common = found.slopes()[0]
    return [
        {
            "response": main.response,
            "coefficient": greek,
            "term": term,
            "pooled": float(common[i]),
            "mean": slopes[greek].value,
            "low": slopes[greek].low,
            "high": slopes[greek].high,
            "p_wild_cluster": wild_p(found, i) if several else None,
            "p_model_swap": swap[i],
        }
        for i, (greek, term) in enumerate(COEFFICIENTS.items())
    ]


def _slope_swap_p(families: Sequence[FamilyRows], found: Moments) -> list[float]:
    """Returns the share of pairings whose common slope reaches the true one, by term.

    The boundary is the same in all models of one depth, so a swap says nothing of it there.
    """
    ways = pairings(len(families))
    cross = swapped_cross(families, terms(ORIGINAL_TERMS))[np.arange(len(families)), ways]
    gram: Floats = found.gram.sum(0)
    made: Floats = cross.sum(1) @ np.linalg.pinv(gram, hermitian=True)
    return [float(p) for p in (made >= made[0] - 1e-12).mean(0)]


def _other_coefficients(ladders: Sequence[Ladder], level: float) -> list[dict[str, Any]]:
    return [row for one in ladders for row in _coefficients(one, _slopes(one.families, level))]


def _draws(main: Ladder) -> dict[str, Any]:
    if main.smooth is None:
        return {"draws": 0, "mean": None, "percentile_95": None}
    lofo = main.smooth.r2_lofo()
    return {
        "draws": len(lofo),
        "mean": float(lofo.mean()),
        "percentile_95": float(np.percentile(lofo, PERCENTILE)),
        "within_percentile_95": float(
            np.percentile(main.smooth.r2(main.smooth.family_slopes()), PERCENTILE)
        ),
    }


def _estimates(
    main: Ladder, tables: Mapping[str, Any], thresholds: Thresholds
) -> dict[str, Estimate]:
    how: dict[str, Any] = {"unit": UNIT, "level": thresholds.level, "n": len(main.families)}
    out = dict[str, Estimate]()
    for row in main.rows:
        why = row["reason"] or "no interval; what is compared is the gain over position"
        key = f"r2_lofo_{row['rung'].replace(' ', '_')}"
        out[key] = Estimate(value=row["r2_lofo"], reason=why, **how)
    value = _over_families(tables["f0"], "r2")
    why = "mean over families of R² of the identity line on masks; no interval"
    out["r2_masks_F0"] = Estimate(value=value, reason=why, **how)
    return out


def _left(left_out: Mapping[str, str]) -> str:
    """Returns which models are left out and why, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for model, why in left_out.items():
        by_reason.setdefault(why, []).append(model.rstrip("/").rsplit("/", 1)[-1])
    return "; ".join(f"{', '.join(models)}: {why}" for why, models in by_reason.items())


def _over_families(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    by_family: dict[str, list[float]] = {}
    for row in rows:
        if row.get(key) is not None:
            by_family.setdefault(row["family"], []).append(row[key])
    return float(np.mean([np.mean(v) for v in by_family.values()])) if by_family else None


def _further(
    main: Ladder, slopes: Mapping[str, Estimate], draws: Mapping[str, Any]
) -> tuple[bool, str]:
    """Returns whether the further declared conditions for support hold, or which does not."""
    f3, limit = main.r2_lofo("F3"), draws["percentile_95"]
    if f3 is None or limit is None or f3 <= limit:
        return False, f"F3's R² {f3} is not above the 95th percentile of smooth nuisances, {limit}"
    for greek, one in slopes.items():
        if one.low is None or one.low <= 0:
            return False, f"{greek} ({COEFFICIENTS[greek]}) is not clearly above 0"
    return True, ""


def _original_measure(evidence: Sequence[Evidence]) -> dict[str, Estimate]:
    """Returns the mean over models of the origin's own regression."""
    fits, why = list[OriginalRegression](), "no model"
    for one in evidence:
        try:
            fits.append(evidence_regression(one))
        except UserError as error:
            why = str(error)
    how: dict[str, Any] = {"unit": UNIT, "n": len(fits)}
    if not fits:
        return {"r2_of_the_origins_regression": Estimate(value=None, reason=why, **how)}
    numbers = {
        "r2_of_the_origins_regression": [f.r2 for f in fits],
        "r2_with_each_block_left_out": [f.r2_leave_one_out for f in fits],
        "r2_where_nothing_is_related": [f.r2_null for f in fits],
    }
    reason = "mean over models, without interval"
    return {k: Estimate(value=float(np.mean(v)), reason=reason, **how) for k, v in numbers.items()}


def _sentence(n: int, estimates: Mapping[str, Estimate], left_out: Mapping[str, str]) -> str:
    theta = estimates["theta"]
    f0 = estimates["r2_masks_F0"].value
    budget = ""
    if f0 is not None:
        budget = f"; on masks a second-order error budget with nothing fitted has R² {f0:.2f} of S"
    left = f" Left out: {_left(left_out)}." if left_out else ""
    if theta.value is None or theta.low is None or theta.high is None:
        counted = "1 family" if n == 1 else f"{n} families"
        return f"{counted} cannot say what variance, boundary and bottleneck predict{budget}.{left}"
    f1, own = estimates["r2_lofo_F1"].value, estimates["r2_lofo_F3"].value
    first = estimates["r2_lofo_F0"].value
    shown = "" if first is None else f"; the error budget, with nothing fitted, has {first:.2f}"
    return (
        f"In a family that was held out, variance, boundary and bottleneck have R² {own:.2f} of "
        f"a block's S and position {f1:.2f}: a gain of {theta.value:.3f} [{theta.low:.3f}, "
        f"{theta.high:.3f}] over {n} families{shown}{budget}.{left}"
    )
