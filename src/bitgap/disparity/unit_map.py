"""What each matrix of a model does to each language when it alone is rounded.

With u a unit (one matrix of one block), K_λ(u) the damage to language λ of rounding u and nothing
else, and means over the languages that count:

    share_λ(u)  = K_λ(u) / Σ_v K_λ(v)
    harder_λ(u) = log2 share_λ(u) − mean over λ' of log2 share_λ'(u)

The first says which matrices hurt a language, the second which of them hurt it more than they hurt
others; it does not move with the unit of text, which is the same for every matrix and cancels.
Where damage adds up, Σ_u K_λ(u) is that of rounding all at once; how far it does is told by
language, as a sum of what matrices do alone says little where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.disparity.formulas import Sums, below_resolution, collapsed, damage_bits
from bitgap.disparity.gates import void
from bitgap.quant.plan import Plan
from bitgap.records import Estimate, Floats, Scores
from bitgap.stats.bootstrap import estimates

DRAWS = 1000
_BITS = "bits per reference character"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One matrix that may be rounded on its own.

    Example:
        >>> Unit(block=3, name="mlp.down_proj", parameters=4096).label
        'L3 mlp.down_proj'
    """

    block: int
    """Number of its block."""
    name: str
    """Its name among the block's linears."""
    parameters: int
    """Numbers in it."""

    @property
    def label(self) -> str:
        """How tables and figures call it."""
        return f"L{self.block} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDamage:
    """What rounding one unit does; by language in the order of the map's languages."""

    unit: Unit
    damage: Estimate
    """K, mean over the languages that count, bits per reference character."""
    share: Estimate
    """Of what all units do alone, mean damage."""
    by_language: tuple[Estimate, ...]
    """K_λ, bits per reference character."""
    shares: tuple[Estimate, ...]
    """share_λ."""
    harder: tuple[Estimate, ...]
    """harder_λ in log2 units; without a value for a language that does not count."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON; values with ``_ci`` beside them, null where there is none."""
        return {
            "block": self.unit.block,
            "unit": self.unit.name,
            "parameters": self.unit.parameters,
            **_told("damage", self.damage),
            **_told("share", self.share),
            **{
                key: [one.value for one in column]
                for key, column in (
                    ("by_language", self.by_language),
                    ("shares", self.shares),
                    ("harder", self.harder),
                )
            },
            "by_language_ci": [[one.low, one.high] for one in self.by_language],
            "harder_ci": [[one.low, one.high] for one in self.harder],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitMap:
    """Which matrices hurt which languages, each alone under one scheme."""

    scheme: str
    languages: tuple[str, ...]
    reference: str
    n_sentences: int
    units: tuple[UnitDamage, ...]
    """By block, and within it in the block's own order."""
    whole: tuple[Estimate, ...]
    """K_λ with every block rounded, bits per reference character."""
    additive: tuple[Estimate, ...]
    """Σ_u K_λ(u) over K_λ with every block rounded; 1 where damage adds up."""
    left_out: Mapping[str, str]
    """Languages that do not count in means and shares, and why."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return {
            "unit_scheme": self.scheme,
            "languages": list(self.languages),
            "reference": self.reference,
            "n_sentences": self.n_sentences,
            "units": [one.as_dict() for one in self.units],
            "whole": [one.value for one in self.whole],
            "whole_ci": [[one.low, one.high] for one in self.whole],
            "additive": [one.value for one in self.additive],
            "additive_ci": [[one.low, one.high] for one in self.additive],
            "left_out": dict(self.left_out),
        }


def unit_plans(scheme: str, n_blocks: int, units: Sequence[Unit]) -> list[Plan]:
    """Returns the plans of a unit map: each unit alone, then every block.

    Args:
        scheme: How a unit is rounded.
        n_blocks: L.
        units: By block.

    Example:
        >>> v = Unit(block=1, name="v", parameters=4)
        >>> [plan.text for plan in unit_plans("rtn4-g128", 2, [v])]
        ['fp units 1.v=rtn4-g128', 'rtn4-g128']
    """
    alone = [Plan.only_unit(scheme, n_blocks, unit.block, unit.name) for unit in units]
    return [*alone, Plan.uniform(scheme, n_blocks)]


def make_unit_map(scores: Scores, scheme: str, units: Sequence[Unit], *, seed: int = 0) -> UnitMap:
    """Returns the unit map of scored plans.

    Args:
        scores: Of :func:`unit_plans`, in that order.
        scheme: How each unit was rounded.
        units: The units.
        seed: Of the bootstrap draws.

    Example:
        >>> units = [Unit(block=i, name="all", parameters=1) for i in range(3)]
        >>> plans = [SCORES.plans[mask] for mask in (6, 5, 3, 0)]  # one block rounded, then all
        >>> found = make_unit_map(SCORES.select(plans=plans), "rtn4-g128", units)
        >>> [round(one.share.value, 2) for one in found.units]
        [0.57, 0.16, 0.27]
        >>> [round(value.value, 2) for value in found.units[0].harder]  # en, de, he
        [-0.13, -0.0, 0.13]
    """
    n, n_languages = len(units), len(scores.languages)
    left_out = _left_out(scores)
    counted = np.array([code not in left_out for code in scores.languages])

    def statistic(weights: Floats) -> Floats:
        k = damage_bits(Sums(scores, weights))  # W x (U + 1) x A
        alone = k[:, :n]
        total = alone.sum(1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = alone / total
            logs = np.log2(np.where(shares > 0, shares, np.nan))
            mean = alone[..., counted].mean(-1) if counted.any() else alone[..., 0] * np.nan
            parts = (
                mean,
                mean / mean.sum(1, keepdims=True),
                alone,
                shares,
                logs - logs[..., counted].mean(-1, keepdims=True),
                k[:, n],
                total[:, 0] / k[:, n],
            )
        return np.concatenate([part.reshape(len(k), -1) for part in parts], axis=1)

    found = iter(estimates(statistic, scores.units, unit=_BITS, seed=seed, draws=DRAWS))

    def take(count: int, unit: str) -> list[Estimate]:
        return [replace(next(found), unit=unit) for _ in range(count)]

    cells = n * n_languages
    mean, share = take(n, _BITS), take(n, "share")
    alone, shares = take(cells, _BITS), take(cells, "share")
    harder = take(cells, "log2 units")
    whole, additive = take(n_languages, _BITS), take(n_languages, "ratio")
    low = below_resolution(scores)
    for place in range(cells):
        u, a = divmod(place, n_languages)
        why = left_out.get(scores.languages[a])
        if why is None and low[u, a]:
            why = "below resolution: its damage is under ten times the numerical floor"
        if why is not None:
            harder[place] = void(harder[place], why)
    return UnitMap(
        scheme=scheme,
        languages=scores.languages,
        reference=scores.reference,
        n_sentences=scores.n_sentences,
        units=tuple(
            UnitDamage(
                unit=unit,
                damage=mean[u],
                share=share[u],
                by_language=tuple(alone[u * n_languages : (u + 1) * n_languages]),
                shares=tuple(shares[u * n_languages : (u + 1) * n_languages]),
                harder=tuple(harder[u * n_languages : (u + 1) * n_languages]),
            )
            for u, unit in enumerate(units)
        ),
        whole=tuple(whole),
        additive=tuple(additive),
        left_out=left_out,
    )


def _left_out(scores: Scores) -> dict[str, str]:
    """Returns why a language does not count: it is gone, or no unit can be told from noise."""
    gone, low = collapsed(scores), below_resolution(scores)
    found: dict[str, str] = {}
    for a, code in enumerate(scores.languages):
        if gone[-1, a]:
            found[code] = "collapsed with every block rounded"
        elif low[:-1, a].all():
            found[code] = "below resolution under every unit"
    return found


def _told(key: str, estimate: Estimate) -> dict[str, Any]:
    return {key: estimate.value, f"{key}_ci": [estimate.low, estimate.high]}
