"""Shapley values and designs: brute force over orders, the axioms, and contents counted."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from bitgap.stats.interactions import (
    chain_masks,
    pair_design,
    permutation_chains,
    popcount,
    sampled_shapley,
    shapley_values,
)
from planted_games import additive_game, random_game, shapley_by_permutations

# -------------------------------------------------------------------------------------- all masks


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_shapley_values_are_mean_gains_over_all_orders(n):
    values = random_game(n, seed=n)
    assert shapley_values(values) == pytest.approx(shapley_by_permutations(values), abs=1e-12)


def test_trailing_axes_ride_along():
    values = random_game(4, 0, 3, 2)
    found = shapley_values(values)
    assert found.shape == (4, 3, 2)
    assert found == pytest.approx(shapley_by_permutations(values), abs=1e-12)
    assert found[:, 1, 0] == pytest.approx(shapley_values(values[:, 1, 0]))


@pytest.mark.parametrize("n", [3, 10])
def test_shapley_values_share_out_the_whole(n):
    values = random_game(n, n)
    assert shapley_values(values).sum() == pytest.approx(values[-1] - values[0])


def test_shapley_values_of_an_additive_game_are_its_gains():
    gains = np.random.default_rng(0).normal(size=(8, 2))
    assert shapley_values(additive_game(gains) + 5) == pytest.approx(gains, abs=1e-12)


def test_a_layer_that_adds_nothing_gets_nothing_and_equals_get_the_same():
    masks = np.arange(2**5)
    inner = random_game(3, 1)
    # Layers 0 and 1 matter only by how many of them are in, layer 4 not at all.
    both = (masks & 1) + (masks >> 1 & 1)
    values = inner[both + 4 * (masks >> 2 & 1)] + (masks >> 3 & 1) * both
    found = shapley_values(values)
    assert found[4] == pytest.approx(0, abs=1e-12)
    assert found[0] == pytest.approx(found[1])
    assert abs(found[0]) > 0.01


def test_two_layers_share_their_synergy_equally():
    values = np.array([0.0, 1.0, 2.0, 7.0])  # v(01) − v(0) − v(1) = 4
    assert shapley_values(values) == pytest.approx([3, 4])


def test_layers_in_masks_are_counted():
    masks = np.arange(1 << 10)
    assert popcount(masks).tolist() == [bin(m).count("1") for m in range(1 << 10)]
    assert popcount(np.array([(1 << 40) - 1, 1 << 33])).tolist() == [40, 1]


# -------------------------------------------------------------------------------- sampled orders


def test_sampling_every_order_once_is_exact():
    values = random_game(5, 3, 2)
    orders = list(permutations(range(5)))
    found = sampled_shapley(dict(enumerate(values)), orders)
    assert found == pytest.approx(shapley_values(values), abs=1e-12)


def test_sampled_values_are_unbiased():
    n, values = 6, random_game(6, 4)
    game = dict(enumerate(values))
    found = np.array(
        [sampled_shapley(game, permutation_chains(n, 2, seed)) for seed in range(1500)]
    )
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(0) - shapley_values(values)) < 4 * error).all()
    assert (error > 0).all()


def test_sampled_values_share_out_the_whole_and_are_exact_where_gains_add_up():
    orders = permutation_chains(7, 1, seed=0)
    values = random_game(7, 5)
    found = sampled_shapley(dict(enumerate(values)), orders)
    assert found.sum() == pytest.approx(values[-1] - values[0])
    gains = np.random.default_rng(1).normal(size=7)
    found = sampled_shapley(dict(enumerate(additive_game(gains))), orders)
    assert found == pytest.approx(gains, abs=1e-12)


def test_an_order_and_its_reverse_are_exact_for_pairs():
    # With interactions of two layers only, each pair's synergy falls once to either: no error left.
    rng = np.random.default_rng(2)
    n, masks = 6, np.arange(2**6)
    inside = (masks[:, None] >> np.arange(n)) & 1
    synergy = np.triu(rng.normal(size=(n, n)), 1)
    values = inside @ rng.normal(size=n) + np.einsum("mi,ij,mj->m", inside, synergy, inside)
    found = sampled_shapley(dict(enumerate(values)), permutation_chains(n, 1, seed=9))
    assert found == pytest.approx(shapley_values(values), abs=1e-12)


def test_orders_come_with_their_reverse_and_hang_on_the_seed():
    orders = permutation_chains(9, 4, seed=1)
    assert len(orders) == 8
    for order, back in zip(orders[::2], orders[1::2], strict=True):
        assert sorted(order) == list(range(9)) and back == order[::-1]
    assert orders == permutation_chains(9, 4, seed=1) != permutation_chains(9, 4, seed=2)


def test_chains_hold_the_masks_their_orders_meet_and_no_others():
    orders = [(2, 0, 1), (0, 1, 2)]
    assert chain_masks(orders) == [0b000, 0b001, 0b011, 0b100, 0b101, 0b111]
    orders = permutation_chains(20, 3, seed=0)
    met = {sum(1 << layer for layer in order[:k]) for order in orders for k in range(21)}
    assert chain_masks(orders) == sorted(met)
    # The masks suffice: nothing else is looked up.
    found = sampled_shapley({mask: np.array(float(mask)) for mask in met}, orders)
    assert found == pytest.approx(2.0 ** np.arange(20))


# --------------------------------------------------------------------------------- pair design


@pytest.mark.parametrize("n", [5, 6, 9, 12])
def test_pair_design_holds_small_sets_and_their_complements(n):
    small = [set(c) for size in range(3) for c in combinations(range(n), size)]
    wanted = small + [set(range(n)) - s for s in small]
    found = pair_design(n)
    assert [{i for i in range(n) if m >> i & 1} for m in found] == sorted(
        wanted, key=lambda s: sum(1 << i for i in s)
    )
    assert len(found) == 2 * (1 + n + n * (n - 1) // 2)
    assert found == sorted(set(found))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_pair_design_of_few_layers_is_all_masks(n):
    assert pair_design(n) == list(range(2**n))
