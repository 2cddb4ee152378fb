"""T-010 · H4.1: does disparity follow a rate–distortion law in bits?

Prediction: disparity = a·2^(−b·bits)·(1 − c·p), with p the share of blocks protected. Theory says
otherwise. Rounding to levels −q..q errs in proportion to 1/q², q = 2^(bits − 1) − 1, so log2 of
damage K falls by two with each doubling of the levels. The same error meets every language, and
cancels from what sets languages apart.

Method: Bits by shares by orders of protection are scored, all in exact arithmetic, in which 8 bits
too lie above the numerical floor. Orders are by the Shapley value of a block in damage, its
reverse, and random ones. What is judged is the largest full table: 3 bits and more, and the
languages that neither collapsed nor lie below resolution in any of its cells; 2 bits are shown.
Everything is per log2 q, and figures stand on actual bits per weight: an fp16 scale for every group
counted, protected blocks at 16 bits. Five models are compared by log density where one number of
bits is held out at a time: constant; the form above in q; the parameter-free Σ α t² of the
unprotected blocks; the form with languages' own a and c; a saturating one.

Statistic: The fall of the gap S per log2 q over all judged cells, within designs (a set of
protected blocks)::

    θ = −slope of S on log2 q,   S = sd over λ of log2(K_λ / tokens_λ)

Beside it stand S per text, with nothing protected, the signed mean log2 ratio to the reference, and
damage's own exponent. Whether damage at a rate rises with a language's entropy, as a bound on
distortion would have it, is a term of its own: entropy under the model and under unigrams, text
resampled for its interval and languages permuted for its p.

Unit and direction: S per log2 q, > 0 if H4.1 holds.

Rule: Supported if θ is clear and at least .5, S falls per text too, the form above lies within 2 SE
of the best model, and c is clearly above 0. Refuted if θ lies below .5, per token and per text,
while damage itself falls by 1.8 to 2.2 per log2 q: rate–distortion then governs damage, not its
ratio. A fall that turns round with the unit is not established. The entropy term has a label of its
own and is no part of this verdict. That the curve is a bound is never tested by fitting; the
frontier of quantizers is shown beside the Gaussian D(R) instead.

Cost: Some 500 plans on some sentences. The layer map's masks and T-002's noise come on top.

Prior: Cover & Thomas 2006, Gersho & Gray 1992, Young 2025 (Radio), Kumar 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-010"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    """Numbers of bits swept; the method's, of which 2 are shown and not judged."""
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5)
    """Shares of blocks protected beside none; the method's."""
    random_orders: int = 20
    """Random orders of protection; the method's number."""
    sentences: int = 16
    """Sentences the sweep is scored on: slopes over six bits are sharp on few."""
    map_sentences: int = 16
    """Sentences that blocks are ranked on; those of the layer map, so that it is shared."""
    complete: bool = False
    """Whether all masks are scored where L allows it; as the layer map does."""
    noise: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Relative sizes of the noise that sensitivity comes from; T-002's, so that it is shared."""
    noise_seeds: int = 4
    """Draws of the noise for each size; T-002's, so that it is shared."""
    control_sentences: int = 8
    """Sentences the untrained twin is scored on; a slope that counts shows on few."""
    frontier_rows: int = 32
    """Rows of each matrix that clipping is searched on; thousands of groups show its error."""
    planted_seeds: int = 20
    """How often a slope is planted, each time in another language; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H4.1",
        claim="bits shrink the gap",
        prediction="each doubling of the levels shrinks the gap by a fixed factor, as in a "
        "rate–distortion law",
        if_supported="each bit more shrinks the gap between languages by a fixed factor",
        if_refuted="a rate-distortion law for the gap: bits buy fidelity in all languages "
        "alike, and what is left between languages is not a matter of bits",
        gap="bound",
        needs_disparity=True,
    ),
    title="Rate and distortion",
    question="Does disparity follow a rate-distortion law in bits?",
    phase=3,
    value="high",
    params=Params(),
    tiers={
        "smoke": {
            "sentences": 4,
            "shares": (0.3,),
            "random_orders": 1,
            "noise_seeds": 1,
            "control_sentences": 4,
            "frontier_rows": 8,
        },
        "standard": {
            "sentences": 8,
            "shares": (0.1, 0.3, 0.5),
            "random_orders": 2,
            "noise_seeds": 1,
            "control_sentences": 4,
            "frontier_rows": 8,
        },
    },
    version=2,
    figure_reading="Measured values with the forms fitted to them, at every width of all "
    "blocks; the constant (M0) and the form with a slope for each language (M3) are compared in "
    "the numbers only. Forms that agree lie on each other.",
)
