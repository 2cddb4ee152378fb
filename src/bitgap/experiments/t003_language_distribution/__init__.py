"""T-003 · H1.3: do blocks whose protection evens out languages act differently on them?

Prediction: critical blocks differ more across languages.

Method: rounding changes weights, and knows no language. It acts differently on languages only as
their inputs lie differently to ΔW. So for every linear the relative error of its outputs is
measured in full precision, for each language, and averaged over a block's linears, which no
rescaling of a matrix moves:

    e_lλ = mean over linears of E‖ΔW x‖² / E‖W x‖²

What protecting a block is worth is the fall of S, the spread over languages of log2 damage per
token, where that block alone is protected. Languages cannot cancel in S, and no reference language
enters it. Languages that collapse or lie below resolution under one of the plans enter neither.

Two descriptions stand beside it, position 0 and attention sinks left out of both (Sun 2024, Xiao
2024). The one is the share of the variance of log var(x), per sentence, that is the language's
(parallel two-way random effects, Shrout & Fleiss 1979; p by permuting languages within sentence).
The other is the share of the state's variance that lies between languages' means, estimated from
products of different sentences so that scatter within a language adds nothing.

Statistic: how unequally a block's errors fall on languages, without sign, and its correlation over
blocks with the fall, both detrended in depth.

    U_l = mean over λ ≠ en of |log2(e_lλ / e_l,en)|

    θ = r(U, S(∅) − S({l}))

A correlation, −1 to 1; above 0 supports H1.3. Beside it stand the standard deviation over languages
of log2 e_lλ, which needs no reference, in the place of U, and θ without block 0.

Rule: supported if θ is at least .5 and clearly above 0. Refuted if its interval lies below .5, also
with any one block left out, and a correlation of .8 planted in the same profiles is found. Where
the sign of θ is another with S per text, it is not established, and nothing is concluded.

Cost: L + 1 plans, shared with T-002 and with the map as far as its sentences go, and two forward
passes, one of them shared. Controls on a few sentences come on top.

Prior: the origin's own predictor, the variance over languages of the activations' variance, is
judged beside by the same rule, with a label of its own that does not enter the verdict; it is shown
with how it grows with depth.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-003"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

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
        prediction="blocks whose protection evens out damage most are those whose rounding "
        "errors fall most unequally on languages",
        if_supported="the blocks to protect for the gap are those whose rounding hits languages' "
        "inputs unequally",
        if_refuted="that how unequally a block's rounding hits languages' inputs decides what "
        "protecting it takes off the gap",
        gap="variance",
        needs_disparity=True,
    ),
    title="Language distribution",
    question="Do critical blocks differ more across languages?",
    phase=1,
    value="high",
    version=2,
    params=Params(),
    tiers={
        "smoke": {"control_sentences": 4},
        "standard": {"control_sentences": 8},
    },
    figure_reading="Left: the error that rounding makes on a language's inputs against the "
    "reference's; above zero it is larger. Right: how unequal it is over languages, beside what "
    "protecting the block takes off S.",
)
