"""F0: what the second-order budget of damage forecasts, with nothing fitted.

To second order k_{lλ} ≈ α_{lλ} t_l² and damage adds up over blocks, so S of any mask is forecast
from sensitivities and weight errors alone,

    Ŝ(P) = sd_λ log2[Σ_{l∉P} α_{lλ} t_l² per token],

and D, the mean log2 ratio to the reference per text, likewise. R² is that of the identity line:
1 − Σ(S − Ŝ)²/Σ(S − S̄)², no slope and no intercept. *Adding up* forecasts S from the measured damage
of single blocks, so that it lacks non-linearity and nothing else. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bitgap.records import Bools, Floats
from bitgap.theory.evidence import Evidence, disparity_of, spread_of
from bitgap.theory.formal.inference import rank_correlation


def forecast_row(evidence: Evidence) -> dict[str, Any]:
    """Returns how well masks and blocks of one model are forecast; None where there is no number.

    Keys without an ending are of S; those of D end in ``_disparity``.

    Args:
        evidence: One model.
    """
    # Masks are forecast from their own sentences: S on few differs from S on many.
    alpha, single = evidence.mask_sensitivity, evidence.mask_single
    budget = (evidence.sensitivity if alpha is None else alpha) * evidence.t2[:, None]
    single = evidence.single if single is None else single
    tokens = evidence.tokens if evidence.mask_tokens is None else evidence.mask_tokens
    rounded = 1 - evidence.protects
    kept: Bools = np.asarray(rounded.sum(1) > 0)

    def of(by_block: Floats, measure: Measure) -> dict[str, Any]:
        with np.errstate(invalid="ignore"):
            sums = rounded[kept] @ by_block
        made, true = measure(np.where(sums > 0, sums, np.nan)), measure(evidence.damage[kept])
        fine = np.isfinite(made) & np.isfinite(true)
        return {"masks": int(fine.sum()), **_identity(true[fine], made[fine])}

    def spread(damage: Floats) -> Floats:
        return spread_of(damage, tokens)

    found, added, signed = of(budget, spread), of(single, spread), of(budget, disparity_of)
    return {
        "model": evidence.model,
        "family": evidence.family,
        **found,
        "r2_additive": added["r2"],
        "spearman_additive": added["spearman"],
        "r2_disparity": signed["r2"],
        "spearman_disparity": signed["spearman"],
        **_on_blocks(evidence, evidence.sensitivity * evidence.t2[:, None]),
    }


Measure = Callable[[Floats], Floats]
"""From damage (P x A) to one number a mask, (P)."""


def _identity(measured: Floats, forecast: Floats) -> dict[str, Any]:
    """Returns R² of the identity line, rank correlation and root mean squared error."""
    if len(measured) < 3:
        return {"r2": None, "spearman": None, "rmse_log2": None}
    error = float(((measured - forecast) ** 2).mean())
    spread = float(measured.var())
    ranks = rank_correlation(measured, forecast)
    return {
        "r2": 1 - error / spread if spread > 0 else None,
        "spearman": ranks if np.isfinite(ranks) else None,
        "rmse_log2": float(np.sqrt(error)),
    }


def _on_blocks(evidence: Evidence, budget: Floats) -> dict[str, Any]:
    """Returns R² of the identity lines log k = log αt² and S = Ŝ over single blocks."""
    kept: Bools = np.asarray((budget > 0) & (evidence.single > 0))
    level = _identity(np.log2(evidence.single[kept]), np.log2(budget[kept]))
    true, made = (spread_of(np.where(kept, x, np.nan), evidence.tokens)
                  for x in (evidence.single, budget))  # fmt: skip
    both = np.isfinite(true) & np.isfinite(made)
    return {
        "blocks": int(kept.sum()),
        "r2_log_damage": level["r2"],
        "rmse_log2_damage": level["rmse_log2"],
        "r2_spread_by_block": _identity(true[both], made[both])["r2"],
    }
