"""T-008 · H3.2: does morphology peak, and matter, near three quarters of the depth?

Prediction: Morphology is consolidated at r ≈ .75, more so in morphologically rich languages.

Method: (a) Probe. A logistic regression predicts Number from the state at a word's last token, at
every site; Gender, Person and Case stand beside it. Word types are disjoint between training and
test. The control task is a random label for every type (Hewitt & Liang 2019); the online code of
labels is told (Voita & Titov 2020). Languages with fewer than 1,500 words are not probed.

(b) Readout. The margin log p(good) − log p(bad) of minimal pairs (Mueller 2020) is read at every
block, through a tuned lens (Belrose 2023) and the logit lens.

(c) Causal. With one block alone rounded, agreement pairs lose margin. What they lose beyond lexical
pairs of the same language and length is their extra loss.

Statistic: θ has two parts, and both must pass (intersection–union). W is the window r in [.65,
.85], and means are over languages and items::

    peak    = r of max_l [s(l) − s(embedding)],   s(l) = accuracy − control accuracy
    effect  = (mean of e over blocks in W) − (mean of e over the others),   e = extra loss
    d_z     = (mean effect of rich languages − of other languages) / its spread over items

Unit and direction: a block position r between 0 and 1, and standard deviations over items, > 0 if
H3.2 holds.

Rule: Supported if the peak lies in W and d_z ≥ .3 above 0. A peak in W without the causal part is
inconclusive: encoded, not used. Refuted in this model, by the engine's guards, if the interval of
the peak lies wholly outside W (P6: labels written so that a block rises .1 above the best), or d_z
below .3 (planted: .6). Not testable where no language has words enough, or the best of L blocks is
not above the embedding at α, by the distribution of the maximum. One model cannot support.

Cost: One pass over tagged sentences and one shared over the text for the lens; for the pairs two
passes and L(L+1)/2 + L − 1 blocks; regressions on top.

Prior: Middle blocks (Acs 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-008"
PRIMARY = "Number"
"""The feature that the verdict is on: marked in the most languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    features: tuple[str, ...] = ("Number", "Gender", "Person", "Case")
    """Features that are probed; the verdict is on the first."""
    languages: int = 99
    """Languages of either kind, morphologically rich and other, at most; all there are."""
    words: int = 3000
    """Tagged words of each language, at most, drawn over all its sentences."""
    per_type: int = 4
    """Occurrences of one word type, at most, or a few function words would decide."""
    fewest_words: int = 20
    """Words that a value of a feature must come in, in a language, to be asked for."""
    components: int = 64
    """Principal components a probe sees; with all of 256 or more it would learn its words."""
    folds: int = 3
    """Parts that word types are held out in; two thirds of the words train each probe."""
    penalty: float = 30.0
    """Weight of ½‖w‖²: at it labels without meaning have an online code 3 to 10 % too long."""
    items: int = 100
    """Agreement items of each language, and as many lexical ones; an item is two mirrored pairs."""
    fewest_items: int = 6
    """Items a language must have; below it the spread over items is anybody's guess."""
    lens_ridge: float = 0.1
    """Penalty of the tuned lens, in units of the states' variance; calibration text is short."""
    control_items: int = 24
    """Items of each language that the untrained twin is asked."""
    broken_items: int = 100
    """Items of each language that agreement is broken in: as many as are judged."""
    planted_label: float = 1.0
    """Length of P6's label direction over the states': plain to see, and thinned by the judge."""
    planted_height: float = 0.1
    """How far a written block rises above the model's best, in selectivity: twice .05."""
    planted_push: float = 0.01
    """Length of the push towards the wrong form over the state's own; scaled by the judge."""
    pushes: int = 4
    """How often agreement is broken, with other noise."""
    plantings: int = 20
    """How often labels are written in, on other draws of the data; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H3.2",
        claim="morphology peaks near 75 %",
        prediction="morphology is read best, and used most, near three quarters of the depth",
        if_supported="morphology is told best, and used, near three quarters of the depth",
        if_refuted="a seat of morphology near three quarters of the depth",
        gap="depth",
        pillar="bottleneck",
        explains_triple=True,
    ),
    title="Morphological consolidation",
    question="Does morphology peak, and matter, near three quarters of the depth?",
    phase=2,
    value="medium",
    params=Params(),
    tiers={
        "smoke": dict(
            languages=3, words=1600, items=6, control_items=6, features=("Number",), folds=2
        ),
        "standard": {"words": 2000, "items": 12, "features": ("Number", "Gender", "Person")},
    },
    version=2,
    figure_reading="By depth: how well a probe tells number beyond a control task, how much the "
    "right form is preferred, what rounding costs that. The theory's window is shaded.",
    reads_inputs=True,
)
