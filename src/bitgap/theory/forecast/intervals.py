"""Forecasts for an unseen model with their intervals; pure.

What is expected comes from :mod:`bitgap.theory.forecast.expectation`. S is forecast too small, as a
mean over families has less spread over languages than any one of them; so log2 Ŝ is raised by what
it was short of in families that were forecast from the others.

Intervals are Student's, with one degree of freedom less than families: every family is forecast
from the others, and its errors (of log2 S less their mean, of log2 damage, of D) are squared and
averaged over masks that protect a like share of the blocks. For a mean over F exchangeable families
the error of a new one has the variance of these errors times 1 − 1/F²; for the weights forecast
that is an approximation. Conformal intervals would assume less, and at :data:`LEVEL` be unbounded
with fewer than nine families (⌈.9 (F + 1)⌉ > F). How many intervals hold what came out is counted,
in families held out and in models measured later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from bitgap.errors import UserError
from bitgap.quant.sets import blocks_in, mask_of, membership
from bitgap.records import Floats, Integers
from bitgap.stats.mask_design import make_design
from bitgap.theory.evidence import Evidence, families_of
from bitgap.theory.forecast.expectation import (
    Core,
    Inputs,
    Kind,
    expect,
    inputs_of,
    triples_of,
)

LEVEL = 0.90
"""Of every interval of a forecast."""

LEAST_BLOCKS = 4
"""Blocks of which three can be protected with something left to round."""
N_MASKS = 20
"""Random masks that are predicted; the method's number."""


QUANTITIES = ("spread", "damage", "disparity")
"""S in log2; log2 of the share of damage that is left; and D, log2 ratio, which is described."""

# Protected shares of blocks that errors are averaged over apart, as few unprotected blocks average
# less out.
_SHARES = np.array([1 / 3, 2 / 3])


class Range(NamedTuple):
    """One predicted number and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is predicted of one model."""

    core: Core
    protect: Mapping[str, tuple[int, ...]]
    """The three blocks to protect, by objective: least S, ``spread``, or least mean damage,
    ``damage``."""
    triples: Mapping[str, Mapping[str, Range]]
    """What is left with these three protected: by objective, then by quantity."""
    masks: tuple[tuple[int, ...], ...]
    """Protected blocks of the masks that are predicted."""
    quantities: Mapping[str, tuple[Range, ...]]
    """By quantity (:data:`QUANTITIES`) of every mask."""
    n_families: int
    """Families it was learned from."""


def forecast(
    zoo: Sequence[Evidence], inputs: Inputs, kind: Kind, masks: Sequence[Sequence[int]]
) -> Forecast:
    """Returns a forecast for a model.

    Args:
        zoo: Measured models; of what families, decides how far this is a step into the unknown.
        inputs: What is known of the model.
        kind: Whether to use the config alone, or the weights and one forward pass.
        masks: Sets of protected blocks to predict.

    Raises:
        UserError: If the zoo has fewer than two families or the model itself, or the inputs lack
            what the kind needs.
    """
    # A spread takes two languages, and another reference's ratios are of something else.
    zoo = [one for one in zoo if len(one.languages) > 1]
    reference = inputs.languages[0] if inputs.languages else (zoo[0].languages[0] if zoo else "")
    zoo = [one for one in zoo if one.languages[0] == reference]
    _check(zoo, inputs, kind)
    core = expect(zoo, inputs, kind)
    errors = _family_errors(zoo, kind)
    chosen = {name: tuple(int(i) for i in triple) for name, triple in triples_of(core).items()}

    def of(sets: Sequence[Sequence[int]]) -> dict[str, list[Range]]:
        protected = membership([mask_of(blocks) for blocks in sets], inputs.n_blocks)
        return {name: errors.ranges(name, core, protected) for name in QUANTITIES}

    triples, wanted = of(list(chosen.values())), of(masks)
    return Forecast(
        core=core,
        protect=chosen,
        triples={
            objective: {name: triples[name][i] for name in QUANTITIES}
            for i, objective in enumerate(chosen)
        },
        masks=tuple(tuple(sorted(mask)) for mask in masks),
        quantities={name: tuple(values) for name, values in wanted.items()},
        n_families=len(families_of(zoo)),
    )


def _check(zoo: Sequence[Evidence], inputs: Inputs, kind: Kind) -> None:
    families = families_of(zoo)
    if inputs.n_blocks < LEAST_BLOCKS:
        raise UserError(
            f"{inputs.target} has {inputs.n_blocks} blocks; to choose three of them takes at least "
            f"{LEAST_BLOCKS}"
        )
    if inputs.fingerprint in {one.fingerprint for one in zoo}:
        raise UserError(
            f"{inputs.target} is among the models to learn from, so this is no prediction; leave "
            f"it out of them"
        )
    if len(families) < 2:
        raise UserError(
            f"a forecast needs at least two measured families, found "
            f"{', '.join(families) or 'none'}; measure more with `bitgap theory`"
        )
    if kind == "weights" and any(
        x is None for x in (inputs.t2, inputs.log_error_ratio, inputs.tokens)
    ):
        raise UserError(
            f"a forecast from weights for {inputs.target} needs its weights and one forward pass; "
            f"give the model's folder, or ask for a forecast from its config"
        )


def random_masks(n_blocks: int, *, n: int = N_MASKS, seed: int = 0) -> list[tuple[int, ...]]:
    """Returns random sets of protected blocks of mixed sizes, none empty or full.

    A size is drawn first, then a set of that size. Above the blocks up to which the layer map
    scores all masks they are drawn from those that it scores there, so that they get measured.

    Args:
        n_blocks: L.
        n: How many, where there are so many.
        seed: Of the draws, and of the layer map's design.
    """
    rng = np.random.default_rng(seed)
    by_size: dict[int, list[int]] = {}
    for mask in make_design(n_blocks, seed=seed).masks:
        if 0 < mask.bit_count() < n_blocks:
            by_size.setdefault(mask.bit_count(), []).append(mask)
    drawn: list[int] = []
    while by_size and len(drawn) < n:
        size = sorted(by_size)[rng.integers(len(by_size))]
        of_size = by_size[size]
        drawn.append(of_size.pop(rng.integers(len(of_size))))
        if not of_size:
            del by_size[size]
    return [blocks_in(mask) for mask in drawn]


def expected(core: Core, quantity: str, protected: Floats) -> Floats:
    """Returns what a core says of a quantity, (P)."""
    if quantity == "spread":
        return _log2(core.spread(protected))
    return core.log_damage(protected) if quantity == "damage" else core.disparity(protected)


def measured(evidence: Evidence) -> dict[str, Floats]:
    """Returns what came out, by quantity, of every mask, (P); not finite where all is protected."""
    whole = evidence.damage[evidence.protects.sum(1) == 0].mean()
    return {
        "spread": _log2(evidence.spread),
        "damage": _log2(evidence.damage.mean(1) / whole),
        "disparity": evidence.disparity,
    }


def _log2(values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(values)


@dataclass(frozen=True, slots=True)
class _Errors:
    """Errors of families that were forecast from the others.

    Attributes:
        shift: By quantity, what is added to a forecast.
        squares: By quantity, mean squared errors once that is done, (F x shares); NaN where a
            family has no mask of that share.
    """

    shift: Mapping[str, float]
    squares: Mapping[str, Floats]

    def ranges(self, quantity: str, core: Core, protected: Floats) -> list[Range]:
        """Returns what is predicted of sets of blocks with intervals."""
        values = expected(core, quantity, protected) + self.shift[quantity]
        squares = self.squares[quantity]
        n = len(squares)
        overall, by_share = _finite_mean(squares.ravel()), _finite_mean(squares)
        by_share = np.where(np.isfinite(by_share), by_share, overall)
        t = stats.t.ppf((1 + LEVEL) / 2, n - 1)
        half = t * np.sqrt(by_share[_share_of(protected)] * (1 - 1 / n**2))
        return [
            Range(float(v), float(v - h), float(v + h)) for v, h in zip(values, half, strict=True)
        ]


def _family_errors(zoo: Sequence[Evidence], kind: Kind) -> _Errors:
    means: dict[str, list[Floats]] = {name: [] for name in QUANTITIES}
    squares: dict[str, list[Floats]] = {name: [] for name in QUANTITIES}
    for family, models in families_of(zoo).items():
        others = [one for one in zoo if one.family != family]
        each = [_errors_of(one, expect(others, inputs_of(one), kind)) for one in models]
        for name in QUANTITIES:
            first, second = (_finite_mean(np.stack([e[name][i] for e in each])) for i in (0, 1))
            means[name].append(first)
            squares[name].append(second)
    shift, left = dict[str, float](), dict[str, Floats]()
    for name in QUANTITIES:
        first, second = np.stack(means[name]), np.stack(squares[name])
        own = _finite_mean(first.T)  # a family's mean error over shares of blocks, (F)
        c = shift[name] = float(_finite_mean(own)) if name == "spread" else 0.0
        # E(e − c)² = E e² − 2 c E e + c². Errors of means over the other families sum to 0, so that
        # their mean is what is short in all of them and costs no degree of freedom.
        left[name] = second - 2 * c * first + c**2
    return _Errors(shift, left)


def _errors_of(one: Evidence, core: Core) -> dict[str, tuple[Floats, Floats]]:
    """Returns by quantity means of measured less forecast, and of its square, by share, (shares).

    By the share of blocks that a mask protects.
    """
    partial = one.protects.sum(1) < one.n_blocks
    protected, truth = one.protects[partial], measured(one)
    share = _share_of(protected)[:, None] == np.arange(len(_SHARES) + 1)
    found = dict[str, tuple[Floats, Floats]]()
    for name in QUANTITIES:
        error = truth[name][partial] - expected(core, name, protected)
        first, second = (
            _finite_mean(np.where(share, values[:, None], np.nan)) for values in (error, error**2)
        )
        found[name] = first, second
    return found


def _finite_mean(values: Floats) -> Floats:
    """Returns the mean over the first axis of what is finite; NaN where nothing is."""
    fine = np.isfinite(values)
    total, count = np.where(fine, values, 0.0).sum(0), fine.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _share_of(protected: Floats) -> Integers:
    """Returns which third of the blocks' number each set protects, (P)."""
    share: Floats = protected.mean(1)
    return np.searchsorted(_SHARES, share).astype(np.int64)
