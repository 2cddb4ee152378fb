"""Verdicts say what is so, in worlds made for each; intervals and their parts are closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from protect_worlds import a_problem
from scipy import stats

from bitgap.codec import decode, encode
from bitgap.errors import PlanError, UsageError
from bitgap.protect.comparators import BLIND, worst_set
from bitgap.protect.example import made_scores
from bitgap.protect.proof import (
    Proof,
    Rival,
    detectable,
    foreseen_detectable,
    gap_change,
    prove,
)
from bitgap.protect.solve import MARGIN
from bitgap.records import Estimate, Floats, Scores

LANGUAGES = ("en", "de", "he", "tr")
N = 200


def scores_of(*effects: list[float], noise: float = 0.05, seed: int = 0, n: int = N) -> Scores:
    """Returns scores of a recipe and rivals; effects are K of each language over the recipe's."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(2, 1, (1, len(LANGUAGES), n))
    own = 1 + noise * rng.normal(size=(1 + len(effects), len(LANGUAGES), n))
    factors = np.array([[1.0] * len(LANGUAGES), *effects])
    names = ["recipe", *(f"plan {i}" for i in range(len(effects)))]
    return made_scores(names, LANGUAGES, base * own * factors[..., None], np.full(n, 50))


def against(scores: Scores, worst: tuple[str, ...] = ("he", "tr"), **how: object) -> Proof:
    rivals = [Rival(name=BLIND, plan="plan 0")]
    return prove(scores, "recipe", rivals, worst, seal="s", split="p", seed=0, draws=500, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("effects", "noise", "verdict"),
    [
        ([1.0, 1.0, 1.2, 1.2], 0.05, "helps, nobody harmed"),
        ([0.99, 1.0, 1.2, 1.2], 0.01, "helps, nobody harmed"),
        ([0.985, 1.0, 1.2, 1.2], 0.2, "helps, harm not excluded"),
        ([0.8, 1.0, 1.2, 1.2], 0.05, "harms"),
        ([1.0, 1.0, 1.0, 1.0], 0.05, "no detectable gain"),
        ([1.0, 1.0, 0.99, 0.99], 0.01, "no detectable gain"),
        ([1.0, 1.0, 0.95, 0.95], 0.01, "harms"),
        ([1.2, 1.2, 1.0, 1.0], 0.05, "no detectable gain"),
    ],
)
def test_verdicts(effects: list[float], noise: float, verdict: str) -> None:
    proof = against(scores_of(effects, noise=noise))
    assert proof.verdict == verdict
    assert verdict in proof.sentence
    (one,) = proof.against
    # What is estimated is what was made, to four standard errors.
    truth = np.log2(effects)
    away = 4 * noise * np.sqrt(2 * 1.5 / N) / np.log(2)
    assert one.gain.value == pytest.approx(truth[2:].mean(), abs=away)
    assert one.mean_gain.value == pytest.approx(np.log2(np.mean(effects)), abs=0.1)
    for code, made in zip(LANGUAGES, truth, strict=True):
        assert one.change[code].value == pytest.approx(-made, abs=away)


def test_harm_is_where_it_was_made() -> None:
    proof = against(scores_of([0.8, 1.0, 1.2, 1.2]))
    assert proof.against[0].harmed == ("en",)
    assert "harm is shown to en" in proof.sentence
    wide = against(scores_of([0.985, 1.0, 1.2, 1.2], noise=0.2)).against[0]
    assert "en" in wide.not_shown
    assert not wide.harmed
    strict = against(scores_of([0.995, 1.0, 1.2, 1.2], noise=0.02), margin=0.0005)
    assert strict.verdict != "helps, nobody harmed"


def test_the_same_plan_gains_nothing_and_harms_nobody() -> None:
    scores = scores_of([1.0, 1.0, 1.0, 1.0])
    kl = scores.kl_nats.copy()
    kl[1] = kl[0]
    proof = against(replace(scores, kl_nats=kl))
    assert proof.verdict == "no detectable gain"
    assert proof.against[0].not_shown == ()
    assert proof.against[0].reason == "both do the same to every sentence"


def test_what_only_the_recipe_ruins_is_harm_and_what_both_ruin_is_left_out() -> None:
    scores = scores_of([1.0, 1.0, 1.2, 1.2])
    for rows, verdict in (((0,), "harms"), ((0, 1), "helps, nobody harmed")):
        nll = scores.nll_nats.copy()
        nll[list(rows), 1] = 2 * scores.unigram_nats[1]
        one = against(replace(scores, nll_nats=nll)).against[0]
        assert one.verdict == verdict
        assert one.left_out["de"].startswith("collapsed under")
        assert ("de" in one.harmed) == (verdict == "harms")
    nll = scores.nll_nats.copy()
    nll[:, 2:] = 2 * scores.unigram_nats[2:]
    one = against(replace(scores, nll_nats=nll)).against[0]
    assert one.gain.reason == "every language of the worst set is left out"
    assert one.verdict == "no detectable gain"


def test_searches_on_permuted_labels_that_gain_as_much_take_a_gain_back() -> None:
    effects = [[1.0, 1.0, 1.2, 1.2]]
    for gained, verdict, p in ((1.0, "helps, nobody harmed", 0.05), (0.7, "no detectable gain", 1)):
        # A placebo whose K is so much of the blind plan's.
        placebos = [[1.0, 1.0, 1.2 * gained, 1.2 * gained]] * 19
        scores = scores_of(*effects, *placebos)
        names = [(f"plan {i}", ("he", "tr")) for i in range(1, 20)]
        proof = against(scores, placebo=names)
        assert proof.placebo is not None
        assert proof.placebo.p == pytest.approx(p)
        assert proof.verdict == verdict
        assert len(proof.placebo.gains) == 19
        # The same plans, found for languages in which they gain nothing.
        elsewhere = against(scores, placebo=[(name, ("en", "de")) for name, _ in names])
        assert elsewhere.verdict == "helps, nobody harmed"


def test_random_plans_are_counted() -> None:
    scores = scores_of([1.0] * 4, *[[2.0] * 4] * 8, [0.5] * 4)
    proof = against(scores, random=[f"plan {i}" for i in range(1, 10)])
    assert proof.random is not None
    assert proof.random.p == pytest.approx(0.2)
    assert proof.random.n == 9


def test_optimism_is_what_the_search_text_gains_more() -> None:
    confirm, search = scores_of([1.0, 1.0, 1.1, 1.1]), scores_of([1.0, 1.0, 1.3, 1.3], seed=1)
    one = against(confirm, search=search).against[0]
    assert one.optimism == pytest.approx(np.log2(1.3 / 1.1), abs=0.03)
    assert against(confirm).against[0].optimism is None


def test_documents_widen_intervals() -> None:
    """Sentences of a document that are alike are fewer than they seem."""
    rng = np.random.default_rng(0)
    scores = scores_of([1.0, 1.0, 1.2, 1.2], noise=0.0)
    shared = np.repeat(1 + 0.1 * rng.normal(size=(2, 4, 20)), N // 20, axis=-1)
    scores = replace(scores, kl_nats=scores.kl_nats * shared)
    clustered = replace(scores, documents=np.repeat(np.arange(20), N // 20))
    alone, together = (against(one).against[0].gain for one in (scores, clustered))
    assert alone.value == together.value
    assert _width(together) > 2 * _width(alone)
    assert against(clustered).n_units == 20


def _width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_a_proof_is_a_record_and_the_same_each_time() -> None:
    scores = scores_of([1.0, 1.0, 1.2, 1.2])
    one, two = against(scores), against(scores)
    assert one == two
    assert decode(Proof, encode(one)) == one


def test_without_a_blind_plan_it_is_said_that_languages_were_not_tested() -> None:
    scores = scores_of([1.5, 1.5, 1.5, 1.5])
    proof = prove(
        scores, "recipe", [Rival(name="uniform", plan="plan 0")], ["he"], seal="", split="", seed=0,
        draws=200,
    )  # fmt: skip
    assert proof.verdict is None
    assert "Against uniform: helps, nobody harmed" in proof.sentence
    assert "no language-blind plan was scored" in proof.sentence


def test_what_was_not_scored_is_named() -> None:
    scores = scores_of([1.0] * 4)
    with pytest.raises(PlanError, match="plan 'plan 7' was not scored"):
        prove(scores, "recipe", [Rival(name="x", plan="plan 7")], ["he"], seal="", split="", seed=0)
    for worst in ([], ["fr"]):
        with pytest.raises(UsageError, match="the worst set is"):
            prove(scores, "recipe", [], worst, seal="", split="", seed=0)


# -- parts ----------------------------------------------------------------------------------------


def test_the_gap_needs_eight_languages_and_is_pitmans_and_morgans() -> None:
    rng = np.random.default_rng(0)
    few = gap_change(rng.normal(size=7), rng.normal(size=7))
    assert few.low is None
    assert "not testable: languages are the units, and 7 are fewer than 8" in (few.reason or "")
    x, y = rng.normal(size=12), rng.normal(size=12)
    found = gap_change(x, y)
    # The interval leaves out 0 exactly where sum and difference correlate.
    p = stats.pearsonr(x + y, x - y).pvalue
    for factor in np.geomspace(0.2, 5, 30):
        scaled = gap_change(factor * x, y)
        assert scaled.low is not None
        assert scaled.high is not None
        q = stats.pearsonr(factor * x + y, factor * x - y).pvalue
        assert (q < 0.05) == (not scaled.low <= 0 <= scaled.high)
    assert found.value == pytest.approx(np.log2(x.std() / y.std()))
    assert 0 < p <= 1
    same = gap_change(x, x)
    assert same.value == same.low == same.high == 0
    assert gap_change(np.ones(9), x[:9]).value is None


def test_the_gap_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        common = rng.normal(size=12)
        ours, other = 0.5 * (common + 0.4 * rng.normal(size=12)), common + 0.4 * rng.normal(size=12)
        found = gap_change(ours, other)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= -1 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_what_is_detectable_is_found_in_four_of_five() -> None:
    """At the detectable effect a normal estimate's interval is above 0 in 80 %."""
    estimate = Estimate(value=0.0, low=-1.96, high=1.96, unit="", reason=None)
    effect = detectable(estimate)
    assert effect is not None
    assert stats.norm.sf(1.96 - effect) == pytest.approx(0.8, abs=1e-3)
    assert detectable(Estimate(value=0.0, unit="", reason="none")) is None


def test_what_is_foreseen_is_what_is_seen() -> None:
    """The smallest gain that is told beforehand is that of the interval that comes."""
    rng = np.random.default_rng(0)
    problem = a_problem(0, n_parts=3)
    noise = rng.gamma(20, 1 / 20, (4, 3, 1, 400))
    bits = np.where(problem.allowed, problem.damage_bits, 0.0)[..., None] * noise
    one, two = problem.cheapest, problem.dearest[:1] + problem.cheapest[1:]
    parts = np.arange(3)
    on = [bits[:, parts, np.array(p)].sum(1) for p in (one, two)]
    half: Floats = np.array(on)[..., :200]
    scores = made_scores(["recipe", "plan 0"], LANGUAGES, half, np.full(200, 50))
    seen = against(scores).against[0].detectable
    foreseen = foreseen_detectable(bits[..., 200:], one, two, [2, 3], 200)
    assert seen == pytest.approx(foreseen, rel=0.25)
    assert foreseen_detectable(bits, one, one, [2], 100) == 0


def test_the_worst_set_is_a_quarter_rounded_up() -> None:
    for n_languages, size in ((1, 1), (4, 1), (5, 2), (9, 3), (12, 3)):
        problem = a_problem(0, n_languages=n_languages, n_parts=6)
        worst = worst_set(problem, problem.cheapest)
        shares = problem.damage_of(problem.cheapest) / problem.uniform_bits
        assert len(worst) == size
        order = [problem.languages[i] for i in np.argsort(-shares)[:size]]
        assert set(worst) == set(order)
    assert MARGIN == 0.02
