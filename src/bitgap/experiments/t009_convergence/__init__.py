"""T-009 · H3.3: do languages meet at about three quarters of the depth?

Prediction: cross-lingual similarity of parallel sentences peaks at r ≈ .75.

Method: sentence states are token means. Each language's mean and top three principal components,
estimated on calibration documents, are removed, since anisotropy raises every raw cosine
(Ethayarajh 2019). The profile is d′, how far parallel sentences lie from other pairs, averaged over
the languages that are compared with the reference, less what a bag of embeddings has by shared
names, digits and cognates; unlike retrieval it does not saturate and needs no model that retrieves.
At least 200 test sentences are needed (``sentences_min``); where the text has them they are used
whatever the tier. Strict bidirectional retrieval (Kargaran 2024, MEXA), its ratio margin, CKA and
raw cosines are described. They are not interchangeable: isotropic data and a rotated copy with
noise have CKA 1/(1+σ²) while retrieval is at chance.

Statistic: the depth at which the profile peaks, documents (or sentences) resampled:

    d′_l = (mean parallel − mean non-parallel cosine) / SD of non-parallel
    a_l = d′_l − d′_embedding
    θ = r of argmax_l a_l,   r = l / (L − 1)

Unit and direction: a block position r between 0 and 1; a hit, r in [.65, .85], supports H3.3.

Rule: supported if the whole interval hits and planted peaks are found. A planted peak is made by
pulling parallel sentences together at one block until its d′ stands above the model's best block by
twice the SESOI (2 × .5), 20 times over the blocks, with other noise each time. Refuted in this
model if the interval lies wholly outside the window, by the engine's guards. Not testable below 200
test sentences; or where there is nothing to locate: neither shuffled partners nor resampling may
explain the best of L blocks at α, each by the distribution of the maximum over blocks; or where no
block lies in the window. One model's p is the window's share of blocks; one model cannot support.

Cost: one forward pass, no head; the random twin's, on a few sentences, comes on top.

Prior: peaks in middle blocks (Wendler 2024; Liu & Niehues 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-009"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    n_components: int = 3
    """Principal components removed per language; three as in the method, fitted on calibration."""
    sentences: int = 400
    """Sentences that are looked at in every tier where the text has them, as they cost a forward
    pass only; a quarter is for calibration, so that 300 are left for the test."""
    shufflings: int = 199
    """Shuffled pairings that the best block is compared with; the smallest p is 1/200."""
    plantings: int = 20
    """How often a peak is planted, over all blocks in turn."""
    planted_sentences: int = 200
    """Test sentences that peaks are planted on, at most; as many as the method asks for."""
    control_sentences: int = 48
    """Sentences the random twin and the model are compared on; the twin's profile is flat."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H3.3",
        claim="languages meet near 75 %",
        prediction="languages are most alike near three quarters of the depth",
        if_supported="languages meet near three quarters of the depth",
        if_refuted="that languages converge near three quarters of the depth",
        gap="depth",
        pillar="bottleneck",
        explains_triple=True,
    ),
    title="Convergence of languages",
    question="Do parallel sentences lie closest together at about three quarters of the depth?",
    phase=1,
    value="medium",
    passes=Cost.of(passes=1),
    version=3,
    params=Params(),
    figure_reading="How far translations lie together beyond other pairs (d′), by depth, less "
    "what a bag of embeddings has; bars are 95 % intervals. The theory puts the highest point in "
    "the shaded window.",
    reads_inputs=True,
)
