"""T-003 · H1.3: do blocks whose protection evens out languages act differently on them?

Prediction: critical blocks differ more across languages. Method: rounding changes weights, and
knows no language; it acts differently on languages only as their inputs lie differently to ΔW. For
every linear the relative error of its outputs is e = E‖ΔW x‖²/E‖W x‖², in full precision, and e_lλ
is the mean over block l's linears, which no rescaling of a matrix moves. B_l is the mean over
languages of log2(e_lλ/e_l,en). θ is the correlation over blocks, detrended in depth, of B with the
benefit of protecting a block: its Shapley value in the game −|D| of the layer map. Languages that
collapse or lie below resolution under some mask enter neither. Support also needs the link to −G of
the same sign, as D alone may fall because the reference gets worse. Two descriptions beside it: the
share of the variance of log var(x), per sentence, that is the language's (parallel two-way random
effects, p by permuting languages within sentence), and the share of the state's variance that lies
between languages' means, estimated from products of different sentences so that scatter within a
language adds nothing. Position 0 and attention sinks are left out of both.

Sources: Shrout & Fleiss 1979 (shares of variance), Sun 2024 and Xiao 2024 (sinks). Unit and
direction: a correlation, −1 to 1; above 0 supports H1.3. Cost: two forward passes, one of them
shared; the masks are those of the layer map, and controls on a few sentences come on top. Refuted
if the interval of θ lies below the smallest effect of interest.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment

ID = "T-003"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = True
    """Whether all masks are scored where L allows it; as the layer map does."""
    control_sentences: int = 12
    """Sentences the twin and the plantings are run on; a planted error shows on few."""
    planted_strength: float = 0.2
    """Root mean square of P2's error over that of the state: larger than rounding's own."""
    planted_seeds: int = 20
    """How often P2 is planted, each time elsewhere; the method's number."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis="H1.3",
    title="Language distribution",
    question="Do critical layers differ more across languages?",
    phase=1,
    value="high",
    passes=Cost(block_evaluations=lambda n: 2 * n, head_evaluations=lambda n: 0),
    params=Params(),
)
