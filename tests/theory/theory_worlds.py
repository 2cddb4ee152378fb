"""Evidence of a small synthetic world."""

from __future__ import annotations

from bitgap.theory.evidence import Evidence
from validation.synth_theory import TheoryWorld, make_families


def evidence(
    families: int = 2,
    seed: int = 0,
    *,
    layers: int = 24,
    languages: int = 16,
    truth: str = "budget",
) -> list[Evidence]:
    """Returns a small world, by default one in which the error budget is all there is."""
    world = TheoryWorld(families=families, layers=(layers,), languages=languages, truth=truth)
    return make_families(world, seed)
