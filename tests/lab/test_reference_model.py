"""What must hold on real trained weights: the bundled reference model, on bundled text."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from lab_samples import log_probabilities, quantized_copy
from torch import nn

from bitgap.corpora.parallel import load_corpus
from bitgap.disparity.formulas import below_resolution, damage_bits
from bitgap.lab.engine.arithmetic import fast_products_round
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.models.gauge import rescale_norms
from bitgap.models.load import load_model
from bitgap.models.twins import loaded_with
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Arithmetic, Scores

SCHEME = "rtn4-g128"


def reference_lab(arithmetic: Arithmetic, sentences: int = 6, **settings: int) -> Lab:
    corpus = load_corpus(languages="en,he,zh,fi").select(None, range(sentences))
    return Lab.of(load_model(None), corpus, settings=Settings(arithmetic=arithmetic, **settings))


@cache
def some_scores(arithmetic: Arithmetic) -> Scores:
    """Returns nothing protected, all protected, the origin's three, and single layers."""
    masks = [0, 2**12 - 1, 1 << 0 | 1 << 9 | 1 << 11, 1, 1 << 6]
    return reference_lab(arithmetic, 24).score(list(mask_plans(SCHEME, 12, masks)))


def test_damage_is_real_and_protection_spares_some() -> None:
    damage = damage_bits(some_scores("exact"))
    assert (damage[0] > 1e-4).all() and not below_resolution(some_scores("exact"))[0].any()
    assert (damage[2] < damage[0]).all()


@pytest.mark.parametrize("arithmetic", ["exact", "fast"])
def test_protecting_all_is_no_damage_exactly(arithmetic: Arithmetic) -> None:
    scores = some_scores(arithmetic)
    assert (scores.kl_nats[1] == 0).all()
    assert (scores.nll_nats[1] == scores.nll_fp_nats).all()


def test_fast_agrees_with_exact_within_two_percent() -> None:
    exact, fast = damage_bits(some_scores("exact")), damage_bits(some_scores("fast"))
    counted = np.arange(len(exact)) != 1
    assert abs(fast[counted] / exact[counted] - 1).max() < 0.02
    assert not below_resolution(some_scores("fast"))[counted].any()
    if fast_products_round():
        assert some_scores("fast").floor_nats > some_scores("exact").floor_nats
        assert (fast != exact)[counted].any(), "fast must not be exact in disguise"


@pytest.mark.parametrize("sentences", [4, 8])
def test_the_floor_is_what_float32_is_wrong_by(sentences: int) -> None:
    """Rounded twins in float64 tell the true damage; what is off from it is what a floor is for."""
    lab = reference_lab("exact", sentences)
    plans = list(mask_plans("rtn8-g128", 12, [0, 2**12 - 2]))
    scores = lab.score(plans)
    whole = copy.deepcopy(lab.decoder.model).double()
    tokens = scores.counts.tokens.sum(-1)
    for plan, found in zip(plans, scores.kl_nats, strict=True):
        rounded = quantized_copy(lab.decoder, plan).double()
        true = [[_kl(whole, rounded, ids) for ids in language] for language in lab.text.ids]
        error = float((abs(found - np.array(true)).sum(-1) / tokens).max())
        assert error / 2 < scores.floor_nats < 4 * error


def _kl(whole: nn.Module, rounded: nn.Module, ids: tuple[int, ...]) -> float:
    full, mine = (log_probabilities(model, ids) for model in (whole, rounded))
    return float((full.exp() * (full - mine)).sum())


@pytest.mark.parametrize("arithmetic", ["exact", "fast"])
def test_rescaling_by_powers_of_two_changes_no_bit(arithmetic: Arithmetic) -> None:
    lab = reference_lab(arithmetic)
    factors = 2.0 ** (np.arange(12) % 5 - 2)
    other = loaded_with(lab.loaded, rescale_norms(lab.loaded.model, factors), "rescaled")
    plans = list(mask_plans(SCHEME, 12, [0, 1, 1 << 9]))
    one, two = lab.score(plans), lab.twin(other).score(plans)
    assert (one.nll_nats == two.nll_nats).all() and (one.kl_nats == two.kl_nats).all()


@pytest.mark.parametrize("arithmetic", ["exact", "fast"])
def test_cutting_the_work_differently_stays_under_the_floor(arithmetic: Arithmetic) -> None:
    plans = [Plan.uniform(SCHEME, 12)]
    small = reference_lab(arithmetic, memory_bytes=120 * 2**20)
    large = reference_lab(arithmetic)
    assert small.engine.layout != large.engine.layout
    one, two = small.score(plans), large.score(plans)
    difference = abs(one.kl_nats.sum(-1) - two.kl_nats.sum(-1)) / one.counts.tokens.sum(-1)
    assert difference.max() <= max(one.floor_nats, two.floor_nats)
