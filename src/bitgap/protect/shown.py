"""Whether the text of a search shows that one plan is better than another, or that it harms.

A search that takes the best of ten plans as measured on ten sentences takes the luckiest. So what
would be taken anyway stands: the table's best plan before the other nine, the plan at hand before
a swap, and the language-blind plan before one that knows languages. Another takes its place only
where the sentences of the search show that it is better, but for :data:`DOUBT`, by the same paired
bootstrap as the proof's. Before the language-blind plan *better* is what the proof will ask: that
the languages of the worst set are hurt less. That is no proof, which is on other sentences: it only
keeps noise from choosing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bitgap.disparity.formulas import Sums, damage_bits
from bitgap.protect.objectives import objective, value_of
from bitgap.protect.problem import Picks
from bitgap.protect.proof import gain_in
from bitgap.protect.solve import MARGIN
from bitgap.records import Floats, Scores
from bitgap.stats.bootstrap import estimate, estimates

DOUBT = 0.2
"""How often a plan that is no better may take another's place, over all that are tried at once."""
_DRAWS = 1000

ScoresOf = Callable[[Sequence[Picks]], Scores]
"""Scores plans on the text of the search, one row each, for the languages that count."""


class Shown:
    """Plans held against each other on the text of a search."""

    def __init__(self, scores_of: ScoresOf, uniform: Picks, reference: int, seed: int) -> None:
        self.scores_of, self.uniform = scores_of, uniform
        self.reference, self.seed = reference, seed

    def better(self, plan: Picks, other: Picks, goal: str, among: int = 1) -> bool:
        """Returns whether a plan's objective is shown to be smaller than another's.

        Args:
            plan: The one.
            other: That which stands.
            goal: Name of the objective; shares are of the uniform plan's damage on this text.
            among: Plans that are tried at once, for Bonferroni's correction.
        """
        if plan == other:
            return False
        scores = self.scores_of([plan, other, self.uniform])
        made = objective(goal, damage_bits(scores)[2], self.reference)

        def statistic(weights: Floats) -> Floats:
            values = value_of(made, damage_bits(Sums(scores, weights)))
            return np.log2(values[:, 1] / values[:, 0])

        found = estimate(statistic, scores.units, unit="log2 ratio", seed=self.seed, draws=_DRAWS,
                         level=_level(among))  # fmt: skip
        return found.low is not None and found.low > 0

    def harmed(self, plan: Picks, other: Picks) -> tuple[str, ...]:
        """Returns the languages that a plan is shown to hurt more than another, by the margin.

        Args:
            plan: The one.
            other: That which stands.
        """
        if plan == other:
            return ()
        scores = self.scores_of([plan, other])

        def statistic(weights: Floats) -> Floats:
            logs = np.log2(damage_bits(Sums(scores, weights)))
            return logs[:, 0] - logs[:, 1]

        found = estimates(statistic, scores.units, unit="log2 ratio", seed=self.seed, draws=_DRAWS,
                          level=_level(len(scores.languages)))  # fmt: skip
        limit = float(np.log2(1 + MARGIN))
        return tuple(
            code
            for code, one in zip(scores.languages, found, strict=True)
            if one.low is not None and one.low > limit
        )

    def spares(self, plan: Picks, other: Picks, worst: Sequence[str]) -> bool:
        """Returns whether a plan is shown to hurt some languages less, in the mean of log ratios.

        Args:
            plan: The one.
            other: That which stands.
            worst: The worst set, as the proof has it.
        """
        if plan == other:
            return False
        scores = self.scores_of([plan, other])
        rows = [scores.languages.index(code) for code in worst]

        found = gain_in(scores, rows, seed=self.seed, draws=_DRAWS, level=_level(1))
        return found.low is not None and found.low > 0

    def why_not(self, plan: Picks, blind: Picks, worst: Sequence[str]) -> str:
        """Returns why a plan that knows languages is not taken; empty where it is.

        Args:
            plan: The best that was found.
            blind: The language-blind plan.
            worst: The worst set, as the proof has it.
        """
        if plan == blind:
            return ""
        if harmed := self.harmed(plan, blind):
            return f"the text of the search shows harm to {', '.join(harmed)}"
        if not self.spares(plan, blind, worst):
            return "the text of the search does not show that the worst hit gain anything"
        return ""


def _level(among: int) -> float:
    """Returns the level of an interval whose lower end errs in so many plans by the doubt."""
    return 1 - 2 * DOUBT / among
