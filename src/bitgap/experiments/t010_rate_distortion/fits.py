"""What models of rate and distortion say of the sweep: fits, predictions, and the origin's fit.

Targets are log2 K of every language in every judged cell, S (the spread of log2 K per token over
languages) and the gap G. S is a logarithm already: 2^S is the ratio between languages that lie one
standard deviation apart, and takes the place of the origin's ratio in its form. M2's forecast of S
is the spread of forecast damages; of G the mean difference of them, since expected harm under the
model's own distribution is damage. Errors of G are in proportion to a cell's mean damage, as G
spans the same orders of magnitude. Pure numpy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bitgap.disparity.formulas import gap, original_disparity, spread
from bitgap.experiments.t010_rate_distortion.sweep import Sweep, evened_mean, log2
from bitgap.records import Estimate, Floats, Integers, finite
from bitgap.stats.rate_models import MODELS, Cells, Fit, by_fold, fit, leave_one_bit_out

DAMAGE, SPREAD, GAP = "log2 K", "S", "G"


@dataclass(frozen=True)
class Prediction:
    """How one model fares on one target.

    Attributes:
        fitted: On all cells.
        density: Of every cell when its number of bits is held out, nats, (n).
    """

    fitted: Fit
    density: Floats


@dataclass(frozen=True)
class Fits:
    """All models on all targets."""

    sweep: Sweep

    @cached_property
    def targets(self) -> dict[str, Cells]:
        """Cells of every target that has any."""
        every = {DAMAGE: self._damage(), SPREAD: self._spread(), GAP: self._gap()}
        return {name: cells for name, cells in every.items() if len(np.unique(cells.log_q)) > 1}

    @property
    def _rows(self) -> Integers:
        """The judged cells."""
        return np.flatnonzero(self.sweep.cells)

    def _damage(self) -> Cells:
        sweep = self.sweep
        judged = np.flatnonzero(sweep.languages)
        rows, number = (
            grid.ravel() for grid in np.meshgrid(self._rows, np.arange(len(judged)), indexing="ij")
        )
        columns = judged[number]
        return Cells(
            log_q=sweep.log_q[rows],
            share=sweep.share[rows],
            language=number,
            values=np.log2(sweep.damage[rows, columns]),
            forecast=log2(sweep.forecast[rows, columns]),
        )

    def _spread(self) -> Cells:
        sweep = self.sweep
        values, forecast = (
            sweep.spread(log2(k * sweep.characters_per_token))
            for k in (sweep.damage, sweep.forecast)
        )
        return pooled_cells(sweep, self._rows, values, forecast)

    def _gap(self) -> Cells:
        sweep, others = self.sweep, self.sweep.compared
        rows = self._rows if others.any() else self._rows[:0]
        differences = sweep.forecast - sweep.forecast[:, [sweep.reference]]
        forecast = np.where(others, differences, 0.0).sum(1) / max(others.sum(), 1)
        counted = others.copy()
        counted[sweep.reference] = True
        size = sweep.damage[:, counted].mean(1)
        values = gap(sweep.scores, languages=counted)
        return replace(pooled_cells(sweep, rows, values, forecast), log=False, size=size[rows])

    @cached_property
    def predictions(self) -> dict[str, dict[str, Prediction]]:
        """By target and model; a model without a forecast is absent."""
        return {
            target: {
                model: Prediction(fit(model, cells), leave_one_bit_out(model, cells))
                for model in MODELS
                if model != "M2" or np.isfinite(cells.forecast).all()
            }
            for target, cells in self.targets.items()
        }

    def behind_best(self, target: str, model: str) -> tuple[str, float, float] | None:
        """Returns the best model, and by how much another is behind it with its standard error.

        In nats of log density per cell; None where nothing could be held out.
        """
        every = self.predictions.get(target, {}).items()
        densities = {m: p.density for m, p in every if np.isfinite(p.density).all()}
        if model not in densities:
            return None
        best = max(densities, key=lambda name: densities[name].mean())
        behind, error = by_fold(densities[best] - densities[model], self.targets[target].log_q)
        return best, behind, error

    def original_form_holds(self) -> tuple[bool, str]:
        """Returns whether M1 is within 2 SE of the best on S, and how it fares."""
        standing = self.behind_best(SPREAD, "M1")
        if standing is None:
            return False, "no number of bits could be held out, so the seed form was not tried"
        best, behind, error = standing
        return behind <= 2 * error, (
            f"the seed form M1 is {behind:.2f} ± {2 * error:.2f} nats a cell behind {best}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row for each target and model."""
        rows = list[dict[str, Any]]()
        for target, predictions in self.predictions.items():
            log_q = self.targets[target].log_q
            for model, prediction in predictions.items():
                ready = bool(np.isfinite(prediction.density).all())
                density, error = by_fold(prediction.density, log_q) if ready else (None, None)
                behind = self.behind_best(target, model)
                rows.append({
                    "target": target,
                    "model": model,
                    "cells": len(log_q),
                    "parameters": json.dumps(_parameters(prediction.fitted)),
                    "log_density_per_cell": density,
                    "se2": None if error is None else 2 * error,
                    "behind_best": None if behind is None else behind[1],
                    "behind_best_se2": None if behind is None else 2 * behind[2],
                    "r2": finite(prediction.fitted.r2),
                })  # fmt: skip
        return rows

    def gap_form(self) -> dict[str, Estimate]:
        """Returns M1's b and c of the gap G, without intervals."""
        why = "a fit over cells only; sentences were not resampled"
        form = self.predictions.get(GAP, {}).get("M1")
        units = {"b": "1 per log2 q", "c": "1 per share protected"}
        return {
            f"{name}_gap": _without_interval(form and form.fitted.shape[name], unit, why)
            for name, unit in units.items()
        }

    def curves(self) -> list[dict[str, Any]]:
        """Returns what was measured in every cell, and models' values with nothing protected."""
        sweep, rows = self.sweep, list[dict[str, Any]]()
        for target, measured in (
            (DAMAGE, evened_mean(log2(sweep.damage), sweep.readable)),
            (SPREAD, shown_spread(sweep)),
        ):
            if target not in self.targets:
                continue
            lines = {"measured": measured}
            for model in ("M1", "M2", "M4"):
                if model in self.predictions[target]:
                    fitted = self.predictions[target][model].fitted
                    lines[model] = self._by_cell(target, fitted.values(self.targets[target]))
            rows += [
                {"target": target, "series": name, "bits_per_weight": float(sweep.rate[i]),
                 "design": int(sweep.design[i]), "value": float(values[i])}
                for name, values in lines.items()
                for i in np.flatnonzero(np.isfinite(values))
                if name == "measured" or sweep.design[i] == 0
            ]  # fmt: skip
        return rows

    def _by_cell(self, target: str, values: Floats) -> Floats:
        """Returns a model's values by cell, (P), of damage the mean over languages; NaN where
        nothing is judged.
        """
        out = np.full(len(self.sweep.bits), np.nan)
        each = values.reshape(len(self._rows), -1) if target == DAMAGE else values[:, None]
        out[self._rows] = each.mean(1)
        return out


def shown_spread(sweep: Sweep) -> Floats:
    """Returns S of every cell, (P), also of those not judged: over the judged languages, or over
    all where none is; NaN where one of them may not be read.
    """
    languages = sweep.languages if sweep.languages.any() else np.ones_like(sweep.languages)
    values = spread(sweep.scores, languages=languages)
    return np.where(sweep.readable[:, languages].all(1), values, np.nan)


def pooled_cells(sweep: Sweep, rows: Integers, values: Floats, forecast: Floats) -> Cells:
    """Returns some cells with one number for all languages, of values and forecasts (P) each."""
    return Cells(
        log_q=sweep.log_q[rows],
        share=sweep.share[rows],
        language=np.zeros(len(rows), int),
        values=values[rows],
        forecast=forecast[rows],
    )


def original_fit(sweep: Sweep) -> dict[str, Estimate]:
    """Returns the origin's measure: M1 fitted to D_original over all cells, pooled, with its R².

    As the origin fitted it: against bits, 2 of them and collapsed cells included.
    """
    disparity = original_disparity(sweep.scores)
    rows = np.flatnonzero(np.isfinite(disparity))
    why = "the origin gave no uncertainty; collapsed cells are in, as they were there"
    units = {
        "original_a": "ratio",
        "original_b": "1 per bit",
        "original_c": "1 per share protected",
        "original_r2": "share of variance",
    }
    if len(np.unique(sweep.bits[rows])) < 2:
        return {
            name: _without_interval(None, unit, "D_original is undefined")
            for name, unit in units.items()
        }
    nothing = np.full(len(disparity), np.nan)
    cells = pooled_cells(sweep, rows, disparity, nothing)
    fitted = fit("M1", replace(cells, log_q=sweep.bits[rows], log=False))
    values = (fitted.levels[0], fitted.shape["b"], fitted.shape["c"], fitted.r2)
    return {
        name: _without_interval(value, unit, why)
        for (name, unit), value in zip(units.items(), values, strict=True)
    }


def _parameters(fitted: Fit) -> Mapping[str, float]:
    """Returns a model's parameters by name, rounded for a table."""
    if fitted.model == "M2":
        return {}
    named = {"level": float(fitted.levels.mean()), **fitted.shape}
    return {name: round(value, 4) for name, value in named.items() if np.isfinite(value)}


def _without_interval(value: float | None, unit: str, why: str) -> Estimate:
    return Estimate(value=finite(value), unit=unit, reason=why)
