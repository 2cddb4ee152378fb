"""T-009 · H3.3: do languages meet at about three quarters of the depth?

Prediction: cross-lingual similarity of parallel sentences peaks at r ≈ .75.

Method: sentence states are token means. Each language's mean and top three principal components,
estimated on calibration sentences, are removed, since anisotropy raises every raw cosine
(Ethayarajh 2019). The profile is strict bidirectional retrieval (Kargaran 2024, MEXA): the share of
test sentences that find their English partner both ways and only it, averaged over languages, less
what a bag of embeddings finds by shared names, digits and cognates:

    a_l = hits_l − hits_embedding

Where retrieval saturates above .98 anywhere, d′ takes its place:

    d′ = (mean parallel − mean non-parallel cosine) / SD

CKA, ratio margin and raw cosines stand beside it. They are not interchangeable: isotropic data and
a rotated copy with noise have CKA 1/(1+σ²) while retrieval is at chance.

Statistic: the depth at which the profile peaks, sentences resampled:

    θ = r of argmax_l a_l,   r = l / (L − 1)

Unit and direction: a block position r between 0 and 1; a hit, r in [.65, .85], supports H3.3.

Rule: supported if the whole interval hits and planted peaks are found. They are made by pulling
parallel sentences together at each block in turn; the method's P5, removing language means, cannot
show in a profile that has them removed already. Refuted in this model if the interval lies wholly
outside the window. Not testable where no block finds more than the bag of embeddings, or no block
lies in the window. One model's p is the window's share of blocks, so one model cannot support.

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
    planted_share: float = 0.5
    """How far the positive control pulls parallel sentences together at one block."""
    control_sentences: int = 48
    """Sentences the random twin and the model are compared on; the twin's profile is flat."""
    wanted_sentences: int = 200
    """Test sentences the method asks for; fewer are used, and the sentence says so."""


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
    version=2,
    params=Params(),
    figure_reading="How many sentences find their translation among all, by depth; bars are 95 "
    "% intervals. The theory puts the highest point in the shaded window.",
)
