"""The screen: what it expects of small changes is what they do, to second order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lab_samples import make_lab

from bitgap.lab.screen import screen
from bitgap.quant.plan import Plan
from bitgap.quant.variants import Variant

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


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "falcon", "bloom", "llama-tied"])
@pytest.mark.parametrize("ends", ["", " embedding noise0.03-s7 head noise0.03-s8"])
def test_within_a_plan_it_expects_what_small_changes_do_there(case: str, ends: str) -> None:
    lab = make_lab(case)
    n = lab.decoder.n_blocks
    base = Plan.parse(f"noise0.02-s5{ends}", n)
    found = screen(lab, [SMALL, "noise0.02-s5"], draws=64, within=base)
    plans = {
        (block, name, scheme): replace(
            base,
            blocks=tuple(
                Variant("noise0.02-s5", {name: scheme}).name if i == block else own
                for i, own in enumerate(base.blocks)
            ),
        )
        for block, name in found.units
        for scheme in ("fp", SMALL, "noise0.02-s5")
    }
    scores = lab.score(list(plans.values()))
    kl = dict(zip(scores.plans, scores.kl_nats.sum((1, 2)), strict=True))
    for c, scheme in enumerate(found.schemes):
        wanted = np.array([
            kl[plans[block, name, scheme].text] - kl[plans[block, name, "fp"].text]
            for block, name in found.units
        ])  # fmt: skip
        expected = (found.slope + found.by_sequence)[:, c].sum((1, 2))
        # Differences have either sign, and 64 draws leave noise in the smaller ones.
        assert np.corrcoef(expected, wanted)[0, 1] > 0.9
        assert np.linalg.norm(expected - wanted) < 0.3 * np.linalg.norm(wanted)
    assert (found.slope != 0).any()


def test_within_full_precision_nothing_has_a_slope() -> None:
    lab = make_lab("llama")
    found = screen(lab, [SMALL], draws=2, seed=3)
    within = screen(lab, [SMALL], draws=2, seed=3, within=Plan.uniform("fp", lab.n_blocks))
    assert not found.slope.any()
    np.testing.assert_allclose(within.by_sequence, found.by_sequence, rtol=1e-4)
    assert np.abs(within.slope).max() < 1e-5 * np.abs(found.by_sequence).max() + 1e-9


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
