"""Plans that round little, where products are rounded: scored in float32, beside the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus

from bitgap.disparity.formulas import below_resolution
from bitgap.errors import PlanError
from bitgap.experiments.protocol.scores import facts_of, pack_scores, unpack_scores
from bitgap.lab import bench as bench_module
from bitgap.lab.engine import arithmetic, floor, scoring
from bitgap.lab.settings import Settings
from bitgap.lab.store import Store, assemble
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Observations

RTN, L = "rtn4-channel", 5
MASKS = list(mask_plans(RTN, L, (0, 1, 0b00111, 0b01111, 0b11111, 0b11011)))
LIGHT = [2, 3, 5]
FAST, EXACT = Settings(arithmetic="fast"), Settings()


@pytest.fixture
def rounded_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are rounded here, as on a processor that does so, only slowly."""
    for module in (arithmetic, scoring, bench_module):
        monkeypatch.setattr(module, "fast_products_round", lambda device="cpu": True)
    assert floor.products is arithmetic.products


def test_light_is_one_or_two_rounded_blocks_and_no_head() -> None:
    assert [i for i, plan in enumerate(MASKS) if plan.is_light] == LIGHT
    assert not Plan(("fp",) * 3, head="rtn8-channel").is_light
    assert not Plan((RTN, "fp", "fp"), embedding="rtn8-channel").is_light


@pytest.mark.usefixtures("rounded_products")
def test_light_plans_are_those_of_float32_to_the_bit_each_with_its_floor(tmp_path: Path) -> None:
    corpus = write_corpus(4)
    exact = make_lab(blocks=L, corpus=corpus, settings=EXACT).score(MASKS)
    with Store(tmp_path / "bitgap.db") as store:
        lab = make_lab(blocks=L, corpus=corpus, settings=FAST, store=store)
        fast = lab.score(MASKS)
        assert (fast.kl_nats[LIGHT] == exact.kl_nats[LIGHT]).all()
        assert (fast.kl_nats[[0, 1]] != exact.kl_nats[[0, 1]]).any(), "the others are rounded"
        added = fast.nll_nats - fast.nll_fp_nats
        assert added[LIGHT] == pytest.approx((exact.nll_nats - exact.nll_fp_nats)[LIGHT], abs=1e-9)
        assert fast.nll_fp_nats.tolist() != exact.nll_fp_nats.tolist()
        floors = fast.floor_by_plan
        assert (floors[LIGHT] == exact.floor_nats).all() and (floors[0] == fast.floor_nats)
        assert exact.floor_nats < fast.floor_nats / 10
        some = fast.select(plans=[fast.plans[i] for i in (3, 0)])
        assert some.floor_by_plan.tolist() == [exact.floor_nats, fast.floor_nats]
        # Kept, and read back by text alone, as a page does.
        heads = lab.ledger.head_rows
        again = make_lab(blocks=L, corpus=corpus, settings=FAST, store=store).score(MASKS)
        assert lab.ledger.head_rows == heads
        facts, arrays = store.get_text(lab.text_key) or ({}, {})
        keys = {text: key for text, key in store.scored_plans(lab.text_key)}
        read = assemble(store, lambda p: keys[p.text], MASKS, facts, arrays, "fast")
        for other in (again, read):
            assert (other.kl_nats == fast.kl_nats).all() and (other.nll_nats == fast.nll_nats).all()
            assert (other.floor_by_plan == floors).all()


@pytest.mark.usefixtures("rounded_products")
def test_a_language_is_not_lost_for_what_rounded_products_cannot_tell() -> None:
    """Damage of a gentle scheme is under ten times the floor of rounded products, and is seen."""
    gentle = list(mask_plans("rtn8-channel", L, (0b01111, 0b11110)))
    corpus = write_corpus(4)
    fast = make_lab(blocks=L, corpus=corpus, settings=FAST).score(gentle)
    assert not below_resolution(fast).any()
    per_token = fast.kl_nats.sum(2) / fast.counts.tokens.sum(1)
    assert (per_token < 10 * fast.floor_nats).all(), "as one floor for all would have it"
    packed = Observations(
        experiment="T-004", version=1,
        arrays=pack_scores(fast, {"map": gentle}), facts=facts_of(fast),
    )  # fmt: skip
    assert (unpack_scores(packed, "map").floor_by_plan == fast.floor_by_plan).all()


@pytest.mark.usefixtures("rounded_products")
def test_a_variant_made_elsewhere_is_scored_where_it_is_light_and_forgotten_in_both() -> None:
    corpus = write_corpus(3)
    scored = {}
    for settings in (FAST, EXACT):
        lab = make_lab(blocks=L, corpus=corpus, settings=settings)
        before = lab.score([Plan.only(RTN, L, 1)])  # the exact lab is made before the variant is
        linears = {name: 2 * w for name, w in lab.bank.rounded_linears(1, "fp").items()}
        name = lab.bank.add("doubled", {1: linears})
        plan = Plan.only(name, L, 1)
        assert plan.is_light
        scored[settings.arithmetic] = lab.score([plan]).kl_nats
        assert (scored[settings.arithmetic] != before.kl_nats).any()
        lab.bank.drop(name)
        for bank in (lab.bank, lab.exact().bank):
            with pytest.raises(PlanError, match="no variant"):
                bank.check(plan)
            with pytest.raises(PlanError, match="no variant"):
                bank.block(1, name)
    assert (scored["fast"] == scored["exact"]).all()


@pytest.mark.usefixtures("rounded_products")
def test_what_is_foretold_counts_light_plans_once() -> None:
    lab = make_lab(blocks=L, corpus=write_corpus(3), settings=FAST)
    cost = lab.preflight(MASKS)
    assert cost.n_plans == len(MASKS) and cost.n_known == 1, "nothing rounded is known by itself"
    assert cost.work.head_evaluations == len(MASKS) - 1
    lab.score(MASKS)
    left = lab.preflight(MASKS)
    assert left.n_known == left.n_plans == len(MASKS) and left.work.head_evaluations == 0


def test_elsewhere_there_is_one_floor_and_one_arithmetic() -> None:
    lab = make_lab(blocks=L, corpus=write_corpus(3))
    assert lab.exact() is lab
    scores = lab.score(MASKS)
    assert scores.floors_nats is None and np.ptp(scores.floor_by_plan) == 0
