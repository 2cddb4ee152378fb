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
from bitgap.experiments.protocol.scores import scores_of
from bitgap.quant.sets import mask_of, pairs_of
from bitgap.records import Bools, Control, Estimate, Floats, Observations, Scores
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

_UNIT = "share of K(none)"


_BITS = 1 / np.log(2)


_LOG_DRAWS = 400
"""Draws of the interaction of logarithms, which needs every mask on every resampled text."""


def interaction(corners: Floats, none: Floats) -> Statistic:
    """Returns weights -> (W x 1): mean of −Δ_ij K over backgrounds, over K(∅).

    Args:
        corners: K per sentence at T, T∪i, T∪j, T∪ij of each background, (B x 4 x N).
        none: K(∅) per sentence, (N).
    """
    together = -derivatives_at(np.moveaxis(corners, 1, -1)).mean(0)

    def statistic(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((weights @ together) / (weights @ none))[:, None]

    return statistic


@dataclass(frozen=True)
class Terms:
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
        shown: Languages that enter, (A).
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
    shown: Bools
    complete: bool
    thresholds: Thresholds

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

    @cached_property
    def _how(self) -> dict[str, Any]:
        return {"seed": 0, "draws": self.thresholds.draws, "level": self.thresholds.level}

    # -- θ ------------------------------------------------------------------------------------

    @cached_property
    def _theta(self) -> tuple[Estimate, Floats]:
        return self._banzhaf(self.corners)

    @property
    def theta(self) -> Estimate:
        """Banzhaf interaction of the pair on −K, share of K(∅)."""
        return self._theta[0]

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

        how = self._how | {"draws": min(_LOG_DRAWS, self.thresholds.draws)}
        return few_estimates(statistic, self.damage.shape[1], unit="log2 ratio", **how)[0]

    def _banzhaf(self, corners: Floats) -> tuple[Estimate, Floats]:
        """Returns the estimate and its draws, (B)."""
        n = self.damage.shape[1]
        if self.complete or n < 2:
            statistic = interaction(corners, self.none)
            draws = statistic(bootstrap_weights(n, self.thresholds.draws, 0))[:, 0]
            return few_estimates(statistic, n, unit=_UNIT, **self._how)[0], draws
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
        found = Estimate(
            value=float(point),
            unit=_UNIT,
            level=self.thresholds.level,
            n=n,
            method=f"BCa bootstrap over sentences and {b} sampled backgrounds with their "
            f"complements, {n_draws} draws",
            reason=None if ends else "the draws do not vary",
            **ends,
        )
        return found, draws

    def p(self) -> tuple[float, float]:
        """Returns the share of draws not above 0, and the smallest it can be.

        N sentences without an interaction agree in its sign by chance once in 2^N, and then no
        resample of them disagrees; so no p is under that.
        """
        draws = self._theta[1]
        smallest = max(1 / (1 + len(draws)), 0.5 ** self.damage.shape[1])
        p = (1 + int((~(draws > 0)).sum())) / (1 + len(draws))
        return max(p, smallest), smallest

    # -- all pairs ----------------------------------------------------------------------------

    @cached_property
    def _ranked(self) -> Floats:
        """Each pair's term per sentence, (pairs x N): Banzhaf, or the mean of both ends."""
        pairs = pairs_of(self.n_blocks)
        if self.complete:
            return banzhaf_interactions(-self.damage)[[mask_of(pair) for pair in pairs]]
        return np.array([(self._end(p, False) + self._end(p, True)) / 2 for p in pairs])

    def _end(self, pair: tuple[int, int], full: bool) -> Floats:
        """Returns −Δ_ij K per sentence at ∅, or at all other blocks, (N)."""
        whole = mask_of(pair)
        base = (1 << self.n_blocks) - 1 - whole if full else 0
        rows = [self._row[base | part] for part in (0, 1 << pair[0], 1 << pair[1], whole)]
        return -derivatives_at(self.damage[rows].T)

    def _shares(self) -> Floats:
        return self._ranked.sum(1) / self.none.sum()

    def rank(self) -> tuple[int, int]:
        """Returns how manieth from above the pair is among all, and how many there are."""
        shares = self._shares()
        mine = shares[pairs_of(self.n_blocks).index(self.pair)]
        return int((shares >= mine).sum()), len(shares)

    def neighbours(self) -> Control:
        """Returns the control that the pair beats both pairs one block shorter."""
        pairs, last = pairs_of(self.n_blocks), self.n_blocks - 1
        rows = [pairs.index(pair) for pair in ((0, last), (0, last - 1), (1, last))]
        terms, none = self._ranked[rows], self.none

        def statistic(weights: Floats) -> Floats:
            mine, *others = (weights @ terms.T / (weights @ none)[:, None]).T
            return (mine - np.maximum(*others))[:, None]

        found = few_estimates(statistic, self.damage.shape[1], unit=_UNIT, **self._how)[0]
        return Control(
            name=f"pairs one block shorter, {{0, {last - 1}}} and {{1, {last}}}",
            kind="negative",
            passed=found.low is not None and found.low > 0,
            detail="the ends should do more together than either pair beside, or it is closeness "
            "to the ends and not the ends",
            estimate=found,
        )

    # -- what is shown ------------------------------------------------------------------------

    def estimates(self) -> dict[str, Estimate]:
        """Returns every index of the pair with its interval."""
        found = {"banzhaf": self.theta, "banzhaf_on_text": self.on_text}
        n = self.damage.shape[1]
        single = {"moebius": self._end(self.pair, False), "co_moebius": self._end(self.pair, True)}
        if self.complete:
            single["shapley"] = shapley_interaction(-self.damage, *self.pair)
        for name, term in single.items():
            corners = np.stack([-term, *np.zeros((3, n))])[None]
            found[name] = few_estimates(
                interaction(corners, self.none), n, unit=_UNIT, **self._how
            )[0]
        if self.complete and self.gap is not None:
            term = banzhaf_interactions(-self.gap * _BITS)[mask_of(self.pair)]
            found["banzhaf_gap"] = few_estimates(
                lambda w: ((w @ term) / (w @ self.length))[:, None],
                n,
                unit="bits per English character",
                **self._how,
            )[0]
        return found | {"banzhaf_log": self.on_logs}

    def _games(self) -> dict[str, Floats]:
        """Returns −K and −Δ as shares of K(∅), −G in bits per character and −|D|, (P) each."""
        games = {
            "damage": -self.damage.sum(1) / self.none.sum(),
            "delta": -self.delta.sum(1) / self.none.sum(),
        }
        if self.gap is not None:
            games["gap"] = -self.gap.sum(1) * _BITS / self.length.sum()
            d = -np.abs(disparity(self.scores, languages=self.shown))
            # What is left of K where all is protected is rounding, and its ratio is anything.
            d[self._row[(1 << self.n_blocks) - 1]] = 0.0
            games["disparity"] = d
        return games

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row a game with the pair's indices, JSON-ready; None where undefined."""
        mask = mask_of(self.pair)
        corners = [self._row[m] for m in (0, 1, mask ^ 1, mask)]
        full = (1 << self.n_blocks) - 1
        opposite = [self._row[full ^ mask ^ m] for m in (0, 1, mask ^ 1, mask)]
        out = []
        for name, game in self._games().items():
            row: dict[str, float | None] = {
                "moebius": _number(derivatives_at(game[corners])),
                "co_moebius": _number(derivatives_at(game[opposite])),
            }
            if self.complete:
                row["banzhaf"] = _number(banzhaf_interactions(game)[mask])
                row["shapley"] = _number(shapley_interaction(game, *self.pair))
            out.append({"of": name} | row)
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
            {"order": order} | {name: _number(share[order]) for name, share in shares.items()}
            for order in range(1, self.n_blocks + 1)
        ]


def terms_of(observations: Observations, shown: Bools, thresholds: Thresholds) -> Terms:
    """Returns the terms of observations with the parts ``map`` and, if sampled, ``corners``.

    Args:
        observations: Of the synergy experiment.
        shown: Languages that enter, (A).
        thresholds: With draws and level.
    """
    arrays, facts = observations.arrays, observations.facts
    reference = facts["languages"].index(facts["reference"])
    others = shown.copy()
    others[reference] = False
    harm = arrays["map_nll"] - arrays["nll_fp"]
    has_gap = bool(shown[reference] and others.any())
    return Terms(
        n_blocks=facts["n_blocks"],
        masks=tuple(int(mask) for mask in arrays["masks"]),
        damage=arrays["map_kl"][:, shown].mean(1),
        delta=harm[:, shown].mean(1),
        gap=harm[:, others].mean(1) - harm[:, reference] if has_gap else None,
        corners=corners_of(arrays, facts, "kl", shown),
        delta_corners=corners_of(arrays, facts, "nll", shown) - arrays["nll_fp"][shown].mean(0),
        length=arrays["characters"][reference].astype(np.float64),
        scores=scores_of(observations, "map"),
        shown=shown,
        complete=facts["complete"],
        thresholds=thresholds,
    )


def corners_of(
    arrays: Mapping[str, Any], facts: Mapping[str, Any], kind: str, shown: Bools
) -> Floats:
    """Returns the mean over languages at the pair's corners of every background, (B x 4 x N).

    Args:
        arrays: With ``map_<kind>``, or ``corners_<kind>`` where masks were sampled.
        facts: Of the same observations.
        kind: ``kl`` or ``nll``.
        shown: Languages that enter, (A).
    """
    n_blocks = facts["n_blocks"]
    if not facts["complete"]:
        mean = arrays[f"corners_{kind}"][:, shown].mean(1)
        return mean.reshape(-1, 4, mean.shape[-1])
    mean = arrays[f"map_{kind}"][:, shown].mean(1)
    _, backgrounds = pair_derivatives(mean[:, 0], 0, n_blocks - 1)
    return mean[np.array(corner_masks(backgrounds.tolist(), (0, n_blocks - 1)))]


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
