"""One model, replayed: what the numbers of all claims are formed from. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bitgap.records import Estimate, Floats, ModelInfo
from bitgap.theory.origin.readings import Measure, Readings, Statistic


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model, replayed; languages in the order of the scores, the reference first."""

    model: ModelInfo
    scheme: str
    """Our operating point."""
    origin: Readings
    """The origin's scope and scheme."""
    here: Readings
    """Block linears at the operating point."""
    origin_triples: Readings | None = None
    here_triples: Readings | None = None
    profiles: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    """Of the weights, by block (L): ``variance``, ``outlier_ratio``, ``sparsity``, ``kurtosis``,
    ``log_variance_fixed``, ``snr_seed`` and ``snr_disparity`` in dB."""
    tails: Mapping[Measure, Floats] = field(default_factory=dict[Measure, Floats])
    """Sums over the entries of block outputs, (L x A x N x 6): how many, first to fourth powers,
    how many outliers; as they are, and without sinks and massive values."""
    alignment: Mapping[Measure, Floats] = field(default_factory=dict[Measure, Floats])
    """How near each other language comes to the reference, (A−1): raw cosine; corrected d′."""
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    """Log share of the training text by language, or class where shares are not known."""

    @property
    def n_blocks(self) -> int:
        """L."""
        return self.model.n_blocks

    def readings(self, plans: tuple[str, ...], measure: Measure) -> Readings:
        """Returns where plans are read: ours at the operating point, where it has them all."""
        if measure == "seed" or not self.here.has(*self.expand(self.here, plans)):
            return self.origin
        return self.here

    def expand(self, readings: Readings, plans: tuple[str, ...]) -> list[str]:
        """Returns plans with ``random`` and ``only`` replaced by all of their kind."""
        out: list[str] = []
        for plan in plans:
            kind = [p for p in readings.scores.plans if p.startswith(f"{plan}-")]
            out += kind or [plan]
        return out


class Sampled(NamedTuple):
    """A number that is resampled over the sentences of some readings."""

    readings: Readings
    statistic: Statistic
    unit: str
    is_rank: bool = False
    """Whether it counts sets, so that it may well be the same in every draw."""


Quantity = Sampled | Estimate


def sized(values: Floats, measure: Measure) -> Floats:
    """Returns how unequal languages are: D_seed as it is, |D| and |G|."""
    return values if measure == "seed" else np.abs(values)
