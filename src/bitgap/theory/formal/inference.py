"""Fit and inference of the formal model, from each family's second moments alone.

A family's models are averaged, a model's rows too, so that a family weighs 1 however many
checkpoints, blocks and languages it has. All rows are centred within the model, which is a free
intercept for each (model, language). Slopes common to families are the least squares over them:
(Σ_f G_f)⁻¹ Σ_f b_f with G_f = X'X/L, b_f = X'y/L; no penalty, nothing iterated, and random slopes
(1+terms|family) enter where they matter with few families, in the spread between the slopes that
families have by themselves (random effects): five units give no components of variance.

**R²_LOFO** = 1 − Σ_f E_f/Σ_f V_f: E_f is the mean squared error over the rows of the held-out
family f of the slopes fitted to all others, V_f the mean square of its rows about its own means by
model and language. **θ** is the mean over families of (E_f(F1) − E_f(F3))/V̄, which is exactly the
difference of both R²; it is tested over families by t, sign flip and model swap. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from bitgap.records import Estimate, Floats, Integers
from bitgap.stats.across import Across, too_few
from bitgap.stats.pooling import (
    least_flip_p,
    least_swap_p,
    pairings,
    random_effects,
    sign_flip_p,
)
from bitgap.theory.formal.rows import LADDER, FamilyRows, ModelRows, without_block

THETA = "gain in leave-one-family-out R² over position"
UNIT = "R²"

FOLDS = 4
"""Contiguous stretches of depth that are held out in turn within a model."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments of M families; arrays may have leading axes of draws.

    Attributes:
        gram: X'X/L, (... x M x K x K).
        cross: X'y/L, (... x M x K).
        power: Mean square of the response, (... x M).
    """

    gram: Floats
    cross: Floats
    power: Floats

    def slopes(self) -> Floats:
        """Returns slopes common to all families, (... x 1 x K)."""
        return _solve(self.gram.sum(-3, keepdims=True), self.cross.sum(-2, keepdims=True))

    def family_slopes(self) -> Floats:
        """Returns each family's own slopes, (... x M x K)."""
        return _solve(self.gram, self.cross)

    def slopes_without(self) -> Floats:
        """Returns slopes of all other families for each one, (... x M x K)."""
        gram = self.gram.sum(-3, keepdims=True) - self.gram
        return _solve(gram, self.cross.sum(-2, keepdims=True) - self.cross)

    def errors(self, slopes: Floats) -> Floats:
        """Returns the mean squared error of slopes in each family, (... x M)."""
        fitted = np.einsum("...k,...kj->...j", slopes, self.gram)
        return self.power + ((fitted - 2 * self.cross) * slopes).sum(-1)

    def r2(self, slopes: Floats) -> Floats:
        """Returns the R² of slopes, pooled over families, (...)."""
        return 1 - self.errors(slopes).sum(-1) / self.power.sum(-1)

    def r2_lofo(self) -> Floats:
        """Returns the R² of each family's rows by slopes of all others, (...)."""
        return self.r2(self.slopes_without())


def _solve(gram: Floats, cross: Floats) -> Floats:
    return np.einsum("...kj,...j->...k", np.linalg.pinv(gram, hermitian=True), cross)


Designs = Callable[[ModelRows], Floats]
"""From a model to its design, (... x L x K)."""


def moments(families: Sequence[FamilyRows], designs: Designs) -> Moments:
    """Returns the second moments of families under a design."""
    grams, crosses, powers = list[Floats](), list[Floats](), list[float]()
    for family in families:
        xs = [designs(m) for m in family.models]
        grams.append(_mean([np.swapaxes(x, -1, -2) @ x / x.shape[-2] for x in xs]))
        pairs = zip(xs, family.models, strict=True)
        crosses.append(_mean([m.profile @ x / len(m.r) for x, m in pairs]))
        powers.append(float(np.mean([(m.response**2).mean() for m in family.models])))
    return Moments(np.stack(grams, -3), np.stack(crosses, -2), np.array(powers))


def _mean(values: Sequence[Floats]) -> Floats:
    return np.mean(np.stack(values), axis=0)


def terms(names: Sequence[str]) -> Designs:
    """Returns the design of some terms."""
    return lambda model: model.design(names)


def swapped_cross(families: Sequence[FamilyRows], designs: Designs) -> Floats:
    """Returns X'y/L of each family's predictors with each one's response, (M x M x K).

    Responses are taken at equal relative depth. Checkpoints are paired one by one, in turn where
    there are more of one family, so that a swapped response is no smoother than a true one.
    """
    out = list[Floats]()
    for mine in families:
        xs = [designs(m) for m in mine.models]
        row = list[Floats]()
        for other in families:
            partners = [other.models[i % len(other.models)] for i in range(len(xs))]
            profiles = [
                np.interp(m.r, p.r, p.profile) for m, p in zip(mine.models, partners, strict=True)
            ]
            row.append(_mean([y @ x / len(y) for x, y in zip(xs, profiles, strict=True)]))
        out.append(np.stack(row))
    return np.stack(out)


@dataclass(frozen=True, slots=True)
class Swaps:
    """Two rungs of the ladder, to be compared under any pairing of families.

    Attributes:
        lower: Moments of the rung to be beaten.
        upper: Of the other one.
        lower_cross: :func:`swapped_cross` of the lower.
        upper_cross: Of the upper.
    """

    lower: Moments
    upper: Moments
    lower_cross: Floats
    upper_cross: Floats

    @classmethod
    def of(cls, families: Sequence[FamilyRows], lower: Designs, upper: Designs) -> Swaps:
        """Returns both rungs of families."""
        return cls(
            moments(families, lower),
            moments(families, upper),
            swapped_cross(families, lower),
            swapped_cross(families, upper),
        )

    def paired(self, order: Integers) -> tuple[Moments, Moments]:
        """Returns both under pairings, family f with the response of order[..., f]."""
        power = self.lower.power[order]
        mine = np.arange(len(self.lower.power))
        lower = Moments(self.lower.gram, self.lower_cross[mine, order], power)
        return lower, Moments(self.upper.gram, self.upper_cross[mine, order], power)

    def gains(self, order: Integers) -> Floats:
        """Returns each family's part of the gain in R²_LOFO under pairings, (... x M)."""
        return gains(*self.paired(order))

    def p(self) -> float:
        """Returns the share of pairings whose gain reaches that of the true one."""
        ways = pairings(len(self.lower.power))
        means = self.gains(ways).mean(-1)
        return float((means >= means[0] - 1e-12).mean())


def gains(lower: Moments, upper: Moments) -> Floats:
    """Returns what each family adds to the gain in R²_LOFO, (... x M); their mean is the gain."""
    fall = lower.errors(lower.slopes_without()) - upper.errors(upper.slopes_without())
    return fall / lower.power.mean(-1, keepdims=True)


def gain_estimate(parts: Floats, level: float) -> tuple[Estimate, float]:
    """Returns the gain with its interval and one-sided p, a t over families."""
    mean, low, high, p = random_effects(parts, np.ones(len(parts)), level)
    method = f"t over {len(parts)} families, each held out once"
    return Estimate(
        value=mean, low=low, high=high, unit=UNIT, level=level, n=len(parts), method=method
    ), p


def gain_across(
    families: Sequence[FamilyRows], swaps: Swaps | None, level: float, left_out: dict[str, str]
) -> Across:
    """Returns θ across families with the tests that must concur.

    Args:
        families: That have a response.
        swaps: F1 and F3 of them; None for fewer than two families.
        level: Coverage of the interval.
        left_out: Why other models are not in it.
    """
    if swaps is None:
        return too_few(THETA, UNIT, level, len(families), left_out)
    m = len(families)
    parts = swaps.gains(np.arange(m))
    estimate, p = gain_estimate(parts, level)
    return Across(
        name=THETA,
        estimate=estimate,
        p=p,
        minima={"t": 0.0, "sign flip": least_flip_p(m), "model swap": least_swap_p(m)},
        concurring={"sign flip": sign_flip_p(parts), "model swap": swaps.p()},
        agreeing=float((parts > 0).mean()),
        opposite=(),
        n=m,
        left_out=left_out,
        against=lambda sesoi: (
            gain_estimate(sesoi - parts, level)[1],
            {"sign flip": sign_flip_p(sesoi - parts)},
        ),
        leave_out=lambda: gains_without(families, level),
    )


def gains_without(families: Sequence[FamilyRows], level: float) -> dict[str, Estimate]:
    """Returns θ with one block left out of every model, by name, block −1 being the last.

    Blocks are counted from the first as far as the shortest model has them, so that ends are ends.
    """
    shortest = min(len(m.r) for f in families for m in f.models)
    found = dict[str, Estimate]()
    for block in (*range(shortest), -1):
        left = without_block(families, block)
        parts = gains(*(moments(left, terms(LADDER[name])) for name in ("F1", "F3")))
        found[f"without block {block}"] = gain_estimate(parts, level)[0]
    return found


def slope_estimates(
    families: Sequence[FamilyRows], names: Sequence[str], level: float
) -> dict[str, Estimate]:
    """Returns each slope over families, by term: random effects on families' own slopes."""
    found = moments(families, terms(names))
    own, errors = found.family_slopes(), _slope_variances(families, found, len(names))
    out = dict[str, Estimate]()
    for i, name in enumerate(names):
        how: dict[str, Any] = {
            "unit": "log2 per predictor unit",
            "level": level,
            "n": len(families),
        }
        if len(families) < 2:
            why = "one family has no spread over families"
            out[name] = Estimate(value=float(own[0, i]), reason=why, **how)
            continue
        mean, low, high, _ = random_effects(own[:, i], errors[:, i], level)
        method = f"random-effects t over {len(families)} families' own slopes"
        out[name] = Estimate(value=mean, low=low, high=high, method=method, **how)
    return out


def _slope_variances(families: Sequence[FamilyRows], found: Moments, k: int) -> Floats:
    """Returns the sampling variance of each family's slopes over its blocks, (M x K)."""
    profile: Floats = np.array(
        [float(np.mean([(m.profile**2).mean() for m in f.models])) for f in families]
    )
    own = found.family_slopes()
    error = Moments(found.gram, found.cross, profile).errors(own)
    blocks = np.array([sum(len(m.r) for m in f.models) for f in families])
    spare = np.maximum(blocks - k - 1, 1)
    diagonal = np.diagonal(np.linalg.pinv(found.gram, hermitian=True), axis1=-2, axis2=-1)
    variance = np.maximum(error, 1e-12 * profile)[:, None] * diagonal / spare[:, None]
    # A predictor that a family's blocks do not vary in says nothing there.
    return np.where(variance > 0, variance, 1e6 * max(float(variance.max()), 1e-300))


def wild_p(found: Moments, term: int) -> float:
    """Returns the one-sided p that a common slope is above 0, by wild-cluster bootstrap.

    The null is imposed and residuals of whole families change sign, all 2^M ways (Cameron, Gelbach
    & Miller 2008, with Rademacher weights); the statistic is t with cluster-robust error.

    Args:
        found: Moments, M families.
        term: Which slope.
    """
    m, k = found.cross.shape
    others = [i for i in range(k) if i != term]
    null = np.zeros(k)
    if others:
        null[others] = _solve(found.gram.sum(0)[np.ix_(others, others)], found.cross.sum(0)[others])
    fitted = found.gram @ null
    signs = np.array(list(product((1.0, -1.0), repeat=m)))
    cross = fitted + signs[:, :, None] * (found.cross - fitted)
    statistics = _cluster_t(found.gram, cross, term)
    return float((statistics >= statistics[0] - 1e-9 * abs(statistics[0])).mean())


def _cluster_t(gram: Floats, cross: Floats, term: int) -> Floats:
    total: Floats = gram.sum(0)
    inverse = np.linalg.pinv(total, hermitian=True)
    slopes = cross.sum(-2) @ inverse
    scores = cross - np.einsum("mkj,bj->bmk", gram, slopes)
    error = np.sqrt(((scores @ inverse[term]) ** 2).sum(-1))
    return slopes[:, term] / np.maximum(error, 1e-300)


def spearman_lofo(families: Sequence[FamilyRows], names: Sequence[str]) -> float | None:
    """Returns the mean rank correlation of a held-out family's rows with what others predict."""
    slopes = moments(families, terms(names)).slopes_without()
    found = [
        np.mean([rank_correlation(_tiled(m, m.design(names) @ s), m.response) for m in f.models])
        for f, s in zip(families, slopes, strict=True)
    ]
    mean = float(np.mean(found))
    return mean if np.isfinite(mean) else None


def _tiled(model: ModelRows, profile: Floats) -> Floats:
    return np.broadcast_to(profile[:, None], model.response.shape)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Returns Spearman's correlation of all entries; NaN where one of them does not vary."""
    x, y = stats.rankdata(np.ravel(a)), stats.rankdata(np.ravel(b))
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 0 else float("nan")


def r2_held_out_blocks(families: Sequence[FamilyRows], names: Sequence[str]) -> float:
    """Returns R² at stretches of blocks by slopes of the same model's other blocks.

    Stretches are contiguous, since neighbours resemble each other; the mean by language is that of
    the blocks fitted to. Pooled over families like R²_LOFO.
    """
    error = [np.mean([_held_out_error(m, m.design(names)) for m in f.models]) for f in families]
    power = [np.mean([(m.response**2).mean() for m in f.models]) for f in families]
    return float(1 - np.sum(error) / np.sum(power))


def _held_out_error(model: ModelRows, x: Floats) -> float:
    squares = 0.0
    for held in np.array_split(np.arange(len(x)), FOLDS):
        kept = np.setdiff1d(np.arange(len(x)), held)
        x_mean, y_mean = x[kept].mean(0), model.response[kept].mean(0)
        y: Floats = model.profile[kept] - model.profile[kept].mean()
        centred: Floats = x[kept] - x_mean
        slopes = np.linalg.lstsq(centred, y, rcond=None)[0]
        fitted = y_mean + ((x[held] - x_mean) @ slopes)[:, None]
        squares += float(((model.response[held] - fitted) ** 2).sum())
    return squares / model.response.size


def inflation(families: Sequence[FamilyRows], names: Sequence[str]) -> Floats:
    """Returns variance inflation factors, the mean over families, (K); infinite where collinear."""
    found = list[Floats]()
    for family in families:
        for model in family.models:
            x = model.design(names)
            spread = x.std(0)
            correlation = (x.T @ x) / len(x) / np.maximum(np.outer(spread, spread), 1e-300)
            singular = np.linalg.matrix_rank(correlation) < len(names)
            bad = np.full(len(names), np.inf)
            own = bad if singular else np.diag(np.linalg.inv(correlation)).astype(np.float64)
            found.append(own)
    return np.mean(found, axis=0)
