"""T-002 · H1.2: are blocks of high weight variance more robust to rounding?

Prediction: relative rounding error is lower where weight variance is high. Note the sign: a block
that is more robust gains *less* from protection, so H1.2 contradicts the finding it is meant to
explain.

Method: a matrix's relative error RE = ‖ΔW‖²/‖W‖² obeys RE = C²/(12q²) with C² the effective crest
factor² (Gersho & Gray 1992), which no rescaling changes. A block's RE is the mean over its
matrices: a ratio pooled over them changes when one is rescaled against another. Raw variance does
so too, so variance is compared after gauge fixing. Gaussian ΔW of relative size t in one block
gives the sensitivity α_l, the slope of damage on t² (linearity of damage in t²: Malinovskii 2025;
see also Banner 2019, Zhang 2025). That splits the damage of a block into how hard it is hit and how
much it matters, with Lindeman–Merenda–Gold shares of the variance over blocks:

    log k_l = log α_l + log t_l² + non-linearity

Scope: one scale a tensor and 4 bits, as the origin rounded (``simulate_int4(weights)``), whatever
the run's scheme. Where weights are rounded in groups of 128, each group is scaled by its own
largest weight, and relative error comes out nearly the same in every block: it cannot be what
decides damage there, which says how rounding works and nothing of variance. Numbers under the run's
scheme are shown beside.

Damage is averaged over languages, so no language label can move θ. Languages that collapse or lie
below resolution are left out of it.

Statistic: two correlations over blocks, both profiles detrended in depth. Both must pass
(intersection–union).

    θ1 = r(log variance, −log RE)

    θ2 = r(log RE, log k_l)

Each runs from −1 to 1; above 0 supports H1.2. Each is shown without block 0 too, in which damage
often peaks.

Rule: supported if both are at least .5 and clearly above 0, and the LMG share of t² is at least .5.
Refuted if either interval lies below .5, also with any one block left out, and a correlation of .8
planted in the same profiles is found. Not testable where the standard deviation of log RE over
blocks is under a tenth of that of log k: nothing to explain. If the gauge intervention leaves
damage unchanged, "predicts" is all that may be said, never "causes".

Cost: 2L single-block plans, one with every block, 3·seeds·L noisy half-passes, and the L + 1 plans
that protect one block, shared with the map. Controls on a few sentences come on top.

Prior: the origin's link, plain Pearson of raw variance and 4-bit error per tensor, is shown beside;
it is neither gauge-fixed nor detrended.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-002"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    noise: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Relative sizes t of injected noise; the range in which damage was seen to be quadratic."""
    noise_seeds: int = 4
    """Draws of the noise for each size; four bring the slope's error under the blocks' spread."""
    control_sentences: int = 12
    """Sentences the twins are scored on; a planted factor of 64 shows on few."""
    planted_factor: float = 64.0
    """Scale of the planted o-columns of P1; a power of two, so full precision is unchanged."""
    planted_seeds: int = 20
    """How often P1 is planted, each time in a block chosen at random; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H1.2",
        claim="high variance, more robust",
        prediction="blocks whose weights vary more are rounded with less relative error, "
        "and that decides their damage",
        if_supported="weight variance predicts how hard rounding hits a block, and that "
        "decides its damage",
        if_refuted="that blocks matter because of how well their weights survive rounding",
        gap="variance",
    ),
    title="Quantization robustness",
    question="Are blocks of high weight variance more robust to rounding, and does that decide "
    "their damage?",
    phase=2,
    value="high",
    version=3,
    params=Params(),
    tiers={
        "smoke": {"noise_seeds": 1, "control_sentences": 4},
        "standard": {"noise_seeds": 1, "control_sentences": 8},
    },
    figure_reading="Left: the parts into which a block's damage, against the mean block's, "
    "comes apart; they add up. Right: a dot a block, on logarithmic axes; the dashed line is the "
    "law.",
)
