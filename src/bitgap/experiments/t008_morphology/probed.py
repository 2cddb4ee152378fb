"""What probes of one feature answered, and the selectivity by site that follows. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.experiments.t008_morphology import PRIMARY
from bitgap.records import Bools, Floats, Integers
from bitgap.stats.probes import selectivity


@dataclass(frozen=True, slots=True)
class Probed:
    """Answers of probes at S sites about n words.

    Attributes:
        hits: Whether a word's label was named, (S x n).
        control_hits: Whether its label of the control task was, (S x n).
        units: Number of its word type, (n).
        languages: Number of its language, (n).
    """

    hits: Bools
    control_hits: Bools
    units: Integers
    languages: Integers

    @classmethod
    def of(cls, arrays: Mapping[str, Any], feature: str = PRIMARY) -> Probed:
        """Takes the answers about a feature out of observed arrays."""
        names = ("hits", "control_hits", "units", "languages")
        return cls(*(arrays[f"{feature}_{name}"] for name in names))

    def only(self, words: Bools | Integers) -> Probed:
        """Returns the answers about some of the words."""
        return Probed(
            self.hits[:, words], self.control_hits[:, words], self.units[words],
            self.languages[words],
        )  # fmt: skip

    def with_enough(self, least: int) -> Bools:
        """Returns which words are of languages that have at least so many, (n)."""
        codes, counts = np.unique(self.languages, return_counts=True)
        return np.isin(self.languages, codes[counts >= least])

    def renumbered(self) -> Probed:
        """Returns the same with word types numbered from 0, as they are drawn."""
        return replace(self, units=np.unique(self.units, return_inverse=True)[1])

    @property
    def n_units(self) -> int:
        """Number of word types U that may be resampled."""
        return int(self.units.max()) + 1

    @property
    def codes(self) -> list[int]:
        """Numbers of the languages, ascending."""
        return [int(code) for code in np.unique(self.languages)]

    def selectivity(self, weights: Floats | None = None) -> Floats:
        """Returns accuracy less that of the control task, mean over languages, (W x S).

        Args:
            weights: How often each word type counts, (W x U); each once when None.
        """
        statistic, n = selectivity(self.hits, self.control_hits, self.units, self.languages)
        return statistic(np.ones((1, n)) if weights is None else weights)

    def by_language(self) -> tuple[Floats, Floats]:
        """Returns accuracy and selectivity of each language at every site, (languages x S) each."""
        each = [self.only(self.languages == code) for code in self.codes]
        accuracy = np.array([one.hits.mean(1) for one in each])
        return accuracy, accuracy - np.array([one.control_hits.mean(1) for one in each])
