"""Worlds of the formal model: those that nothing can be planted in are drawn again."""

from __future__ import annotations

from typing import Any

import pytest

from bitgap.stats.verdicts import load_thresholds
from validation import synth_theory
from validation.synth_theory import TheoryWorld, Unplantable, make_families, rates

DECLARED = load_thresholds()
NULL = TheoryWorld(truth="nuisance", families=5)


def test_a_world_that_nothing_can_be_planted_in_is_drawn_again(monkeypatch):
    asked = list[int]()

    def make(world: TheoryWorld, seed: int) -> Any:
        asked.append(seed)
        if seed == 7:
            raise Unplantable("no slope")
        return make_families(world, seed)

    monkeypatch.setattr(synth_theory, "make_families", make)
    found = rates(NULL, 2, DECLARED, seed=6)
    assert asked == [6, 7, 8]
    assert (found.labels.total(), found.drawn_again, found.detected.n) == (2, 1, 2)


def test_a_kind_of_world_that_nothing_can_be_planted_in_is_told(monkeypatch):
    def make(world: TheoryWorld, seed: int) -> Any:
        raise Unplantable("no slope")

    monkeypatch.setattr(synth_theory, "make_families", make)
    with pytest.raises(Unplantable):
        rates(NULL, 2, DECLARED)
