"""What two blocks do together, from the scores of masks: every index, with intervals.

All but the logarithm and what counts per token is linear in damage, so an index is formed once per
sentence and resampled as a sum. Games are −K, −Δ, −G, −S and −|D|, so that above 0 always means
that protecting both helps more than the sum of protecting each.

Where all masks were scored the Banzhaf interaction is exact on the text. Else it is the mean of the
Möbius term, where nothing else is protected, and the co-Möbius term, where all else is: the same
for any game without interactions of four blocks or more
(:func:`~bitgap.stats.interactions.both_ends_interaction`). Of the first and the last block the
eight masks are always there; a rank among pairs is known where those of all pairs are, or of a
random sample of them. Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bitgap.disparity.formulas import disparity, spread
from bitgap.experiments.protocol.effects import gap_per_sentence
from bitgap.experiments.protocol.scores import units_of, unpack_scores
from bitgap.quant.sets import mask_of, pairs_of
from bitgap.records import Bools, Estimate, Floats, Observations, Scores, Units, finite
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, estimates
from bitgap.stats.interactions import (
    both_ends_interaction,
    corner_masks,
    derivatives_at,
    end_corners,
    pair_derivatives,
    pair_design,
    shapley_interaction,
    variance_by_order,
)
from bitgap.stats.ranks import share_estimate
from bitgap.stats.verdicts import Thresholds

UNIT = "share of what the last block is worth alone"
_BITS = 1 / np.log(2)
_LOG_DRAWS = 400
"""Draws of the interaction of logarithms, which needs every mask on every resampled text."""
_LAST = 2
"""Row of {last} among the corners ∅, {0}, {last}, {0, last}."""


def of_corners(kl: Floats) -> tuple[Floats, Floats]:
    """Returns the pair's term and what the last block is worth alone, (...) both.

    Args:
        kl: Damage at the corners of both ends, (8 x ...), as
            :func:`~bitgap.stats.interactions.end_corners`.
    """
    at_none, at_all = (-derivatives_at(np.moveaxis(four, 0, -1)) for four in (kl[:4], kl[4:]))
    return (at_none + at_all) / 2, kl[0] - kl[_LAST]


def share_of_worth(term: Floats, worth: Floats) -> Statistic:
    """Returns weights -> (W x 1): Σ term / Σ worth over sentences, of (N) each.

    NaN where the last block is worth nothing.
    """

    def statistic(weights: Floats) -> Floats:
        total = weights @ worth
        return ((weights @ term) / np.where(total > 0, total, np.nan))[:, None]

    return statistic


def share_per_token(term: Floats, worth: Floats, tokens: Floats) -> Statistic:
    """Returns the same where every language's damage counts per token of its own, of (A x N)."""

    def statistic(weights: Floats) -> Floats:
        counts = weights @ tokens.T
        total = ((weights @ worth.T) / counts).sum(1)
        joint = ((weights @ term.T) / counts).sum(1)
        return (joint / np.where(total > 0, total, np.nan))[:, None]

    return statistic


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
        term: −K's term of the pair by language, (A x N), of languages that enter.
        worth: K(∅) − K({last}) likewise.
        text_term: −Δ's term, mean over languages, (N).
        tokens: Of languages that enter, (A x N).
        length: Characters of the reference, (N).
        scores: Of the masks.
        displayed: Languages that enter, (A).
        complete: Whether all masks are there.
        sampled: Random pairs that were scored where not all were.
        units: What is resampled.
        thresholds: With draws and level.
    """

    n_blocks: int
    masks: tuple[int, ...]
    damage: Floats
    delta: Floats
    gap: Floats | None
    term: Floats
    worth: Floats
    text_term: Floats
    tokens: Floats
    length: Floats
    scores: Scores
    displayed: Bools
    complete: bool
    sampled: tuple[tuple[int, int], ...]
    units: Units
    thresholds: Thresholds

    @classmethod
    def of(
        cls, observations: Observations, displayed: Bools, thresholds: Thresholds
    ) -> PairInteraction:
        """Returns it of observations with the parts ``map``, ``cells`` and ``far``.

        Args:
            observations: Of the synergy experiment.
            displayed: Languages that enter, (A).
            thresholds: With draws and level.
        """
        arrays, facts = observations.arrays, observations.facts
        n_blocks, complete = facts["n_blocks"], facts["complete"]
        reference = facts["languages"].index(facts["reference"])
        harm = arrays["map_nll"] - arrays["nll_fp"]
        term, worth = pair_terms(observations, "kl", displayed)
        return cls(
            n_blocks=n_blocks,
            masks=tuple(int(mask) for mask in arrays["masks"]),
            damage=arrays["map_kl"][:, displayed].mean(1),
            delta=harm[:, displayed].mean(1),
            gap=gap_per_sentence(harm, displayed, reference),
            term=term,
            worth=worth,
            text_term=pair_terms(observations, "nll", displayed)[0].mean(0),
            tokens=arrays["tokens"][displayed].astype(np.float64),
            length=arrays["characters"][reference].astype(np.float64),
            scores=unpack_scores(observations, "map"),
            displayed=displayed,
            complete=complete,
            sampled=tuple((int(i), int(j)) for i, j in arrays.get("sampled_pairs", ())),
            units=units_of(observations),
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
    def _worth(self) -> Floats:
        return self.worth.mean(0)

    @cached_property
    def _row(self) -> dict[int, int]:
        return {mask: row for row, mask in enumerate(self.masks)}

    def _estimate(
        self, statistic: Statistic, unit: str = UNIT, draws: int | None = None
    ) -> Estimate:
        how = self.thresholds.how | ({"draws": draws} if draws else {})
        return estimates(statistic, self.units, unit=unit, **how)[0]

    def _drawn(self, statistic: Statistic) -> Floats:
        return statistic(bootstrap_weights(self.units, self.thresholds.draws, 0))[:, 0]

    # -- θ ------------------------------------------------------------------------------------

    @cached_property
    def _statistic(self) -> Statistic:
        return share_of_worth(self.term.mean(0), self._worth)

    @cached_property
    def _per_token(self) -> Statistic:
        return share_per_token(self.term, self.worth, self.tokens)

    @cached_property
    def theta(self) -> Estimate:
        """Banzhaf interaction of the pair on −K, as a share of what the last block is worth."""
        return self._estimate(self._statistic)

    @cached_property
    def draws(self) -> Floats:
        """θ on every resampled text, (B)."""
        return self._drawn(self._statistic)

    @cached_property
    def per_token(self) -> Estimate:
        """θ where every language's damage counts per token of its own."""
        return self._estimate(self._per_token)

    @cached_property
    def draws_per_token(self) -> Floats:
        """The same on every resampled text, (B)."""
        return self._drawn(self._per_token)

    @cached_property
    def on_text(self) -> Estimate:
        """The interaction on −Δ, the text's own likelihood, over what the last is worth in K."""
        return self._estimate(share_of_worth(self.text_term, self._worth))

    @cached_property
    def on_logs(self) -> Estimate:
        """The same on −log2 of mean K, over known backgrounds that leave something to round."""
        full = (1 << self.n_blocks) - 1 - mask_of(self.pair)
        # Where all else is protected both protected leave nothing, and no logarithm.
        backgrounds = [m for m in range(full) if not m & ~full] if self.complete else [0]
        corners = corner_masks(backgrounds, self.pair)
        rows = self.damage[[self._row[mask] for four in corners for mask in four]]

        def statistic(weights: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log2(weights @ rows.T).reshape(len(weights), -1, 4)
            return -derivatives_at(logs).mean(1, keepdims=True)

        return self._estimate(statistic, "log2 ratio", min(_LOG_DRAWS, self.thresholds.draws))

    # -- all pairs ----------------------------------------------------------------------------

    @cached_property
    def _known(self) -> list[tuple[int, int]]:
        """Pairs whose masks at both ends are there."""
        return [
            pair
            for pair in pairs_of(self.n_blocks)
            if all(m in self._row for four in end_corners(self.n_blocks, pair) for m in four)
        ]

    @property
    def ranked(self) -> bool:
        """Whether the pair can be ranked: the masks of all pairs are there."""
        return all(mask in self._row for mask in pair_design(self.n_blocks))

    def _term_of(self, values: Floats, pair: tuple[int, int]) -> Floats:
        """Returns a pair's Banzhaf interaction, exact or by both ends, of (P x ...) by mask."""
        return pair_term(values, self.masks, self.n_blocks, pair, complete=self.complete)

    @cached_property
    def _terms(self) -> Floats:
        """Each known pair's term per sentence, (pairs x N)."""
        terms = [self._term_of(-self.damage, pair) for pair in self._known]
        return np.array(terms).reshape(len(terms), self.damage.shape[1])

    def _shares(self) -> Floats:
        worth = self._worth.sum()
        return self._terms.sum(1) / (worth if worth > 0 else np.nan)

    @cached_property
    def compared(self) -> list[tuple[int, int]]:
        """The pair and those it is ranked among: all, or a random sample; alone where neither is
        there.
        """
        others = self._known if self.ranked else self.sampled
        return [self.pair, *(pair for pair in others if pair != self.pair)]

    def rank(self) -> tuple[int | None, int]:
        """Returns the pair's rank among those compared, 1 the highest, and how many they are.

        None where it is compared with none.
        """
        n_pairs = len(self.compared)
        if n_pairs < 2:
            return None, len(pairs_of(self.n_blocks))
        totals = self._terms[[self._known.index(pair) for pair in self.compared]].sum(1)
        return int((totals >= totals[0]).sum()), n_pairs

    @cached_property
    def share_of_pairs(self) -> Estimate | None:
        """The share of all other pairs whose interaction is smaller; None where none is known.

        Its interval holds what a sample of pairs leaves open, and sentences.
        """
        if len(self.compared) < 2:
            return None
        terms = self._terms[[self._known.index(pair) for pair in self.compared]]
        return share_estimate(
            lambda weights: -(weights @ terms.T),
            0,
            self.units,
            draws=self.thresholds.draws,
            level=self.thresholds.level,
            of_all=len(pairs_of(self.n_blocks)) - 1,
            unit="share of other pairs",
        )

    def beyond_neighbours(self) -> Estimate | None:
        """Returns by how much the pair beats the better of the two that are one block shorter.

        None where their masks are not there.
        """
        last = self.n_blocks - 1
        asked = [(0, last), (0, last - 1), (1, last)]
        if not set(asked) <= set(self._known):
            return None
        terms = self._terms[[self._known.index(pair) for pair in asked]]
        worth = self._worth

        def statistic(weights: Floats) -> Floats:
            total = weights @ worth
            shares = weights @ terms.T / np.where(total > 0, total, np.nan)[:, None]
            own, *others = shares.T
            return (own - np.maximum(*others))[:, None]

        return self._estimate(statistic)

    # -- what is shown ------------------------------------------------------------------------

    def _end(self, values: Floats, full: bool) -> Floats:
        """Returns the pair's derivative at ∅, or at all other blocks, of (P x ...) by mask."""
        four = [self._row[mask] for mask in end_corners(self.n_blocks, self.pair)[full]]
        return derivatives_at(np.moveaxis(values[four], 0, -1))

    @property
    def _ends_known(self) -> bool:
        return self.pair in self._known

    def estimates(self) -> dict[str, Estimate]:
        """Returns every index of the pair with its interval."""
        out = {
            "banzhaf": self.theta,
            "banzhaf_per_token": self.per_token,
            "banzhaf_on_text": self.on_text,
            "banzhaf_of_total": self._estimate(
                ratio_of_sums(self.term.mean(0), self.none), "share of K(none)"
            ),
            "worth_of_last": self._estimate(
                ratio_of_sums(self._worth, self.none), "share of K(none)"
            ),
            "banzhaf_log": self.on_logs,
        }
        if self.share_of_pairs is not None:
            out["share_of_pairs"] = self.share_of_pairs
        terms: dict[str, Floats] = {}
        if self._ends_known:
            terms = {
                name: self._end(-self.damage, full)
                for name, full in (("moebius", False), ("co_moebius", True))
            }
        if self.complete:
            terms["shapley"] = shapley_interaction(-self.damage, *self.pair)
        out |= {k: self._estimate(share_of_worth(t, self._worth)) for k, t in terms.items()}
        if self.gap is not None and self._ends_known:
            term = self._term_of(-self.gap * _BITS, self.pair)
            out["banzhaf_gap"] = self._estimate(
                ratio_of_sums(term, self.length), "bits per English character"
            )
        return out

    def _games(self) -> dict[str, Floats]:
        """Returns −K and −Δ as shares of what the last is worth, −G, −S and −|D|, (P) each."""
        worth = self._worth.sum()
        games = {
            name: -values.sum(1) / (worth if worth > 0 else np.nan)
            for name, values in (("damage", self.damage), ("delta", self.delta))
        }
        ratios = {"spread": -spread(self.scores, languages=self.displayed)}
        if self.gap is not None:
            games["gap"] = -self.gap.sum(1) * _BITS / self.length.sum()
            ratios["disparity"] = -np.abs(disparity(self.scores, languages=self.displayed))
        for game in ratios.values():
            # What is left of K where all is protected is rounding, and its ratio is anything.
            if (all_kept := self._row.get((1 << self.n_blocks) - 1)) is not None:
                game[all_kept] = 0.0
        return games | ratios

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row a game with the pair's indices, JSON-ready; None where undefined."""
        if not self._ends_known:
            return []
        out: list[dict[str, Any]] = []
        for name, game in self._games().items():
            row: dict[str, Any] = {"of": name}
            row |= {"moebius": self._end(game, False), "co_moebius": self._end(game, True)}
            row["banzhaf"] = self._term_of(game, self.pair)
            if self.complete:
                row["shapley"] = shapley_interaction(game, *self.pair)
            out.append({k: v if k == "of" else finite(v) for k, v in row.items()})
        return out

    def pair_rows(self) -> list[dict[str, Any]]:
        """Returns the interaction of every known pair, both ways round, for the matrix."""
        return [
            {"first": a, "second": b, "interaction": float(share)}
            for (i, j), share in zip(self._known, self._shares(), strict=True)
            for a, b in ((i, j), (j, i))
            if np.isfinite(share)
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


def pair_term(
    values: Floats,
    masks: tuple[int, ...],
    n_blocks: int,
    pair: tuple[int, int],
    *,
    complete: bool,
) -> Floats:
    """Returns a pair's Banzhaf interaction, exact where all masks are there, else by both ends.

    Args:
        values: v by row of ``masks``, (P x ...).
        masks: Bit sets of protected blocks.
        n_blocks: L.
        pair: Two blocks.
        complete: Whether these are all masks, ascending.
    """
    if complete:
        return pair_derivatives(values, *pair)[0].mean(0)
    row = {mask: values[i] for i, mask in enumerate(masks)}
    return both_ends_interaction(row, n_blocks, pair)


def pair_terms(observations: Observations, kind: str, displayed: Bools) -> tuple[Floats, Floats]:
    """Returns the term of the first and the last block, and the last's worth, (A x N) both.

    Args:
        observations: Of the synergy experiment.
        kind: ``kl`` or ``nll``.
        displayed: Languages that enter, (A).
    """
    arrays, facts = observations.arrays, observations.facts
    corners = np.concatenate([arrays[f"{part}_{kind}"] for part in ("cells", "far")])
    term, worth = of_corners(corners[:, displayed])
    if facts["complete"]:
        values = -arrays[f"map_{kind}"][:, displayed]
        term = pair_derivatives(values, 0, facts["n_blocks"] - 1)[0].mean(0)
    return term, worth
