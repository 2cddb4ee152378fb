"""T-008 · H3.2: does morphology peak, and matter, near three quarters of the depth?

Prediction: morphology is consolidated at r ≈ .75, more so in morphologically rich languages.
Method: (a) Probe: a logistic regression of Number (and, told beside it, Gender, Person, Case) on
the state at a word's last token, word types disjoint between training and test, at every site;
selectivity is its accuracy less that on a control task, a random label for every type (Hewitt &
Liang 2019), averaged over languages, and the profile is selectivity above the embedding's; the
online code of the labels (Voita & Titov 2020) stands beside it. (b) Readout: the margin log p(good)
− log p(bad) of minimal pairs (Mueller 2020) at every block, through a tuned lens (Belrose 2023) and
the logit lens. (c) Causal: with one block alone rounded, how much margin agreement pairs lose
beyond lexical pairs of the same language and length, in rich languages beyond others. θ has two
parts and both must pass (intersection–union): the peak of (a) lies at r in [.65, .85], and the
causal contrast of blocks in that window less those outside is above 0 with d_z ≥ .3. A peak in the
window without the causal part is inconclusive: encoded, not used. As types are disjoint, memory
helps neither task, and the control task's accuracy is what chance and imbalance give.

Unit and direction: a layer position r between 0 and 1, and standard deviations over items, > 0 if
H3.2 holds. Cost: one pass over tagged sentences, one shared over the text for the lens, and for
the pairs two passes and L(L+1)/2 + L − 1 blocks; regressions on top. Refuted in this model if the
interval of the peak's place lies wholly outside the window and written labels were found (P6), or,
where the peak is not in the window, if d_z lies below .3 and planted damage to agreement was found.
One model's p is at least the window's share of blocks, so one model cannot support. Prior: middle
layers (Acs 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment

ID = "T-008"


NO_WORDS = "no language of the text has tagged words enough for a probe"


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
    hypothesis="H3.2",
    title="Morphological consolidation",
    question="Does morphology peak, and matter, near three quarters of the depth?",
    phase=2,
    value="medium",
    params=Params(),
    reads_inputs=True,
)
