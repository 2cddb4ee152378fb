"""Rate and distortion: what scalar quantizers of a Gaussian reach, and models of damage by bits.

==  ==================================================  ===========================================
M0  a                                                   bits and protection change nothing
M1  a·q^(−b)·(1 − c·p)                                  the origin's form, p the share protected
M2  Σ_{l∉S} α_l·t_l(bits)², given                       a forecast without a parameter
M3  a_λ·q^(−b)·(1 − c_λ·p)                              M1 with each language's own a and c
M4  a·(1 − c·p)/(1 + (q/2^m)^b)                         M1 that saturates at few bits
==  ==================================================  ===========================================

The rate is log2 q, q = 2^(bits − 1) − 1 the largest level, and not bits: error goes with 1/q², and
a bit more than doubles q where bits are few, so that per bit even theory's own slope would hang on
which numbers of bits were swept (2.60 from 2 to 5 of them, 2.05 from 5 to 8).

Every model is a level times a shape, so the level is solved for exactly and only the shape is
searched (variable projection, Golub & Pereyra 1973). On values that are logarithms errors have one
size; on others one size relative to :attr:`Cells.size`. Pure numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.optimize import OptimizeResult, least_squares
from scipy.stats import norm

from bitgap.records import Bools, Floats, Integers

Model = Literal["M0", "M1", "M2", "M3", "M4"]
MODELS: tuple[Model, ...] = ("M0", "M1", "M2", "M3", "M4")

# What is left at full share in M1, 1 − c·p_max, on a grid of some 2.4 % a step; below the first c
# would make damage negative somewhere, and beyond the last protection would multiply it by 8.
_LEFT = np.geomspace(0.002, 8.0, 350)
_LEAST_LEFT = float(_LEFT[0])
_STEEPEST = 8.0
_FEWEST_LEVELS = 3  # numbers of bits left after one is held out, that a line may be tried on


# -- quantizers of a Gaussian ---------------------------------------------------------------------


def gaussian_distortion(rate_bits: Floats | float) -> Floats:
    """Returns D(R)/σ² = 2^(−2R), the least mean squared error of a Gaussian at a rate (Shannon).

    A source of that variance and another density has a D(R) below it, never above it.

    Example:
        >>> float(gaussian_distortion(2.0))
        0.0625
    """
    return np.exp2(-2.0 * np.asarray(rate_bits, dtype=np.float64))


@lru_cache(maxsize=16)
def lloyd_max_distortion(bits: int) -> float:
    """Returns the mean squared error of the best 2^bits-level scalar quantizer of N(0, 1).

    Lloyd's conditions are iterated from the levels of the best compander (Panter & Dite 1951).

    Args:
        bits: 1 to 8.

    Example:
        >>> round(lloyd_max_distortion(1), 4)
        0.3634
    """
    n = 1 << bits
    levels = np.sqrt(3.0) * norm.ppf((2 * np.arange(n) + 1) / (2 * n))
    distortion = float("inf")
    for _ in range(20_000):
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        mass = np.diff(norm.cdf(edges))
        first = -np.diff(norm.pdf(edges))  # ∫ x φ(x) dx over each cell
        levels = first / mass
        # Of centroids the error is what their own spread leaves of the variance.
        before, distortion = distortion, 1.0 - float(first @ levels)
        if before - distortion < 1e-12:
            break
    return distortion


# -- cells ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """What a model is fitted to: n values with what they are explained by, (n) each."""

    log_q: Floats
    """log2 of the largest level, q = 2^(bits − 1) − 1."""
    share: Floats
    """Share of blocks protected, p."""
    language: Integers
    """Number of the language from 0; 0 throughout where values are of all languages."""
    values: Floats
    """log2 of a damage or ratio where ``log``, else the quantity itself."""
    forecast: Floats
    """M2's value; NaN throughout where there is none."""
    log: bool = True
    size: Floats | None = None
    """How large errors are against each other; alike when None."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def weights(self) -> Floats:
        """One over ``size``, (n)."""
        return np.ones(len(self)) if self.size is None else 1 / self.size

    def where(self, mask: Bools) -> Cells:
        """Returns some of the cells."""
        names = ("log_q", "share", "language", "values", "forecast")
        size = None if self.size is None else self.size[mask]
        return replace(self, **{name: getattr(self, name)[mask] for name in names}, size=size)


@dataclass(frozen=True)
class Fit:
    """A model with its parameters found.

    Attributes:
        model: Which.
        levels: Level of each language, or the one of all; log2 of it where cells are logarithms.
        shape: Parameters searched for, by name; of M3 ``c`` stands for all languages' mean.
        own: M3's c of each language; empty for other models.
        spread: Standard deviation of the weighted residuals.
        r2: Share of the values' weighted variance explained; NaN where they do not vary.
    """

    model: Model
    levels: Floats
    shape: Mapping[str, float]
    own: Floats
    spread: float
    r2: float

    def values(self, cells: Cells) -> Floats:
        """Returns what the model says of some cells, (n)."""
        if self.model == "M2":
            return cells.forecast
        level = self.levels[cells.language if len(self.levels) > 1 else np.zeros(len(cells), int)]
        shape = _shape(self.model, self.shape, self.own, cells)
        return level + shape if cells.log else level * np.exp2(shape)


def fit(model: Model, cells: Cells) -> Fit:
    """Returns a model fitted by weighted least squares.

    Args:
        model: Which; M2 has nothing to fit but the size of its errors.
        cells: At least two values of log_q and of share for M1, M3 and M4 to be determined.

    Example:
        >>> log_q, share = (grid.ravel() for grid in np.meshgrid([2.0, 3.0, 4.0, 5.0], [0.0, 0.5]))
        >>> values = 1 - 2 * log_q + np.log2(1 - 0.5 * share)
        >>> alike, unknown = np.zeros(8, dtype=int), np.full(8, np.nan)
        >>> cells = Cells(log_q, share, alike, values, unknown)
        >>> found = fit("M1", cells)
        >>> [round(found.shape[name], 2) for name in "bc"], round(found.r2, 3)
        ([2.0, 0.5], 1.0)
    """
    found = Fit(model, np.zeros(1), {}, np.zeros(0), np.nan, np.nan)
    if model == "M1" and cells.log:
        a, b, c = original_form(cells.values[None], cells.log_q, cells.share)[0]
        found = replace(found, levels=np.array([a]), shape={"b": float(b), "c": float(c)})
    elif model != "M2":
        # Off the logarithm values may span a hundred orders; of size 1 no square overflows.
        size = 1.0 if cells.log else float(np.abs(cells.values * cells.weights).max()) or 1.0
        found = _searched(model, replace(cells, values=cells.values / size))
        found = replace(found, levels=found.levels * size)
    residuals = (cells.values - found.values(cells)) * cells.weights
    centre = np.average(cells.values, weights=cells.weights**2)
    total = (((cells.values - centre) * cells.weights) ** 2).sum()
    return replace(
        found,
        spread=float(np.sqrt((residuals**2).mean())),
        r2=float(1 - (residuals**2).sum() / total) if total > 0 else np.nan,
    )


def _searched(model: Model, cells: Cells) -> Fit:
    """Returns the fit whose shape least squares finds from a few starts."""
    languages = int(cells.language.max()) + 1 if model == "M3" else 1
    most = (1 - _LEAST_LEFT) / max(float(cells.share.max()), 1e-9)
    names = {"M0": [], "M1": ["b", "c"], "M3": ["b"], "M4": ["b", "c", "m"]}[model]
    bounds = {"b": (-_STEEPEST, _STEEPEST), "c": (-7 * most, most),
              "m": (float(cells.log_q.min()) - 8, float(cells.log_q.max()) + 8)}  # fmt: skip
    limits = [bounds[name] for name in names]
    limits += [bounds["c"]] * languages if model == "M3" else []

    def made(x: Floats) -> Fit:
        shape = dict(zip(names, map(float, x), strict=False))
        own = x[1:] if model == "M3" else np.zeros(0)
        if model == "M3":
            shape["c"] = float(own.mean())
        log_shape = _shape(model, shape, own, cells)
        levels = _levels(cells, log_shape, languages)
        return Fit(model, levels, shape, own, np.nan, np.nan)

    if not limits:
        return made(np.zeros(0))

    def residuals(x: Floats) -> Floats:
        return (cells.values - made(x).values(cells)) * cells.weights

    low, high = np.array(limits).T
    # A bend may lie under or among the numbers of bits; off the logarithm a steep start can stick.
    bends = (cells.log_q.min() - 2, cells.log_q.min() + 1) if model == "M4" else (0.0,)
    steep = (2.0,) if cells.log else (-2.0, 0.0, 1.0, 2.0, 4.0)
    starts = [{"b": b, "c": 0.0, "m": float(m)} for m in bends for b in steep]
    tries = list[OptimizeResult]()
    for start in starts:
        x0 = np.array([start.get(name, 0.0) for name in names] + [0.0] * (len(limits) - len(names)))
        tries.append(least_squares(residuals, np.clip(x0, low + 1e-6, high - 1e-6),
                                   bounds=(low, high), xtol=1e-10, ftol=1e-10))  # fmt: skip
    return made(min(tries, key=lambda found: found.cost).x)


def _shape(model: Model, shape: Mapping[str, float], own: Floats, cells: Cells) -> Floats:
    """Returns log2 of a model's shape, (n)."""
    if model == "M0":
        return np.zeros(len(cells))
    c = own[cells.language] if model == "M3" else shape["c"]
    left = np.log2(np.maximum(1 - c * cells.share, 1e-9))
    if model == "M4":
        return left - np.logaddexp2(0.0, shape["b"] * (cells.log_q - shape["m"]))
    return left - shape["b"] * cells.log_q


def _levels(cells: Cells, log_shape: Floats, languages: int) -> Floats:
    """Returns the best level of each language given the shape."""
    groups = cells.language if languages > 1 else np.zeros(len(cells), int)
    weights = cells.weights**2
    if cells.log:
        top, bottom = weights * (cells.values - log_shape), weights
    else:
        shape = np.exp2(log_shape)
        top, bottom = weights * cells.values * shape, weights * shape**2
    sums = [np.bincount(groups, weights=x, minlength=languages) for x in (top, bottom)]
    overall = sums[0].sum() / max(sums[1].sum(), 1e-300)
    # A language without a cell here takes the level of all.
    return np.where(sums[1] > 0, sums[0] / np.where(sums[1] > 0, sums[1], 1), overall)


# -- M1 by resamples ------------------------------------------------------------------------------


def original_form(values: Floats, log_q: Floats, share: Floats) -> Floats:
    """Returns (log2 a, b, c) of M1 on logarithms for many sets of values at once, (W x 3).

    Given c the form is linear; c is searched on a grid of 1 − c·p_max and refined by a parabola
    through the best three. NaN for c, taken as 0, where shares do not vary, and for all where the
    levels do not.

    Args:
        values: log2 of damage or ratio, (W x n).
        log_q: log2 of the largest level, (n).
        share: Share protected, (n).

    Example:
        >>> log_q = np.array([2.0, 3.0, 4.0])
        >>> original_form(1 - 2 * log_q[None], log_q, np.zeros(3)).round(3)
        array([[ 1.,  2., nan]])
    """
    if len(log_q) < 3 or np.ptp(log_q) == 0:
        return np.full((len(values), 3), np.nan)
    design = np.column_stack([np.ones(len(log_q)), -log_q])
    solve = np.linalg.pinv(design)
    if np.ptp(share) == 0:
        return np.column_stack([values @ solve.T, np.full(len(values), np.nan)])
    q, _ = np.linalg.qr(design)

    def beside_line(rows: Floats) -> Floats:
        return rows - (rows @ q) @ q.T

    largest = float(share.max())
    shapes = np.log2(1 - np.outer((1 - _LEFT) / largest, share))  # (grid x n)
    shapes = beside_line(shapes)
    loss = (shapes**2).sum(1) - 2 * values @ shapes.T  # ‖y‖² is the same for every c
    lowest: Integers = loss.argmin(1)
    best = np.clip(lowest, 1, len(_LEFT) - 2)
    rows = np.arange(len(values))
    before, at, after = (loss[rows, best + i] for i in (-1, 0, 1))
    curve = before - 2 * at + after
    step = np.where(curve > 0, (before - after) / (2 * np.where(curve > 0, curve, 1)), 0.0)
    log_left = np.interp(best + np.clip(step, -1, 1), np.arange(len(_LEFT)), np.log(_LEFT))
    c = (1 - np.exp(log_left)) / largest
    linear = (values - np.log2(1 - c[:, None] * share)) @ solve.T
    return np.column_stack([linear, c])


# -- prediction -----------------------------------------------------------------------------------


def leave_one_bit_out(model: Model, cells: Cells) -> Floats:
    """Returns each cell's log density, nats, by the fit to all other numbers of bits, (n).

    The error's size is that of the residuals fitted. NaN throughout where fewer than three numbers
    of bits would be left, or there is no forecast.

    Example:
        >>> log_q, share = (grid.ravel() for grid in np.meshgrid([2.0, 3.0, 4.0, 5.0], [0.0, 0.5]))
        >>> values = 1 - 2 * log_q + np.log2(1 - 0.5 * share)
        >>> alike, unknown = np.zeros(8, dtype=int), np.full(8, np.nan)
        >>> cells = Cells(log_q, share, alike, values, unknown)
        >>> form, constant = (leave_one_bit_out(model, cells).mean() for model in ("M1", "M0"))
        >>> bool(form > constant)
        True
    """
    out, levels = np.full(len(cells), np.nan), np.unique(cells.log_q)
    if len(levels) <= _FEWEST_LEVELS or (model == "M2" and not np.isfinite(cells.forecast).all()):
        return out
    for held in levels:
        mine = cells.log_q == held
        fitted = fit(model, cells.where(~mine))
        there = cells.where(mine)
        size = max(fitted.spread, 1e-9) / there.weights
        out[mine] = norm.logpdf(there.values, fitted.values(there), size)
    return out


def by_fold(density: Floats, log_q: Floats) -> tuple[float, float]:
    """Returns the mean over cells and its standard error over held-out numbers of bits.

    Cells of one fold share its extrapolation, so folds are the units.

    Example:
        >>> by_fold(np.array([1.0, 3.0, 5.0, 7.0]), np.array([2.0, 2.0, 3.0, 3.0]))
        (4.0, 2.0)
    """
    levels = np.unique(log_q)
    means = np.array([density[log_q == held].mean() for held in levels])
    counts = np.array([(log_q == held).mean() for held in levels])
    spread = np.sqrt(((counts * (means - density.mean())) ** 2).sum() * len(levels))
    return float(density.mean()), float(spread / np.sqrt(max(len(levels) - 1, 1)))
