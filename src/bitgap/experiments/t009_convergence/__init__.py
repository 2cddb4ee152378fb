"""T-009 · H3.3: do languages meet at about three quarters of the depth?

Prediction: cross-lingual similarity of parallel sentences peaks at r ≈ .75. Method: sentence states
are token means; each language's mean and top three principal components, estimated on calibration
sentences, are removed, since anisotropy raises every raw cosine (Ethayarajh 2019). The profile is
the share of test sentences that find their English partner both ways and only it (strict
bidirectional retrieval; Kargaran 2024, MEXA), averaged over languages, less what a bag of
embeddings finds (shared names, digits, cognates); where retrieval saturates above .98 anywhere, the
profile is d′ = (mean parallel − mean non-parallel cosine)/SD instead. θ is whether the profile's
peak lies at r in [.65, .85]. CKA, ratio margin and raw cosines stand beside it: isotropic data and
a rotated copy with noise have CKA 1/(1+σ²) while retrieval is at chance, so the measures are not
interchangeable. The positive control pulls parallel sentences together at each block in turn: the
method's P5, removing language means, cannot show in a profile that has them removed already.

Unit and direction: a layer position r between 0 and 1; a hit supports H3.3. Cost: one forward pass,
no head; the random twin's, on a few sentences, comes on top. Refuted in this model if the bootstrap
interval of the peak's place lies wholly outside the window. Not testable where no block finds more
than the bag of embeddings, or no block lies in the window. One model's p is the window's share of
blocks, so one model cannot support. Prior: peaks in middle layers (Wendler 2024; Liu & Niehues
2025).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment

ID = "T-009"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    n_components: int = 3
    """Principal components removed per language; three as in the method, fitted on calibration."""
    planted_share: float = 0.5
    """How far the positive control pulls parallel sentences together at one layer."""
    control_sentences: int = 48
    """Sentences the random twin and the model are compared on; the twin's profile is flat."""
    wanted_sentences: int = 200
    """Test sentences the method asks for; fewer are used, and said."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis="H3.3",
    title="Convergence of languages",
    question="Do parallel sentences lie closest together at about three quarters of the depth?",
    phase=1,
    value="medium",
    passes=Cost(block_evaluations=lambda n: n, head_evaluations=lambda n: 0),
    version=2,
    params=Params(),
)
