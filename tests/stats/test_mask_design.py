"""Which masks the standard design scores, what it costs, and that Shapley values come of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitgap.quant.sets import mask_of
from bitgap.records import Floats
from bitgap.stats.interactions import pair_design, shapley_values
from bitgap.stats.mask_design import (
    LARGEST_FACTORIAL,
    Design,
    asked_triples,
    design_of_orders,
    make_design,
    map_size,
    original_set,
)


def planted(n: int, *, order: int, seed: int = 0) -> Floats:
    """Values of all masks of a game whose players act at most ``order`` at a time, (2^n x 3)."""
    rng = np.random.default_rng(seed)
    masks = np.arange(2**n)
    value = np.zeros((2**n, 3))
    for group in range(1, 2**n):
        if group.bit_count() <= order:
            value[(masks & group) == group] += rng.normal(size=3)
    return value


def of_design(values: Floats, design: Design) -> Floats:
    return design.shapley(values[list(design.masks)])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 9])
@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("order", [1, 2])
def test_shapley_values_of_pairwise_games_are_exact(n: int, pairs: bool, order: int):
    values = planted(n, order=order, seed=n)
    design = make_design(n, complete=False, pairs=pairs, sample=0)
    assert of_design(values, design) == pytest.approx(shapley_values(values), abs=1e-10)


def test_of_three_at_a_time_they_are_not_and_pairs_help_where_the_ends_stand_out():
    """A game told apart by its very ends, such as one that is 0 only where all is protected."""
    values = planted(9, order=3)
    found = of_design(values, make_design(9, complete=False, sample=0))
    assert abs(found - shapley_values(values)).max() > 1e-3
    jump = planted(9, order=2)
    jump[-1] += 10
    exact = shapley_values(jump)
    few, paired = (of_design(jump, make_design(9, pairs=p, sample=0)) for p in (False, True))
    assert abs(paired - exact).max() < 1e-10 < 3 < abs(few - exact).max()


@pytest.mark.parametrize("n", [9, 12, 24])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_standard_design_holds_both_ends_and_what_is_asked(n: int, seed: int):
    design = make_design(n, seed=seed)
    assert set(pair_design(n)) <= set(design.masks) and design.paired and not design.complete
    assert {mask_of(t) for t in asked_triples(n)} <= set(design.masks)
    assert mask_of(original_set(n)) in design.masks and mask_of((0, 1, 2)) in design.masks
    assert list(design.masks) == sorted(set(design.masks))
    triples = {m for m in design.masks if m.bit_count() == 3}
    assert len(triples) >= 60, "enough for a percentile"
    sizes = np.array(sorted({m.bit_count() for m in design.masks}))
    assert np.diff(sizes).max() <= max(2, n // 4), "and of all sizes"
    assert make_design(n, seed=seed + 1).masks != design.masks


@pytest.mark.parametrize("n", [9, 12, 24])
def test_a_smaller_design_is_part_of_a_larger_one(n: int):
    small, more, all_ = (
        set(make_design(n, seed=2, pairs=p, sample=k).masks)
        for p, k in ((False, 0), (False, 30), (True, 84))
    )
    assert small < more < all_
    full = (1 << n) - 1
    assert {full ^ mask for mask in small if mask.bit_count() < 2} <= small, "from both ends"
    assert len(small) == 2 * n + 2 + len(asked_triples(n))


def test_sampled_triples_are_any_triples():
    """No triple is favoured: over seeds, each block is in as many as any other."""
    counts = np.zeros(9)
    for seed in range(60):
        extra = set(make_design(9, seed=seed, pairs=False, sample=40).masks)
        extra -= set(make_design(9, pairs=False, sample=0).masks)
        for mask in (m for m in extra if m.bit_count() == 3):
            counts += [mask >> i & 1 for i in range(9)]
    expected = counts.sum() / 9
    asked = np.array([sum(i in t for t in asked_triples(9)) for i in range(9)])
    # What is asked about anyway is not counted, so those blocks are met less often.
    hidden = counts + asked * 60 * 29 / 84
    assert abs(hidden / hidden.mean() - 1).max() < 0.1 and expected > 100


def test_all_masks_are_scored_where_they_are_few_or_asked_for():
    assert make_design(8).complete and len(make_design(8).masks) == 256
    assert not make_design(9).complete
    assert make_design(12, complete=True).masks == tuple(range(2**12))
    assert not make_design(8, complete=False, sample=0).complete
    assert LARGEST_FACTORIAL == 14


def test_maps_of_an_earlier_version_are_read_as_they_were_made():
    old = design_of_orders(16, seed=1)
    chains = {sum(1 << i for i in order[:k]) for order in old.orders for k in range(17)}
    assert set(old.masks) == set(pair_design(16)) | chains and len(old.orders) == 16
    values = np.array([float(mask.bit_count()) for mask in old.masks])
    assert old.shapley(values) == pytest.approx(np.ones(16))


# -- what a map may cost ---------------------------------------------------------------------------


@given(st.integers(9, 40), st.floats(0, 2e5), st.integers(2, 1000))
@settings(max_examples=60, deadline=None)
def test_a_map_never_costs_more_than_it_may_and_takes_sentences_first(
    n: int, evaluations: float, sentences: int
):
    size = map_size(n, evaluations, sentences)
    core = len(make_design(n, pairs=False, sample=0).masks)
    if size is None:
        assert evaluations < 2 * core
        return
    masks = len(size.design(n).masks)
    assert 2 <= size.sentences <= min(sentences, 200) and size.sentences * masks <= evaluations
    if size.sample or size.pairs:
        assert size.sentences >= min(64, sentences), "no mask is bought with sentences"


def test_a_deep_model_costs_at_most_1_3_times_what_it_did():
    """The old standard tier: 906 masks of 24 blocks, and all 4,096 of 12, on four sentences."""
    from bitgap.jobs.tiers import TIERS

    for n, old in ((24, 906 * 4), (12, 4096 * 4)):
        assert len(design_of_orders(24).masks) == 906
        tier = TIERS["standard"].fitted(n, 1000)
        spent = tier.map_sentences * len(tier.design(n).masks)
        assert spent <= 1.3 * old
        assert tier.map_sentences >= 9 * 4 / 1.0, "nine times the sentences, a third of the error"
        assert mask_of(original_set(n)) in tier.design(n).masks
