"""T-007 · H3.1: is dimensionality lowest near three quarters of the depth?

Prediction: states fill the fewest dimensions at r ≈ .75, where languages would share a bottleneck.
Method: tokens are sampled equally of every language, 20 a dimension where the text has as many,
sinks left out and massive values clipped. Dimension is the participation ratio (tr Σ)²/tr Σ² of all
languages' states together, both traces from pairs of different sentences, since the plain ratio
is too low at few tokens and words of one sentence are no independent draws; this is what averaging
over every way to halve the sentences gives. Its profile is that of block outputs. RankMe (Garrido
2023), components for 95 % of the variance, and, of sentence means, TwoNN (Facco 2017) and GRIDE by
scale (Denti 2022) stand beside it; intrinsic ones are biased low and only their profile is to be
read. θ is whether the minimum lies at r in [.65, .85], with the interval from sentences resampled
jointly over languages and blocks. States are centred once and not in every resample, which matters
at order one over the number of sentences. The positive control projects one block's states to few
dimensions (P4).

Unit and direction: a layer position r between 0 and 1; a hit supports H3.1. Cost: one forward pass,
shared, no head; shuffled text and the random twin's, on a few sentences, come on top. Refuted in
this model if the interval of the minimum's place lies wholly outside the window, as a minimum at
an end does; an interval that holds both interior and end is never support. One model's p is the
window's share of blocks, so one model cannot support. Prior, adverse: dimension peaks in early
middle layers, then falls (Valeriani 2023; Cheng 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment

ID = "T-007"


FEWEST_SENTENCES = 3
"""Below it there are too few pairs of different sentences to resample."""


WANTED_PER_DIMENSION = 20
"""Tokens a dimension that the method asks for; fewer are used, and said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    most_units: int = 96
    """Groups that sentences are put in for resampling; more only make the stored arrays larger."""
    points: int = 512
    """Sentence means whose neighbours are looked at; fixed, since TwoNN and GRIDE move with n."""
    scales: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Neighbours k of GRIDE, which compares the 2k-th with the k-th; doubling, as is usual."""
    control_sentences: int = 48
    """Sentences that the random twin sees; as many as T-009's, so that one pass serves both."""
    shuffled_sentences: int = 12
    """Sentences of the shuffled text; their pairs are unbiased however few they are."""
    planted_seeds: int = 20
    """How often P4 is planted, at each block in turn; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis="H3.1",
    title="Bottleneck",
    question="Is dimensionality lowest near three quarters of the depth?",
    phase=1,
    value="high",
    passes=Cost(block_evaluations=lambda n: n, head_evaluations=lambda n: 0),
    params=Params(),
)
