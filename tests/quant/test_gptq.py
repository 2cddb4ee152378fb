"""Error feedback: best where it must be, rounding to nearest where nothing is to be carried."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from bitgap.errors import ModelError, SchemeError
from bitgap.quant.codes import codes_of
from bitgap.quant.gptq import (
    feedback_factor,
    round_by_factor,
    round_gptq,
    weighted_error,
)
from bitgap.quant.rounding import round_weight

SCHEMES = ("rtn3-g32", "rtn4-channel", "rtn2-g32-mse", "rtn4-tensor", "rtn4-tensor-mse")


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hessian(n_in: int, n_rows: int, seed: int = 0) -> Tensor:
    """H of inputs that hang together, as those of a model do."""
    mix = torch.randn(n_in, n_in, generator=draw(seed)) + 2 * torch.ones(n_in, 1)
    rows = torch.randn(n_rows, n_in, generator=draw(seed + 1)) @ mix
    return (rows.T @ rows).double()


def weight(n_out: int, n_in: int, seed: int = 0) -> Tensor:
    return torch.randn(n_out, n_in, generator=draw(seed + 2))


def by_hand(matrix: Tensor, h: Tensor, scheme: str, damping: float) -> Tensor:
    """The columns one by one, each time with the inverse of what is left of H (OBQ's own step)."""
    damped = h + damping * h.diagonal().mean() * torch.eye(len(h))
    left, out = matrix.double().clone(), torch.zeros_like(matrix, dtype=torch.float64)
    n_in, q = len(h), 2 ** (int(scheme[3]) - 1) - 1
    size = 32 if "g32" in scheme else n_in
    scale = torch.zeros(len(matrix), dtype=torch.float64)
    for j in range(n_in):
        if j % size == 0:
            scale = left[:, j : j + size].abs().amax(1) / q
        out[:, j] = (left[:, j] / scale).round().clamp(-q, q) * scale
        inverse = torch.linalg.inv(damped[j:, j:])
        left[:, j:] -= torch.outer((left[:, j] - out[:, j]) / inverse[0, 0], inverse[0])
    return out


@pytest.mark.parametrize("scheme", ["rtn4-g32", "rtn3-channel"])
@pytest.mark.parametrize("n_in", [40, 150])
def test_it_is_the_plain_algorithm_with_an_inverse_at_every_column(scheme: str, n_in: int) -> None:
    # In float64, where a level that is on the edge does not fall to either side.
    matrix, h = weight(5, n_in).double(), hessian(n_in, 400)
    wanted = by_hand(matrix, h, scheme, 0.01)
    found = round_by_factor(matrix, _factor64(h), scheme)
    assert (found - wanted).abs().max() < 1e-6


def _factor64(h: Tensor) -> Tensor:
    damped = h + 0.01 * h.diagonal().mean() * torch.eye(len(h))
    return torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_inputs_that_do_not_hang_together_are_rounded_to_nearest(scheme: str) -> None:
    matrix = weight(7, 80)
    diagonal = torch.diag(torch.rand(80, generator=draw(5)) + 0.1)
    assert torch.equal(
        round_gptq(matrix, diagonal, scheme), round_weight(matrix, scheme, stream="")
    )


def test_of_two_inputs_the_second_is_the_best_that_it_can_be() -> None:
    """All levels tried: given the first, none is better; where to nearest is best at first, none
    at all is better."""
    best_of_all = 0
    for seed in range(40):
        matrix, h = weight(1, 2, seed), hessian(2, 6, seed)
        found = round_gptq(matrix, h, "rtn3-channel", damping=0.0)
        scale = float(codes_of(matrix, "rtn3-channel").scale_OG)
        levels = [level * scale for level in range(-3, 4)]

        def error(first: float, second: float, matrix: Tensor = matrix, h: Tensor = h) -> float:
            return weighted_error(matrix, torch.tensor([[first, second]]), h)

        mine = weighted_error(matrix, found, h)
        given = min(error(float(found[0, 0]), second) for second in levels)
        assert mine == pytest.approx(given, rel=1e-4, abs=1e-9)
        least = min(error(*both) for both in itertools.product(levels, levels))
        assert mine >= least - 1e-6
        best_of_all += mine <= least * (1 + 1e-4) + 1e-9
    assert best_of_all >= 20


def test_what_is_lost_is_taken_up_by_an_input_that_is_the_same() -> None:
    # Two inputs that are always equal: only the sum of their weights counts, and 0.8 is nearer to
    # one level than to none.
    matrix = torch.tensor([[1.0, 0.4, 0.4]])
    same = torch.tensor([[1.0, 0, 0], [0, 1.0, 1.0], [0, 1.0, 1.0]])
    found = round_gptq(matrix, same, "rtn2-channel", damping=1e-6)
    assert found.tolist() == [[1.0, 0.0, 1.0]]
    assert weighted_error(matrix, found, same) == pytest.approx(0.04)
    nearest = round_weight(matrix, "rtn2-channel", stream="")
    assert weighted_error(matrix, nearest, same) == pytest.approx(0.64)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_outputs_are_nearer_than_to_nearest(scheme: str) -> None:
    worse = 0
    for seed in range(20):
        matrix, h = weight(6, 64, seed), hessian(64, 200, seed)
        mine = weighted_error(matrix, round_gptq(matrix, h, scheme), h)
        nearest = weighted_error(matrix, round_weight(matrix, scheme, stream=""), h)
        worse += mine > nearest
    assert worse == 0


def test_the_result_has_levels_and_scales_of_its_scheme() -> None:
    found = round_gptq(weight(5, 80), hessian(80, 300), "rtn3-g32")
    for start in (0, 32, 64):
        group = found[:, start : start + 32]
        for row in group:
            assert len(row.unique()) <= 7
    assert found.dtype == torch.float32 and found.is_contiguous()


def test_h_may_have_any_scale() -> None:
    matrix, h = weight(5, 40), hessian(40, 100)
    one, other = (round_gptq(matrix, h * times, "rtn4-g32") for times in (1.0, 2.0**-20))
    assert torch.equal(one, other)


def test_fewer_tokens_than_inputs_and_inputs_never_used_are_no_fault() -> None:
    matrix, h = weight(4, 64), hessian(64, 9)
    h[3], h[:, 3] = 0, 0
    found = round_gptq(matrix, h, "rtn4-channel")
    assert bool(found.isfinite().all())
    nearest = round_weight(matrix, "rtn4-channel", stream="")
    assert torch.equal(found[:, 3], nearest[:, 3])


@pytest.mark.parametrize(
    ("h", "scheme", "damping", "says"),
    [
        (torch.eye(3), "rtn4-g32", 0.01, r"H is of 3 inputs, and the matrix has 4"),
        (torch.eye(4) * float("nan"), "rtn4-g32", 0.01, "H is not finite"),
        (torch.ones(4, 4), "rtn4-g32", 0.0, "no inverse at a damping of 0"),
        (torch.eye(4), "noise0.1-s0", 0.01, "has no levels"),
    ],
)
def test_what_cannot_be_is_refused(h: Tensor, scheme: str, damping: float, says: str) -> None:
    with pytest.raises((ModelError, SchemeError), match=says):
        round_gptq(weight(2, 4), h, scheme, damping=damping)


def test_one_factor_serves_all_matrices_of_the_same_inputs() -> None:
    h = hessian(40, 100)
    factor = feedback_factor(h)
    for seed in (1, 2):
        matrix = weight(3, 40, seed)
        assert torch.equal(
            round_by_factor(matrix, factor, "rtn4-g32"), round_gptq(matrix, h, "rtn4-g32")
        )
