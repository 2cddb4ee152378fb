"""The sweep of T-010: which plans are scored, what they cost in bits, and slopes of what they do.

A cell is a number of bits with a set of protected blocks; cells of one set are a *design*. A slope
per bit is taken within designs and within a language, and then averaged over languages, so neither
which blocks are protected nor which languages were left out of a cell can pass for an effect of
bits. A language that collapsed in a cell, or lies below resolution there, is left out of that cell
alone; one with fewer than three numbers of bits left is left out altogether.

Statistics are functions from bootstrap weights (W x N). Pure numpy but for :func:`rate_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bitgap.disparity.formulas import below_resolution, collapsed, damage_bits
from bitgap.experiments.protocol.error_budget import by_language, sensitivity
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.experiments.t010_rate_distortion.plans import SHAPLEY, at_bits
from bitgap.quant.schemes import FULL_PRECISION_BITS, Scheme, bits_per_weight, parse_scheme
from bitgap.records import Bools, Floats, Integers, Observations, Scores

if TYPE_CHECKING:
    from bitgap.models.decoder import Decoder

FEWEST_BITS = 3
"""Numbers of bits a language needs for a slope that two points could not give by accident."""
_SLICE = 4_000_000  # draws x cells x languages that are held at once: 32 MB an array


def rate_of(
    decoder: Decoder, scheme: str, bits: Sequence[int], sets: Sequence[Sequence[int]]
) -> Floats:
    """Returns bits per weight of the blocks' linears in every cell, (P).

    An unprotected weight costs its bits and its share of an fp16 scale, a protected one 16 bits.
    """
    shapes = [
        [tuple(view.get().shape) for view in decoder.block_linears(i).values()]
        for i in range(decoder.n_blocks)
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


def slope_weights(bits: Floats, design: Integers, mask: Bools) -> Floats:
    """Returns coefficients (P x A) whose product with values gives each language's slope per bit.

    Least squares with a constant of its own for every design, over the cells of ``mask`` (P x A).
    NaN throughout for a language without two numbers of bits in any design.
    """
    centred = np.zeros(mask.shape)
    for d in np.unique(design):
        rows = design == d
        inside = mask[rows].astype(float)
        x = bits[rows][:, None]
        mean = (x * inside).sum(0) / np.maximum(inside.sum(0), 1)
        centred[rows] = (x - mean) * inside
    squares = (centred**2).sum(0)
    return np.where(squares > 0, centred / np.where(squares > 0, squares, 1), np.nan)


def anywhere(mask: Bools) -> Bools:
    """Returns which languages are in any cell of a mask (P x A), (A)."""
    return np.logical_or.reduce(mask, axis=0)


def mean_over(values: Floats, languages: Bools) -> Floats:
    """Returns the mean over some languages, (...); NaN where there is none."""
    if not languages.any():
        return np.full(values.shape[:-1], np.nan)
    return values[..., languages].mean(-1)


def evened_mean(values: Floats, mask: Bools) -> Floats:
    """Returns the mean over a cell's languages as if none were missing, (... x P).

    A language missing in a cell is counted at the cell's own level with what usually sets the
    language apart, so that who was left out does not move the mean. NaN where all are missing.
    """
    seen = anywhere(mask)
    filled = np.where(mask, values, 0.0)
    own = filled.sum(-2, keepdims=True) / np.maximum(mask.sum(0), 1)
    usual = mean_over(own, seen)
    n = mask.sum(1)
    level = np.where(mask, values - own, 0.0).sum(-1) / np.maximum(n, 1)
    return np.where(n > 0, level + usual, np.nan)


def in_slices(statistic: Callable[[Floats], Floats], weights: Floats, size: int) -> Floats:
    """Returns a statistic of many weightings, a few at a time; ``size`` numbers for each."""
    step = max(1, _SLICE // max(size, 1))
    parts = [statistic(weights[i : i + step]) for i in range(0, len(weights), step)]
    return np.concatenate(parts)


def log_damages(kl: Floats, weights: Floats) -> Floats:
    """Returns log2 Σ KL under weightings, (W x P x A); NaN where it is not above 0."""
    flat = kl.reshape(-1, kl.shape[-1])
    sums = (weights @ flat.T).reshape(len(weights), *kl.shape[:-1])
    return log2(sums)


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
    """

    scores: Scores
    bits: Floats
    rate: Floats
    design: Integers
    orders: tuple[str, ...]
    kept: Bools
    t2: Floats
    alpha: Floats

    @classmethod
    def of(cls, observations: Observations) -> Sweep:
        """Takes the sweep out of observations."""
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
        )

    @property
    def reference(self) -> int:
        """Row of the reference."""
        return self.scores.languages.index(self.scores.reference)

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
    def usable(self) -> Bools:
        """Cells of languages whose damage may be read, (P x A)."""
        readable = ~(self.collapsed | self.unresolved)
        return readable & self._enough(readable)

    @cached_property
    def paired(self) -> Bools:
        """Cells in which a language other than the reference may be compared with it, (P x A)."""
        both = self.usable & self.usable[:, [self.reference]]
        both[:, self.reference] = False
        return both & self._enough(both)

    def _enough(self, mask: Bools) -> Bools:
        """Returns which languages have numbers of bits enough, (A)."""
        n = [len(np.unique(self.bits[column])) for column in mask.T]
        return np.array(n) >= FEWEST_BITS

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Languages that enter no comparison, and why."""
        absent = ~anywhere(self.paired)
        absent[self.reference] = not self.usable[:, self.reference].any()
        rows = zip(self.scores.languages, absent, self.collapsed.T, self.unresolved.T, strict=True)
        return {
            code: f"collapsed in {lost.sum()}, below resolution in {weak.sum()} of {len(lost)} "
            f"cells"
            for code, bad, lost, weak in rows
            if bad
        }

    @cached_property
    def forecast(self) -> Floats:
        """M2: Σ_{l∉S} α_lλ t_l(bits)², bits per reference character, (P x A)."""
        t2 = np.repeat(self.t2, len(self.orders), axis=0)  # (P x L)
        return np.where(self.kept[self.design], 0.0, t2) @ self.alpha

    @cached_property
    def damage(self) -> Floats:
        """K, bits per reference character, (P x A)."""
        return damage_bits(self.scores)

    def ratios(self, logs: Floats) -> Floats:
        """Returns log2 of damage over the reference's, of logs (... x A)."""
        return logs - logs[..., [self.reference]]

    def of_order(self, start: str) -> Bools:
        """Returns the cells whose order's name starts so, (P)."""
        return np.array([name.startswith(start) for name in self.orders])[self.design]

    def minus_slopes(self, logs: Floats, cells: Bools) -> Floats:
        """Returns −slope of log2(K_λ/K_ref) per bit over some cells, mean over languages, (...)."""
        return self._minus_slopes(self.ratios(logs), self.paired & cells[:, None])

    def exponents(self, logs: Floats, cells: Bools) -> Floats:
        """Returns −slope of log2 K per bit over some cells, mean over languages, (...)."""
        return self._minus_slopes(logs, self.usable & cells[:, None])

    def _minus_slopes(self, values: Floats, mask: Bools) -> Floats:
        weights = slope_weights(self.bits, self.design, mask)
        slopes = (np.where(mask, values, 0.0) * weights).sum(-2)
        return mean_over(-slopes, ~anywhere(np.isnan(weights)))

    def order_saving(self, logs: Floats) -> Floats:
        """Returns log2 of damage under random orders over that under the Shapley order, (...).

        The mean over numbers of bits and sizes that have both; NaN where none has.
        """
        level = evened_mean(logs, self.usable)
        defined, size = self.usable.any(1), self.kept.sum(1)[self.design]
        best, drawn = self.of_order(SHAPLEY) & defined, self.of_order("random") & defined
        savings = [
            level[..., drawn & alike].mean(-1) - level[..., best & alike].mean(-1)
            for b in np.unique(self.bits)
            for s in np.unique(size)
            if (alike := (self.bits == b) & (size == s))[best].any() and alike[drawn].any()
        ]
        return np.mean(savings, axis=0) if savings else np.full(logs.shape[:-2], np.nan)
