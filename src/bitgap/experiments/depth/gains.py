"""What protecting each block gains: beside the protected ends, and over all backgrounds.

The first asks what block j adds once {0, L−1} are protected, the second is its Shapley value, what
it adds averaged over everything that may be protected already. Where damage adds up the two are the
same number, and a block is good beside the ends because it is good anywhere. Gains are of −K as
shares of K(∅) and of −G in bits per character. S has no Shapley value, as it has none where nothing
is rounded: beside what a block takes off S once the ends are protected stands what it takes off S
alone. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bitgap.experiments.depth.ranks import inverted, row_of
from bitgap.experiments.protocol.effects import gap_per_sentence
from bitgap.experiments.protocol.scores import units_of, unpack_scores
from bitgap.records import Bools, Estimate, Floats, Observations, Scores, Units
from bitgap.stats.bootstrap import Statistic, estimates
from bitgap.stats.mask_design import original_set
from bitgap.stats.spreads import inverted_estimates
from bitgap.stats.verdicts import Thresholds

_BITS = 1 / np.log(2)
_UNITS = {
    "damage": "share of K(none)",
    "gap": "bits per English character",
    "spread": "log2 units",
}


@dataclass(frozen=True)
class MarginalGains:
    """Gains of every block on one text, per sentence where they are sums.

    Attributes:
        n_blocks: L.
        total: Sums over which gains are divided, by game, (N).
        shapley: Shapley values by game, (L x N).
        added: Gains beside the ends by game, (L−2 x N) for blocks 1 … L−2; empty where triples were
            not scored.
        falls: Statistics of the fall of S by kind: ``alone`` of all blocks, ``added`` beside the
            ends of blocks 1 … L−2, where triples were scored; empty of one language.
        units: What is resampled.
        thresholds: With draws and level.
    """

    n_blocks: int
    total: Mapping[str, Floats]
    shapley: Mapping[str, Floats]
    added: Mapping[str, Floats]
    falls: Mapping[str, Statistic]
    units: Units
    thresholds: Thresholds

    @classmethod
    def of(
        cls, observations: Observations, displayed: Bools, thresholds: Thresholds
    ) -> MarginalGains:
        """Returns the gains of the depth experiment's observations.

        Args:
            observations: With the parts ``base`` and, where scored, ``triples``.
            displayed: Languages that enter, (A).
            thresholds: With draws and level.
        """
        arrays, facts = observations.arrays, observations.facts
        n, reference = facts["n_blocks"], facts["languages"].index(facts["reference"])

        def games(kl: Floats, nll: Floats) -> dict[str, Floats]:
            """Returns K, and G in bits before division, per sentence, (P x N) each."""
            gap = gap_per_sentence(nll, displayed, reference)
            damage = {"damage": kl[:, displayed].mean(1)}
            return damage if gap is None else damage | {"gap": gap * _BITS}

        # Values are those of −KL and −NLL, so the sign is turned twice.
        values = games(-arrays["shapley_kl"], -arrays["shapley_nll"])
        added: dict[str, Floats] = {}
        falls: dict[str, Statistic] = {}
        base = unpack_scores(observations, "base")
        if displayed.sum() > 1:
            singles = unpack_scores(observations, "singles")
            falls["alone"] = _fall_of_spread(base, 0, singles, displayed)
        if "triples_kl" in arrays and n > 2:
            rows = [row_of(arrays["triples"], (0, j, n - 1)) for j in range(1, n - 1)]
            ends = games(arrays["base_kl"][1:], arrays["base_nll"][1:])
            with_block = games(arrays["triples_kl"][rows], arrays["triples_nll"][rows])
            added = {game: ends[game] - with_block[game] for game in ends}
            if falls:
                triples = unpack_scores(observations, "triples")
                triples = triples.select(plans=[triples.plans[row] for row in rows])
                falls["added"] = _fall_of_spread(base, 1, triples, displayed)
        return cls(
            n_blocks=n,
            total={
                "damage": arrays["base_kl"][0][displayed].mean(0),
                "gap": arrays["characters"][reference].astype(np.float64),
            },
            shapley={game: -value for game, value in values.items()},
            added=added,
            falls=falls,
            units=units_of(observations),
            thresholds=thresholds,
        )

    @property
    def middle(self) -> int | None:
        """The block between the ends in the origin's triple."""
        triple = original_set(self.n_blocks)
        return triple[1] if len(triple) == 3 else None

    def name_of_triple(self) -> str:
        """Returns the origin's triple as a set."""
        return f"{{{', '.join(map(str, original_set(self.n_blocks)))}}}"

    # -- estimates ----------------------------------------------------------------------------

    @cached_property
    def _by_block(self) -> dict[str, list[Estimate | None]]:
        """The estimates of every kind by block."""
        out: dict[str, list[Estimate | None]] = {}
        for game, values in self.shapley.items():
            out[f"shapley_{game}"] = [*self._estimates(self._share(game, values), game)]
        for game, values in self.added.items():
            inside = self._estimates(self._share(game, values), game)
            out[f"added_{game}"] = [None, *inside, None]
        for kind, statistic in self.falls.items():
            how = {"unit": _UNITS["spread"], **self.thresholds.how}
            found = inverted_estimates(statistic, self.units, **how)
            out[f"{kind}_spread"] = [*found] if kind == "alone" else [None, *found, None]
        return out

    def _share(self, game: str, values: Floats) -> Statistic:
        total = self.total[game]

        def statistic(weights: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                return weights @ values.T / (weights @ total)[:, None]

        return statistic

    def _estimates(self, statistic: Statistic, game: str) -> list[Estimate]:
        return estimates(statistic, self.units, unit=_UNITS[game], **self.thresholds.how)

    def of_the_middle(self) -> dict[str, Estimate]:
        """Returns what the middle block adds, is worth, and the difference in damage."""
        middle = self.middle
        if middle is None:
            return {}
        out = {
            f"middle_{kind}": estimate
            for kind, by_block in self._by_block.items()
            if (estimate := by_block[middle]) is not None
        }
        if "damage" in self.added:
            surplus = self.added["damage"][middle - 1] - self.shapley["damage"][middle]
            statistic = self._share("damage", surplus[None])
            out["middle_added_less_shapley"] = self._estimates(statistic, "damage")[0]
        return out

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row a block with every gain and its ends, JSON-ready."""
        rows: list[dict[str, Any]] = []
        for block in range(self.n_blocks):
            row: dict[str, Any] = {"block": block}
            for kind, by_block in self._by_block.items():
                estimate = by_block[block]
                if estimate is not None:
                    row |= {kind: estimate.value, f"{kind}_low": estimate.low,
                            f"{kind}_high": estimate.high}  # fmt: skip
            rows.append(row)
        return rows

    def text(self) -> str:
        """Returns in words what the middle block gains, and where that ranks inside."""
        middle = self.middle
        if middle is None:
            return "there is no block between the ends to ask about"
        own = self._ranked("shapley_damage", middle)
        if "damage" not in self.added:
            return f"block {middle}'s Shapley value is {own}"
        beside = self._ranked("added_damage", middle)
        surplus = self.of_the_middle()["middle_added_less_shapley"]
        why = "which cannot be told apart"
        if surplus.low is not None and surplus.low > 0:
            why = "so it gains by their company"
        elif surplus.high is not None and surplus.high < 0:
            why = "so their company takes from it"
        return (
            f"block {middle} saves {beside} once the ends are protected and {own} on its own "
            f"(Shapley value), {why}"
        )

    def _ranked(self, kind: str, middle: int) -> str:
        inside = [
            e.value for e in self._by_block[kind][1:-1] if e is not None and e.value is not None
        ]
        own = self._by_block[kind][middle]
        if own is None or own.value is None:
            return "an undefined share of the damage"
        rank = sum(value > own.value for value in inside) + 1
        return f"{own.value:.1%} of the damage (rank {rank} of {len(inside)} inside)"


def _fall_of_spread(base: Scores, row: int, others: Scores, displayed: Bools) -> Statistic:
    """Returns weights -> S of one plan less S of each other, (W x P)."""
    before = inverted(base.select(plans=[base.plans[row]]), displayed, "spread")
    after = inverted(others, displayed, "spread")

    def statistic(weights: Floats) -> Floats:
        return before(weights) - after(weights)

    return statistic
