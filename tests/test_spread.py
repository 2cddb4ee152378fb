"""S and its intervals: formulas, coverage, nulls; what may change when text is told anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bitgap.disparity.audit import audit
from bitgap.disparity.compare import compare
from bitgap.disparity.formulas import (
    Sums,
    damage_bits,
    log_from_mean,
    mean_absolute_log_ratio,
    spread,
    spread_draws,
)
from bitgap.disparity.layer_map import make_map
from bitgap.records import Floats, Scores
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.mask_design import make_design
from bitgap.stats.spreads import inverted_spread
from score_samples import make_scores, random_scores

LANGUAGES, DRAWS, CHANCE = 8, 300, 1e-3


def deviations(spread_wanted: float) -> Floats:
    """Returns log2 damages per token of eight languages with this spread."""
    x = np.random.default_rng(5).normal(size=LANGUAGES)
    return spread_wanted * (x - x.mean()) / x.std()


def text(seed: int, s: float, n: int, *, documents: int | None = None, plans: int = 1) -> Scores:
    """Returns n sentences drawn from a world in which S is known; plan b has .7 of a's S.

    Noise of a sentence is that of real text: a factor shared by languages and one of each
    language's own, and with documents one more that a language's sentences of a document share.
    """
    rng = np.random.default_rng([seed, n, round(1000 * s)])
    tokens = rng.integers(8, 40, (LANGUAGES, n))
    noise = rng.gamma(4, 1 / 4, n) * rng.gamma(4, 1 / 4, (LANGUAGES, n))
    ids = None
    if documents is not None:
        ids = np.unique(rng.integers(0, documents, n), return_inverse=True)[1]
        noise = noise * rng.gamma(4, 1 / 4, (LANGUAGES, documents))[:, ids]
    o = deviations(s)
    levels = [0.2 * 2**o, 0.1 * 2 ** (0.7 * o)][:plans]
    own = rng.gamma(25, 1 / 25, (plans, LANGUAGES, n)) if plans > 1 else 1.0
    kl = np.array(levels)[..., None] * noise * own
    unigram = np.full((LANGUAGES, n), 1e6)
    made = make_scores(kl, tokens=tokens, unigram=unigram, floor_nats=1e-12)
    return made if ids is None else replace(made, documents=ids)


# ------------------------------------------------------------------------------- closed forms


def test_s_is_the_root_of_the_mean_square_off_the_mean_in_both_units():
    scores = random_scores(languages=5)
    kl, tokens = scores.kl_nats.sum(-1), scores.counts.tokens.sum(-1)
    for per, logs in (("token", np.log2(kl / tokens)), ("text", np.log2(kl))):
        wanted = logs.std(-1)
        np.testing.assert_allclose(spread(scores, per=per), wanted, rtol=1e-12)
        off = log_from_mean(scores, per=per)
        np.testing.assert_allclose(off, logs - logs.mean(-1, keepdims=True), atol=1e-12)
        np.testing.assert_allclose((off**2).mean(-1) ** 0.5, wanted, rtol=1e-12)
        found = audit(scores, "plan1", seed=0, draws=50)
        name = "spread" if per == "token" else "spread_per_text"
        assert getattr(found, name).value == pytest.approx(wanted[1], rel=1e-12)
    ratios = np.log2(kl / tokens) - np.log2(kl / tokens)[:, :1]
    wanted = np.abs(ratios[:, 1:]).mean(-1)
    np.testing.assert_allclose(mean_absolute_log_ratio(scores), wanted, rtol=1e-12)


def test_draws_of_s_are_what_the_truth_would_have_to_be():
    rng = np.random.default_rng(0)
    off = rng.normal(size=(2, 5))
    off -= off.mean(-1, keepdims=True)
    drawn = off + 0.1 * rng.normal(size=(50, 2, 5))
    drawn -= drawn.mean(-1, keepdims=True)
    t = inverted_spread(off, drawn, np.array([5, 5]))
    s = off.std(-1)
    # With spread t along the direction seen, this resample's errors give the spread that was seen.
    again = t[..., None] * off / s[:, None] + (drawn - off)
    np.testing.assert_allclose((again**2).mean(-1) ** 0.5, np.broadcast_to(s, t.shape), rtol=1e-12)


def test_without_noise_draws_are_s_itself_and_with_nothing_but_noise_they_reach_zero():
    scores = random_scores(languages=4)
    once = np.ones((2, scores.n_sentences))
    drawn = spread_draws(Sums(scores, once))
    np.testing.assert_allclose(drawn, np.tile(spread(scores), (2, 1)), rtol=1e-12)
    even = text(0, 0.0, 40)
    drawn = spread_draws(Sums(even, bootstrap_weights(40, 200, 0)))
    assert np.quantile(drawn, 0.025) == 0.0


# -------------------------------------------------------------------------------- coverage, nulls


COVERAGE = [(8, 0.5, None), (16, 0.5, None), (200, 0.5, None), (16, 0.05, None), (64, 0.05, None),
            (200, 0.5, 20), (200, 0.5, 40)]  # fmt: skip


@pytest.mark.parametrize(("n", "s", "documents"), COVERAGE)
def test_intervals_of_s_cover_the_truth(n: int, s: float, documents: int | None) -> None:
    held, times = 0, 60
    for seed in range(times):
        scores = text(seed, s, n, documents=documents)
        found = audit(scores, "plan0", seed=seed, draws=DRAWS).spread
        held += found.low <= s <= found.high
        assert found.low <= found.value <= found.high
    assert stats.binom.cdf(held, times, 0.93) > CHANCE, held


@pytest.mark.parametrize("documents", [None, 30])
def test_intervals_of_a_change_cover_the_truth(documents: int | None) -> None:
    held, times, n, s = 0, 60, 64, 0.3
    for seed in range(times):
        scores = text(seed, s, n, documents=documents, plans=2)
        found = compare(scores, "plan0", "plan1", seed=seed, draws=DRAWS).spread_change
        held += found.low <= -0.3 * s <= found.high
    assert stats.binom.cdf(held, times, 0.92) > CHANCE, held


def test_where_s_is_the_same_a_change_is_claimed_no_oftener_than_it_may_be():
    claims, times = 0, 80
    for seed in range(times):
        scores = text(seed, 0.3, 48)
        own = np.random.default_rng([seed, 1]).gamma(25, 1 / 25, (2, LANGUAGES, 48))
        same = np.concatenate([scores.kl_nats, 0.5 * scores.kl_nats]) * own
        nll = np.concatenate([scores.nll_nats] * 2)
        two = replace(scores, plans=("plan0", "plan1"), kl_nats=same, nll_nats=nll)
        claims += compare(two, "plan0", "plan1", seed=seed, draws=DRAWS).claim != "inconclusive"
    assert stats.binom.sf(claims - 1, times, 0.05) > CHANCE, claims


def test_languages_that_are_damaged_alike_leave_nothing_to_explain():
    opened, times = 0, 80
    for seed in range(times):
        found = audit(text(seed, 0.0, 60), "plan0", seed=seed, draws=DRAWS)
        assert found.nothing_to_explain is (found.spread.low == 0.0)
        opened += not found.nothing_to_explain
    assert stats.binom.sf(opened - 1, times, 0.05) > CHANCE, opened
    assert not audit(text(0, 0.5, 60), "plan0", seed=0, draws=DRAWS).nothing_to_explain


# --------------------------------------------------------- what may change, and what may not


MAP = make_design(3)
CODES = ("en", "de", "he", "fi")


def mapped(**others: Any) -> Scores:
    """Returns scores of all masks of three blocks in four languages."""
    rng = np.random.default_rng(3)
    harm = rng.gamma(3, 0.03, (3, 4))
    left = np.array([[[m >> b & 1 == 0 for b in range(3)]] for m in MAP.masks])[:, 0] @ harm
    kl = left[..., None] * rng.gamma(6, 1 / 6, (4, 30)) * rng.gamma(50, 1 / 50, (8, 4, 30))
    tokens = rng.integers(8, 40, (4, 30))
    characters = rng.integers(40, 120, (4, 30))
    made = make_scores(kl, 0.9 * kl, tokens=tokens, characters=characters, languages=CODES)
    return replace(made, **others)


def numbers(scores: Scores) -> dict[str, Any]:
    """Returns what audit, comparison and map say of these scores."""
    whole, kept = scores.plans[0], scores.plans[1]
    return {
        "audit": audit(scores, whole, seed=0, draws=DRAWS),
        "change": compare(scores, whole, kept, seed=0, draws=DRAWS),
        "map": make_map(scores, "rtn4-g128", MAP),
    }


WHOLE = numbers(mapped())


def test_a_language_dropped_changes_s_to_that_of_the_others_and_no_language_s_damage():
    scores = mapped()
    rest = scores.select(languages=["en", "de", "fi"])
    found = numbers(rest)
    for one in found["audit"].languages:
        before = WHOLE["audit"].language(one.language)
        same(one.damage, before.damage)
        same(one.damage_per_token, before.damage_per_token)
        same(one.log_ratio, before.log_ratio)
    sums = scores.kl_nats[:-1].sum(-1)  # where all is protected there is no damage
    logs = np.log2(sums / scores.counts.tokens.sum(-1))[:, [0, 1, 3]]
    assert found["audit"].spread.value == pytest.approx(logs[0].std(), rel=1e-12)
    assert found["audit"].spread.value != WHOLE["audit"].spread.value
    assert found["change"].spread_change.value == pytest.approx(logs[1].std() - logs[0].std())
    falls = [row.spread_fall.value for row in found["map"].blocks]
    assert falls == pytest.approx([logs[0].std() - logs[1 << b].std() for b in range(3)])


def test_languages_in_another_order_permute_and_change_nothing():
    turned = numbers(mapped().select(languages=["he", "en", "fi", "de"]))
    assert [one.language for one in turned["audit"].languages] == ["he", "en", "fi", "de"]
    for one in turned["audit"].languages:
        same(one.damage, WHOLE["audit"].language(one.language).damage)
        same(one.log_from_mean, WHOLE["audit"].language(one.language).log_from_mean)
    for name in ("spread", "spread_per_text", "disparity", "gap", "mean_absolute_log_ratio"):
        same(getattr(turned["audit"], name), getattr(WHOLE["audit"], name))
    for name in ("spread_change", "spread_per_text_change", "disparity_change", "gap_change"):
        same(getattr(turned["change"], name), getattr(WHOLE["change"], name))
    assert turned["change"].claim == WHOLE["change"].claim
    for a, b in zip(turned["map"].blocks, WHOLE["map"].blocks, strict=True):
        same(a.spread_fall, b.spread_fall)
        same(a.single.spread, b.single.spread)
        same(a.shapley["damage"], b.shapley["damage"])


def same(one: Any, other: Any) -> None:
    ours, theirs = (one.value, one.low, one.high), (other.value, other.low, other.high)
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_sentences_in_another_order_change_no_estimate():
    order = np.random.default_rng(0).permutation(30)
    turned = numbers(mapped().select(sentences=order))
    for name in ("spread", "spread_per_text", "disparity", "gap"):
        ours, theirs = getattr(turned["audit"], name), getattr(WHOLE["audit"], name)
        assert ours.value == pytest.approx(theirs.value, rel=1e-12)
    change = turned["change"].spread_change.value
    assert change == pytest.approx(WHOLE["change"].spread_change.value, rel=1e-9)
    for a, b in zip(turned["map"].blocks, WHOLE["map"].blocks, strict=True):
        assert a.spread_fall.value == pytest.approx(b.spread_fall.value, rel=1e-9, abs=1e-12)
        assert a.protected.damage.value == pytest.approx(b.protected.damage.value, rel=1e-12)


def test_another_reference_leaves_s_per_token_to_the_bit_and_changes_d_and_the_unit_of_k():
    german = replace(mapped(), reference="de")
    found = numbers(german)
    assert found["audit"].spread == WHOLE["audit"].spread
    assert found["audit"].reference == "de"
    same(found["audit"].spread_per_text, WHOLE["audit"].spread_per_text)
    assert found["change"].spread_change == WHOLE["change"].spread_change
    assert found["change"].claim == WHOLE["change"].claim
    for a, b in zip(found["map"].blocks, WHOLE["map"].blocks, strict=True):
        assert a.spread_fall == b.spread_fall
        assert a.single.spread == b.single.spread and a.protected.spread == b.protected.spread
    assert found["map"].origin.rank_spread == WHOLE["map"].origin.rank_spread
    # D is against another language, and K in bits per character of that language's text.
    assert found["audit"].disparity.value != WHOLE["audit"].disparity.value
    lengths = mapped().counts.characters.sum(-1)
    for one in found["audit"].languages:
        before = WHOLE["audit"].language(one.language)
        ratio = one.damage.value / before.damage.value
        assert ratio == pytest.approx(lengths[0] / lengths[1], rel=1e-12)
        assert one.damage_per_token == before.damage_per_token
        assert one.damage.unit == "bits per reference character"
    np.testing.assert_array_equal(spread(german), spread(mapped()))
    assert not np.allclose(damage_bits(german), damage_bits(mapped()))
    # English left out altogether: the same as dropping any language.
    rest = numbers(german.select(languages=["de", "he", "fi"]))
    assert rest["audit"].language("he").damage == found["audit"].language("he").damage
