"""The ladder of the formal model: how much of a response each rung explains, in and out of sample.

A rung's row holds R² in sample with slopes common to families, R² with each family's own slopes,
R²_LOFO and the mean rank correlation in held-out families, and R² at contiguous stretches of
blocks held out within a model. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitgap.records import Floats
from bitgap.theory.evidence import Evidence
from bitgap.theory.formal.inference import (
    Moments,
    moments,
    r2_held_out_blocks,
    rank_correlation,
    spearman_lofo,
    terms,
)
from bitgap.theory.formal.rows import (
    LADDER,
    OPEN,
    ORIGINAL_TERMS,
    FamilyRows,
    Gates,
    ModelRows,
    Response,
    gather_rows,
    smooth_features,
)

DRAWS = 200
"""Draws of random smooth features."""
SEED = 0
"""Of those draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """All rungs on one response.

    Attributes:
        response: Which one.
        families: Rows that were fitted.
        rows: A row for each rung, for a table.
        smooth: F5's moments, (draws x M); None for fewer than two families.
        left_out: Why models have no rows, by name.
    """

    response: Response
    families: tuple[FamilyRows, ...]
    rows: tuple[Mapping[str, Any], ...]
    smooth: Moments | None
    left_out: Mapping[str, str]

    def r2_lofo(self, rung: str) -> float | None:
        """Returns R²_LOFO of one rung, None where it has none."""
        return next((row["r2_lofo"] for row in self.rows if row["rung"] == rung), None)


def ladder(
    evidence: Sequence[Evidence],
    response: Response = "spread",
    *,
    gates: Gates = OPEN,
    draws: int = DRAWS,
) -> Ladder:
    """Returns all rungs on one response.

    Args:
        evidence: Any number of models.
        response: ``spread``, ``shapley`` or ``original``.
        gates: What a model must have.
        draws: Draws of random smooth features.
    """
    families, left_out = gather_rows(evidence, response, gates)
    rows = list[dict[str, Any]]()
    smooth = None
    if families:
        rows = [_forecast(families), *(_rung(families, name) for name in LADDER)]
        smooth = _smooth(families, draws)
        rows.append(_smooth_row(families, smooth))
    return Ladder(
        response=response,
        families=tuple(families),
        rows=tuple({"response": response, **row} for row in rows),
        smooth=smooth if len(families) > 1 else None,
        left_out=left_out,
    )


def _row(rung: str, families: Sequence[FamilyRows], **numbers: Any) -> dict[str, Any]:
    """Returns a row; what a rung has no number for is None."""
    return {
        "rung": rung,
        "families": len(families),
        "n_rows": sum(m.response.size for f in families for m in f.models),
        "r2_in_sample": None,
        "r2_within": None,
        "r2_lofo": None,
        "spearman_lofo": None,
        "r2_blocks": None,
        "reason": "",
        **numbers,
    }


def _rung(families: Sequence[FamilyRows], name: str) -> dict[str, Any]:
    names = LADDER[name]
    kept = [f for f in families if all(np.isfinite(m.design(names)).all() for m in f.models)]
    if not kept:
        return _row(name, kept, reason="a predictor is undefined in every family")
    found = moments(kept, terms(names))
    numbers = {
        "r2_in_sample": float(found.r2(found.slopes())),
        "r2_within": float(found.r2(found.family_slopes())),
        "r2_blocks": r2_held_out_blocks(kept, names),
    }
    if len(kept) == 1:
        return _row(name, kept, **numbers, reason="one family; none can be held out")
    lofo = float(found.r2_lofo())
    return _row(name, kept, **numbers, r2_lofo=lofo, spearman_lofo=spearman_lofo(kept, names))


def _forecast(families: Sequence[FamilyRows]) -> dict[str, Any]:
    """Returns F0's row: fitted to nothing, it is the same in and out of sample."""
    kept = [f for f in families if all(m.forecast is not None for m in f.models)]
    if not kept:
        return _row("F0", kept, reason="no forecast of this response, or α is not above 0")
    error = [np.mean([((m.response - _known(m)) ** 2).mean() for m in f.models]) for f in kept]
    ranks = [np.mean([rank_correlation(m.response, _known(m)) for m in f.models]) for f in kept]
    r2, rank = float(1 - np.sum(error) / _power(kept)), float(np.mean(ranks))
    rho = rank if np.isfinite(rank) else None
    return _row("F0", kept, r2_in_sample=r2, r2_within=r2, r2_lofo=r2, spearman_lofo=rho)


def _known(model: ModelRows) -> Floats:
    assert model.forecast is not None
    return model.forecast


def _power(families: Sequence[FamilyRows]) -> float:
    return float(sum(np.mean([(m.response**2).mean() for m in f.models]) for f in families))


def _smooth(families: Sequence[FamilyRows], draws: int) -> Moments:
    rng = np.random.default_rng(SEED)
    shape = (draws, len(ORIGINAL_TERMS))
    return moments(families, lambda m: np.swapaxes(smooth_features(m.r, rng, shape), -1, -2))


def _smooth_row(families: Sequence[FamilyRows], smooth: Moments) -> dict[str, Any]:
    return _row(
        "F5",
        families,
        r2_in_sample=float(smooth.r2(smooth.slopes()).mean()),
        r2_within=float(smooth.r2(smooth.family_slopes()).mean()),
        r2_lofo=float(smooth.r2_lofo().mean()) if len(families) > 1 else None,
        reason="the mean over draws",
    )
