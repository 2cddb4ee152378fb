"""What two blocks do together, from the scores of masks: every index, with intervals.

Damage is averaged over languages sentence by sentence, and all but the logarithm is linear in it,
so an index is formed once per sentence and resampled as a sum. Games are −K, −Δ, −G and −|D|, so
that above 0 always means that protecting both helps more than the sum of protecting each. Where all
masks were scored the Banzhaf interaction is exact on the text; else it is a mean over sampled
backgrounds, unbiased, and its interval resamples sentences and backgrounds alike. Pairs are then
ranked by the mean of their Möbius and co-Möbius terms, which are known for all. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bitgap.disparity.formulas import disparity
from bitgap.experiments.protocol.effects import gap_per_sentence
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.quant.sets import mask_of, pairs_of
from bitgap.records import Bools, Estimate, Floats, Observations, Scores, finite
from bitgap.stats.bootstrap import (
    Statistic,
    bca,
    bootstrap_weights,
    expanded_level,
    few_estimates,
    jackknife_weights,
)
from bitgap.stats.interactions import (
    banzhaf_interactions,
    corner_masks,
    derivatives_at,
    pair_derivatives,
    shapley_interaction,
    variance_by_order,
)
from bitgap.stats.verdicts import Thresholds

UNIT = "share of K(none)"
_BITS = 1 / np.log(2)
_LOG_DRAWS = 400
"""Draws of the interaction of logarithms, which needs every mask on every resampled text."""


def interaction(corners: Floats, none: Floats) -> Statistic:
    """Returns weights -> (W x 1): mean of −Δ_ij K over backgrounds, over K(∅).

    Args:
        corners: K per sentence at T, T∪i, T∪j, T∪ij of each background, (B x 4 x N).
        none: K(∅) per sentence, (N).
    """
    return ratio_of_sums(-derivatives_at(np.moveaxis(corners, 1, -1)).mean(0), none)


def ratio_of_sums(term: Floats, total: Floats) -> Statistic:
    """Returns weights -> (W x 1): Σ term / Σ total over sentences, of (N) each."""

    def statistic(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((weights @ term) / (weights @ total))[:, None]

    return statistic


@dataclass(frozen=True)
class PairInteraction:
    """The pair {0, L−1} and all others, on one text.

    Attributes:
        n_blocks: L.
        masks: What ``damage`` has rows for; all 2^L where ``complete``.
        damage: Mean KL over languages in nats, (P x N).
        delta: Mean increase of NLL, likewise.
        gap: Mean increase of NLL of the other languages less the reference's, likewise.
        corners: ``damage`` at the corners of the backgrounds, (B x 4 x N).
        delta_corners: ``delta`` likewise.
        length: Characters of the reference, (N).
        scores: Of the masks.
        displayed: Languages that enter, (A).
        complete: Whether all masks are there.
        thresholds: With draws and level.
    """

    n_blocks: int
    masks: tuple[int, ...]
    damage: Floats
    delta: Floats
    gap: Floats | None
    corners: Floats
    delta_corners: Floats
    length: Floats
    scores: Scores
    displayed: Bools
    complete: bool
    thresholds: Thresholds

    @classmethod
    def of(
        cls, observations: Observations, displayed: Bools, thresholds: Thresholds
    ) -> PairInteraction:
        """Returns it of observations with the parts ``map`` and, if sampled, ``corners``.

        Args:
            observations: Of the synergy experiment.
            displayed: Languages that enter, (A).
            thresholds: With draws and level.
        """
        arrays, facts = observations.arrays, observations.facts
        reference = facts["languages"].index(facts["reference"])
        harm = arrays["map_nll"] - arrays["nll_fp"]
        nll_corners = corners_of(arrays, facts, "nll", displayed)
        return cls(
            n_blocks=facts["n_blocks"],
            masks=tuple(int(mask) for mask in arrays["masks"]),
            damage=arrays["map_kl"][:, displayed].mean(1),
            delta=harm[:, displayed].mean(1),
            gap=gap_per_sentence(harm, displayed, reference),
            corners=corners_of(arrays, facts, "kl", displayed),
            delta_corners=nll_corners - arrays["nll_fp"][displayed].mean(0),
            length=arrays["characters"][reference].astype(np.float64),
            scores=unpack_scores(observations, "map"),
            displayed=displayed,
            complete=facts["complete"],
            thresholds=thresholds,
        )

    @property
    def pair(self) -> tuple[int, int]:
        """Blocks 0 and L−1."""
        return 0, self.n_blocks - 1

    @property
    def none(self) -> Floats:
        """K(∅) per sentence, (N)."""
        return self.damage[self._row[0]]

    @cached_property
    def _row(self) -> dict[int, int]:
        return {mask: row for row, mask in enumerate(self.masks)}

    @property
    def _n_sentences(self) -> int:
        return self.damage.shape[1]

    def _estimate(
        self, statistic: Statistic, unit: str = UNIT, draws: int | None = None
    ) -> Estimate:
        how = self.thresholds.how | ({"draws": draws} if draws else {})
        return few_estimates(statistic, self._n_sentences, unit=unit, **how)[0]

    # -- θ ------------------------------------------------------------------------------------

    @cached_property
    def _theta(self) -> tuple[Estimate, Floats]:
        return self._banzhaf(self.corners)

    @property
    def theta(self) -> Estimate:
        """Banzhaf interaction of the pair on −K, share of K(∅)."""
        return self._theta[0]

    @property
    def draws(self) -> Floats:
        """θ on every resampled text, (B)."""
        return self._theta[1]

    @cached_property
    def on_text(self) -> Estimate:
        """The same on −Δ, the text's own likelihood, share of K(∅)."""
        return self._banzhaf(self.delta_corners)[0]

    @cached_property
    def on_logs(self) -> Estimate:
        """The same on −log2 of mean K, over backgrounds that leave something to round."""
        corners = self.corners
        damaged = ~(corners[:, 3] == 0).all(-1)
        rows = corners[damaged].reshape(-1, corners.shape[-1])

        def statistic(weights: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log2(weights @ rows.T).reshape(len(weights), -1, 4)
            return -derivatives_at(logs).mean(1, keepdims=True)

        return self._estimate(statistic, "log2 ratio", min(_LOG_DRAWS, self.thresholds.draws))

    def _banzhaf(self, corners: Floats) -> tuple[Estimate, Floats]:
        """Returns the estimate and its draws, (B)."""
        n = self._n_sentences
        if self.complete or n < 2:
            statistic = interaction(corners, self.none)
            draws = statistic(bootstrap_weights(n, self.thresholds.draws, 0))[:, 0]
            return self._estimate(statistic), draws
        return self._sampled(corners)

    def _sampled(self, corners: Floats) -> tuple[Estimate, Floats]:
        """Returns the mean over sampled backgrounds; a set and its complement are one draw."""
        each = -derivatives_at(np.moveaxis(corners, 1, -1))
        twins, none = (each[::2] + each[1::2]) / 2, self.none
        n_draws, (b, n) = self.thresholds.draws, twins.shape
        sentences = bootstrap_weights(n, n_draws, 0)
        backgrounds = bootstrap_weights(b, n_draws, 1) / b
        draws = ((sentences @ twins.T) * backgrounds).sum(1) / (sentences @ none)
        left_out = jackknife_weights(n)
        without = (left_out @ twins.mean(0)) / (left_out @ none)
        per_background = twins.sum(1) / none.sum()
        without_twin = jackknife_weights(b) @ per_background / max(b - 1, 1)
        point = np.array(per_background.mean())
        level = expanded_level(self.thresholds.level, min(n, b))
        low, high = bca(point, draws, np.concatenate([without, without_twin]), level)
        ends = {"low": float(low), "high": float(high)} if np.isfinite([low, high]).all() else {}
        theta = Estimate(
            value=float(point),
            unit=UNIT,
            level=self.thresholds.level,
            n=n,
            method=f"BCa bootstrap over sentences and {b} sampled backgrounds with their "
            f"complements, {n_draws} draws",
            reason=None if ends else "the draws do not vary",
            **ends,
        )
        return theta, draws

    # -- all pairs ----------------------------------------------------------------------------

    @cached_property
    def _terms(self) -> Floats:
        """Each pair's term per sentence, (pairs x N): Banzhaf, or the mean of both ends."""
        pairs = pairs_of(self.n_blocks)
        if self.complete:
            return banzhaf_interactions(-self.damage)[[mask_of(pair) for pair in pairs]]
        return np.array([(self._end(p, False) + self._end(p, True)) / 2 for p in pairs])

    def _end(self, pair: tuple[int, int], full: bool) -> Floats:
        """Returns −Δ_ij K per sentence at ∅, or at all other blocks, (N)."""
        return -derivatives_at(self.damage[self._corners(pair, full)].T)

    def _corners(self, pair: tuple[int, int], full: bool) -> list[int]:
        """Returns the rows of a pair's four corners at ∅, or at all other blocks."""
        base = (1 << self.n_blocks) - 1 - mask_of(pair) if full else 0
        return [self._row[mask] for mask in corner_masks([base], pair)[0]]

    def _shares(self) -> Floats:
        return self._terms.sum(1) / self.none.sum()

    def rank(self) -> tuple[int, int]:
        """Returns the pair's rank among all, 1 the highest, and how many there are."""
        shares = self._shares()
        own = shares[pairs_of(self.n_blocks).index(self.pair)]
        return int((shares >= own).sum()), len(shares)

    def beyond_neighbours(self) -> Estimate:
        """Returns by how much the pair beats the better of the two that are one block shorter."""
        pairs, last = pairs_of(self.n_blocks), self.n_blocks - 1
        rows = [pairs.index(pair) for pair in ((0, last), (0, last - 1), (1, last))]
        terms, none = self._terms[rows], self.none

        def statistic(weights: Floats) -> Floats:
            own, *others = (weights @ terms.T / (weights @ none)[:, None]).T
            return (own - np.maximum(*others))[:, None]

        return self._estimate(statistic)

    # -- what is shown ------------------------------------------------------------------------

    def estimates(self) -> dict[str, Estimate]:
        """Returns every index of the pair with its interval."""
        terms = {"moebius": self._end(self.pair, False), "co_moebius": self._end(self.pair, True)}
        if self.complete:
            terms["shapley"] = shapley_interaction(-self.damage, *self.pair)
        out = {"banzhaf": self.theta, "banzhaf_on_text": self.on_text}
        out |= {k: self._estimate(ratio_of_sums(term, self.none)) for k, term in terms.items()}
        if self.complete and self.gap is not None:
            term = banzhaf_interactions(-self.gap * _BITS)[mask_of(self.pair)]
            statistic = ratio_of_sums(term, self.length)
            out["banzhaf_gap"] = self._estimate(statistic, "bits per English character")
        return out | {"banzhaf_log": self.on_logs}

    def _games(self) -> dict[str, Floats]:
        """Returns −K and −Δ as shares of K(∅), −G in bits per character and −|D|, (P) each."""
        games = {
            "damage": -self.damage.sum(1) / self.none.sum(),
            "delta": -self.delta.sum(1) / self.none.sum(),
        }
        if self.gap is not None:
            games["gap"] = -self.gap.sum(1) * _BITS / self.length.sum()
            d = -np.abs(disparity(self.scores, languages=self.displayed))
            # What is left of K where all is protected is rounding, and its ratio is anything.
            d[self._row[(1 << self.n_blocks) - 1]] = 0.0
            games["disparity"] = d
        return games

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row a game with the pair's indices, JSON-ready; None where undefined."""
        ends = (("moebius", False), ("co_moebius", True))
        out: list[dict[str, Any]] = []
        for name, game in self._games().items():
            row = {k: derivatives_at(game[self._corners(self.pair, full)]) for k, full in ends}
            if self.complete:
                row["banzhaf"] = banzhaf_interactions(game)[mask_of(self.pair)]
                row["shapley"] = shapley_interaction(game, *self.pair)
            out.append({"of": name} | {k: finite(value) for k, value in row.items()})
        return out

    def pair_rows(self) -> list[dict[str, Any]]:
        """Returns the interaction of every pair, both ways round, for the matrix."""
        both = zip(pairs_of(self.n_blocks), self._shares(), strict=True)
        return [
            {"first": a, "second": b, "interaction": float(share)}
            for (i, j), share in both
            for a, b in ((i, j), (j, i))
        ]

    def variance_rows(self) -> list[dict[str, Any]]:
        """Returns the share of each game's variance over masks that each order has."""
        if not self.complete:
            return []
        shares = {name: variance_by_order(game) for name, game in self._games().items()}
        return [
            {"order": order} | {name: finite(share[order]) for name, share in shares.items()}
            for order in range(1, self.n_blocks + 1)
        ]


def corners_of(
    arrays: Mapping[str, Any], facts: Mapping[str, Any], kind: str, displayed: Bools
) -> Floats:
    """Returns the mean over languages at the pair's corners of every background, (B x 4 x N).

    Args:
        arrays: With ``map_<kind>``, or ``corners_<kind>`` where masks were sampled.
        facts: Of the same observations.
        kind: ``kl`` or ``nll``.
        displayed: Languages that enter, (A).
    """
    n_blocks = facts["n_blocks"]
    if not facts["complete"]:
        mean = arrays[f"corners_{kind}"][:, displayed].mean(1)
        return mean.reshape(-1, 4, mean.shape[-1])
    mean = arrays[f"map_{kind}"][:, displayed].mean(1)
    _, backgrounds = pair_derivatives(mean[:, 0], 0, n_blocks - 1)
    return mean[np.array(corner_masks(backgrounds.tolist(), (0, n_blocks - 1)))]
