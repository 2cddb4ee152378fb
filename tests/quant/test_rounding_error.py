"""Rounding errors whose true size is known, and randomness whose distribution is."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from rounding_cases import GROUPS, RANDOM, gaussian, matrices, quick

from bitgap.errors import ModelError
from bitgap.quant.rounding import (
    CLIP_RATIOS,
    crest_factor_sq,
    gaussian_noise,
    relative_error,
    round_absmax,
    round_mse,
    round_stochastic,
    round_weight,
    stream_generator,
)
from bitgap.quant.schemes import largest_level

# --- size of the error ------------------------------------------------------------------------


@quick
@example(torch.tensor([[0.5267, 1.2478]]), (4, 7), "tensor", round_absmax)
@given(
    matrices(),
    # The levels of q are among those of q' where q divides q', so where b-1 divides b'-1.
    st.sampled_from([(2, b) for b in range(3, 9)] + [(3, 5), (3, 7), (4, 7)]),
    st.sampled_from(GROUPS),
    st.sampled_from([round_absmax, round_mse]),
)
def test_more_bits_never_err_more_where_the_levels_are_nested(weight, bits, group, rounds):
    coarse, fine = (float((weight - rounds(weight, b, group)).double().norm()) for b in bits)
    # Of real numbers fine <= coarse. A scale and its product with a code are float32, each half a
    # unit off, of levels that are at most twice a weight's size, in both; the rest is for choosing
    # a scale by errors that are summed in float32.
    off = 2 * 2 * 2 * 2**-24 * float(weight.double().norm())
    assert fine <= coarse * (1 + 1e-5) + off


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("rounds", [round_absmax, round_mse])
def test_on_average_every_further_bit_errs_less(group, rounds):
    draws = [gaussian(16, 256, seed) for seed in range(5)]
    means = [np.mean([relative_error(w, rounds(w, b, group)) for w in draws]) for b in range(2, 9)]
    assert all(later < 0.5 * earlier for earlier, later in pairwise(means))


@pytest.mark.parametrize("bits", range(2, 9))
def test_uniform_weights_have_relative_error_one_over_four_q_squared(bits):
    # Uniform on [-a, a]: w² averages a²/3, so C² = 3; the error is uniform within a step of a/q at
    # every q, its square a²/(12q²). So RE = 3/(12q²) = 1/(4q²), at 2 bits as well.
    weight = (torch.rand(1, 400_000, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 0.3
    assert crest_factor_sq(weight, "tensor") == pytest.approx(3, rel=0.01)
    error = relative_error(weight, round_absmax(weight, bits, "tensor"))
    assert error == pytest.approx(1 / (4 * largest_level(bits) ** 2), rel=0.01)


def test_weights_of_one_magnitude_have_crest_factor_one_and_no_error():
    weight = gaussian(8, 64).sign() * 0.3
    assert crest_factor_sq(weight, 32) == pytest.approx(1, rel=1e-6)
    assert relative_error(weight, round_absmax(weight, 2, 32)) < 1e-12


@pytest.mark.parametrize("bits", range(3, 9))
@pytest.mark.parametrize(
    ("group", "n"), [("tensor", 2**19), ("channel", 1024), (128, 128), (32, 32)]
)
def test_gaussian_error_is_the_crest_factor_law_to_one_percent(bits, group, n):
    # The largest weight of each group has no error, hence the share (n-1)/n of the law.
    weight = gaussian(512, 1024)
    law = crest_factor_sq(weight, group) / (12 * largest_level(bits) ** 2) * (1 - 1 / n)
    error = relative_error(weight, round_absmax(weight, bits, group))
    assert error == pytest.approx(law, rel=0.01)


def test_gaussian_error_at_two_bits_is_below_the_law_because_steps_are_wide():
    weight = gaussian(512, 1024)
    law = crest_factor_sq(weight, 128) / 12
    assert 0.8 * law < relative_error(weight, round_absmax(weight, 2, 128)) < 0.9 * law


# --- clipping ---------------------------------------------------------------------------------


@quick
@given(matrices(), st.integers(2, 8), st.sampled_from(GROUPS))
def test_clipping_never_errs_more_than_absmax(weight, bits, group):
    clipped, plain = (
        (weight - rounds(weight, bits, group)).double().square().sum()
        for rounds in (round_mse, round_absmax)
    )
    assert clipped <= plain * (1 + 1e-5)


@quick
@given(matrices(), st.integers(2, 8))
def test_clipping_finds_the_best_ratio_of_the_grid(weight, bits):
    q, peak = largest_level(bits), weight.double().abs().amax(1, keepdim=True)
    least = torch.full((len(weight),), math.inf, dtype=torch.float64)
    for ratio in CLIP_RATIOS:
        step = peak * ratio / q
        level = (weight / torch.where(step > 0, step, 1)).round().clamp(-q, q)
        least = torch.minimum(least, (weight - level * step).square().sum(1))
    found = (weight - round_mse(weight, bits, "channel")).double().square().sum(1)
    # Weights are float32: an error cannot be told better than by their last digit.
    last_digit = 2 * torch.finfo(torch.float32).eps * weight.double().norm(dim=1)
    assert (found.sqrt() <= least.sqrt() + last_digit).all()


def test_clipping_reaches_the_best_three_levels_for_gaussian_weights():
    # Max 1960, table I: three levels leave 0.1902 of a Gaussian's power.
    weight = gaussian(512, 1024)
    assert relative_error(weight, round_mse(weight, 2, "tensor")) == pytest.approx(0.1902, rel=0.01)


def test_clipping_pays_where_one_outlier_sets_the_scale():
    weight = gaussian(1, 128)
    weight[0, 5] = 40
    plain, clipped = (rounds(weight, 3, 128) for rounds in (round_absmax, round_mse))
    assert clipped.abs().max() <= 40
    assert relative_error(weight, clipped) <= relative_error(weight, plain)
    wide = torch.cat([gaussian(1, 5000), torch.tensor([[12.0]])], dim=1)
    errors = [
        relative_error(wide, rounds(wide, 3, "channel")) for rounds in (round_absmax, round_mse)
    ]
    assert errors[1] < 0.3 * errors[0]


# --- randomness -------------------------------------------------------------------------------


def test_stochastic_rounding_is_unbiased_and_its_draws_are_independent():
    weight, n_draws = gaussian(8, 40), 2000
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([round_stochastic(weight, 3, "channel", generator) for _ in range(n_draws)])
    step = weight.abs().amax(1, keepdim=True) / 3
    remainder = (weight / step) % 1
    deviation = step * (remainder * (1 - remainder)).sqrt()
    inside = (remainder > 0.01) & (remainder < 0.99)
    z = ((draws.mean(0) - weight) / deviation * n_draws**0.5)[inside]
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert z.square().mean() == pytest.approx(1, abs=4 * (2 / len(z)) ** 0.5)
    torch.testing.assert_close(
        draws.std(0)[inside], deviation.expand_as(weight)[inside], rtol=0.3, atol=0
    )


@quick
@given(matrices(), st.integers(2, 8), st.sampled_from(GROUPS), st.integers(0, 99))
def test_stochastic_rounding_goes_to_one_of_the_two_nearest_levels(weight, bits, group, seed):
    generator = torch.Generator().manual_seed(seed)
    rounded = round_stochastic(weight, bits, group, generator)
    # Twice the reach of rounding to nearest, of the coarsest step there is.
    assert ((weight - rounded).abs() <= weight.abs().max() / largest_level(bits) * (1 + 1e-5)).all()
    assert (rounded * weight >= 0).all()
    assert rounded.abs().max() <= weight.abs().max() * (1 + 1e-6)


def test_stochastic_rounding_leaves_a_weight_on_a_level_where_it_is():
    # Millions of draws, because level + uniform, floored, would slip only about once in a million.
    weight = torch.arange(-127.0, 128).repeat(1, 16_000)
    rounded = round_stochastic(weight, 8, "tensor", torch.Generator().manual_seed(0))
    assert torch.equal(rounded, weight)


@pytest.mark.parametrize("relative", [0.02, 0.05, 0.1, 1.0])
def test_noise_has_exactly_the_relative_norm_it_was_asked_for(relative):
    weight = gaussian(40, 50) * 0.02
    noise = round_weight(weight, f"noise{relative}-s1", stream="w").double() - weight.double()
    assert float(noise.norm() / weight.double().norm()) == pytest.approx(relative, rel=1e-6)
    exact = round_weight(weight.double(), f"noise{relative}-s1", stream="w") - weight.double()
    assert float(exact.norm() / weight.double().norm()) == pytest.approx(relative, rel=1e-13)


def test_noise_is_gaussian_and_blind_to_the_weight():
    weight = gaussian(256, 256, seed=1).abs() ** 3
    noise = (gaussian_noise(weight, 0.1, stream_generator("w", 0)) - weight).double().flatten()
    z = noise / noise.std()
    assert abs(float(z.mean())) < 0.02
    assert float((z**4).mean()) == pytest.approx(3, abs=0.1)
    assert (
        abs(float(torch.corrcoef(torch.stack([z.abs(), weight.double().flatten()]))[0, 1])) < 0.02
    )


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_depends_on_seed_and_stream_and_on_nothing_else(name):
    weight = gaussian(30, 64)
    first = round_weight(weight, name, stream="0.attn.q")
    state = torch.get_rng_state()
    torch.manual_seed(5)
    torch.rand(7)
    assert torch.equal(round_weight(weight, name, stream="0.attn.q"), first)
    other_seed = name[:-1] + "9"
    others = [
        round_weight(weight, name, stream="1.attn.q"),
        round_weight(weight, other_seed, stream="0.attn.q"),
    ]
    for other in others:
        angle = torch.cosine_similarity(
            (first - weight).flatten(), (other - weight).flatten(), dim=0
        )
        assert abs(float(angle)) < 0.12  # 1/sqrt(1920) = 0.023
    torch.set_rng_state(state)


def test_randomness_leaves_the_global_generator_and_the_default_dtype_out_of_it():
    weight = gaussian(6, 64)
    before = [round_weight(weight, name, stream="w") for name in RANDOM]
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        after = [round_weight(weight, name, stream="w") for name in RANDOM]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_of_two_sizes_shares_its_direction():
    weight = gaussian(20, 30, dtype=torch.float64)
    small, large = (round_weight(weight, f"noise{t}-s4", stream="w") - weight for t in (0.01, 0.1))
    torch.testing.assert_close(small * 10, large)


# --- measures ---------------------------------------------------------------------------------


def test_relative_error_is_squared_error_over_power():
    weight, rounded = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]])
    assert relative_error(weight, rounded) == pytest.approx(1 / 25)


def test_crest_factor_weighs_each_group_by_its_own_size():
    weight = torch.tensor([[1.0, -2.0, 3.0]])
    assert crest_factor_sq(weight, 2) == pytest.approx((2 * 4 + 1 * 9) / 14)
    assert crest_factor_sq(weight, "channel") == pytest.approx(27 / 14)
    two = torch.tensor([[1.0, 1.0], [2.0, 1.0]])
    assert crest_factor_sq(two, "channel") == pytest.approx((2 * 1 + 2 * 4) / 7)
    assert crest_factor_sq(two, "tensor") == pytest.approx(4 * 4 / 7)


@quick
@given(matrices(), st.sampled_from(GROUPS))
def test_crest_factor_is_at_least_one_and_blind_to_scale(weight, group):
    if weight.any():
        crest = crest_factor_sq(weight, group)
        assert crest >= 1 - 1e-9
        # The norm is squared by C's pow, which rounds a few numbers in ten thousand otherwise at
        # another scale; x·x would not, and would move digits that are stored.
        assert abs(crest_factor_sq(weight * 2**-7, group) - crest) <= 2 * math.ulp(crest)


def test_measures_relative_to_nothing_are_refused():
    zeros = torch.zeros(2, 3)
    for measure in (lambda: relative_error(zeros, zeros), lambda: crest_factor_sq(zeros, 2)):
        with pytest.raises(ModelError, match=r"all weights are 0.*leave this matrix out"):
            measure()


def test_relative_error_between_shapes_is_refused():
    with pytest.raises(ModelError, match=r"shapes \(2, 3\) and \(3, 2\); give the weight and its"):
        relative_error(torch.ones(2, 3), torch.ones(3, 2))
