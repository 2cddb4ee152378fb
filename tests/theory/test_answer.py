"""The answer: planted places, wordings of every hypothesis, and what open questions would take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence_samples import additive
from scipy import stats

from bitgap.codec import to_json
from bitgap.experiments.catalog import CATALOG
from bitgap.records import Estimate, Floats
from bitgap.report.words.theory import answer_sentences
from bitgap.stats.mask_design import original_set
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.answer import PLACES, TRIPLE, place_facts, scope_of, wordings
from bitgap.theory.evidence import Evidence, spread_of
from bitgap.theory.hypotheses import HYPOTHESES
from bitgap.theory.power import MOST, families_needed, least_families
from bitgap.theory.records import Answer

N = 8


def model(family: str, seed: int, k: Floats, apart: Floats) -> Evidence:
    """Returns a model whose blocks do damage k, with S of each block alone given exactly."""
    one = additive(family, seed, n_blocks=N, slope=0.0)
    z = np.array([-1.0, 1.0, -1.0, 1.0])
    single = k[:, None] * one.tokens * np.exp2(apart[:, None] * z)
    damage = (1 - one.protects) @ single
    return replace(one, single=single, damage=damage, n_parameters=3_000_000 * (seed + 1))


def families(spike: float = 8.0, even: float = 0.5) -> list[Evidence]:
    rng = np.random.default_rng(0)
    found = []
    for i, family in enumerate("abcdef"):
        k = 1 + 0.05 * rng.random(N)
        k[0] = spike
        apart = 1 + 0.01 * rng.normal(size=N)
        apart[0] = even
        found.append(model(family, i, k, apart))
    return found


def facts(evidence: list[Evidence]) -> dict[tuple[str, str], float]:
    return {(f.what.split(",")[0], f.place): f.value for f in place_facts(evidence)}


def test_what_was_planted_at_the_first_block_is_told_of_it_and_of_no_other() -> None:
    made = families()
    found = {(f.objective, f.what, f.place): f for f in place_facts(made)}
    share = {f.place: f for (_, what, _), f in found.items() if "single blocks do" in what}
    assert share[PLACES[0]].low > share[PLACES[0]].null
    assert all(share[p].high < share[p].null for p in PLACES[1:])
    alone = {f.place: f for (_, what, _), f in found.items() if what.startswith("S with it alone")}
    assert alone[PLACES[0]].value == pytest.approx(-0.5, abs=0.02)
    assert alone[PLACES[0]].high < 0 and all(alone[p].low < 0.02 for p in PLACES[1:])
    # What is left without the block that was even is less even.
    moved = next(f for f in found.values() if f.what.startswith("change of S"))
    triple = original_set(N)
    by_hand = [
        spread_of(one.single.sum(0) - one.single[triple].sum(0), one.tokens) - one.spread[0]
        for one in made
    ]
    assert moved.place == TRIPLE and moved.value == pytest.approx(np.mean(by_hand))
    assert moved.low > 0


def test_the_sentences_say_which_way_and_of_what() -> None:
    made = families()
    told = to_json(Answer(scope=scope_of(made), places=tuple(place_facts(made)), hypotheses=()))
    damage, gap, why = answer_sentences(told)
    assert "more than its share" in damage and "less than its share" in damage
    assert "(more equal)" in gap and "raises S" in gap
    scope = "in 6 models of 6 families of 3 to 18 million parameters, 8 blocks"
    assert all(scope in sentence for sentence in (damage, gap, why))
    flat = families(spike=1.0, even=1.0)
    told = to_json(Answer(scope=scope_of(flat), places=tuple(place_facts(flat)), hypotheses=()))
    assert "raises S" not in answer_sentences(told)[1]
    assert answer_sentences(told | {"places": []})[0].startswith("Too few families")


def test_checkpoints_of_a_family_weigh_as_one() -> None:
    made = families()
    again = [*made, replace(made[0], model="again", fingerprint="again")]
    assert facts(again) == pytest.approx(facts(made))


def test_where_nothing_is_special_an_interval_says_so_in_one_case_of_twenty() -> None:
    seen = tried = 0
    for world in range(60):
        rng = np.random.default_rng(world)
        made = [
            model(f, i, np.exp(0.5 * rng.normal(size=N)), 1 + 0.2 * rng.normal(size=N))
            for i, f in enumerate("abcdef")
        ]
        for f in place_facts(made):
            if "share of the damage" in f.what or "share of other" in f.what:
                tried += 1
                seen += not f.low <= f.null <= f.high
    # Of one world's numbers some are of the same damage, so that they are not independent.
    assert seen / tried < 0.1


def test_every_hypothesis_has_both_wordings() -> None:
    assert set(wordings()) == set(HYPOTHESES) - {"depth"}
    for words in wordings().values():
        assert {"written", "asked"} <= set(words) <= {"written", "asked", "part"}


def test_a_part_that_answers_the_origin_s_wording_is_one_that_families_have() -> None:
    rules = {e.hypothesis.id: e.rule for e in CATALOG if e.hypothesis.across_families}
    named = {h: words["part"] for h, words in wordings().items() if "part" in words}
    assert set(named) == {"H1.3", "H2.1"}
    for hypothesis, part in named.items():
        rule = rules[hypothesis]
        # A verdict of one statistic alone has no parts.
        told = list(rule.statistics if len(rule.statistics) > 1 else ())
        told += [] if rule.written is None else [rule.written]
        assert sum(part in getattr(one, "name", "") for one in told) == 1, hypothesis


# -- power ----------------------------------------------------------------------------------------


def test_the_least_number_of_families_has_the_power_that_is_asked_for() -> None:
    for effect, spread, sesoi in ((0.6, 0.5, 0.3), (0.0, 0.5, 0.3), (0.1, 0.2, 0.3)):
        n = least_families(effect, spread, sesoi, 0.95)
        assert n is not None
        rates = [decided(effect, spread, sesoi, m) for m in (n, max(n // 2, 2))]
        assert rates[0] >= 0.78
        assert rates[1] < 0.78


def decided(effect: float, spread: float, sesoi: float, m: int) -> float:
    x = np.random.default_rng(m).normal(effect, spread, (4000, m))
    half = stats.t.ppf(0.975, m - 1) * x.std(1, ddof=1) / np.sqrt(m)
    mean = x.mean(1)
    found = (mean - half > 0) & (mean >= sesoi) if effect >= sesoi else mean + half < sesoi
    return float(found.mean())


def test_the_spread_is_read_off_the_interval_on_the_scale_it_was_made_on() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(0.6, 0.4, 9)
    half = stats.t.ppf(0.975, 8) * z.std(ddof=1) / 3
    ends = (float(np.tanh(z.mean() + sign * half)) for sign in (0, -1, 1))
    value, low, high = ends
    estimate = Estimate(
        value=value, low=low, high=high, unit="correlation", n=9,
        method="random-effects t over 9 families on Fisher's z",
    )  # fmt: skip
    needed = families_needed(estimate, 0.3)
    assert needed is not None and needed.towards == "supported"
    assert needed.effect == pytest.approx(z.mean())
    assert needed.spread == pytest.approx(z.std(ddof=1))


def test_what_no_number_of_families_decides_says_so() -> None:
    close = Estimate(
        value=0.299, low=0.1, high=0.498, unit="share", n=6, method="t over 6 families"
    )
    needed = families_needed(close, 0.3)
    assert needed is not None and needed.families is None
    assert least_families(0.299, 0.19, 0.3, 0.95) is None and MOST == 1000
    assert families_needed(replace(close, method="exact binomial over 6 families"), 0.3) is None
    assert load_thresholds().families_min <= MOST
