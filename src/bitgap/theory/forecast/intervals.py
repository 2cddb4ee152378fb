"""Forecasts for an unseen model with their intervals; pure.

What is expected comes from :mod:`bitgap.theory.forecast.expectation`. Intervals are Student's, with
one degree of freedom less than families: every family is forecast from the others, and its errors
are squared and averaged over masks that protect a like share of the blocks. For a mean over F
exchangeable families, as the config forecast is, the error of a new one has the variance of these
errors times 1 − 1/F²; for the weights forecast that is an approximation.
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
from bitgap.theory.evidence import Evidence, disparity_of, families_of
from bitgap.theory.forecast.expectation import (
    Core,
    Inputs,
    Kind,
    expect,
    inputs_of,
    triples_of,
)

LEVEL = 0.95

LEAST_BLOCKS = 4
"""Blocks of which three can be protected with something left to round."""
N_MASKS = 20
"""Random masks that D is predicted for; the method's number."""


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
    """The three blocks to protect, by objective: least |D|, ``disparity``, or least mean damage,
    ``damage``."""
    triple_disparity: Mapping[str, Range]
    """D with these three protected, by objective."""
    triple_damage: Mapping[str, Range]
    """log2 of the share of damage that these three leave, by objective."""
    masks: tuple[tuple[int, ...], ...]
    """Protected blocks of the masks that D is predicted for."""
    disparity: tuple[Range, ...]
    """D of every mask."""
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
        masks: Sets of protected blocks that D is predicted for.

    Raises:
        UserError: If the zoo has fewer than two families or the model itself, or the inputs lack
            what the kind needs.
    """
    # Where only the reference counts there is no disparity to learn from.
    zoo = [one for one in zoo if len(one.languages) > 1]
    _check(zoo, inputs, kind)
    core = expect(zoo, inputs, kind)
    errors = _family_errors(zoo, kind)
    triples = triples_of(core)
    chosen = {name: tuple(int(i) for i in triple) for name, triple in triples.items()}
    sets = membership([mask_of(blocks) for blocks in chosen.values()], inputs.n_blocks)
    disparity = errors.ranges("disparity", core.disparity(sets), sets)
    damage = errors.ranges("damage", core.log_damage(sets), sets)
    wanted = membership([mask_of(blocks) for blocks in masks], inputs.n_blocks)
    return Forecast(
        core=core,
        protect=chosen,
        triple_disparity=dict(zip(chosen, disparity, strict=True)),
        triple_damage=dict(zip(chosen, damage, strict=True)),
        masks=tuple(tuple(sorted(mask)) for mask in masks),
        disparity=tuple(errors.ranges("disparity", core.disparity(wanted), wanted)),
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
    if kind == "weights" and (inputs.t2 is None or inputs.log_error_ratio is None):
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


@dataclass(frozen=True, slots=True)
class _Errors:
    """Mean squared errors of families that were forecast from the others.

    Attributes:
        squares: By quantity, (F x shares); NaN where a family has no mask of that share.
    """

    squares: Mapping[str, Floats]

    def ranges(self, quantity: str, values: Floats, protected: Floats) -> list[Range]:
        """Returns predicted numbers of sets of blocks with their intervals."""
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
    found: dict[str, list[Floats]] = {"disparity": [], "damage": []}
    for family, models in families_of(zoo).items():
        others = [one for one in zoo if one.family != family]
        each = [_errors_of(one, expect(others, inputs_of(one), kind)) for one in models]
        for name, rows in found.items():
            rows.append(_finite_mean(np.stack([errors[name] for errors in each])))
    return _Errors({name: np.stack(rows) for name, rows in found.items()})


def _errors_of(one: Evidence, core: Core) -> dict[str, Floats]:
    """Returns mean squared errors of D and of log2 damage by protected share, each (shares)."""
    size = one.protects.sum(1)
    partial = size < one.n_blocks
    protected, damage = one.protects[partial], one.damage[partial]
    measured = np.log2(damage.mean(1) / one.damage[size == 0].mean())
    errors = {
        "disparity": core.disparity(protected) - disparity_of(damage),
        "damage": core.log_damage(protected) - measured,
    }
    share = _share_of(protected)[:, None] == np.arange(len(_SHARES) + 1)
    return {
        name: _finite_mean(np.where(share, (error**2)[:, None], np.nan))
        for name, error in errors.items()
    }


def _finite_mean(values: Floats) -> Floats:
    """Returns the mean over the first axis of what is finite; NaN where nothing is."""
    fine = np.isfinite(values)
    total, count = np.where(fine, values, 0.0).sum(0), fine.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _share_of(protected: Floats) -> Integers:
    """Returns which third of the blocks' number each set protects, (P)."""
    share: Floats = protected.mean(1)
    return np.searchsorted(_SHARES, share).astype(np.int64)
