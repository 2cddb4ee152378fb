"""T-003 · H1.3: do blocks whose protection evens out languages act differently on them?

Prediction: critical blocks differ more across languages.

Method: rounding changes weights, and knows no language. It acts differently on languages only as
their inputs lie differently to ΔW. So for every linear the relative error of its outputs is
measured in full precision, for each language, and averaged over a block's linears, which no
rescaling of a matrix moves:

    e_lλ = mean over linears of E‖ΔW x‖² / E‖W x‖²

The benefit of protecting a block is its Shapley value in the game −|D| of the layer map. Languages
that collapse or lie below resolution under some mask enter neither.

Two descriptions stand beside it, position 0 and attention sinks left out of both (Sun 2024, Xiao
2024). The one is the share of the variance of log var(x), per sentence, that is the language's
(parallel two-way random effects, Shrout & Fleiss 1979; p by permuting languages within sentence).
The other is the share of the state's variance that lies between languages' means, estimated from
products of different sentences so that scatter within a language adds nothing.

Statistic: how much more a block's errors fall on other languages than on the reference, and its
correlation over blocks with the benefit, both detrended in depth.

    B_l = mean over λ of log2(e_lλ / e_l,en)

    θ = r(B, benefit)

A correlation, −1 to 1; above 0 supports H1.3.

Rule: supported if θ is at least .5 and clearly above 0, and the link to −G has the same sign, as D
alone may fall because the reference gets worse. Refuted if the interval of θ lies below .5.

Cost: two forward passes, one of them shared. The masks are those of the layer map, and controls on
a few sentences come on top.

Prior: the origin's variance over languages of the activations' variance is shown beside, with how
it grows with depth.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-003"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = False
    """Whether all masks are scored where L allows it; as the layer map does."""
    control_sentences: int = 12
    """Sentences the twin and the plantings are run on; a planted error shows on few."""
    planted_strength: float = 0.2
    """Root mean square of P2's error over that of the state: larger than rounding's own."""
    planted_seeds: int = 20
    """How often P2 is planted, each time elsewhere; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H1.3",
        claim="critical blocks differ by language",
        prediction="critical blocks are those in which rounding errors fall harder on "
        "other languages",
        if_supported="critical blocks are those whose rounding hits other languages' inputs harder",
        if_refuted="that a block's local error on a language's inputs decides what "
        "protecting it is worth",
        gap="variance",
        needs_disparity=True,
    ),
    title="Language distribution",
    question="Do critical blocks differ more across languages?",
    phase=1,
    value="high",
    passes=Cost.of(passes=2),
    params=Params(),
    tiers={
        "smoke": {"control_sentences": 4},
        "standard": {"control_sentences": 8},
    },
    figure_reading="Left: the error that rounding makes on a language's inputs against the "
    "reference's; above zero it is larger. Right: its mean over languages beside what protecting "
    "the block takes off |D|.",
)
