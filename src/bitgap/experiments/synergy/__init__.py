"""synergy · synergy: do the first and the last block protect more together than apart?

Prediction: Protecting blocks 0 and L−1 together saves more damage than protecting each saves alone,
more so than for other pairs.

Method: Mean damage K over languages is measured under all 2^L sets of protected blocks. Above L =
14 it is measured under all sets of at most two blocks, their complements, and the four corners of
the pair at random backgrounds; θ is then unbiased, and its interval resamples backgrounds too. The
four cells D(∅), D({0}), D({L−1}), D({0, L−1}) are compared with what damage that adds up implies,
since adding up already looks like synergy in a ratio of languages.

Statistic: The Banzhaf interaction of i = 0 and j = L−1 on −K, over K(∅), averaged over every
background T of other protected blocks::

    θ = mean_T −[K(T∪ij) − K(T∪i) − K(T∪j) + K(T)] / K(∅)

Unit and direction: share of K(∅), > 0 for synergy. p is the share of resampled texts without one,
and never under 2^−N: N sentences that agree by chance do so as often.

Rule: Supported if θ is clear, among the top 5 % of pairs, of the same sign on the text's own
likelihood Δ, and the four cells leave what adding up implies. Where they do not, the apparent
synergy may be a ratio artefact. An interaction that is there only after a logarithm is called
removable. Refuted if the interval of θ lies below its smallest effect of interest.

Cost: The layer map's masks, shared with it; controls on a few sentences come on top.

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
    background_twins: int = 16
    """Random backgrounds, each with its complement, where masks are sampled: an error of some
    eighth of one background's spread."""
    control_twins: int = 2
    """Backgrounds of controls, each with its complement; a planted interaction is on all alike."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state, as where errors are traced (T-004)."""
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
    params=Params(),
    tiers={
        "smoke": {
            "background_twins": 2,
            "control_twins": 1,
            "control_sentences": 4,
            "planted_seeds": 5,
        },
        "standard": {"control_twins": 1, "control_sentences": 6, "planted_seeds": 10},
    },
    figure_reading="Left: the interaction of every two blocks, the two ends framed. Right: D "
    "as measured, beside D if damage simply added up.",
)
