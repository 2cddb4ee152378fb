"""The sweep of T-010: which plans are scored, what they cost in bits, and slopes of what they do.

A cell is a number of bits with a set of protected blocks; cells of one set are a *design*. Slopes
are taken within designs, per log2 q, where q = 2^(bits − 1) − 1 is the largest level: error goes
with 1/q², so theory's slope of damage is −2 at any number of bits.

A spread over languages is of the same languages in every cell, or leaving one out would pass for a
fall. So what is judged is the largest full table: the languages that neither collapsed nor lie
below resolution in any cell of some consecutive numbers of bits, three or more and none below the
declared least; of all such tables the one with most languages times numbers of bits, and of two as
large the one with more languages. What the languages' damages say of each other has no part in it.

Statistics are functions from bootstrap weights (W x N). Pure numpy but for :func:`rate_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bitgap.disparity.formulas import (
    Sums,
    below_resolution,
    collapsed,
    damage_bits,
    log_damage,
)
from bitgap.experiments.protocol.error_budget import by_language, sensitivity
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.experiments.t010_rate_distortion.plans import SHAPLEY, at_bits
from bitgap.quant.schemes import (
    FULL_PRECISION_BITS,
    Scheme,
    bits_per_weight,
    largest_level,
    parse_scheme,
)
from bitgap.records import Bools, Floats, Integers, Observations, Scores

if TYPE_CHECKING:
    from bitgap.models.decoder import Decoder

FEWEST_BITS = 3
"""Numbers of bits a slope needs that two points could not give by accident."""
FEWEST_LANGUAGES = 2
"""Languages a spread needs."""
_SLICE = 4_000_000  # draws x cells x languages that are held at once: 32 MB an array


def rate_of(
    decoder: Decoder, scheme: str, bits: Sequence[int], sets: Sequence[Sequence[int]]
) -> Floats:
    """Returns bits per weight of the blocks' linears in every cell, (P).

    An unprotected weight costs its bits and its share of an fp16 scale, a protected one 16 bits.
    """
    shapes = [
        [view.shape for view in decoder.block_linears(i).values()] for i in range(decoder.n_blocks)
    ]
    sizes = np.array([sum(math.prod(shape) for shape in block) for block in shapes], dtype=float)

    def stored(parsed: Scheme) -> Floats:
        return np.array([
            sum(math.prod(shape) * bits_per_weight(parsed, shape) for shape in block)
            for block in shapes
        ])  # fmt: skip

    out = list[float]()
    for b in bits:
        rounded = stored(parse_scheme(at_bits(scheme, b)))
        for kept in sets:
            spared = np.isin(np.arange(len(sizes)), list(kept))
            total = np.where(spared, FULL_PRECISION_BITS * sizes, rounded).sum()
            out.append(total / sizes.sum())
    return np.array(out)


def log_levels(bits: Integers | Floats) -> Floats:
    """Returns log2 of the largest level q = 2^(bits − 1) − 1 of every number of bits."""
    return np.log2([float(largest_level(int(b))) for b in bits])


def slope_weights(x: Floats, design: Integers) -> Floats:
    """Returns coefficients (P) whose product with values gives their slope on x within designs.

    Least squares with a constant of its own for every design; NaN throughout where x varies in
    none.
    """
    centred = np.zeros(len(x))
    for d in np.unique(design):
        rows = design == d
        centred[rows] = x[rows] - x[rows].mean()
    squares = (centred**2).sum()
    return centred / squares if squares > 0 else np.full(len(x), np.nan)


def evened_mean(values: Floats, mask: Bools) -> Floats:
    """Returns the mean over a cell's languages as if none were missing, (... x P).

    A language missing in a cell is counted at the cell's own level with what usually sets the
    language apart, so that who was left out does not move the mean. NaN where all are missing. For
    tables and figures; what is judged misses none.
    """
    seen = mask.any(0)
    if not seen.any():
        return np.full(values.shape[:-1], np.nan)
    filled = np.where(mask, values, 0.0)
    own = filled.sum(-2, keepdims=True) / np.maximum(mask.sum(0), 1)
    usual = own[..., seen].mean(-1)
    n = mask.sum(1)
    level = np.where(mask, values - own, 0.0).sum(-1) / np.maximum(n, 1)
    return np.where(n > 0, level + usual, np.nan)


def in_slices(statistic: Callable[[Floats], Floats], weights: Floats, size: int) -> Floats:
    """Returns a statistic of many weightings, a few at a time; ``size`` numbers for each."""
    step = max(1, _SLICE // max(size, 1))
    parts = [statistic(weights[i : i + step]) for i in range(0, len(weights), step)]
    return np.concatenate(parts)


def log2(values: Floats) -> Floats:
    """Returns the logarithm, NaN where there is none."""
    return np.log2(np.where(values > 0, values, np.nan))


@dataclass(frozen=True)
class Sweep:
    """What was measured in every cell, and which languages count where.

    Attributes:
        scores: P plans, one a cell.
        bits: (P).
        rate: Bits per weight, (P).
        design: Number of the cell's design, (P).
        orders: Name of every design's order.
        kept: Blocks protected, (designs x L).
        t2: Relative error of each block's weights at each number of bits, (B x L).
        alpha: Sensitivity of every block and language, bits per reference character, (L x A).
        bits_min: Least number of bits that is judged.
    """

    scores: Scores
    bits: Floats
    rate: Floats
    design: Integers
    orders: tuple[str, ...]
    kept: Bools
    t2: Floats
    alpha: Floats
    bits_min: int

    @classmethod
    def of(cls, observations: Observations, bits_min: int) -> Sweep:
        """Takes the sweep out of observations.

        Args:
            observations: As T-010 measures them.
            bits_min: Least number of bits that is judged; fewer are shown.
        """
        arrays, facts = observations.arrays, observations.facts
        noise, params = unpack_scores(observations, "noise"), facts["params"]
        alpha = by_language(
            lambda one: sensitivity(noise, one, params["noise"], params["noise_seeds"]), noise
        )
        n_designs, levels = len(facts["orders"]), arrays["levels"]
        return cls(
            scores=unpack_scores(observations, "cells"),
            bits=np.repeat(levels.astype(float), n_designs),
            rate=arrays["rate"],
            design=np.tile(np.arange(n_designs), len(levels)),
            orders=tuple(facts["orders"]),
            kept=arrays["kept"].astype(bool),
            t2=arrays["t2"],
            alpha=alpha,
            bits_min=bits_min,
        )

    @property
    def reference(self) -> int:
        """Row of the reference."""
        return self.scores.languages.index(self.scores.reference)

    @cached_property
    def log_q(self) -> Floats:
        """log2 of the largest level, (P)."""
        return log_levels(self.bits)

    @cached_property
    def share(self) -> Floats:
        """Share of blocks protected, (P)."""
        return self.kept.mean(1)[self.design]

    @cached_property
    def collapsed(self) -> Bools:
        """(P x A)."""
        return collapsed(self.scores)

    @cached_property
    def unresolved(self) -> Bools:
        """Below resolution and not collapsed, (P x A)."""
        return below_resolution(self.scores) & ~self.collapsed

    @cached_property
    def readable(self) -> Bools:
        """Cells of languages whose damage may be read, (P x A)."""
        return ~(self.collapsed | self.unresolved)

    # -- what is judged -----------------------------------------------------------------------

    @cached_property
    def _table(self) -> tuple[Floats, Bools]:
        """Numbers of bits and languages, (A), of the largest full table; none where there is none.

        See the head of this file.
        """
        levels = np.unique(self.bits[self.bits >= self.bits_min])
        whole = np.array([self.readable[self.bits == b].all(0) for b in levels])
        best, most = (levels[:0], np.zeros(len(self.scores.languages), bool)), (0, 0)
        for i in range(len(levels)):
            for j in range(i + FEWEST_BITS, len(levels) + 1):
                languages = np.logical_and.reduce(whole[i:j], axis=0)
                n = int(languages.sum())
                if n >= FEWEST_LANGUAGES and (n * (j - i), n) > most:
                    best, most = (levels[i:j], languages), (n * (j - i), n)
        return best

    @property
    def levels(self) -> Floats:
        """Numbers of bits that are judged."""
        return self._table[0]

    @property
    def languages(self) -> Bools:
        """Languages that are judged, (A)."""
        return self._table[1]

    @cached_property
    def cells(self) -> Bools:
        """Cells that are judged, (P)."""
        return np.isin(self.bits, self.levels)

    @property
    def compared(self) -> Bools:
        """Judged languages that may be compared with the reference: none where it is not, (A)."""
        others = self.languages & self.languages[self.reference]
        others[self.reference] = False
        return others

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Languages that are not judged, and why."""
        rows = zip(
            self.scores.languages, self.languages, self.collapsed.T, self.unresolved.T, strict=True
        )
        judged = self.bits >= self.bits_min
        return {
            code: f"collapsed in {lost[judged].sum()}, below resolution in {weak[judged].sum()} of "
            f"{judged.sum()} cells"
            for code, counts, lost, weak in rows
            if not counts
        }

    @property
    def levels_left_out(self) -> list[int]:
        """Numbers of bits that could have been judged and are not."""
        levels = np.unique(self.bits[self.bits >= self.bits_min])
        return [int(b) for b in levels if b not in self.levels]

    # -- numbers ------------------------------------------------------------------------------

    @cached_property
    def forecast(self) -> Floats:
        """M2: Σ_{l∉S} α_lλ t_l(bits)², bits per reference character, (P x A)."""
        t2 = np.repeat(self.t2, len(self.orders), axis=0)  # (P x L)
        return np.where(self.kept[self.design], 0.0, t2) @ self.alpha

    @cached_property
    def damage(self) -> Floats:
        """K, bits per reference character, (P x A)."""
        return damage_bits(self.scores)

    @cached_property
    def characters_per_token(self) -> Floats:
        """Characters of the reference over tokens of each language, (A)."""
        sums = Sums(self.scores)
        return (sums.length / sums.tokens)[0]

    def of_order(self, start: str) -> Bools:
        """Returns the cells whose order's name starts so, (P)."""
        return np.array([name.startswith(start) for name in self.orders])[self.design]

    def spread(self, logs: Floats) -> Floats:
        """Returns S of every cell, (... x P), of log2 damages (... x P x A).

        As :func:`bitgap.disparity.formulas.spread`, of logarithms that are there already.
        """
        return spread_of(logs[..., self.languages])

    def fall(self, values: Floats, cells: Bools) -> Floats:
        """Returns −slope per log2 q of values (... x P) over some of the judged cells, (...)."""
        rows = np.flatnonzero(self.cells & cells)
        if not len(rows):
            return np.full(values.shape[:-1], np.nan)
        return -(values[..., rows] @ slope_weights(self.log_q[rows], self.design[rows]))

    def order_saving(self, level: Floats) -> Floats:
        """Returns log2 of damage under random orders over that under the Shapley order, (...).

        The mean over numbers of bits and sizes that have both; NaN where none has.

        Args:
            level: log2 of damage, mean over languages, (... x P).
        """
        size = self.kept.sum(1)[self.design]
        best, drawn = self.of_order(SHAPLEY) & self.cells, self.of_order("random") & self.cells
        savings = [
            level[..., drawn & alike].mean(-1) - level[..., best & alike].mean(-1)
            for b in self.levels
            for s in np.unique(size)
            if (alike := (self.bits == b) & (size == s))[best].any() and alike[drawn].any()
        ]
        return np.mean(savings, axis=0) if savings else np.full(level.shape[:-1], np.nan)


def spread_of(logs: Floats) -> Floats:
    """Returns the standard deviation over languages of log2 damages (... x A); NaN of fewer than
    two.
    """
    if logs.shape[-1] < FEWEST_LANGUAGES:
        return np.full(logs.shape[:-1], np.nan)
    return logs.std(-1)


def log_damages(scores: Scores, weights: Floats) -> Floats:
    """Returns log2 of damage per token under weightings, (W x P x A); NaN where it is not above 0.

    Args:
        scores: Of P plans.
        weights: How often each sentence counts, (W x N).
    """
    return log_damage(Sums(scores, weights), "token")


def log_tokens(scores: Scores, weights: Floats) -> Floats:
    """Returns log2 of tokens under weightings, (W x 1 x A): from per token to per text, but for a
    number that all languages share.
    """
    return log2(weights @ scores.counts.tokens.T)[:, None]
