"""T-005 · H2.2: are the first and last blocks structurally distinct?

Prediction: both ends of the stack stand out by their weights alone.

Method: every matrix of every block is measured. Fused matrices are split into queries, keys and
values, and norm gains are folded in. The measures are the stable rank, the entropy effective rank
(Roy & Vetterli 2007), σ₁ over σ at 99 % of the energy, the distance to Marchenko & Pastur's law
(1967), the tail exponent (Clauset 2009, after Martin & Mahoney 2021), the kurtosis and the crest
factor C². The exponent is taken of 50 eigenvalues or more, and where a power law is not rejected at
p = .1. Each block is compared with what a robust line through its five nearest interior blocks on
one side predicts, in units of that prediction's error:

    t_l = (y_l − ŷ_l) / error(ŷ_l)

Monotone drift makes ends extreme without making them special, and smooth drift makes them harder to
predict than what lies between; this allows for both. Measures that say the same are decorrelated,
which turns t into z.

Statistic: the outlyingness o of a block is a mean over the C columns, kinds of matrix times
measures, so that no one column decides. θ compares the less outlying end with the less outlying
block of every other pair; ties count half:

    o_l = (1/C) Σ_c log(1 + z_cl²)

    θ = share of pairs {i, j} with min(o_i, o_j) < min(o_0, o_{L−1})

Unit and direction: a percentile from 0 to 1; .5 is what two blocks like any others have, and high
supports H2.2. The interval resamples columns. It says how far the answer hangs on what was
measured; another training run is not in it. Beside it stands what training made of it: θ less the
mean percentile of the same blocks, by the same columns, of twins whose weights are fresh.

Rule: for support θ must be .9 or more with its interval above .5; θ less the twins' must be clearly
above 0; and each end must stand out more than nine tenths of interior blocks. One end alone is
inconclusive, and named. Refuted in this model if the interval lies below .9, also without any one
interior block, and ends that were made fragile (P1) are found. A percentile has no twice .9; the
plant puts the ends half-way from the declared .9 to 1, where half as many pairs lie above them. Not
testable below 8 blocks.

Cost: weights only; no text is read.

Prior: none was found in the literature.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-005"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    tail_draws: int = 50
    """Samples that decide whether a tail is a power law; p = .1 is then known to about .04."""
    twins: int = 20
    """Random-init and shuffled twins each; of few, twice too many at the top would not be seen."""
    planted_percentile: float = 0.95
    """Percentile that P1 is to give the ends: half as far from 1 as the declared .9."""
    planted_factors: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    """Scales of the planted o-columns that are tried, from the weakest; at the last, as in T-002,
    rounding errors explode."""
    planted_width: int = 128
    """Columns that one outlier is planted in each of; the groups of the method's primary scheme."""
    planted_seeds: int = 20
    """How often P1 is planted at both ends, in other columns each time; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H2.2",
        claim="the ends are built differently",
        prediction="the first and the last block are structurally apart from the interior",
        if_supported="both ends are structurally apart from the interior, before any text is seen",
        if_refuted="that both ends can be told from the interior by their weights",
        gap="synergy",
        pillar="gateways",
        explains_triple=True,
    ),
    title="Gateway structure",
    question="Are the first and last blocks structurally distinct?",
    phase=1,
    value="high",
    passes=Cost.of(),
    version=2,
    params=Params(),
    tiers={
        "smoke": {"tail_draws": 20},
    },
    figure_reading="Left: each measure of the weights against what nearby blocks predict, in "
    "standard errors. Right: how far a block stands out over all measures; bars leave measures "
    "out.",
)
