"""T-006 · H2.3: do the rounding errors of the first and the last block cancel?

Prediction: the two errors correlate negatively, so each block's harm is partly undone by the
other's.

Method: e_l is the change of log p when only block l is rounded. Two errors are compared by the
Fisher inner product, which sees no shift of all logits:

    ⟨a, b⟩ = Σ_tokens Cov_{p_fp}(a, b)

To second order it gives the damage of a set Q of rounded blocks (Dong 2019, HAWQ; Deng 2025,
CLADO):

    K(Q) = ½ Σ_{i,j∈Q} ⟨e_i, e_j⟩

The diagonal is a sum of single damages; the rest is what cancels. What K shows beyond both is
non-linearity, reported as the remainder. Languages that collapse or lie below resolution under any
plan scored here are left out. What is resampled are documents where they are known, else sentences.

Rounding to the largest weight of a group (absmax) shrinks weights, so that errors have a part in
common; with scales clipped to the least squared error they shrink otherwise. H2.3 is therefore
judged under both, and each has a label of its own.

Statistic: the correlation of the first and the last error with its sign turned, the inner products
summed over languages and sentences. A cancelled share stands beside it:

    θ = −ρ = −⟨e_0, e_last⟩ / (‖e_0‖ ‖e_last‖)

    share = −2⟨e_0, e_last⟩ / (‖e_0‖² + ‖e_last‖²)

Unit and direction: minus a correlation, −1 to 1; above 0 supports H2.3.

Rule: under both rules for scales θ must be .1 or more and its interval above 0, and the share as
large as declared; ρ must be under the declared percentile of all pairs, and keep its sign where
every language counts per token. p is the larger of two: the share of bootstrap draws not above 0
(Phipson & Smyth 2010), and the chance that one more draw of stochastic rounding would cancel as
much, by prediction with Student's t. Stochastic rounding is independent and unbiased, so ρ = 0 on
average. A part is refuted if the interval of θ lies below the smallest effect of interest and
errors planted to make θ twice that (P3) are found. The finding explains synergy only if both agree
in sign.

Cost: one stream of L + 3 plans and L + 2 scored ones; controls on a few sentences come on top.

Prior: none was found in the literature.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-006"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    null_draws: int = 50
    """Draws of stochastic rounding; the method's number, fewer widen the prediction."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_correlation: float = 0.2
    """−ρ that P3 is to make: twice the declared smallest."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state where the search for it begins."""
    planted_seeds: int = 20
    """How often P3 is planted, each time in another direction; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H2.3",
        claim="errors of the ends cancel",
        prediction="the errors of the first and the last block cancel",
        if_supported="errors of the first and the last block cancel, so that quantizing both "
        "is milder",
        if_refuted="that errors of the two ends cancel",
        gap="synergy",
        explains_triple=True,
    ),
    title="Error cancellation",
    question="Do errors of the first and last blocks cancel?",
    phase=2,
    value="high",
    version=2,
    params=Params(),
    tiers={
        "smoke": {"null_draws": 10, "control_sentences": 4},
        "standard": {"null_draws": 10, "control_sentences": 8},
    },
    figure_reading="Left: correlation of the errors of two blocks, the two ends framed; below "
    "zero they cancel. Right: damage as sum of single blocks, what pairs share, and the rest.",
)
