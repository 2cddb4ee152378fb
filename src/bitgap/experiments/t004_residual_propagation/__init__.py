"""T-004 · H2.1: do errors of the first block travel, so that protecting L0 makes L_last worth it?

Prediction: with the last block protected, protecting block 0 as well brings the final state closer
to full precision than protecting any other block would, and makes the last block's protection worth
more.

Method: the state after every block is compared with full precision under {last} and under {j, last}
for every j, as a signal-to-noise ratio (error propagation: Arai & Ichikawa 2025; per-block error
ratio: Basu 2026). States are standardised dimension by dimension, so that no massive dimension
decides. Position 0 and sinks are left out. Debiased CKA (Murphy 2024) stands beside it.
Amplification A(j→l) comes from Gaussian noise of one relative size in block j alone.

Damage and error are summed over languages, so no language label can move θ. Languages that collapse
or lie below resolution under any mask are left out of all of it.

Statistic: two contrasts of block 0, and both must pass (intersection–union). θ1 is the gain of
protecting 0 over the mean gain of protecting another block, in dB, at the last block's output. θ2
is how much more the last block's protection saves when 0 is protected than when another block is,
as a share of K(∅).

    ΔSNR_j = SNR({j, last}) − SNR({last})

    θ1 = ΔSNR_0 − mean over j > 0 of ΔSNR_j

    I_j = [K({j}) − K({j, last})] − [K(∅) − K({last})]

    θ2 = (I_0 − mean over j > 0 of I_j) / K(∅)

Both are above 0 if H2.1 holds.

Rule: supported if θ1 is at least 1 dB and θ2 at least .02, both clearly above 0. Refuted if either
interval lies below its smallest effect of interest: errors of block 0 then travel like any other's,
or the last block's protection does not hang on them. Not testable below 4 blocks.

Cost: streams of L + 1 plans and of L noisy ones, and 2L scored plans, shared with the map. Controls
on a few sentences come on top.

Prior: the origin's measure, the mean cosine of final states with full precision, is shown beside.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-004"
FEWEST_BLOCKS = 4
"""Below it there are no two blocks between the first and the last to compare block 0 with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    noise: float = 0.05
    """Relative size of the injected noise; inside the range where damage is quadratic (T-002)."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state; effects a few times the SESOI."""
    planted_seeds: int = 20
    """How often P3 is planted, each time in another direction; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H2.1",
        claim="errors of the first block travel",
        prediction="errors of the first block travel to the end, so that protecting the "
        "last block pays only after the first",
        if_supported="errors of the first block travel to the end, and protecting the last "
        "pays only after it",
        if_refuted="that protecting the last block is conditional on a clean first block",
        gap="synergy",
        explains_triple=True,
    ),
    title="Residual propagation",
    question="Do errors of the first block travel, so that protecting it makes the last block's "
    "protection worth more?",
    phase=2,
    value="high",
    version=2,
    params=Params(),
    tiers={
        "smoke": {"control_sentences": 4},
        "standard": {"control_sentences": 8},
    },
    figure_reading="Left: how far the error has grown at each depth, by what is protected; "
    "higher is less error. Right: how noise put into one block grows or shrinks on its way.",
)
