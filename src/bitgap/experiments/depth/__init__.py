"""depth · depth: is {0, round(.75 L), L−1} among the best triples to protect, and why its middle?

Prediction: Protecting the first, the last and the block at three quarters evens out languages, and
saves damage, better than nine in ten other triples do.

Method: All C(L,3) triples are scored. What each block j adds once {0, L−1} are protected is
reported beside its Shapley value, which is averaged over all that may be protected already. Where
the two agree, the middle block is worth what it is worth on its own, and nothing is to be explained
by the ends. Intervals resample sentences.

Statistic: The share of the other triples that the origin's S beats, by v = |D| and by v = mean K::

    θ = #{T : v(T) > v(S)} / (C(L,3) − 1)

Unit and direction: share of other triples, up to 1, high if the claim holds. p is the share of
triples that may be at least as good at the interval's worse end, so never under 1/C(L,3).

Rule: Supported if both shares reach .9 (intersection–union), the triple does not level down against
protecting nothing (neither the reference's K nor mean or largest harm H may rise), and D and G move
the same way. Refuted if the interval of either share lies below .9. Exploratory: outside the family
that Holm is taken over.

Cost: The layer map's masks, shared with it; where the map is a sample, triples on top. Controls on
a few sentences and triples come on top.

Prior: Shapley 1953, Mittelstadt 2023 (levelling down); the triple is the origin's.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = False
    """Whether all masks are scored where L allows it; as the layer map does."""
    most_triples: int = 600
    """Triples scored beyond a sampled map: all of them up to L = 16, none of them above."""
    control_sentences: int = 12
    """Sentences the controls are run on; a rank that counts shows on few."""
    control_triples: int = 39
    """Random triples that a control's triple is ranked among: p can then reach 1/40, and under 20
    the untrained twin could not fail."""
    planted_strength: float = 0.2
    """Root mean square of P2's error over that of the state: larger than rounding's own."""
    planted_seeds: int = 20
    """How often P2 is planted, each time in another triple; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id=ID,
        claim="the origin's triple is among the best",
        prediction="the first, the three-quarter and the last block are among the best "
        "triples to protect",
        if_supported="the original study's three blocks are among the best three to protect",
        if_refuted="that the original study's three blocks are among the best three to protect",
        gap="depth",
        across_families=False,
    ),
    title="Depth",
    question="Is {0, round(.75 L), L−1} among the best three blocks to protect, and why its "
    "middle?",
    phase=3,
    value="medium",
    params=Params(),
    tiers={
        "smoke": {"most_triples": 0},
        "standard": {"control_sentences": 6, "control_triples": 24, "planted_seeds": 10},
    },
    figure_reading="What protecting a block saves on average over all sets, and added to the "
    "two ends; bars are 95 % intervals.",
)
