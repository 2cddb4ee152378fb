"""The screen: what it expects of small changes is what they do, to second order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lab_samples import make_lab

from bitgap.lab.screen import screen
from bitgap.quant.plan import Plan

SMALL = "noise0.02-s0"
"""A change so small that damage is quadratic in it, and large enough for float32."""


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "falcon", "bloom"])
def test_the_screen_expects_what_small_changes_do(case: str) -> None:
    lab = make_lab(case)
    found = screen(lab, [SMALL], draws=64)
    n = lab.decoder.n_blocks
    plans = [Plan.only_unit(SMALL, n, block, name) for block, name in found.units]
    wanted = lab.score(plans).kl_nats.sum((1, 2))
    expected = found.by_sequence[:, 0].sum((1, 2))
    ratio = expected / wanted
    # 64 draws a token: a few per cent of noise for a sum over all sentences.
    assert np.abs(np.log(ratio)).max() < 0.35
    assert abs(np.log(ratio).mean()) < 0.1
    by_token = found.by_token[:, 0].sum((1, 2))
    assert np.corrcoef(np.log(by_token), np.log(wanted))[0, 1] > 0.9


def test_it_is_quadratic_and_leaves_what_is_not_rounded_alone() -> None:
    lab = make_lab("llama")
    found = screen(lab, ["noise0.02-s0", "noise0.04-s0", "fp"], draws=1)
    np.testing.assert_allclose(found.by_sequence[:, 1], 4 * found.by_sequence[:, 0], rtol=1e-3)
    np.testing.assert_allclose(found.by_token[:, 1], 4 * found.by_token[:, 0], rtol=1e-3)
    assert not found.by_token[:, 2].any() and not found.by_sequence[:, 2].any()


def test_a_seed_gives_the_same_and_weights_keep_no_trace() -> None:
    lab = make_lab("gpt2")
    before = [p.grad for p in lab.decoder.model.parameters()]
    one, other = (screen(lab, [SMALL], draws=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.by_token, other.by_token)
    assert before == [p.grad for p in lab.decoder.model.parameters()] == [None] * len(before)
    third = screen(lab, [SMALL], draws=2, seed=4)
    assert not np.array_equal(one.by_token, third.by_token)
    assert torch.is_grad_enabled()
