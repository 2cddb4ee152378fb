"""The layer map: what every set of protected blocks does to every language.

Up to L = 14 all 2^L masks are scored and every number is exact on the text at hand. Above that, all
masks of at most two blocks and their complements are scored, plus the masks that random orders of
the blocks pass through, so that Shapley values can be sampled.

A game gives a set S of protected blocks −K (mean over languages), −G or −|D|, so that a positive
Shapley value always means that protecting the block helps. D has no value where all is protected;
the game gives it 0 there, since no damage is no disparity. Where D has no value under another mask,
there are no Shapley values of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bitgap.disparity.formulas import (
    Sums,
    collapsed,
    damage_bits,
    disparity,
    gap,
    harm_max,
    harm_mean,
    resample,
    usable,
)
from bitgap.quant.sets import blocks_in, mask_of, popcount
from bitgap.records import Bools, Estimate, Floats, Integers, Scores, finite
from bitgap.stats.bootstrap import MAX_UNDEFINED, bootstrap_weights, central_range
from bitgap.stats.mask_design import Design, original_set

DRAWS = 400
"""Bootstrap draws for the map's intervals; they are read off a table, not tested."""

METHOD = f"percentile bootstrap over sentences, {DRAWS} draws, expanded for few sentences"
"""How the map's intervals are made."""

_UNITS = {
    "damage": "bits per English character",
    "gap": "bits per English character",
    "disparity": "log2 ratio",
}

_RANK = "rank among sets of this size, the best being 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one set of protected blocks leaves, each number with its interval."""

    damage: Estimate
    """Mean K over languages, bits per reference character."""
    damage_reference: Estimate
    """K of the reference, in the same unit."""
    disparity: Estimate
    """D, log2 ratio."""
    gap: Estimate
    """G, bits per reference character."""

    def as_dict(self, prefix: str = "") -> dict[str, Any]:
        """Returns JSON-ready numbers and intervals, their names behind a prefix."""
        return _flat({f"{prefix}{f.name}": getattr(self, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEffects:
    """What the masks say of one block."""

    block: int
    depth: float
    """Relative depth r, 0 to 1, four decimals."""
    single: Effect
    """With only this block rounded."""
    protected: Effect
    """With only this block kept whole."""
    shapley: Mapping[str, Estimate]
    """Shapley value of protecting it, by game: ``damage``, ``gap``, ``disparity``; above 0 it
    helps."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready numbers: ``single_*``, ``protected_*`` and ``shapley_*``."""
        games = _flat({f"shapley_{game}": value for game, value in self.shapley.items()})
        about: dict[str, Any] = {"block": self.block, "depth": self.depth}
        return about | self.single.as_dict("single_") | self.protected.as_dict("protected_") | games


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSet:
    """One set of protected blocks; None where a number has no value."""

    blocks: tuple[int, ...]
    damage: float | None
    """Mean K, bits per reference character."""
    disparity: float | None
    """D, log2 ratio."""

    def as_dict(self) -> dict[str, Any]:
        """Returns it JSON-ready."""
        return {"blocks": list(self.blocks), "damage": self.damage, "disparity": self.disparity}


@dataclass(frozen=True, slots=True, kw_only=True)
class BestSets:
    """The best of all scored sets of one size."""

    size: int
    sets: int
    """How many of this size were scored."""
    least_damage: ScoredSet
    least_disparity: ScoredSet | None
    """The least |D| that levels nobody down; None where every set does."""

    def as_dict(self) -> dict[str, Any]:
        """Returns them JSON-ready."""
        fair = self.least_disparity
        return {
            "size": self.size,
            "sets": self.sets,
            "least_damage": self.least_damage.as_dict(),
            "least_disparity": None if fair is None else fair.as_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalRank:
    """Where the origin's set ranks among all sets of its size, 1 being the best."""

    of: ScoredSet
    """The origin's set; without damage and disparity where it is not ranked."""
    sets: int | None
    """How many sets it is ranked among; None where not all of its size were scored."""
    rank_damage: Estimate
    """By mean K."""
    rank_disparity: Estimate
    """By |D|."""

    def as_dict(self) -> dict[str, Any]:
        """Returns it JSON-ready; a rank is a whole number."""
        if self.sets is None:
            why = self.rank_damage.reason
            return {"blocks": list(self.of.blocks), "rank_damage": None, "reason": why}
        out = self.of.as_dict() | {"sets": self.sets}
        for name in ("rank_damage", "rank_disparity"):
            out |= _flat({name: getattr(self, name)})
            out[name] = None if out[name] is None else int(out[name])
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMap:
    """What the masks say of every block.

    Attributes:
        scheme: How unprotected blocks were rounded.
        design: Which masks were scored.
        blocks: One a block.
        best: The best sets of every size, 1 to L−1.
        unprotected: With nothing protected.
        origin: Where the origin's set {0, round(.75 L), L−1} ranks among sets of its size.
        n_sentences: Aligned sentences behind every number.
        caveats: What to keep in mind, in plain sentences.
    """

    scheme: str
    design: Design
    blocks: tuple[BlockEffects, ...]
    best: tuple[BestSets, ...]
    unprotected: Effect
    origin: OriginalRank
    n_sentences: int
    caveats: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the map as JSON."""
        return {
            "scheme": self.scheme,
            "n_blocks": self.design.n_blocks,
            "masks": len(self.design.masks),
            "all_masks": self.design.complete,
            "sentences": self.n_sentences,
            "units": _UNITS,
            "unprotected": self.unprotected.as_dict(),
            "blocks": [row.as_dict() for row in self.blocks],
            "best_sets": [row.as_dict() for row in self.best],
            "original_set": self.origin.as_dict(),
            "caveats": list(self.caveats),
        }


def _flat(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, one in estimates.items():
        out |= {name: one.value, f"{name}_ci": [one.low, one.high]}
    return out


def make_map(scores: Scores, scheme: str, design: Design, *, seed: int = 0) -> LayerMap:
    """Reads the map off the scores of a design's masks.

    Args:
        scores: Rows as ``design.plans(scheme)``.
        scheme: How unprotected blocks were rounded.
        design: Which masks were scored.
        seed: Of the bootstrap.

    Example:
        >>> found = make_map(SCORES, "rtn4-g128", DESIGN)
        >>> [round(block.shapley["damage"].value, 4) for block in found.blocks]
        [0.0306, 0.0083, 0.0146]
    """
    weights = bootstrap_weights(scores.n_sentences, DRAWS, seed)
    single, protected, unprotected = _single_masks(scores, design, weights)
    shapley = _shapley(scores, design, weights)
    n = design.n_blocks
    return LayerMap(
        scheme=scheme,
        design=design,
        blocks=tuple(
            BlockEffects(
                block=i,
                depth=round(i / max(n - 1, 1), 4),
                single=single[i],
                protected=protected[i],
                shapley={game: values[i] for game, values in shapley.items()},
            )
            for i in range(n)
        ),
        best=tuple(_best_sets(scores, design)),
        unprotected=unprotected,
        origin=_original_rank(scores, design, weights),
        n_sentences=scores.n_sentences,
        caveats=_caveats(scores, design),
    )


def _shapley(scores: Scores, design: Design, weights: Floats) -> dict[str, list[Estimate]]:
    """Returns every game's Shapley values by block."""
    found: dict[str, list[Estimate]] = {}
    for name, game in _games(scores, design).items():
        point, draws = game(Sums(scores)), resample(game, scores, weights)
        if name == "disparity":
            # What is left of K where all is protected is rounding, and its ratio is anything.
            point[..., _all_protected(design)] = draws[..., _all_protected(design)] = 0.0
        ends = central_range(design.shapley(draws.T).T, scores.n_sentences)
        columns = zip(design.shapley(point), ends.T, strict=True)
        found[name] = [_estimate(value, pair, _UNITS[name], scores) for value, pair in columns]
    return found


def _estimate(value: float, ends: Floats, unit: str, scores: Scores) -> Estimate:
    low, high = ends
    missing = {
        "it has no value under some of these masks": not np.isfinite(value),
        "one sentence has no spread": scores.n_sentences < 2,
        f"it has no value in more than {MAX_UNDEFINED:.0%} of the draws": not np.isfinite(low),
    }
    return Estimate(
        value=finite(value),
        low=finite(low),
        high=finite(high),
        unit=unit,
        n=scores.n_sentences,
        method=METHOD,
        reason=next((why for why, applies in missing.items() if applies), None),
    )


def shapley_of_games(scores: Scores, design: Design) -> dict[str, Floats]:
    """Returns the exact Shapley value of protecting each block in every game, (L).

    Games are ``damage``, ``gap`` and ``disparity``, −K, −G and −|D|, so above 0 helps; NaN
    where a game has no value under some mask.

    Args:
        scores: Rows as ``design.plans(scheme)``.
        design: Which masks were scored.

    Example:
        >>> shapley_of_games(SCORES, DESIGN)["damage"].round(4)
        array([0.0306, 0.0083, 0.0146])
    """
    found: dict[str, Floats] = {}
    for name, game in _games(scores, design).items():
        point = game(Sums(scores))
        if name == "disparity":
            point[_all_protected(design)] = 0.0
        found[name] = design.shapley(point)
    return found


def _games(scores: Scores, design: Design) -> dict[str, Callable[[Sums], Floats]]:
    """Returns −mean K, −G and −|D| as functions of sums; a language counts in all masks or none."""
    counted = counted_languages(scores, design)

    def negative_disparity(sums: Sums) -> Floats:
        return -np.abs(disparity(sums, languages=counted))

    return {
        "damage": lambda sums: -_mean_damage(sums),
        "gap": lambda sums: -gap(sums),
        "disparity": negative_disparity,
    }


def counted_languages(scores: Scores, design: Design) -> Bools:
    """Returns which languages are usable under every mask that leaves something to round, (A).

    Example:
        >>> counted_languages(SCORES, DESIGN)
        array([ True,  True,  True])
    """
    rounded = np.arange(len(design.masks)) != _all_protected(design)
    return np.logical_and.reduce(usable(scores)[rounded], axis=0)


def _all_protected(design: Design) -> int:
    return design.masks.index((1 << design.n_blocks) - 1)


def _mean_damage(of: Scores | Sums) -> Floats:
    return damage_bits(of).mean(-1)


def _reference_damage(of: Scores | Sums) -> Floats:
    sums = of if isinstance(of, Sums) else Sums(of)
    return sums.against(damage_bits(sums))[..., 0]


_OF_A_MASK: Mapping[str, Callable[[Scores | Sums], Floats]] = {
    "damage": _mean_damage,
    "damage_reference": _reference_damage,
    "disparity": disparity,
    "gap": gap,
}


def _single_masks(
    scores: Scores, design: Design, weights: Floats
) -> tuple[list[Effect], list[Effect], Effect]:
    """Returns what is left with only block l rounded, with only it kept, and with none kept."""
    n, full = design.n_blocks, (1 << design.n_blocks) - 1
    masks = [full ^ (1 << i) for i in range(n)] + [1 << i for i in range(n)] + [0]
    where = {mask: row for row, mask in enumerate(design.masks)}
    few = _of_rows(scores, np.array([where[mask] for mask in masks]))
    columns: dict[str, list[Estimate]] = {}
    for name, formula in _OF_A_MASK.items():
        draws = resample(formula, few, weights)
        ends = central_range(draws, scores.n_sentences)
        unit = _UNITS[name.split("_")[0]]
        columns[name] = [
            _estimate(value, pair, unit, scores)
            for value, pair in zip(formula(few), ends.T, strict=True)
        ]
    effects = [Effect(**{name: column[i] for name, column in columns.items()})
               for i in range(len(masks))]  # fmt: skip
    return effects[:n], effects[n : 2 * n], effects[-1]


def _best_sets(scores: Scores, design: Design) -> list[BestSets]:
    """Returns for every size the least damage, and the least |D| that levels nobody down.

    Against protecting nothing, neither the reference's damage nor mean or largest harm may rise,
    and no language may be collapsed.
    """
    sizes = popcount(np.array(design.masks))
    damage, d, harm = damage_bits(scores), disparity(scores), harm_mean(scores)
    reference = Sums(scores).against(damage)[:, 0]
    empty = design.masks.index(0)
    worst = harm_max(scores)
    fair = (reference <= reference[empty]) & (harm <= harm[empty]) & (worst <= worst[empty])
    fair &= np.isfinite(d) & ~collapsed(scores).any(-1)
    rows: list[BestSets] = []
    for size in range(1, design.n_blocks):
        of_size = np.flatnonzero(sizes == size)
        if not len(of_size):
            continue
        least = of_size[damage[of_size].mean(-1).argmin()]
        candidates = of_size[fair[of_size]]
        even = candidates[np.abs(d[candidates]).argmin()] if len(candidates) else None
        rows.append(
            BestSets(
                size=size,
                sets=len(of_size),
                least_damage=_scored_set(design, int(least), damage, d),
                least_disparity=None if even is None else _scored_set(design, even, damage, d),
            )
        )
    return rows


def _scored_set(design: Design, row: int, damage: Floats, d: Floats) -> ScoredSet:
    blocks = tuple(blocks_in(design.masks[row]))
    return ScoredSet(blocks=blocks, damage=finite(damage[row].mean()), disparity=finite(d[row]))


def _original_rank(scores: Scores, design: Design, weights: Floats) -> OriginalRank:
    blocks = tuple(original_set(design.n_blocks))
    rows = np.flatnonzero(popcount(np.array(design.masks)) == len(blocks))
    if len(rows) < math.comb(design.n_blocks, len(blocks)):
        none = Estimate(value=None, unit=_RANK, reason="not all sets of its size scored")
        alone = ScoredSet(blocks=blocks, damage=None, disparity=None)
        return OriginalRank(of=alone, sets=None, rank_damage=none, rank_disparity=none)
    mine = int(np.searchsorted(rows, design.masks.index(mask_of(blocks))))
    few = _of_rows(scores, rows)
    values: dict[str, float | None] = {}
    ranks: dict[str, Estimate] = {}
    for name, formula in (("damage", _mean_damage), ("disparity", disparity)):
        point, draws = formula(few), np.abs(resample(formula, few, weights))
        values[name] = finite(point[mine])
        ends = central_range(_rank(draws, mine), scores.n_sentences)
        ranks[f"rank_{name}"] = _estimate(float(_rank(np.abs(point), mine)), ends, _RANK, scores)
    return OriginalRank(of=ScoredSet(blocks=blocks, **values), sets=len(rows), **ranks)


def _rank(values: Floats, mine: int) -> Floats:
    """Returns the rank from below of one of the last axis' values, from 1; NaN where it is NaN."""
    chosen = values[..., mine]
    ranks = (values < chosen[..., None]).sum(-1) + 1.0
    return np.where(np.isfinite(chosen), ranks, np.nan)


def _of_rows(scores: Scores, rows: Integers) -> Scores:
    return scores.select(plans=[scores.plans[int(row)] for row in rows])


def _caveats(scores: Scores, design: Design) -> tuple[str, ...]:
    said: list[str] = []
    counted = dict(zip(scores.languages, counted_languages(scores, design), strict=True))
    left_out = [code for code, ok in counted.items() if not ok]
    if left_out:
        said.append(
            f"{', '.join(left_out)}: collapsed or below resolution under some mask, so left out of "
            f"Shapley values of D"
        )
    if not counted.pop(scores.reference) or not any(counted.values()):
        said.append("no Shapley values of D: the reference or every other language is left out")
    if not design.complete:
        said.append(
            f"Shapley values are sampled from {len(design.orders)} orders of the blocks"
            if design.orders
            else "Shapley values are of both ends, which is exact where damage is pairwise"
        )
    if scores.n_sentences < 32:
        said.append(
            f"{scores.n_sentences} sentences a language: intervals are wide and approximate"
        )
    return tuple(said)


def shapley_rows(layer_map: LayerMap, name: str) -> list[float | None]:
    """Returns one game's Shapley values by block, for figures and links.

    Example:
        >>> found = make_map(SCORES, "rtn4-g128", DESIGN)
        >>> [round(value, 4) for value in shapley_rows(found, "gap")]
        [0.0334, 0.0069, 0.0138]
    """
    return [row.shapley[name].value for row in layer_map.blocks]
