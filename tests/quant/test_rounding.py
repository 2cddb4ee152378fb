"""Rounding arithmetic: promises that hold to the bit, groups, tensors and refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounding_cases import GROUPS, NEAREST, RANDOM, gaussian, matrices, quick

from bitgap.errors import ModelError, SchemeError
from bitgap.quant.rounding import (
    crest_factor_sq,
    relative_error,
    round_absmax,
    round_seed,
    round_weight,
)
from bitgap.quant.schemes import largest_level


def by_hand(weight, bits, n):
    """Absmax rounding again, group by group, in numpy and float64."""
    q = 2 ** (bits - 1) - 1
    rounded = np.zeros(weight.shape)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], n):
            values = weight[row, start : start + n].numpy()
            step = np.abs(values).max() / q
            if step > 0:
                rounded[row, start : start + n] = np.rint(values / step) * step
    return torch.from_numpy(rounded)


# --- promises that hold to the bit ------------------------------------------------------------


@quick
@given(matrices(), st.sampled_from(NEAREST))
def test_rounding_a_rounded_matrix_changes_nothing(weight, name):
    once = round_weight(weight, name, stream="w")
    assert torch.equal(round_weight(once, name, stream="w"), once)


@given(
    st.integers(2**23, 2**24 - 1),
    st.integers(-90, 90),
    st.sampled_from([largest_level(bits) for bits in range(2, 9)]),
)
def test_a_scale_survives_its_own_top_level(mantissa, exponent, q):
    scale = np.float32(math.ldexp(mantissa, exponent)) / np.float32(q)
    assert (np.float32(q) * scale) / np.float32(q) == scale


@quick
@given(matrices(), st.sampled_from(NEAREST + RANDOM), st.integers(-60, 60))
def test_a_power_of_two_passes_through_bit_for_bit(weight, name, exponent):
    scaled = round_weight(weight * 2.0**exponent, name, stream="w")
    assert torch.equal(scaled, round_weight(weight, name, stream="w") * 2.0**exponent)


@quick
@given(st.integers(0, 999), st.sampled_from((*NEAREST, "noise0.05-s3")), st.floats(1e-3, 1e3))
def test_any_other_factor_leaves_the_relative_error_alone(seed, name, factor):
    weight = gaussian(4, 150, seed)
    errors = [
        relative_error(w, round_weight(w, name, stream="w")) for w in (weight, weight * factor)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)


@quick
@given(matrices(), st.sampled_from(NEAREST))
def test_rounding_is_odd(weight, name):
    assert torch.equal(
        round_weight(-weight, name, stream="w"), -round_weight(weight, name, stream="w")
    )


def test_ties_go_to_the_even_level():
    weight = torch.tensor([[7, 0.5, 1.5, 2.5, -0.5, -1.5]])
    expected = torch.tensor([[7.0, 0, 2, 2, 0, -2]])
    assert torch.equal(round_absmax(weight, 4, "channel"), expected)
    assert torch.equal(round_seed(weight, 4), expected)


# --- levels, steps and groups -----------------------------------------------------------------


@quick
@given(matrices(), st.integers(2, 8), st.sampled_from([4, 32, 128]))
def test_absmax_agrees_with_the_formula_done_by_hand(weight, bits, n):
    exact = weight.double()  # in float32 a tie could fall the other way
    assert torch.equal(round_absmax(exact, bits, n), by_hand(exact, bits, n))


@quick
@given(matrices(), st.integers(2, 8), st.sampled_from(GROUPS))
def test_no_error_exceeds_half_a_step_of_its_group(weight, bits, group):
    error = (weight - round_absmax(weight, bits, group)).abs()
    n = {"tensor": weight.shape[1], "channel": weight.shape[1]}.get(group, group)
    for start in range(0, weight.shape[1], n):
        peak = weight[:, start : start + n].abs().amax(1, keepdim=True)
        peak = weight.abs().max() if group == "tensor" else peak
        half_step = peak / largest_level(bits) / 2
        assert (error[:, start : start + n] <= half_step * (1 + 1e-5)).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_levels_are_whole_steps_from_minus_q_to_q_and_the_largest_weight_keeps_its_place(bits):
    weight, q = gaussian(3, 5000), largest_level(bits)
    rounded = round_absmax(weight, bits, "channel")
    steps = rounded / (weight.abs().amax(1, keepdim=True) / q)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    assert steps.abs().max().round() == q
    at = weight.abs().argmax(1, keepdim=True)
    torch.testing.assert_close(rounded.gather(1, at), weight.gather(1, at), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "start"), [("rtn4-g128", 128), ("rtn3-g32-mse", 192)])
def test_a_group_that_does_not_divide_the_width_leaves_a_shorter_last_group(name, start):
    weight = gaussian(5, 200)
    alone = round_weight(weight[:, start:], name, stream="w")
    assert torch.equal(round_weight(weight, name, stream="w")[:, start:], alone)


def test_a_shorter_last_group_has_its_own_step_in_stochastic_rounding_too():
    weight = gaussian(5, 200)
    weight[:, 192:] /= 1000
    error = (weight - round_weight(weight, "stoch4-g64-s0", stream="w"))[:, 192:].abs()
    assert (error <= weight[:, 192:].abs().amax(1, keepdim=True) / 7 * (1 + 1e-5)).all()


@pytest.mark.parametrize("suffix", ["", "-mse"])
def test_a_row_narrower_than_the_group_is_one_group(suffix):
    weight = gaussian(6, 100)
    assert torch.equal(
        round_weight(weight, f"rtn4-g128{suffix}", stream="w"),
        round_weight(weight, f"rtn4-channel{suffix}", stream="w"),
    )


@pytest.mark.parametrize("name", NEAREST + RANDOM)
def test_zero_rows_and_zero_matrices_stay_zero(name):
    weight = gaussian(4, 96)
    weight[1] = 0
    rounded = round_weight(weight, name, stream="w")
    assert rounded.isfinite().all()
    if not name.startswith("noise"):
        assert (rounded[1] == 0).all()
    assert (round_weight(torch.zeros(4, 96), name, stream="w") == 0).all()


@quick
@given(matrices(), st.integers(2, 8))
def test_the_origins_scheme_never_reaches_its_lowest_level(weight, bits):
    assert torch.equal(round_seed(weight, bits), round_absmax(weight, bits, "tensor"))


def test_the_origins_scheme_takes_any_shape():
    gains = torch.tensor([1.0, 0.9, -0.3, 0.02])
    expected = torch.tensor([7.0, 6, -2, 0]) / 7
    torch.testing.assert_close(round_weight(gains, "seed4", stream="norm"), expected)
    cube = gaussian(4, 6).reshape(2, 3, 4)
    assert torch.equal(round_seed(cube, 4), round_seed(cube.reshape(6, 4), 4).reshape(2, 3, 4))


# --- tensors in, tensors out ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ("fp", "rtn4-g32", "rtn4-g32-mse", *RANDOM))
def test_dtype_and_shape_are_kept_and_half_precision_is_rounded_in_float32(name, dtype):
    weight = gaussian(5, 70, dtype=dtype)
    rounded = round_weight(weight, name, stream="w")
    assert (rounded.dtype, rounded.shape) == (dtype, weight.shape)
    if dtype.itemsize == 2:
        assert torch.equal(rounded, round_weight(weight.float(), name, stream="w").to(dtype))


@pytest.mark.parametrize("name", ("fp", *NEAREST, *RANDOM))
def test_the_result_is_a_new_tensor_and_the_weight_is_untouched(name):
    weight = torch.nn.Parameter(gaussian(4, 128))
    before = weight.detach().clone()
    rounded = round_weight(weight, name, stream="w")
    assert not rounded.requires_grad
    rounded.zero_()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("name", ("fp", *NEAREST, *RANDOM))
def test_memory_layout_does_not_matter(name):
    weight = gaussian(100, 6).T
    rounded = round_weight(weight, name, stream="w")
    assert torch.equal(rounded, round_weight(weight.contiguous(), name, stream="w"))


def test_full_precision_changes_no_bit_of_any_shape():
    for weight in (gaussian(3, 4), torch.randn(5), torch.randn(2, 3, 4)):
        assert torch.equal(round_weight(weight, "fp", stream="w"), weight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("name", ["rtn4-g128", "rtn3-channel", "seed4", "stoch4-g32-s0"])
def test_an_accelerator_rounds_to_the_same_bits(name):
    weight = gaussian(64, 200)
    there = round_weight(weight.cuda(), name, stream="w")
    assert torch.equal(there.cpu(), round_weight(weight, name, stream="w"))


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ("fp", *NEAREST, *RANDOM))
def test_weights_that_are_not_finite_are_refused_by_name_and_number(name, value):
    weight = gaussian(4, 128)
    weight[1, 3] = weight[2, 5] = value
    with pytest.raises(ModelError, match=r"^3\.mlp\.up: 2 of 512 weights are not finite; .*again"):
        round_weight(weight, name, stream="3.mlp.up")


def test_measures_of_weights_that_are_not_finite_are_refused():
    bad = torch.tensor([[1.0, math.nan]])
    for measure in (lambda: relative_error(bad, bad), lambda: crest_factor_sq(bad, 2)):
        with pytest.raises(ModelError, match="1 of 2 weights are not finite"):
            measure()


@pytest.mark.parametrize("name", ["rtn4-g128", "rtn4-tensor-mse", "noise0.1-s1", "stoch4-g32-s1"])
def test_only_seed_schemes_take_vectors(name):
    with pytest.raises(SchemeError, match=rf"^0\.norm: {name} .*shape \(8,\).*matrices .*seed"):
        round_weight(torch.ones(8), name, stream="0.norm")


def test_weights_that_are_not_floats_are_refused():
    with pytest.raises(ModelError, match=r"w: weights of dtype torch\.int8 .*dequantize them"):
        round_weight(torch.ones(2, 2, dtype=torch.int8), "rtn4-g128", stream="w")


def test_an_empty_weight_is_refused():
    with pytest.raises(SchemeError, match=r"w: rtn4-g128 .*shape \(0, 8\), which holds no numbers"):
        round_weight(torch.ones(0, 8), "rtn4-g128", stream="w")
    with pytest.raises(ModelError, match=r"shape \(0, 8\) holds no numbers"):
        crest_factor_sq(torch.ones(0, 8), 4)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(SchemeError, match="scheme 'rtn9' is not known"):
        round_weight(torch.ones(2, 2), "rtn9", stream="w")


# --- some rows at a time ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rtn4-g32", "rtn3-g64-mse", "rtn2-channel", "rtn4-tensor"])
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_rounded_a_few_at_a_time_are_those_of_the_whole(name, transposed, monkeypatch):
    weight = gaussian(*((96, 37) if transposed else (37, 96)), seed=3)
    weight = weight.T if transposed else weight
    whole = round_weight(weight, name, stream="w")
    monkeypatch.setattr("bitgap.quant.rounding._SLAB", 5 * 96)
    assert torch.equal(round_weight(weight, name, stream="w"), whole)


@pytest.mark.parametrize("name", [*NEAREST, *RANDOM, "seed4"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_weight_of_fewer_bits_is_rounded_as_its_cast_where_that_is_asked(name, half):
    kept = gaussian(24, 64, seed=5).to(half)
    wide = round_weight(kept, name, stream="w", dtype=torch.float32)
    assert wide.dtype == torch.float32
    assert torch.equal(wide, round_weight(kept.float(), name, stream="w"))


def test_weights_that_are_not_finite_are_counted_in_the_whole_matrix(monkeypatch):
    monkeypatch.setattr("bitgap.quant.rounding._SLAB", 8)
    weight = torch.ones(6, 8)
    weight[1, 2], weight[5, 0], weight[5, 7] = math.nan, math.inf, -math.inf
    with pytest.raises(ModelError, match="3 of 48 weights are not finite"):
        round_weight(weight, "rtn4-g32", stream="w")
