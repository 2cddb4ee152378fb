"""The layer map: what every set of protected layers does to every language.

Up to L = 14 all 2^L masks are scored and every number is exact on the text at hand. Above that, all
masks of at most two layers and their complements are scored, plus the masks that random orders of
the layers pass through, so that Shapley values can be sampled.

A game gives a set S of protected layers −K (mean over languages), −G or −|D|, so that a positive
Shapley value always means that protecting the layer helps. D has no value where all is protected;
the game gives it 0 there, since no damage is no disparity. Where D has no value under another mask,
there are no Shapley values of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from bitgap.errors import UsageError
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.sets import layers_in, mask_of, popcount
from bitgap.records import Bools, Floats, Integers, Scores
from bitgap.stats.bootstrap import bootstrap_weights, central_range
from bitgap.stats.interactions import (
    chain_masks,
    pair_design,
    permutation_chains,
    sampled_shapley,
    shapley_values,
)

LARGEST_FACTORIAL = 14
"""Blocks up to which all masks are scored: 2^15 − 2 block evaluations."""
ORDER_PAIRS = 8
"""Pairs of antithetic layer orders sampled above that."""
DRAWS = 400
"""Bootstrap draws for the map's intervals; they are read off a table, not tested."""
_UNITS = {
    "damage": "bits per English character",
    "gap": "bits per English character",
    "disparity": "log2 ratio",
}


@dataclass(frozen=True, slots=True)
class Design:
    """Which masks are scored, and how Shapley values come from them.

    Attributes:
        n_blocks: L.
        masks: Bit sets of protected layers, ascending.
        orders: Sampled orders; empty when the masks are all 2^L.
    """

    n_blocks: int
    masks: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether these are all masks."""
        return not self.orders

    def plans(self, scheme: str) -> tuple[Plan, ...]:
        """Returns the plan of every mask, in order.

        Raises:
            UsageError: If the scheme rounds nothing, so that all masks are one plan.
        """
        if scheme == "fp":
            raise UsageError(
                f"scheme {scheme!r} rounds nothing, so there is nothing to map; name one that "
                f"rounds, such as rtn4-g128"
            )
        return mask_plans(scheme, self.n_blocks, self.masks)

    def shapley(self, values: Floats) -> Floats:
        """Returns Shapley values (L x ...) of the values (masks x ...)."""
        if self.complete:
            return shapley_values(values)
        return sampled_shapley(dict(zip(self.masks, values, strict=True)), self.orders)


def make_design(n_blocks: int, *, seed: int = 0, complete: bool | None = None) -> Design:
    """Returns the masks to score on a model of L blocks.

    Args:
        n_blocks: L.
        seed: Of the sampled orders.
        complete: Whether to score all masks; by default when L is at most 14.

    Example:
        >>> make_design(3).masks
        (0, 1, 2, 3, 4, 5, 6, 7)
        >>> len(make_design(20).masks)
        660
    """
    if complete if complete is not None else n_blocks <= LARGEST_FACTORIAL:
        return Design(n_blocks, tuple(range(2**n_blocks)))
    orders = permutation_chains(n_blocks, ORDER_PAIRS, seed)
    masks = sorted({*pair_design(n_blocks), *chain_masks(orders)})
    return Design(n_blocks, tuple(masks), tuple(orders))


@dataclass(frozen=True, slots=True)
class LayerMap:
    """What the masks say of every layer.

    Attributes:
        scheme: How unprotected blocks were rounded.
        design: Which masks were scored.
        layers: One row a layer, JSON-ready.
        best: The best sets of every size, JSON-ready.
        unprotected: Damage, gap and disparity with nothing protected.
        origin: Where the origin's set {0, round(.75 L), L−1} ranks among sets of its size.
        n_sentences: Aligned sentences behind every number.
        caveats: What to keep in mind, in plain sentences.
    """

    scheme: str
    design: Design
    layers: tuple[Mapping[str, Any], ...]
    best: tuple[Mapping[str, Any], ...]
    unprotected: Mapping[str, Any]
    origin: Mapping[str, Any]
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
            "unprotected": dict(self.unprotected),
            "layers": [dict(row) for row in self.layers],
            "best_sets": [dict(row) for row in self.best],
            "origin_set": dict(self.origin),
            "caveats": list(self.caveats),
        }


def make_map(scores: Scores, scheme: str, design: Design, *, seed: int = 0) -> LayerMap:
    """Reads the map off the scores of a design's masks.

    Args:
        scores: Rows as ``design.plans(scheme)``.
        scheme: How unprotected blocks were rounded.
        design: Which masks were scored.
        seed: Of the bootstrap.

    Example:
        >>> found = make_map(SCORES, "rtn4-g128", make_design(3))
        >>> [round(row["shapley_damage"], 4) for row in found.layers]
        [0.0306, 0.0083, 0.0146]
    """
    weights = bootstrap_weights(scores.n_sentences, DRAWS, seed)
    *layers, unprotected = _single_masks(scores, design, weights)
    for name, game in _games(scores, design).items():
        point, draws = game(Sums(scores)), resample(game, scores, weights)
        if name == "disparity":
            # What is left of K where all is protected is rounding, and its ratio is anything.
            point[..., _all_protected(design)] = draws[..., _all_protected(design)] = 0.0
        exact = design.shapley(point)
        ends = central_range(design.shapley(draws.T).T, scores.n_sentences).T
        for row, value, interval in zip(layers, exact, ends, strict=True):
            row |= {f"shapley_{name}": _number(value), f"shapley_{name}_ci": _numbers(interval)}
    return LayerMap(
        scheme=scheme,
        design=design,
        layers=tuple(layers),
        best=tuple(_best_sets(scores, design)),
        unprotected=unprotected,
        origin=_origin_rank(scores, design, weights),
        n_sentences=scores.n_sentences,
        caveats=_caveats(scores, design),
    )


def benefits(scores: Scores, design: Design) -> dict[str, Floats]:
    """Returns what protecting each layer is worth in every game, (L): its exact Shapley value.

    Games are ``damage``, ``gap`` and ``disparity``, −K, −G and −|D|, so above 0 is a benefit; NaN
    where a game has no value under some mask.

    Args:
        scores: Rows as ``design.plans(scheme)``.
        design: Which masks were scored.

    Example:
        >>> benefits(SCORES, make_design(3))["damage"].round(4)
        array([0.0306, 0.0083, 0.0146])
    """
    found = {}
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
        >>> counted_languages(SCORES, make_design(3))
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


def _single_masks(scores: Scores, design: Design, weights: Floats) -> list[dict[str, Any]]:
    """Returns what single masks say, with intervals: a row a layer, then one of no protection.

    A layer's row has ``single_*``, only this layer rounded, and ``protected_*``, only this kept.
    """
    n, full = design.n_blocks, (1 << design.n_blocks) - 1
    masks = [full ^ (1 << i) for i in range(n)] + [1 << i for i in range(n)] + [0]
    where = {mask: row for row, mask in enumerate(design.masks)}
    few = _of_rows(scores, np.array([where[mask] for mask in masks]))
    rows: list[dict[str, Any]] = [
        {"layer": i, "depth": round(i / max(n - 1, 1), 4)} for i in range(n)
    ]
    rows.append({})
    for name, formula in _OF_A_MASK.items():
        places = [(i, f"{how}_{name}") for how in ("single", "protected") for i in range(n)]
        ends = central_range(resample(formula, few, weights), scores.n_sentences).T
        for (row, label), value, interval in zip(
            [*places, (n, name)], formula(few), ends, strict=True
        ):
            rows[row] |= {label: _number(value), f"{label}_ci": _numbers(interval)}
    return rows


def _best_sets(scores: Scores, design: Design) -> list[dict[str, Any]]:
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
    rows = []
    for size in range(1, design.n_blocks):
        of_size = np.flatnonzero(sizes == size)
        if not len(of_size):
            continue
        least = of_size[damage[of_size].mean(-1).argmin()]
        candidates = of_size[fair[of_size]]
        even = candidates[np.abs(d[candidates]).argmin()] if len(candidates) else None
        rows.append(
            {
                "size": size,
                "sets": len(of_size),
                "least_damage": _set_row(design, int(least), damage, d),
                "least_disparity": None if even is None else _set_row(design, even, damage, d),
            }
        )
    return rows


def _set_row(design: Design, row: int, damage: Floats, d: Floats) -> dict[str, Any]:
    return {
        "layers": list(layers_in(design.masks[row])),
        "damage": _number(damage[row].mean()),
        "disparity": _number(d[row]),
    }


def origin_set(n_blocks: int) -> list[int]:
    """Returns the layers that the origin protects, {0, round(.75 L), L−1}, ascending.

    Example:
        >>> origin_set(12)
        [0, 9, 11]
    """
    return sorted({0, min(round(0.75 * n_blocks), n_blocks - 1), n_blocks - 1})


def _origin_rank(scores: Scores, design: Design, weights: Floats) -> dict[str, Any]:
    n, layers = design.n_blocks, origin_set(design.n_blocks)
    mask = mask_of(layers)
    rows = np.flatnonzero(popcount(np.array(design.masks)) == len(layers))
    if len(rows) < math.comb(n, len(layers)):
        return {"layers": layers, "rank_damage": None, "reason": "not all sets of its size scored"}
    row = design.masks.index(mask)
    mine, few = int(np.searchsorted(rows, row)), _of_rows(scores, rows)
    found: dict[str, Any] = {"layers": layers, "sets": len(rows)}
    for name, formula in (("damage", _mean_damage), ("disparity", disparity)):
        value = formula(few)
        found[name] = _number(value[mine])
        draws = np.abs(resample(formula, few, weights))
        found[f"rank_{name}"] = _rank(np.abs(value), mine)
        ranks = (draws < draws[:, mine : mine + 1]).sum(1) + 1.0
        ranks[~np.isfinite(draws[:, mine])] = np.nan
        found[f"rank_{name}_ci"] = _numbers(central_range(ranks, scores.n_sentences))
    return found


def _rank(values: Floats, mine: int) -> int | None:
    """Returns how manieth from below a value is, from 1; None where it is NaN."""
    return int((values < values[mine]).sum()) + 1 if np.isfinite(values[mine]) else None


def _of_rows(scores: Scores, rows: Integers) -> Scores:
    return scores.select(plans=[scores.plans[row] for row in rows])


def _caveats(scores: Scores, design: Design) -> tuple[str, ...]:
    said = []
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
        said.append(f"Shapley values are sampled from {len(design.orders)} orders of the layers")
    if scores.n_sentences < 32:
        said.append(
            f"{scores.n_sentences} sentences a language: intervals are wide and approximate"
        )
    return tuple(said)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _numbers(interval: Floats) -> list[float | None]:
    return [_number(end) for end in interval]


def shapley_rows(layer_map: LayerMap, name: str) -> Sequence[float | None]:
    """Returns one game's Shapley values by layer, for figures and links.

    Example:
        >>> found = make_map(SCORES, "rtn4-g128", make_design(3))
        >>> [round(value, 4) for value in shapley_rows(found, "gap")]
        [0.0334, 0.0069, 0.0138]
    """
    return [row[f"shapley_{name}"] for row in layer_map.layers]
