"""depth · depth: is {0, round(.75 L), L−1} among the best triples to protect, and why its middle?

Prediction: protecting the first, the last and the block at three quarters evens out languages, and
saves damage, better than nine in ten other triples do. Method: all C(L,3) triples are scored, and
θ is the share of the others that the origin's triple beats, by |D| and by mean damage K; both must
reach .9 (intersection–union). Against protecting nothing the triple may not level down (neither the
reference's K nor mean or largest harm H may rise), and D and G must move the same way. What each
block j adds once {0, L−1} are protected is told beside its Shapley value, its worth averaged over
all that may be protected already: where the two agree, the middle block is worth what it is worth
on its own, and nothing is to be explained by the ends. Intervals resample sentences; p is the share
of triples that may be at least as good at the interval's worse end, so that it is never under
1/C(L,3).

Sources: Shapley 1953, Mittelstadt 2023 (levelling down); the triple is the origin's. Unit and
direction: share of other triples, up to 1, high if the claim holds. Exploratory: outside the family
that Holm is taken over. Cost: the layer map's masks, shared with it (where the map is a sample,
triples on top); controls on a few sentences and triples come on top. Refuted if the interval of
either share lies below .9.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment

ID = "depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = True
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
    hypothesis=ID,
    title="Depth",
    question="Is {0, round(.75 L), L−1} among the best three blocks to protect, and why its "
    "middle?",
    phase=3,
    value="medium",
    params=Params(),
)
