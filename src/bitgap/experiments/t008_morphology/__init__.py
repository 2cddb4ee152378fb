"""T-008 · H3.2: does morphology peak, and matter, near three quarters of the depth?

Prediction: Morphology is consolidated at r ≈ .75, more so in morphologically rich languages.

Method: (a) Probe. A logistic regression predicts Number from the state at a word's last token, at
every site; Gender, Person and Case are reported beside it. Word types are disjoint between training
and test, so memory helps no task. The control task is a random label for every type (Hewitt & Liang
2019); its accuracy is what chance and imbalance give. The online code of the labels (Voita & Titov
2020) stands beside.

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
inconclusive: encoded, not used. Refuted in this model if the interval of the peak lies wholly
outside W and written labels were found (P6). Refuted too, where the peak is not in W, if d_z lies
below .3 and planted damage to agreement was found. One model's p is at least the window's share of
blocks, so one model cannot support.

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
    """Features that are probed; the verdict is on the first, marked in the most languages."""
    languages: int = 99
    """Languages of either kind, morphologically rich and other, at most; all there are."""
    words: int = 600
    """Tagged words of each language, at most; ten for every direction a probe may use."""
    per_type: int = 4
    """Occurrences of one word type, at most, or a few function words would decide."""
    fewest_words: int = 20
    """Words that a value of a feature must come in, in a language, to be asked for."""
    components: int = 64
    """Principal components a probe sees; with all of 256 or more it would learn its words."""
    folds: int = 3
    """Parts that word types are held out in; two thirds of the words train each probe."""
    penalty: float = 30.0
    """Weight of ½‖w‖²: at it the online code of labels without meaning is 3 to 10 % too long and
    that of planted ones still short, by simulation without a model."""
    items: int = 100
    """Agreement items of each language, and as many lexical ones; an item is two mirrored pairs."""
    fewest_items: int = 6
    """Items a language must have; below it the spread over items is anybody's guess."""
    lens_ridge: float = 0.1
    """Penalty of the tuned lens, in units of the states' variance; calibration text is short."""
    control_items: int = 8
    """Items of each language that controls are run on; broken agreement shows on few."""
    planted_label: float = 1.0
    """Length of P6's label direction over the states'; plain to see, or the probe is blind."""
    planted_push: float = 0.01
    """Length of the planted push towards the wrong form over the state's own, at one token: on the
    small reference model some fifth of a nat, a few times the smallest effect of interest."""
    planted_seeds: int = 20
    """How often agreement is broken, each time with other noise; the method's number."""


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
            languages=3, words=120, items=6, control_items=6, features=("Number",), folds=2
        ),
        "standard": {"words": 300, "items": 12, "features": ("Number", "Gender", "Person")},
    },
    figure_reading="By depth: how well a probe tells number beyond a control task, how much the "
    "right form is preferred, and what rounding the block costs that preference. The theory puts "
    "the highest points in the shaded window.",
    reads_inputs=True,
)
