"""depth · depth: is {0, round(.75 L), L−1} among the best triples to protect, and why its middle?

Prediction: Protecting the first, the last and the block at three quarters evens out languages, and
saves damage, better than nine in ten other triples do.

Method: All C(L,3) triples are scored, or, where they are many, a random sample of them beside
those that are asked about. S is the spread over languages of log2 damage per token. What each block
j adds once {0, L−1} are protected is reported beside what it is worth: for damage its Shapley
value, averaged over all that may be protected already; for S what protecting it alone takes off S.
Where the two agree, the middle block is worth what it is worth on its own, and nothing is to be
explained by the ends. Intervals resample sentences, or documents where these are known, and hold
what a sample of triples leaves open.

Statistic: The share of the other triples that the origin's T beats, by v = S and by v = mean K::

    θ = #{T' : v(T') > v(T)} / (C(L,3) − 1)

Unit and direction: share of other triples, up to 1, chance ½, high if the claim holds. p is the
share of triples that may be at least as good at the interval's worse end, so never under 1/C(L,3).

Rule: Supported if both shares reach .9 (intersection–union), the triple does not level down against
protecting nothing (neither the reference's K nor mean or largest harm H may rise), and it stands on
the same side of chance by S per text as by S per token; else its place by S is not established.
Refuted if either share is under .9, by the rule for all. Both shares are told, whatever the
verdict: a triple may save damage and leave languages less even. Exploratory: outside the family
that Holm is taken over.

Cost: The layer map's masks, shared with it, and triples on top. One control scores a few sentences
and triples of an untrained twin; plants are made in what was measured and cost nothing.

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
    """Triples up to which all are scored, on top of the map: up to L = 16. 0 for none on top."""
    sampled_triples: int = 200
    """Triples drawn at random where there are more: a share of .8 then has a standard error of
    .03."""
    control_sentences: int = 12
    """Sentences the twin is run on; a rank that counts shows on few."""
    control_triples: int = 39
    """Random triples that the twin's triple is ranked among: p can then reach 1/40, and under 20
    it could not fail."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    version=2,
    hypothesis=Hypothesis(
        id=ID,
        claim="the origin's triple is among the best",
        prediction="the first, the three-quarter and the last block are among the best "
        "triples to protect, by the spread of damage over languages and by damage",
        if_supported="the original study's three blocks are among the best three to protect",
        if_refuted="that the original study's three blocks are among the best three to protect, "
        "by spread and by damage both",
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
        "smoke": {"most_triples": 0, "sampled_triples": 0},
        "standard": {
            "most_triples": 364,
            "sampled_triples": 40,
            "control_sentences": 6,
            "control_triples": 24,
        },
    },
    figure_reading="What protecting a block saves on its own, and added to the two ends; bars are "
    "95 % intervals.",
)
