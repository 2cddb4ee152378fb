"""synergy · synergy: do the first and the last block protect more together than apart?

Prediction: Protecting blocks 0 and L−1 together saves more damage than protecting each saves alone,
more so than for other pairs.

Method: Mean damage K over languages is measured under the layer map's sets of protected blocks: ∅,
single blocks and pairs, from both ends (as many protected, and as many rounded), and more. The four
cells with neither, one or both protected are compared in damage and in the gap S with what damage
that adds up implies, since adding up already looks like synergy in a ratio of languages.

Statistic: The Banzhaf interaction of i = 0 and j = L−1 on −K, the mean over every background T of
other protected blocks, over what protecting the last block is worth alone::

    θ = mean_T −[K(T∪ij) − K(T∪i) − K(T∪j) + K(T)] / [K(∅) − K({L−1})]

Where all sets were measured the mean is exact. Else it is the mean of the two ends, T = ∅ and T =
all others, which is the same where no four blocks or more interact.

Unit and direction: share of what the last block is worth, > 0 for synergy. p is the share of
resampled texts without one, and never under 2^−N: N sentences, or documents where they are known,
that agree by chance do so as often.

Where not all pairs are scored, the pair's place is told by a random sample of them, with the
interval that the sample and the sentences leave open; a sample as small as a standard run's can
deny the top 5 %, and not show it.

Rule: Supported if θ is at least a tenth and clear, among the top 5 % of pairs, of the same sign on
the text's own likelihood Δ and per token, and the four cells leave what adding up implies. An
interaction that is there only after a logarithm is called removable. Refuted if the interval of θ
lies below its smallest effect of interest and errors planted to make θ twice that are found. That
the ends beat pairs one block shorter, and an untrained twin shows nothing, are conditions for
support; the first fails where there is nothing, and speaks against no refutation.

Cost: The layer map's masks, shared with it, and of a deep model those of the pairs at the ends and
of a sample; controls on a few sentences come on top.

Prior: Grabisch & Roubens 1999 (interaction indices), Owen 1972 (Banzhaf), Loftus 1978 (removable
interactions).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "synergy"
FEWEST_BLOCKS = 4
"""Below it there is no pair inside to compare the ends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = False
    """Whether all masks are scored where L allows it; as the layer map does."""
    pairs: bool = True
    """Whether all pairs of blocks are scored, from both ends."""
    sampled_pairs: int = 20
    """Pairs drawn at random that the ends are ranked among where not all are scored; the share that
    they beat is then known to some .1. 0 for no rank."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_interaction: float = 0.2
    """θ that P3 is to make: twice the declared smallest."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state where the search for it begins."""
    planted_seeds: int = 20
    """How often P3 is planted, each time in another direction; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id=ID,
        claim="the ends protect more together",
        prediction="protecting both ends saves more than protecting each saves alone",
        if_supported="protecting both ends pays more than the sum of protecting each",
        if_refuted="synergy of the two ends: damage adds up, and ratios of sums look like synergy",
        gap="synergy",
        pillar="synergy",
        explains_triple=True,
        needs_disparity=True,
    ),
    title="Synergy",
    question="Do the first and the last block protect more together than apart?",
    phase=3,
    value="high",
    version=2,
    params=Params(),
    tiers={
        "smoke": {"control_sentences": 4, "planted_seeds": 5, "sampled_pairs": 0},
        "standard": {"control_sentences": 6, "planted_seeds": 10, "sampled_pairs": 12},
    },
    figure_reading="Left: the interaction of every two blocks, the two ends framed. Right: "
    "the gap S as measured, beside S if damage simply added up.",
)
