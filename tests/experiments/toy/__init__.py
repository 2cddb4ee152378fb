"""T-011 · H5.1: does rounding do any damage at all?

Prediction: it does. Method: all blocks are rounded, and θ is the damage K averaged over languages.

Sources: none. Unit: bits per English character, > 0 supports. Cost: one pass. Refuted if the
interval of θ lies below its smallest effect of interest.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.experiments.protocol.experiment import Cost, Experiment
from bitgap.experiments.protocol.hypothesis import Hypothesis

ID = "T-011"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    repeats: int = 3
    """How often the plan is scored; once would do, and a tier can say so."""


EXPERIMENT = Experiment(
    package=__name__,
    id=ID,
    hypothesis=Hypothesis(
        id="H5.1",
        claim="rounding does damage",
        prediction="a model whose blocks are all rounded predicts otherwise than before",
        if_supported="rounding all blocks does damage that can be measured",
        if_refuted="that rounding all blocks does damage",
        gap="further",
    ),
    title="Toy damage",
    question="Does rounding do any damage at all?",
    phase=1,
    value="low",
    params=Params(),
    figure_reading="A bar a language: how much its predictions move.",
    tiers={"smoke": {"repeats": 1}},
    passes=Cost(block_evaluations=lambda n: n, head_evaluations=lambda n: 1),
)
