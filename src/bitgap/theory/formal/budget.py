"""F0: what the second-order budget of damage forecasts, with nothing fitted.

To second order k_{lλ} ≈ α_{lλ} t_l² and damage adds up over blocks, so the disparity of any mask is
forecast from sensitivities and weight errors alone,

    D̂(S) = mean_λ log2[Σ_{l∉S} α_{lλ} t_l² / Σ_{l∉S} α_{l,ref} t_l²].

R² is that of the identity line: 1 − Σ(D − D̂)²/Σ(D − D̄)², no slope and no intercept. The same
budget with α_{lλ} replaced by what a rung of the ladder predicts,

    α_{l,ref} t_l² · 2^{ŷ_{lλ}},  ŷ = measured mean of y by language + predicted profile,

says how far that rung gets on masks; it is given the levels, which F0 has to forecast. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.records import Bools, Floats
from bitgap.theory.evidence import Evidence, disparity_of, log_ratio
from bitgap.theory.formal.inference import rank_correlation


def forecast_row(evidence: Evidence, profiles: Mapping[str, Floats]) -> dict[str, Any]:
    """Returns how well masks and blocks of one model are forecast; None where there is no number.

    Args:
        evidence: One model.
        profiles: What rungs of the ladder predict of y, centred, (L) each, by rung.
    """
    row: dict[str, Any] = {"model": evidence.model, "family": evidence.family}
    # Masks are forecast from their own sentences: D on few differs from D on many.
    alpha, single = evidence.mask_sensitivity, evidence.mask_single
    budget = (evidence.sensitivity if alpha is None else alpha) * evidence.t2[:, None]
    single = evidence.single if single is None else single
    found = _on_masks(evidence, budget)
    row |= {name: found[name] for name in ("masks", "r2", "spearman", "rmse_log2")}
    row |= {f"{name}_additive": value for name, value in _on_masks(evidence, single).items()
            if name in ("r2", "spearman")}  # fmt: skip
    ratios = log_ratio(single)
    level = np.where(np.isfinite(ratios).all(0), ratios.mean(0), np.nan)
    for name, profile in profiles.items():
        others = budget[:, :1] * 2.0 ** (level + profile[:, None])
        row[f"r2_{name}"] = _on_masks(evidence, np.hstack([budget[:, :1], others]))["r2"]
    return row | _on_blocks(evidence, evidence.sensitivity * evidence.t2[:, None])


def _on_masks(evidence: Evidence, budget: Floats) -> dict[str, Any]:
    rounded = 1 - evidence.protects
    with np.errstate(invalid="ignore"):
        sums = rounded @ budget
    forecast = disparity_of(np.where(sums > 0, sums, np.nan))
    damage = np.where(evidence.damage > 0, evidence.damage, np.nan)
    measured = disparity_of(damage)
    kept: Bools = np.asarray(np.isfinite(forecast) & np.isfinite(measured) & (rounded.sum(1) > 0))
    return {"masks": int(kept.sum()), **_identity(measured[kept], forecast[kept])}


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
    """Returns R² of the identity lines log k = log αt² and y = log2 α-ratio over single blocks."""
    kept: Bools = np.asarray((budget > 0) & (evidence.single > 0))
    level = _identity(np.log2(evidence.single[kept]), np.log2(budget[kept]))
    y, forecast = (log_ratio(np.where(kept, x, np.nan)) for x in (evidence.single, budget))
    both = np.isfinite(y)
    ratio = _identity(y[both], forecast[both])
    return {
        "blocks": int(kept.sum()),
        "r2_log_damage": level["r2"],
        "rmse_log2_damage": level["rmse_log2"],
        "r2_log_ratio": ratio["r2"],
    }
