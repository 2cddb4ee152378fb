"""The layer map: what sets of protected blocks do to every language.

It is read off whatever masks a design has scored (:mod:`bitgap.stats.mask_design`), and says how
many of all sets those are. Only sets that were scored are compared, and never over different
languages.

**Damage and gap** are games: a set of protected blocks is worth −K (mean over languages) or −G, and
a block's Shapley value is what protecting it is worth, averaged over what is protected already;
above 0 it helps.

**S**, the spread over languages of log2 damage per token, has no value where nothing is rounded, so
it has no Shapley value that would not rest on a number made up for the fully protected set. What is
told instead is measured: S with only this block rounded, S with only this block protected, and the
*fall* S(∅) − S({l}), what protecting the block alone takes off S. Each is told per token, in which
it is judged, and per text; a fall whose sign differs between them is not established.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from bitgap.disparity.formulas import (
    Per,
    Sums,
    collapsed,
    damage_bits,
    disparity,
    gap,
    harm_max,
    harm_mean,
    resample,
    spread,
    spread_draws,
    usable,
)
from bitgap.disparity.gates import LOG_UNITS, Quantities, estimate_spreads, note
from bitgap.disparity.records import NOT_FORMED
from bitgap.quant.sets import blocks_in, mask_of, popcount
from bitgap.records import Bools, Estimate, Floats, Integers, Scores, defined, finite
from bitgap.stats.bootstrap import (
    DRAWS as DRAWS_OF_S,
)
from bitgap.stats.bootstrap import (
    MAX_UNDEFINED,
    bootstrap_weights,
    central_range,
    how_expanded,
    n_units,
)
from bitgap.stats.mask_design import Design, original_set
from bitgap.stats.ranks import share_estimate

DRAWS = 400
"""Bootstrap draws of the map's intervals, but for those of S; read off a table, not tested."""

_UNITS = {
    "damage": "bits per English character",
    "gap": "bits per English character",
    "disparity": "log2 ratio",
    "spread": LOG_UNITS,
}

_RANK = "rank among sets of this size, the best being 1"
_NO_RANK = replace(NOT_FORMED, unit=_RANK)
LEAST_SAMPLE = 20
"""Randomly drawn sets of a size from which the share that a set beats is estimated, at least."""


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
    spread: Estimate = NOT_FORMED
    """S per token, log2 units; with nothing or one block protected over the same languages."""
    spread_per_text: Estimate = NOT_FORMED
    """S per text."""

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
    """Shapley value of protecting it, by game: ``damage`` and ``gap``; above 0 it helps. Runs
    stored before 2026-11-30 have ``disparity``, of −|D|, as well."""
    spread_fall: Estimate = NOT_FORMED
    """S(∅) − S({l}) per token: what protecting it alone takes off S; above 0 it evens out."""
    spread_fall_per_text: Estimate = NOT_FORMED
    """The same per text."""

    @property
    def fall_established(self) -> bool | None:
        """Whether S changes alike per token and per text; None where one is missing or 0."""
        token, text = self.spread_fall.value, self.spread_fall_per_text.value
        return (token > 0) == (text > 0) if token and text else None

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready numbers: ``single_*``, ``protected_*``, ``shapley_*``, falls of S."""
        games = _flat({f"shapley_{game}": value for game, value in self.shapley.items()})
        games |= _flat({name: getattr(self, name) for name in _FALLS})
        games["spread_fall_established"] = self.fall_established
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
    spread: float | None = None
    """S per token, over the languages that count in all sets it is compared with."""
    spread_per_text: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns it JSON-ready."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"blocks": list(self.blocks)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BestSets:
    """The best of all scored sets of one size."""

    size: int
    sets: int
    """How many of this size were scored."""
    least_damage: ScoredSet
    least_disparity: ScoredSet | None
    """The least |D| that levels nobody down; None where every set does. Described: languages cancel
    in D, so that it does not answer for the gap."""
    least_spread: ScoredSet | None = None
    """The least S that levels nobody down; None where every set does."""
    of_all: int | None = None
    """How many sets of this size there are."""

    def as_dict(self) -> dict[str, Any]:
        """Returns them JSON-ready."""
        return {
            "size": self.size,
            "sets": self.sets,
            "of_all": self.of_all,
            "least_damage": self.least_damage.as_dict(),
            "least_spread": self.least_spread and self.least_spread.as_dict(),
            "least_disparity": self.least_disparity and self.least_disparity.as_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalRank:
    """Where the origin's set stands among the sets of its size."""

    of: ScoredSet
    """The origin's set; without damage and disparity where it is not ranked."""
    sets: int | None
    """How many sets it is ranked among, itself one of them; None where it is not ranked. All of its
    size, or those that were drawn at random."""
    rank_damage: Estimate
    """By mean K, 1 being the best; without a value where not all sets of its size were scored."""
    rank_disparity: Estimate
    """By |D|; described."""
    rank_spread: Estimate = _NO_RANK
    """By S per token."""
    rank_spread_per_text: Estimate = _NO_RANK
    """By S per text."""
    beats_damage: Estimate = _NO_RANK
    """Share of the other sets that do more damage; of a random sample, as all would have it."""
    beats_spread: Estimate = _NO_RANK
    """Share of the other sets whose S per token is larger."""
    beats_spread_per_text: Estimate = _NO_RANK
    """Share of the other sets whose S per text is larger."""
    of_all: int | None = None
    """How many sets of its size there are."""

    def as_dict(self) -> dict[str, Any]:
        """Returns it JSON-ready; a rank is a whole number."""
        none = {"of_all": self.of_all, "rank_damage": None, "beats_damage": None}
        if self.sets is None:
            return {"blocks": list(self.of.blocks), **none, "reason": self.rank_damage.reason}
        out: dict[str, Any] = self.of.as_dict() | {"sets": self.sets, "of_all": self.of_all}
        for name in _RANKS:
            out |= _flat({name: getattr(self, name)})
            out[name] = None if out[name] is None else int(out[name])
        out |= _flat({name: getattr(self, name) for name in _SHARES})
        return out | {"reason": self.rank_damage.reason}


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
        languages: Those that count in S with nothing and with one block protected.
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
    languages: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the map as JSON."""
        return {
            "scheme": self.scheme,
            "n_blocks": self.design.n_blocks,
            "masks": len(self.design.masks),
            "all_masks": len(self.design.masks) == 1 << self.design.n_blocks,
            "sentences": self.n_sentences,
            "languages_in_S": list(self.languages),
            "units": _UNITS,
            "unprotected": self.unprotected.as_dict(),
            "blocks": [row.as_dict() for row in self.blocks],
            "best_sets": [row.as_dict() for row in self.best],
            "original_set": self.origin.as_dict(),
            "caveats": list(self.caveats),
        }


_FALLS = ("spread_fall", "spread_fall_per_text")
_RANKS = ("rank_damage", "rank_spread", "rank_spread_per_text", "rank_disparity")
_SHARES = ("beats_damage", "beats_spread", "beats_spread_per_text")


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
        >>> [round(block.spread_fall.value, 3) for block in found.blocks]
        [0.132, -0.048, -0.026]
    """
    # A model ruined by rounding can give infinities; NaN says the same without their arithmetic.
    scores = replace(scores, nll_nats=defined(scores.nll_nats), kl_nats=defined(scores.kl_nats))
    weights = bootstrap_weights(scores.units, DRAWS, seed)
    single, protected, unprotected = _single_masks(scores, design, weights)
    of_s = _spreads(scores, design, seed)
    shapley = _shapley(scores, design, weights)
    spared = _spared_languages(scores, design)
    n = design.n_blocks
    return LayerMap(
        scheme=scheme,
        design=design,
        blocks=tuple(
            BlockEffects(
                block=i,
                depth=round(i / max(n - 1, 1), 4),
                single=replace(single[i], **of_s.single[i]),
                protected=replace(protected[i], **of_s.protected[i]),
                shapley={game: values[i] for game, values in shapley.items()},
                **of_s.falls[i],
            )
            for i in range(n)
        ),
        best=tuple(_best_sets(scores, design)),
        unprotected=replace(unprotected, **of_s.unprotected),
        origin=_original_rank(scores, design, weights, seed),
        n_sentences=scores.n_sentences,
        caveats=_caveats(scores, design),
        languages=tuple(c for c, ok in zip(scores.languages, spared, strict=True) if ok),
    )


def _shapley(scores: Scores, design: Design, weights: Floats) -> dict[str, list[Estimate]]:
    """Returns every game's Shapley values by block."""
    found: dict[str, list[Estimate]] = {}
    for name, game in _games(scores, design).items():
        if name == "disparity":
            continue  # rests on a number made up where all is protected
        point, draws = game(Sums(scores)), resample(game, scores, weights)
        ends = central_range(design.shapley(draws.T).T, scores.units)
        columns = zip(design.shapley(point), ends.T, strict=True)
        found[name] = [_estimate(value, pair, _UNITS[name], scores) for value, pair in columns]
    return found


def _estimate(value: float, ends: Floats, unit: str, scores: Scores) -> Estimate:
    low, high = ends
    what, few = _resampled(scores), n_units(scores.units)
    missing = {
        "it has no value under some of these masks": not np.isfinite(value),
        f"one {what} has no spread": few < 2,
        f"it has no value in more than {MAX_UNDEFINED:.0%} of the draws": not np.isfinite(low),
    }
    return Estimate(
        value=finite(value),
        low=finite(low),
        high=finite(high),
        unit=unit,
        n=scores.n_sentences,
        method=f"percentile bootstrap over {what}s, {DRAWS} draws, {how_expanded(few, what)}",
        reason=next((why for why, applies in missing.items() if applies), None),
    )


def _resampled(scores: Scores) -> str:
    return "sentence" if scores.documents is None else "document"


def spread_falls(scores: Scores, design: Design, *, per: Per = "token") -> Floats:
    """Returns S(∅) − S({l}), what protecting each block alone takes off S, (L).

    S has no value where all is protected, so it has no Shapley value; this is measured. NaN where
    fewer than two languages count with nothing and with any one block protected.

    Args:
        scores: Rows as ``design.plans(scheme)``.
        design: With the masks of no and of one block.
        per: ``token``, in which it is judged, or ``text``.

    Example:
        >>> spread_falls(SCORES, DESIGN).round(3)
        array([ 0.132, -0.048, -0.026])
    """
    languages = _spared_languages(scores, design)
    few = _of_rows(scores, _rows(design, [0, *(1 << i for i in range(design.n_blocks))]))
    values = spread(few, per=per, languages=languages)
    return values[0] - values[1:]


def single_spreads(scores: Scores, design: Design, *, per: Per = "token") -> Floats:
    """Returns S with only block l rounded, over the languages that count there, (L).

    Args:
        scores: Rows as ``design.plans(scheme)``.
        design: With the masks of all blocks but one.
        per: As :func:`spread_falls`.

    Example:
        >>> single_spreads(SCORES, DESIGN).round(3)
        array([0.616, 0.265, 0.445])
    """
    full = (1 << design.n_blocks) - 1
    few = _of_rows(scores, _rows(design, [full ^ (1 << i) for i in range(design.n_blocks)]))
    return spread(few, per=per)


@dataclass(frozen=True, slots=True)
class _OfS:
    """Estimates of S by field name, to be put into effects and blocks."""

    single: list[dict[str, Estimate]]
    protected: list[dict[str, Estimate]]
    falls: list[dict[str, Estimate]]
    unprotected: dict[str, Estimate]


def _spreads(scores: Scores, design: Design, seed: int) -> _OfS:
    """Returns S of single masks and its falls, all from the same draws."""
    n, full = design.n_blocks, (1 << design.n_blocks) - 1
    masks = [full ^ (1 << i) for i in range(n)] + [1 << i for i in range(n)] + [0]
    few = _of_rows(scores, _rows(design, masks))
    spared = _spared_languages(scores, design)
    counted = np.vstack([usable(few)[:n], np.tile(spared, (n + 1, 1))])

    def of_sums(sums: Sums, per: Per) -> Floats:
        values = spread_draws(sums, per=per, languages=counted)
        return np.concatenate([values, values[..., -1:] - values[..., n : 2 * n]], -1)

    quantities: Quantities = {
        "spread": (partial(of_sums, per="token"), LOG_UNITS),
        "spread_per_text": (partial(of_sums, per="text"), LOG_UNITS),
    }
    found = estimate_spreads(quantities, few, seed, DRAWS_OF_S)
    for column in found.values():
        for i, mine in enumerate(counted):
            out = [code for code, ok in zip(scores.languages, mine, strict=True) if not ok]
            for place in (i, i + n + 1) if n <= i < 2 * n else (i,):
                if column[place].value is None:
                    why = "fewer than two languages count: the others collapse or are unresolved"
                    column[place] = replace(column[place], reason=why)
                elif out:
                    column[place] = note(column[place], f"left out: {', '.join(out)}")

    def at(place: int, kind: str = "") -> dict[str, Estimate]:
        return {name.replace("spread", f"spread{kind}", 1): e[place] for name, e in found.items()}

    return _OfS(
        single=[at(i) for i in range(n)],
        protected=[at(n + i) for i in range(n)],
        falls=[at(2 * n + 1 + i, "_fall") for i in range(n)],
        unprotected=at(2 * n),
    )


def _spared_languages(scores: Scores, design: Design) -> Bools:
    """Returns which languages are usable with nothing and with any one block protected, (A)."""
    masks = [0, *(1 << i for i in range(design.n_blocks) if design.n_blocks > 1)]
    return np.logical_and.reduce(usable(_of_rows(scores, _rows(design, masks))), axis=0)


def shapley_of_games(scores: Scores, design: Design) -> dict[str, Floats]:
    """Returns what protecting each block is worth in every game, (L), above 0 where it helps.

    Shapley values of ``damage``, ``gap`` and ``disparity``, −K, −G and −|D|, NaN where a game has
    no value under some mask; and ``spread``, the falls of S of :func:`spread_falls`. In −|D|
    languages cancel, and the fully protected set counts as 0; nothing is judged by it.

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
    return found | {"spread": spread_falls(scores, design)}


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
    few = _of_rows(scores, _rows(design, masks))
    columns: dict[str, list[Estimate]] = {}
    for name, formula in _OF_A_MASK.items():
        draws = resample(formula, few, weights)
        ends = central_range(draws, scores.units)
        unit = _UNITS[name.split("_")[0]]
        columns[name] = [
            _estimate(value, pair, unit, scores)
            for value, pair in zip(formula(few), ends.T, strict=True)
        ]
    effects = [Effect(**{name: column[i] for name, column in columns.items()})
               for i in range(len(masks))]  # fmt: skip
    return effects[:n], effects[n : 2 * n], effects[-1]


def _best_sets(scores: Scores, design: Design) -> list[BestSets]:
    """Returns for every size the least damage, and the least S and |D| that level nobody down.

    Against protecting nothing, neither the reference's damage nor mean or largest harm may rise,
    and no language may be collapsed. S is over the languages that are resolved under all the sets
    it is compared over.
    """
    sizes = popcount(np.array(design.masks))
    damage, d, harm = damage_bits(scores), disparity(scores), harm_mean(scores)
    reference = Sums(scores).against(damage)[:, 0]
    empty = design.masks.index(0)
    worst, counted = harm_max(scores), usable(scores)
    fair = (reference <= reference[empty]) & (harm <= harm[empty]) & (worst <= worst[empty])
    fair &= ~collapsed(scores).any(-1)
    rows: list[BestSets] = []
    for size in range(1, design.n_blocks):
        of_size = np.flatnonzero(sizes == size)
        if not len(of_size):
            continue
        candidates = of_size[fair[of_size]]
        alike = np.logical_and.reduce(counted[candidates if len(candidates) else of_size])
        s = spread(scores, languages=alike)
        text = spread(scores, per="text", languages=alike)

        def scored(row: int, s: Floats = s, text: Floats = text) -> ScoredSet:
            return ScoredSet(
                blocks=tuple(blocks_in(design.masks[row])),
                damage=finite(damage[row].mean()),
                disparity=finite(d[row]),
                spread=finite(s[row]),
                spread_per_text=finite(text[row]),
            )

        def least(values: Floats, among: Integers = candidates) -> ScoredSet | None:
            known = among[np.isfinite(values[among])]
            return scored(int(known[values[known].argmin()])) if len(known) else None

        rows.append(
            BestSets(
                size=size,
                sets=len(of_size),
                of_all=math.comb(design.n_blocks, size),
                least_damage=scored(int(of_size[damage[of_size].mean(-1).argmin()])),
                least_spread=least(s),
                least_disparity=least(np.abs(d)),
            )
        )
    return rows


def _ranked_among(design: Design, mine: int) -> tuple[Integers, str | None]:
    """Returns the rows that a set is ranked among, itself among them, or why there are none.

    All sets of its size; where not all were scored, those that were drawn at random, as the others
    were chosen for what they are.
    """
    masks = np.array(design.masks)
    rows = np.flatnonzero(popcount(masks) == mine.bit_count())
    if len(rows) == (of_all := math.comb(design.n_blocks, mine.bit_count())):
        return rows, None
    if mine not in design.masks:
        return rows[:0], "it was not scored"
    drawn = set(design.sampled) - {mine}
    rows = np.array([row for row in rows if design.masks[int(row)] in drawn], dtype=np.int64)
    if len(rows) < LEAST_SAMPLE:
        return rows[:0], (
            f"not all {of_all} sets of its size were scored, and {len(rows) or 'none'} of them "
            f"at random: too few to tell its place"
        )
    return np.sort(np.append(rows, design.masks.index(mine))), None


def _original_rank(scores: Scores, design: Design, weights: Floats, seed: int) -> OriginalRank:
    blocks = tuple(original_set(design.n_blocks))
    of_all, own = math.comb(design.n_blocks, len(blocks)), mask_of(blocks)
    rows, why = _ranked_among(design, own)
    none = Estimate(value=None, unit=_RANK, reason=why or "not ranked")
    if why is not None:
        ranks, shares = dict.fromkeys(_RANKS, none), dict.fromkeys(_SHARES, none)
        alone = ScoredSet(blocks=blocks, damage=None, disparity=None)
        return OriginalRank(of=alone, sets=None, of_all=of_all, **ranks, **shares)
    mine, few = int(np.searchsorted(rows, design.masks.index(own))), _of_rows(scores, rows)
    counted = np.logical_and.reduce(usable(few))
    formulas: dict[str, Callable[[Sums], Floats]] = {
        "damage": _mean_damage,
        "spread": partial(spread, languages=counted),
        "spread_per_text": partial(spread, per="text", languages=counted),
        "disparity": partial(disparity, languages=counted),
    }
    values: dict[str, float | None] = {}
    estimates: dict[str, Estimate] = {}
    for name, formula in formulas.items():
        point, draws = formula(Sums(few)), np.abs(resample(formula, few, weights))
        values[name] = finite(point[mine])
        if f"beats_{name}" in _SHARES:
            estimates[f"beats_{name}"] = share_estimate(
                partial(resample, formula, few), mine, scores.units,
                draws=DRAWS, seed=seed, of_all=of_all - 1,
            )  # fmt: skip
        if len(rows) < of_all:
            sampled = f"{len(rows) - 1} of the {of_all - 1} others were scored, at random"
            estimates[f"rank_{name}"] = replace(none, reason=sampled)
            continue
        rank = float(_rank(np.abs(point), mine))
        ends = central_range(_rank(draws, mine), scores.units)
        # Resampling pulls extreme ranks to the middle; the interval holds the estimate.
        ends = np.array([min(ends[0], rank), max(ends[1], rank)]) if np.isfinite(rank) else ends
        estimates[f"rank_{name}"] = _estimate(rank, ends, _RANK, scores)
    of = ScoredSet(blocks=blocks, **values)
    return OriginalRank(of=of, sets=len(rows), of_all=of_all, **estimates)


def _rank(values: Floats, mine: int) -> Floats:
    """Returns the rank from below of one of the last axis' values, from 1; NaN where it is NaN."""
    chosen = values[..., mine]
    ranks = (values < chosen[..., None]).sum(-1) + 1.0
    return np.where(np.isfinite(chosen), ranks, np.nan)


def _rows(design: Design, masks: list[int]) -> Integers:
    where = {mask: row for row, mask in enumerate(design.masks)}
    return np.array([where[mask] for mask in masks])


def _of_rows(scores: Scores, rows: Integers) -> Scores:
    return scores.select(plans=[scores.plans[int(row)] for row in rows])


def _caveats(scores: Scores, design: Design) -> tuple[str, ...]:
    said: list[str] = []
    counted = _spared_languages(scores, design)
    left_out = [code for code, ok in zip(scores.languages, counted, strict=True) if not ok]
    if left_out:
        said.append(
            f"{', '.join(left_out)}: collapsed or below resolution with nothing or one block "
            f"protected, so left out of S there."
        )
    if counted.sum() < 2:
        said.append("no S with nothing or one block protected: fewer than two languages count.")
    n = design.n_blocks
    if len(design.masks) < 1 << n:
        said.append(
            f"{len(design.masks):,} of the {1 << n:,} sets of blocks were scored, and the best "
            f"sets are the best of these."
        )
        said.append(
            f"Shapley values are sampled from {len(design.orders)} orders of the blocks."
            if design.orders
            else "Shapley values are of both ends, which is exact where damage is pairwise."
        )
    if scores.n_sentences < 32:
        said.append(
            f"{scores.n_sentences} sentences a language: intervals are wide and approximate."
        )
    return tuple(said)


def shapley_rows(layer_map: LayerMap, name: str) -> list[float | None]:
    """Returns what protecting each block is worth, for figures and links.

    Args:
        layer_map: The map.
        name: ``damage`` or ``gap``, Shapley values; ``spread``, falls of S.

    Example:
        >>> found = make_map(SCORES, "rtn4-g128", DESIGN)
        >>> [round(value, 4) for value in shapley_rows(found, "gap")]
        [0.0334, 0.0069, 0.0138]
    """
    return [worth_of(row, name).value for row in layer_map.blocks]


def worth_of(row: BlockEffects, name: str) -> Estimate:
    """Returns what protecting a block is worth: as :func:`shapley_rows`, with its interval.

    Example:
        >>> found = make_map(SCORES, "rtn4-g128", DESIGN)
        >>> worth_of(found.blocks[0], "spread") is found.blocks[0].spread_fall
        True
    """
    return row.spread_fall if name == "spread" else row.shapley[name]
