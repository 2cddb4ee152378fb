"""Shapley values, interactions and designs: brute force, axioms, an oracle, contents counted."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from bitgap.quant.sets import mask_of, pairs_of, popcount
from bitgap.records import Floats
from bitgap.stats.interactions import (
    banzhaf_interactions,
    both_ends_interaction,
    chain_masks,
    corner_masks,
    derivatives_at,
    end_corners,
    pair_derivatives,
    pair_design,
    permutation_chains,
    sample_backgrounds,
    sampled_shapley,
    shapley_interaction,
    shapley_values,
    variance_by_order,
    walsh_hadamard,
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


def test_a_block_that_adds_nothing_gets_nothing_and_equals_get_the_same():
    masks = np.arange(2**5)
    inner = random_game(3, 1)
    # Blocks 0 and 1 matter only by how many of them are in, block 4 not at all.
    both = (masks & 1) + (masks >> 1 & 1)
    values = inner[both + 4 * (masks >> 2 & 1)] + (masks >> 3 & 1) * both
    found = shapley_values(values)
    assert found[4] == pytest.approx(0, abs=1e-12)
    assert found[0] == pytest.approx(found[1])
    assert abs(found[0]) > 0.01


def test_two_blocks_share_their_synergy_equally():
    values = np.array([0.0, 1.0, 2.0, 7.0])  # v(01) − v(0) − v(1) = 4
    assert shapley_values(values) == pytest.approx([3, 4])


def test_blocks_in_masks_are_counted():
    masks = np.arange(1 << 10)
    assert popcount(masks).tolist() == [bin(m).count("1") for m in range(1 << 10)]
    assert popcount(np.array([(1 << 40) - 1, 1 << 33])).tolist() == [40, 1]


# ------------------------------------------------------------------------- interactions, exactly


def derivative(values, blocks, background):
    """Σ_{T⊆S} (−1)^{|S|−|T|} v(T ∪ background), one subset at a time."""
    total = np.zeros(values.shape[1:])
    for size in range(len(blocks) + 1):
        for inside in combinations(blocks, size):
            total += (-1) ** (len(blocks) - size) * values[background | mask_of(inside)]
    return total


def sets(n):
    return [tuple(i for i in range(n) if mask >> i & 1) for mask in range(2**n)]


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_banzhaf_interactions_are_mean_derivatives_over_all_backgrounds(n):
    values = random_game(n, n, 2)
    banzhaf = banzhaf_interactions(values)
    for mask, blocks in enumerate(sets(n)):
        everywhere = [derivative(values, blocks, t) for t in range(2**n) if t & mask == 0]
        assert banzhaf[mask] == pytest.approx(np.mean(everywhere, axis=0), abs=1e-12)


def test_walsh_hadamard_is_the_orthogonal_basis_and_its_own_inverse():
    n, values = 5, random_game(5, 1, 3)
    masks = np.arange(2**n)
    signs = (-1.0) ** popcount(masks[:, None] & masks)
    found = walsh_hadamard(values)
    assert found == pytest.approx(signs @ values / 2**n, abs=1e-12)
    assert walsh_hadamard(found) * 2**n == pytest.approx(values, abs=1e-12)
    assert (found**2).sum(0) == pytest.approx((values**2).mean(0))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_pairs_agree_with_the_transform_and_with_orders(n):
    values, full = random_game(n, 10 + n, 2), 2**n - 1
    for i, j in pairs_of(n):
        derivatives, backgrounds = pair_derivatives(values, i, j)
        mask = mask_of((i, j))
        assert len(backgrounds) == 2 ** (n - 2) and not (backgrounds & mask).any()
        assert derivatives[0] == pytest.approx(derivative(values, (i, j), 0), abs=1e-12)
        at_all = derivative(values, (i, j), full ^ mask)
        assert derivatives[-1] == pytest.approx(at_all, abs=1e-12)
        assert derivatives.mean(0) == pytest.approx(banzhaf_interactions(values)[mask], abs=1e-12)
        assert shapley_interaction(values, i, j) == pytest.approx(
            interaction_by_orders(values, i, j), abs=1e-12
        )


def interaction_by_orders(values, i, j):
    """The derivative of {i, j} at those before them, over orders in which they join as one."""
    n = len(values).bit_length() - 1
    others = [block for block in range(n) if block not in (i, j)]
    found = []
    for order in permutations([*others, -1]):
        before = order[: order.index(-1)]
        found.append(derivative(values, (i, j), mask_of(before)))
    return np.mean(found, axis=0)


def test_an_additive_game_has_no_interaction_on_any_index():
    values = additive_game(np.random.default_rng(0).normal(size=(6, 2))) + 3
    orders = popcount(np.arange(2**6))
    assert np.abs(banzhaf_interactions(values)[orders > 1]).max() < 1e-12
    assert np.abs(pair_derivatives(values, 1, 4)[0]).max() < 1e-12
    assert np.abs(shapley_interaction(values, 1, 4)).max() < 1e-12
    shares = variance_by_order(values)
    assert shares[1] == pytest.approx([1, 1])
    assert np.abs(np.delete(shares, 1, axis=0)).max() < 1e-12


def test_an_interaction_of_two_is_found_whatever_the_background_and_nowhere_else():
    values = additive_game(np.arange(5.0))
    masks = np.arange(2**5)
    values = values + 2.5 * ((masks & 0b10010) == 0b10010)
    derivatives = {pair: pair_derivatives(values, *pair)[0] for pair in pairs_of(5)}
    mean = {pair: banzhaf_interactions(values)[mask_of(pair)] for pair in pairs_of(5)}
    for pairs in (derivatives, mean):
        assert pairs.pop((1, 4)) == pytest.approx(2.5)
        assert np.abs(list(pairs.values())).max() < 1e-12
    assert shapley_interaction(values, 1, 4) == pytest.approx(2.5)


def test_variance_by_order_adds_up_and_is_undefined_of_a_constant():
    values = random_game(6, 3, 2)
    shares = variance_by_order(values)
    assert shares.shape == (7, 2)
    assert shares.sum(0) == pytest.approx([1, 1])
    assert (shares[0] == 0).all()
    by_hand = [
        np.square(walsh_hadamard(values)[[len(s) == k for s in sets(6)]]).sum(0) for k in (1, 2)
    ]
    assert shares[1:3] == pytest.approx(np.array(by_hand) / values.var(0))
    assert np.isnan(variance_by_order(np.ones(8))[1:]).all()


@pytest.mark.parametrize(
    ("index", "ours"),
    [
        ("BII", lambda v, s: banzhaf_interactions(v)[mask_of(s)]),
        ("Moebius", lambda v, s: pair_derivatives(v, *s)[0][0]),
        ("Co-Moebius", lambda v, s: pair_derivatives(v, *s)[0][-1]),
        ("SII", lambda v, s: shapley_interaction(v, *s)),
    ],
)
def test_indices_agree_with_shapiq(index, ours):
    from shapiq import ExactComputer

    n = 6
    values = random_game(n, 21)
    oracle = ExactComputer(n_players=n, game=lambda inside: values[inside @ (1 << np.arange(n))])
    theirs = oracle(index, order=2)
    for pair in pairs_of(n):
        assert ours(values, pair) == pytest.approx(theirs[pair], abs=1e-10)


# ------------------------------------------------------------------------ interactions, sampled


def sampled(values, pair, n_twins, seed, law):
    n = len(values).bit_length() - 1
    backgrounds = sample_backgrounds(n, pair, n_twins, seed, law=law)
    return derivatives_at(values[np.array(corner_masks(backgrounds, pair))])


@pytest.mark.parametrize("law", ["banzhaf", "shapley"])
def test_sampled_backgrounds_are_unbiased(law):
    pair = (0, 6)
    # Beside noise, two blocks do more together the more or the fewer others are in.
    values = random_game(7, 5) + popcount(np.arange(2**7)) ** 4 / 50
    truth = {
        "banzhaf": banzhaf_interactions(values)[mask_of(pair)],
        "shapley": shapley_interaction(values, *pair),
    }
    draws = [sampled(values, pair, 8, seed, law) for seed in range(1500)]
    means = np.array([d.mean(0) for d in draws])
    error = means.std(ddof=1)
    assert abs(means.mean() - truth[law]) < 4 * error / np.sqrt(len(means))
    # The two laws ask for different things, and the test can tell.
    other = truth["shapley" if law == "banzhaf" else "banzhaf"]
    assert abs(means.mean() - other) > 8 * error / np.sqrt(len(means))


def test_backgrounds_leave_the_pair_out_and_come_with_their_complement():
    found = sample_backgrounds(9, (0, 8), 20, seed=3)
    assert len(found) == 40
    for background, other in zip(found[::2], found[1::2], strict=True):
        assert background ^ other == 0b011111110
        assert background & other == 0
    assert (
        found == sample_backgrounds(9, (0, 8), 20, seed=3) != sample_backgrounds(9, (0, 8), 20, 4)
    )


def test_a_set_and_its_complement_are_exact_with_interactions_of_three():
    rng, n, pair = np.random.default_rng(2), 6, (0, 5)
    masks = np.arange(2**n)
    values = rng.normal(size=2**n) * (popcount(masks) <= 3)
    values = np.array([values[[t for t in masks if t & m == t]].sum() for m in masks])
    found = sampled(values, pair, 3, seed=1, law="banzhaf")
    each = (found[::2] + found[1::2]) / 2
    assert each == pytest.approx(banzhaf_interactions(values)[mask_of(pair)], abs=1e-12)


def test_a_pair_of_two_blocks_has_one_background():
    assert sample_backgrounds(2, (0, 1), 2, seed=0) == (0, 0, 0, 0)
    derivatives, backgrounds = pair_derivatives(np.array([0.0, 1.0, 2.0, 7.0]), 0, 1)
    assert derivatives == pytest.approx([4])
    assert backgrounds.tolist() == [0]


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
    # With interactions of two blocks only, each pair's synergy falls once to either: no error left.
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
    met = {sum(1 << block for block in order[:k]) for order in orders for k in range(21)}
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
def test_pair_design_of_few_blocks_is_all_masks(n):
    assert pair_design(n) == list(range(2**n))


# -------------------------------------------------------------------------------- from both ends


def game_to_order(n: int, order: int, seed: int) -> Floats:
    """Returns a game whose Möbius coefficients above an order are 0, (2^n)."""
    rng, masks = np.random.default_rng(seed), np.arange(2**n)
    coefficients = np.where(popcount(masks) <= order, rng.normal(size=2**n), 0.0)
    inside = (masks[:, None] & masks[None, :]) == masks[None, :]
    return inside @ coefficients


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n", [4, 7])
def test_both_ends_give_the_banzhaf_interaction_of_games_to_third_order(n, order):
    values = game_to_order(n, order, seed=order)
    exact = banzhaf_interactions(values)
    by_mask = dict(enumerate(values))
    for pair in pairs_of(n):
        found = both_ends_interaction(by_mask, n, pair)
        assert found == pytest.approx(exact[mask_of(pair)], abs=1e-10)


def test_both_ends_miss_a_quarter_of_what_four_blocks_do_with_the_pair():
    # Σ_{|U|=2} (½ − ¼) m(ij∪U), by the formula.
    n, pair = 5, (0, 4)
    values = np.zeros(2**n)
    four = mask_of([0, 1, 2, 4])
    values[[m for m in range(2**n) if m & four == four]] = 1.0
    off = both_ends_interaction(dict(enumerate(values)), n, pair)
    assert off - banzhaf_interactions(values)[mask_of(pair)] == pytest.approx(1 / 2 - 1 / 4)


def test_both_ends_are_free_of_odd_orders_in_the_basis_of_walsh():
    n, pair = 6, (1, 4)
    for others in ([0], [0, 2, 3]):
        wave = mask_of([*pair, *others])
        values = (-1.0) ** popcount(np.arange(2**n) & wave)
        assert both_ends_interaction(dict(enumerate(values)), n, pair) == 0
        assert banzhaf_interactions(values)[mask_of(pair)] == pytest.approx(0, abs=1e-12)


def test_corners_of_both_ends_are_opposite_and_in_the_design_of_pairs():
    for pair in pairs_of(6):
        near, far = end_corners(6, pair)
        assert [63 - mask for mask in near] == [far[3], far[2], far[1], far[0]]
        assert {*near, *far} <= set(pair_design(6))
