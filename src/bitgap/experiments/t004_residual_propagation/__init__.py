"""T-004 · H2.1: do errors of the first block travel, so that protecting L0 makes L_last worth it?

Prediction: it has two parts, and each is judged by itself. Where the last block is protected, the
final state is closer to full precision if block 0 is protected as well; and protecting the last
block pays only where block 0 is protected too.

Method: the state after every block is compared with full precision under {last} and under {j, last}
for every j, as a signal-to-noise ratio (error propagation: Arai & Ichikawa 2025; per-block error
ratio: Basu 2026). States are standardised dimension by dimension, so that no massive dimension
decides. Position 0 and sinks are left out. Debiased CKA (Murphy 2024) stands beside it.
Amplification A(j→l) comes from Gaussian noise of one relative size in block j alone.

Damage and error are summed over languages, so no language label can move θ. Languages that collapse
or lie below resolution under any mask are left out of all of it. What is resampled are documents
where they are known, else sentences.

Statistic: θa is the gain in dB at the last block's output of protecting block 0 beside the last.
θb is how much more the last block's protection saves where block 0 is protected, as a share of the
damage with nothing protected:

    θa = ΔSNR_0 = SNR({0, last}) − SNR({last})

    θb = I_0 / K(∅),  I_j = [K({j}) − K({j, last})] − [K(∅) − K({last})]

Both are above 0 if H2.1 holds. Beside θa stand the share of tokens that come closer by cosine, and
how specific the gain is: nearly any protected block brings the final state closer, so it is told
how many do as well as block 0, and by how much block 0 exceeds their mean. That is a description of
the finding, and no condition of it.

Rule: part (a) is supported if θa is at least 1 dB, part (b) if θb is at least .02, each clearly
above 0; for the whole, both must pass (intersection–union), and θb must keep its sign where every
language's damage counts per token. A part is refuted if its interval lies below its smallest effect
of interest and its own plant of twice that effect is found in four of five plantings. Each part has
controls of its own. Not testable below 4 blocks.

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
    planted_gain: float = 2.0
    """Gain in dB that noise planted in block 0 is to make: twice the declared smallest."""
    planted_interaction: float = 0.04
    """Interaction over K(∅) that P3 is to make: twice the declared smallest."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state where the search for it begins."""
    planted_seeds: int = 20
    """How often each is planted, with another draw every time; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H2.1",
        claim="errors of the first block travel",
        prediction="errors of the first block travel to the end, so that protecting the "
        "last block pays only after the first",
        if_supported="errors of the first block travel to the end, and protecting the last "
        "pays more after it",
        if_refuted="that protecting the last block is conditional on a clean first block",
        gap="synergy",
        explains_triple=True,
    ),
    title="Residual propagation",
    question="Do errors of the first block travel to the end, and is protecting the last block "
    "worth more after it?",
    phase=2,
    value="high",
    version=3,
    params=Params(),
    tiers={
        "smoke": {"control_sentences": 4},
        "standard": {"control_sentences": 8},
    },
    figure_reading="Left: how far the error has grown at each depth, by what is protected; "
    "higher is less error. Right: how noise put into one block grows or shrinks on its way.",
)
