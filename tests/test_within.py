"""How much a time pays for: what is chosen, and what is refused."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import replace
from itertools import pairwise

import pytest

from bitgap.cli.options import duration_s
from bitgap.errors import UsageError
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import Asked
from bitgap.jobs.spending import Ledger, Spent, in_all, spent_by
from bitgap.jobs.tiers import TIERS
from bitgap.jobs.within import SPENT, Speed, map_within, tier_within
from bitgap.lab.engine.budget import Rates
from bitgap.quant.plan import Plan


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("2h30m", 9000),
        ("45min", 2700),
        ("90s", 90),
        ("1.5h", 5400),
        ("1h 5m 2s", 3902),
    ],
)
def test_a_time_is_read(text: str, seconds: float):
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2d", "-1h", "0s", "1e3s", "nan", "2h2h", "30m2h", "９h", "9" * 40 + "h"]
)
def test_what_is_no_time_is_refused_with_an_example(text: str):
    with pytest.raises(ArgumentTypeError, match="write for example 2h, 2h30m, 45min or 90s"):
        duration_s(text)


def speed(a_row_s: float, *, blocks: int = 24, sentences: int = 1000) -> Speed:
    return Speed(blocks, sentences, 500.0, Rates(a_row_s, a_row_s))


def test_what_controls_took_before_leaves_less_time_for_sentences():
    alone, why = tier_within(speed(1e-5), 3600, "x")
    assert "controls and statistics come on top" in why
    known = replace(speed(1e-5), shares={"standard": 0.25, "smoke": 0.25})
    less, why = tier_within(known, 3600, "x")
    assert less.sentences < alone.sentences and "on top" not in why
    assert less == tier_within(speed(4e-5), 3600, "x")[0]
    assert map_within(known, 3600) == map_within(speed(1e-5), 3600), "a map has no controls"


@pytest.mark.parametrize("choose", [lambda s, t: tier_within(s, t, "x"), map_within])
def test_sentences_come_before_masks(choose):
    seen = []
    for a_row in (1e-4, 3e-5, 1e-5, 1e-6, 3e-7, 1e-7, 1e-8):
        try:
            tier, why = choose(speed(a_row), 3600)
        except UsageError:
            continue
        seen.append((tier.map_sentences, tier.pairs, tier.sample))
        assert str(tier.map_sentences) in why and "about" in why
        assert tier.fitted(24, 1000).design(24).masks == tier.design(24).masks
        if tier.sample or tier.pairs:
            assert tier.map_sentences == 200
    assert seen == sorted(seen), "a faster machine measures no less"
    assert seen[-1][:2] == (200, True) and not seen[0][1] and len(set(seen)) >= 4


def test_what_is_chosen_fits_and_the_next_larger_would_not():
    slow = speed(1e-5)
    times = [1800.0, 3600.0, 7200.0, 36000.0]
    chosen = [map_within(slow, t)[0] for t in times]
    for seconds, tier in zip(times, chosen, strict=True):
        heads = tier.map_sentences * len(tier.design(24).masks)
        # Nothing is shared at worst: every mask is a pass through all blocks and a head.
        assert slow.seconds(1, 0, heads) < seconds * SPENT
    for less, more in pairwise(chosen):
        assert less.map_sentences <= more.map_sentences


def test_few_sentences_take_the_small_parameters_and_a_corpus_has_no_more_than_it_has():
    assert tier_within(speed(1e-7), 3600, "x")[0].like == "standard"
    small, _ = tier_within(speed(6e-5), 3600, "x")
    assert (small.sentences or 0) < 24 and small.like == "smoke"
    assert small.as_key()["overrides"] == TIERS["smoke"].as_key()["overrides"]
    tier, why = tier_within(speed(1e-8, sentences=30), 3600, "x")
    assert tier.sentences == tier.map_sentences == 30 and "all there are" in why


def test_what_does_not_fit_is_refused_with_what_it_would_take():
    with pytest.raises(UsageError) as caught:
        tier_within(speed(1.0), 60, "x")
    said = str(caught.value)
    assert "too short" in said and "2 sentences" in said and "give --within" in said
    wanted = said.split("give --within ")[1].split(",")[0]
    tier, _ = tier_within(speed(1.0), duration_s(wanted), "x")
    assert tier.sentences == 2, "what it asks for is enough"


def test_all_masks_of_a_deep_model_are_refused_in_words():
    from dataclasses import replace

    everything = replace(TIERS["standard"], complete_map=True)
    with pytest.raises(UsageError, match=r"2\^24.*up to 14 blocks.*--all-masks"):
        everything.fitted(24, 100)
    assert len(everything.fitted(12, 100).design(12).masks) == 4096


# -- what is counted -------------------------------------------------------------------------------

VERSION_2_HEADS = 16_164
"""What the standard tier of version 2 ran of 24 blocks, in head evaluations times sentences, every
plan counted once: 905 masks and 128 more for synergy on 4 sentences, 217 plans of T-002, T-004 and
T-006 on 32 with 27 streamed heads, 78 cells on 8, and 75 passes over 48 sentences of pairs."""


def test_measuring_a_deep_model_costs_no_more_than_declared():
    assert (905 + 128) * 4 + (217 + 27) * 32 + 78 * 8 + 75 * 48 == VERSION_2_HEADS
    found = spent_by(TIERS["standard"], 24, 1000)
    new = in_all(spent for name, spent in found.items() if name != "full precision")
    assert new.heads <= 1.3 * VERSION_2_HEADS


def test_every_plan_is_counted_once_whoever_asks():
    found = spent_by(TIERS["standard"], 24, 1000)
    assert found["T-003"].heads == 0 and found["T-003"].plans == 0
    turned = spent_by(TIERS["standard"], 24, 1000, experiments=CATALOG[::-1])
    assert in_all(turned.values()).heads == in_all(found.values()).heads
    assert in_all(turned.values()).plans == in_all(found.values()).plans
    # Alone an experiment pays for itself.
    (own,) = [e for e in CATALOG if e.id == "T-003"]
    assert spent_by(TIERS["standard"], 24, 1000, experiments=[own])["T-003"].plans == 24


def test_a_ledger_adds_up_in_closed_form():
    ledger, plan = Ledger(3, 10), Plan.uniform("rtn4-g128", 3)
    assert ledger.ask([Asked([plan, Plan.uniform("fp", 3)])]) == Spent(1, 30, 30, 10)
    assert ledger.ask([Asked([plan])]) == Spent(0, 0, 30, 0)
    # Other sentences and another arithmetic are another text; no text is longer than all of it.
    assert ledger.ask([Asked([plan], 4), Asked([plan], 40)]) == Spent(1, 12, 42, 4)
    assert ledger.ask([Asked([plan], 4, exact=True)]) == Spent(1, 12, 12, 4)
    assert ledger.full_precision() == Spent(0, *(2 * [1.125 * 3 * 18]), 2.125 * 18)


def test_more_time_is_more_work():
    tiers = [TIERS[name] for name in ("smoke", "standard", "full")]
    heads = [in_all(spent_by(tier, 24, 1000).values()).heads for tier in tiers]
    assert heads == sorted(heads) and heads[0] < heads[-1] / 50


def test_what_a_store_holds_costs_nothing():
    plan = Plan.uniform("rtn4-g128", 3)
    ledger = Ledger(3, 10, known=lambda n, exact: {plan} if n == 10 else set())
    assert ledger.ask([Asked([plan])]) == Spent(0, 0, 30, 0)
    assert ledger.ask([Asked([plan], 4)]) == Spent(1, 12, 12, 4), "other sentences are not held"
