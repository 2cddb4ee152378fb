"""Worlds of recipes hold what they say, and what is said in them is counted rightly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bitgap.protect.comparators import worst_set
from bitgap.protect.solve import SPARE, solve
from validation import page
from validation.protect import (
    HELPS,
    RECIPE_WORLDS,
    SMALLEST,
    RecipeTally,
    _exact,
    _planted,
    _problem,
    _sampled,
    _shared,
    _Text,
    recipe_tally,
)

BY_NAME = {world.name: world for world in RECIPE_WORLDS}


def test_languages_share_one_table_but_for_a_level():
    truth = _shared(np.random.default_rng(0))
    shares = truth / truth.sum((1, 2), keepdims=True)
    assert np.allclose(shares, shares[:1])
    problem = _problem(_exact(truth))
    blind, aware = solve(problem, "mean"), solve(problem, spare=None)
    assert aware.value == pytest.approx(blind.value, rel=2e-4)


def test_what_is_planted_gains_twice_the_smallest_effect_and_costs_others_no_more_than_spare():
    truth = _planted(np.random.default_rng(1), BY_NAME["planted"])
    problem = _problem(_exact(truth))
    blind = solve(problem, "mean").picks
    change = problem.damage_of(solve(problem, blind=blind).picks) / problem.damage_of(blind)
    hurt = [problem.languages.index(one) for one in worst_set(problem, blind)]
    assert hurt == [9, 10, 11]
    aim = np.log2(1 + 2 * SMALLEST)
    assert aim <= -np.log2(change[hurt]).mean() <= 1.5 * aim
    assert change.max() <= 1 + SPARE + 1e-9


def test_texts_are_of_the_truth_and_a_choice_does_the_same_in_every_plan():
    rng = np.random.default_rng(2)
    truth = _shared(rng)
    assert np.allclose(_sampled(truth, 4000, rng).damage_bits / truth, 1, atol=0.1)
    text, problem = _Text(truth, 4000, rng), _problem(_exact(truth))
    found = text.damage(problem.uniform)
    assert found.sum(1) / 4000 / 100 == pytest.approx(problem.damage_of(problem.uniform), rel=0.1)
    assert np.array_equal(found, text.damage(problem.uniform))
    other = (*problem.uniform[:-1], problem.uniform[-1] + 1)
    alike = np.corrcoef(found[0], text.damage(other)[0])[0, 1]
    assert alike > 0.99


def test_worlds_are_counted_the_same_whoever_counts_them():
    world = replace(BY_NAME["one table, a text of 100 sentences"], search=20, confirm=30)
    both = recipe_tally(world, range(4))
    apart = recipe_tally(world, range(2)) + recipe_tally(world, range(2, 4))
    assert both == apart
    assert both.n == 4
    assert both.rate(*HELPS).k == 0
    assert both.over_uniform.k == 4


def test_the_section_says_whether_the_requirements_are_met():
    def tally(name: str, helps: int, n: int = 200) -> RecipeTally:
        labels = Counter({"helps, nobody harmed": helps, "no detectable gain": n - helps})
        return RecipeTally(BY_NAME[name], labels, (0.06,) * n, 0, 12 * n, Counter(labels))

    good = page.recipes([tally("one table", 2), tally("planted", 190)])
    bad = page.recipes([tally("one table", 30), tally("planted", 100)])
    assert good.count("| met |") == 3
    assert bad.count("NOT MET") == 2
    few = page.recipes([tally("planted, a text of 100 sentences", 3)])
    assert "twice the smallest effect, planted, a text" not in few
