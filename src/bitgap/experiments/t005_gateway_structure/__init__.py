"""T-005 · H2.2: are the first and last blocks structurally distinct?

Prediction: both ends of the stack stand out by their weights alone. Method: every matrix, fused
ones split into queries, keys and values and norm gains folded in, gets its stable rank, entropy
effective rank (Roy & Vetterli 2007), σ₁ over σ at 99 % of the energy, tail exponent (Clauset 2009;
only of 50 eigenvalues or more, and where a power law is not rejected at p = .1; after Martin &
Mahoney 2021), distance to Marchenko & Pastur's law (1967), kurtosis and crest factor C². Each
block is compared with what a robust line through its five nearest interior blocks on one side
predicts, in units of that prediction's error: monotone drift makes ends extreme without making them
special, and smooth drift makes them harder to foretell than what lies between. Measures that say
the same are decorrelated, and a block's outlyingness is the mean of log(1 + z²) over kinds of
matrix and measures, so that no one column decides. θ is the percentile of the less outlying end
among the less outlying blocks of all pairs.

Unit and direction: a percentile from 0 to 1, high supports H2.2. Cost: weights only; no text is
read. The interval resamples columns (kind × measure): how far the answer hangs on what was
measured; another training run is not in it. For support it must lie above the middle of all pairs,
and each end must stand out more than nine tenths of interior blocks; one alone is inconclusive, and
named. Refuted in this model if the interval lies below .9
and ends that were made fragile (P1) were found. Not testable below 8 blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment

ID = "T-005"


UNIT = "percentile among pairs of blocks"


NULL = 0.5
"""The ends' percentile where they are like any two blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    tail_draws: int = 50
    """Samples that decide whether a tail is a power law; p = .1 is then known to about .04."""
    twins: int = 20
    """Random-init and shuffled twins each; of few, twice too many at the top would not be seen."""
    planted_factor: float = 64.0
    """Scale of the planted o-columns of P1; as in T-002, where it makes rounding errors explode."""
    planted_width: int = 128
    """Columns that one outlier is planted in each of; the groups of the method's primary scheme."""
    planted_seeds: int = 20
    """How often P1 is planted at both ends, in other columns each time; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis="H2.2",
    title="Gateway structure",
    question="Are the first and last blocks structurally distinct?",
    phase=1,
    value="high",
    passes=Cost(block_evaluations=lambda n: 0, head_evaluations=lambda n: 0),
    params=Params(),
)
