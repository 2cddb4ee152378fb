"""T-001 · H1.1: do blocks of high weight variance carry more usable information?

Prediction: the more the weights of a block vary, the more its output tells about the input.

Method: for a deterministic network I(X; h) is constant (Goldfeld 2019), and differential entropy
shifts by d log c under scaling, so it would track variance by construction. What a reader can use
is measured instead, in three ways.

(i) Usable information I_V (Xu 2020) in bits per token. Y is the current and the previous token: the
most frequent types, and one class for all others. The reader is a multinomial logistic regression
on standardised principal components, trained on calibration sentences and measured on the others,
with one penalty for all blocks. Beside it stands how much of the input's embedding is rebuilt, R²
on tokens of sentences and of types that nothing was fitted on: by ridge regression, and by a small
decoder with one hidden layer, which also reads what no line does (the origin's "decoder
reconstruction loss").

(ii) The noise-limited rate ½log2 det(I + Σ/σ²), σ² the measured error variance when all blocks are
rounded: Gaussian bits that survive (Yu 2020).

(iii) Spectra that no scale moves, of centred Gram matrices: RankMe (Garrido 2023), matrix Rényi-2
and prompt entropy (Skean 2025), and a nearest-neighbour entropy of 16 whitened components.

Statistic: the correlation over blocks of log weight variance with I_V, the mean of both Y. Both
profiles are detrended in depth. The variance's gauge is fixed: norm gains are folded into the
matrices that read them, and value/output and gated up/down are balanced.

    I_V = Ĥ(Y) − CE(Y | h)

    θ = r(log variance, I_V)

A correlation, −1 to 1; above 0 supports H1.1. Interval and p are approximate: blocks are few and
their profiles smooth. It is shown without block 0 too, which can make it alone.

Rule: supported if θ is at least .3 and clearly above 0, stays above 0 when test sentences are
resampled, and a smaller probe agrees. Refuted in this model if the interval lies below .3, also
with any one block left out, and information planted in the states and a correlation of .55 (twice
.3 on Fisher's z) planted in the profiles are found, which takes some 30 blocks.
Not testable where the probe reads nothing.

Cost: one forward pass, shared, and a pass of two plans, no head. The random twin's, on a few
sentences, comes on top.

Prior: none was found in the literature for variance; information by itself may do no more than
follow scale (Goldfeld 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-001"
LABELS = ("current", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    n_types: int = 256
    """Types with a class of their own; rarer ones have too few tokens to fit on a sample's text."""
    n_components: int = 128
    """Principal components that the probe reads; more than a quarter of the tokens it is fitted on
    would let it learn noise."""
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    """Inverse L2 penalties to choose from; from hardly more than the marginal to hardly any."""
    decoder_units: int = 64
    """Hidden units of the decoder that rebuilds the input; more only take longer."""
    rate_sentences: int = 16
    """Sentences that rounding error is measured on; a variance needs fewer than a probe."""
    control_sentences: int = 48
    """Sentences that the random twin is read on; as many as T-009's, so one pass serves both."""
    small_types: int = 16
    """Types of the controls' probe, which is fitted some three hundred times."""
    small_components: int = 16
    """Principal components of the controls' probe, in proportion to its types."""
    planted_gain: float = 1.0
    """Planted noise falls by e for one standard deviation of log variance: over the
    blocks from some e² to e⁻² times the state, the range between a blind probe and a seeing one."""
    planted_seeds: int = 20
    """How often information is planted, with other noise each time; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H1.1",
        claim="high variance, more information",
        prediction="blocks whose weights vary more carry more information about the input",
        if_supported="blocks of larger weights carry more usable information, so protecting "
        "them protects it",
        if_refuted="that weight variance marks blocks which carry more information about the input",
        gap="variance",
    ),
    title="Information content",
    question="Do blocks of high weight variance carry more usable information?",
    phase=1,
    value="medium",
    version=3,
    params=Params(),
    tiers={
        "smoke": {
            "n_types": 32,
            "n_components": 32,
            "small_types": 8,
            "small_components": 8,
            "rate_sentences": 6,
        },
        "standard": {"n_types": 64, "n_components": 64},
    },
    figure_reading="Left: what a probe reads off each block's output, and what of it survives "
    "rounding. Right: a dot a block, on logarithmic axes.",
)
