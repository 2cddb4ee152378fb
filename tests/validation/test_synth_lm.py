"""SynthLM: what is measured is what was set; and the error that the toolkit must not repeat."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats

from bitgap.disparity.formulas import collapsed, damage_bits, delta_bits, original_disparity
from bitgap.disparity.layer_map import make_map, shapley_rows
from bitgap.experiments.synergy.factorial import shows_origin_pattern
from bitgap.experiments.synergy.plans import cell_masks
from bitgap.stats.interactions import banzhaf_interactions, shapley_values
from bitgap.stats.mask_design import make_design
from harness import QUICK
from validation.synth_checks import bottleneck_synth, checks, damage_nats
from validation.synth_lm import (
    LANGUAGES,
    SynthLM,
    additive_synth,
    cancelling_synth,
    make_synth,
)
from validation.synth_synergy import FAR_RHO, PLANTED_RHO, SynergyTally, count

BLOCKS = 4
SINGLE = 15 ^ (1 << np.arange(BLOCKS))
"""Masks that leave one block rounded."""


def sampling(model: SynthLM, tokens: int) -> float:
    """Relative standard error of damage: of a reader's variance, and of Var_p(a), over tokens."""
    return float(2 * np.sqrt(2 / (4 * tokens)))


# -- blocks ---------------------------------------------------------------------------------------


def test_the_stream_is_residual_and_errors_have_the_set_size():
    model = additive_synth(0, n_blocks=BLOCKS)
    eye = np.eye(model.paths.shape[1])
    state = model.paths[0]
    for block in model.blocks:
        state = (eye + block) @ state
    assert np.allclose(state, model.paths[-1])
    sizes = np.linalg.norm(model.errors, axis=(1, 2)) / np.linalg.norm(model.blocks, axis=(1, 2))
    assert sizes == pytest.approx(model.sizes)


def test_nothing_is_damaged_where_all_is_protected():
    scores = additive_synth(1, n_blocks=BLOCKS).scores(0)
    assert np.abs(scores.kl_nats[-1]).max() < 1e-12
    assert not collapsed(scores).any()


def test_harm_on_text_is_damage_since_text_is_what_full_precision_says():
    scores = additive_synth(1, n_blocks=BLOCKS).scores(0)
    assert delta_bits(scores) == pytest.approx(damage_bits(scores), abs=1e-12)


def test_some_masks_are_scored_as_among_all():
    model = additive_synth(2, n_blocks=BLOCKS)
    some, everything = model.scores(3, masks=[1, 6]), model.scores(3)
    assert np.array_equal(some.kl_nats, everything.kl_nats[[1, 6]])
    assert some.plans == tuple(everything.plans[i] for i in (1, 6))


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_single_damage_is_alpha_t_squared_for_small_errors(seed):
    model, tokens = additive_synth(seed, n_blocks=BLOCKS), 2000
    small = replace(model, sizes=model.sizes / 8)
    measured = damage_nats(small, seed, tokens)[SINGLE]
    assert measured == pytest.approx(
        small.sizes[:, None] ** 2 * small.sensitivities, rel=5 * sampling(model, tokens)
    )


def test_the_remainder_falls_with_the_square_of_the_error():
    # The same tokens throughout, so that sampling cancels and only what is non-linear is left.
    model = additive_synth(0, n_blocks=BLOCKS, damage_nats=0.5)
    ratios = [
        damage_nats(replace(model, sizes=model.sizes * t), 0, 500)[SINGLE] / t**2
        for t in (1.0, 0.5, 0.25, 0.01)
    ]
    gaps = [np.abs(ratio / ratios[-1] - 1).max() for ratio in ratios[:-1]]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] / gaps[1] < 0.4


def test_uncorrelated_errors_add_up_and_leave_no_interaction():
    model = additive_synth(5, n_blocks=BLOCKS)
    truth = model.damage_nats(np.arange(16))
    assert truth[0] == pytest.approx(truth[SINGLE].sum(0))
    assert np.abs(banzhaf_interactions(-truth)[[3, 5, 9, 6, 10, 12]]).max() < 1e-15
    assert shapley_values(-truth) == pytest.approx(truth[SINGLE])
    measured = damage_nats(model, 0, 2000)
    assert measured[:-1] == pytest.approx(truth[:-1], rel=6 * sampling(model, 2000))


@pytest.mark.parametrize("rho", [-0.8, -0.3, 0.5])
def test_error_correlation_is_the_one_that_was_set(rho):
    model = cancelling_synth(0, rho, n_blocks=BLOCKS)
    k = damage_nats(replace(model, sizes=model.sizes / 4), 1, 4000)
    both, first, last = k[0b0110], k[0b1110], k[0b0111]
    measured = (both - first - last) / (2 * np.sqrt(first * last))
    # SE of a correlation of n normal pairs, (1 − ρ²)/√n; every token's own Var_p adds some.
    assert measured == pytest.approx(rho, abs=6 * (1 - rho**2) / np.sqrt(16000))


def test_planted_cancellation_has_its_interaction_and_its_shapley_values():
    model = cancelling_synth(0, -0.8, n_blocks=BLOCKS)
    truth = model.damage_nats(np.arange(16)).mean(1)
    k = (model.sizes[0] ** 2 * model.sensitivities[0]).mean()
    assert banzhaf_interactions(-truth)[0b1001] == pytest.approx(2 * 0.8 * k)
    # Each end has half of the interaction on top of its own damage, which here it lowers.
    assert shapley_values(-truth)[0] == pytest.approx(k - 0.8 * k)


def test_the_layer_map_reads_the_sensitivities_off_the_scores():
    model = additive_synth(3, n_blocks=BLOCKS)
    scores = model.scores(0, sentences=400)
    found = make_map(scores, "rtn4-g128", make_design(BLOCKS))
    shapley = np.array(shapley_rows(found, "damage"))
    bits = damage_bits(scores)[0].mean() * shapley / shapley.sum()
    assert shapley == pytest.approx(bits, rel=1e-6)  # they add up to what nothing protected costs
    truth = (model.sizes[:, None] ** 2 * model.sensitivities).mean(1)
    assert shapley / shapley.sum() == pytest.approx(truth / truth.sum(), abs=0.05)


# -- geometry -------------------------------------------------------------------------------------


def test_estimators_meet_the_truth():
    for check in checks(0, tokens=2000):
        assert check.found == pytest.approx(check.truth, rel=0.06, abs=0.03), check


def test_dimension_and_alignment_have_their_closed_forms():
    even = make_synth(0, sensitivities=np.ones((3, 2)), sizes=np.ones(3), noise=0.5)
    assert even.participation_ratio(1) == pytest.approx(10)
    assert even.alignment(1) == pytest.approx(1 / 1.25**2)
    squeezed = bottleneck_synth(0, labels=False)
    profile = [squeezed.participation_ratio(depth) for depth in range(5)]
    assert int(np.argmin(profile)) == 2
    assert int(np.argmax([squeezed.alignment(depth) for depth in range(5)])) == 2


def test_information_about_the_language_never_rises_with_depth():
    model = bottleneck_synth(0, labels=True)
    bits = [model.language_bits(depth) for depth in range(5)]
    assert bits == sorted(bits, reverse=True)
    assert 0 < bits[-1] < bits[0] < 1
    # One bit where languages are far apart, and nothing where no coordinate is left.
    assert replace(model, label_shift=30.0).language_bits(0) == pytest.approx(1, abs=1e-6)
    assert replace(model, label_left=(0,) * 5).language_bits(0) == pytest.approx(0, abs=1e-12)


def test_parallel_sentences_share_content_and_languages_differ_in_labels():
    tokens = bottleneck_synth(0, labels=True).tokens(np.random.default_rng(0), 3000, 1)[:, :, 0]
    assert tokens.shape[0] == len(LANGUAGES)
    shared = np.corrcoef(tokens[0, :, 4], tokens[1, :, 4])[0, 1]
    assert shared == pytest.approx(1 / 1.04, abs=0.05)
    assert (tokens[1] - tokens[0])[:, -3:].mean(0) == pytest.approx(1.5, abs=0.15)


# -- the origin's error ---------------------------------------------------------------------------


def test_the_origins_ratio_sees_synergy_where_there_is_none():
    shown = 0
    for seed in range(60):
        model = additive_synth(seed)
        ratio = original_disparity(model.scores(seed, masks=cell_masks(8)))
        shown += shows_origin_pattern(ratio)
    # A share that no test of level .05 would be allowed.
    assert stats.binom.sf(shown - 1, 60, 0.05) < 1e-3, shown


def test_our_verdict_does_not():
    found = count(additive_synth, range(8), QUICK)
    assert found.n == 8
    assert stats.binom.sf(found.labels["supported"] - 1, found.n, 0.05) > 1e-3, found


def test_our_verdict_finds_cancellation_that_was_planted():
    found = count(partial(cancelling_synth, rho=PLANTED_RHO), range(3), QUICK)
    assert found.labels["supported"] >= 2, found
    opposite = count(partial(cancelling_synth, rho=-PLANTED_RHO), range(2), QUICK)
    assert opposite.labels["refuted"] == 2


def test_where_the_last_block_is_worth_nothing_alone_there_is_no_share_of_it():
    far = count(partial(cancelling_synth, rho=FAR_RHO), range(2), QUICK)
    assert far.labels == {"inconclusive": 2}


def test_tallies_of_two_processes_add_up():
    one, other = count(additive_synth, [0, 2], QUICK), count(additive_synth, [1], QUICK)
    assert one + other == count(additive_synth, range(3), QUICK)
    assert isinstance(one, SynergyTally)
