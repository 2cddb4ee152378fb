"""T-007 · H3.1: is dimensionality lowest near three quarters of the depth?

Prediction: states fill the fewest dimensions at r ≈ .75, where languages would share a bottleneck.

Method: tokens are sampled equally of every language, 20 a dimension where the text has as many.
Sinks are left out and massive values clipped. Dimension is the participation ratio of all
languages' states together, by block output:

    PR = (tr Σ)² / tr Σ²

Both traces come from pairs of different documents, of sentences where documents are not known. The
plain ratio is too low at few tokens, and words of one sentence are no independent draws; pairs give
what averaging over every way to halve the text gives. States are centred once and not in every
resample, which matters at order one over the number of units. RankMe (Garrido 2023), components for
95 % of the variance and, of sentence means, TwoNN (Facco 2017) and GRIDE by scale (Denti 2022)
stand beside it. Intrinsic dimensions are biased low, and only their profile is to be read.

Statistic: the depth of the lowest block, with the interval from documents resampled jointly over
languages and blocks; each language alone, and all but each, stand beside it:

    θ = r of argmin_l PR_l,   r = l / (L − 1)

Unit and direction: a block position r between 0 and 1; a hit, r in [.65, .85], supports H3.1.

Rule: supported if the whole interval hits, and P4, one block's states projected to few dimensions,
is found. Refuted in this model if the interval lies wholly outside the window, as a minimum at an
end does, also without any one block and without any one language. An interval that holds both
interior and end is never support. One model's p is the window's share of blocks, so one model
cannot support.

Cost: one forward pass, shared, no head; shuffled text and the random twin's, on a few sentences,
come on top.

Prior: adverse. Dimension peaks in early middle blocks, then falls (Valeriani 2023; Cheng 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-007"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    most_units: int = 96
    """Groups that documents or sentences are put in for resampling, at most; more only make the
    stored arrays larger."""
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
    hypothesis=Hypothesis(
        id="H3.1",
        claim="a bottleneck near 75 %",
        prediction="states fill the fewest dimensions near three quarters of the depth",
        if_supported="states pass through fewest dimensions near three quarters of the depth",
        if_refuted="a dimensional bottleneck near three quarters of the depth",
        gap="depth",
        pillar="bottleneck",
        explains_triple=True,
    ),
    title="Bottleneck",
    question="Is dimensionality lowest near three quarters of the depth?",
    phase=1,
    value="high",
    passes=Cost.of(passes=1),
    params=Params(),
    version=2,
    figure_reading="Four estimates of how many dimensions states fill, each over its own mean; "
    "bars are 95 % intervals. The theory puts the lowest point in the shaded window.",
)
