"""T-009: planted convergence, closed forms of alignment, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from scipy import stats

from bitgap.errors import UsageError
from bitgap.experiments import t009_convergence as t009
from bitgap.experiments.t009_convergence.alignment import (
    alignment_profile,
    cleaned,
    d_prime,
    planted_d_prime,
    pulled_together,
    shuffled_d_prime,
)
from bitgap.experiments.t009_convergence.judge import _p_best
from bitgap.records import Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.profiles import depths, window_share
from bitgap.stats.similarity import separation
from harness import (
    CHANCE,
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    labels,
)

BLOCKS, SENTENCES = 12, 210
LANGUAGES, SCRIPTS = ("en", "de", "he", "ru"), ("Latn", "Latn", "Hebr", "Cyrl")
IN_WINDOW = 8
# One model's p is the window's share of its blocks, 2 of 12, which α = .05 does not let through.
LENIENT = replace(QUICK, alpha=0.2)


# -- observations whose truth is known ------------------------------------------------------------


def bump(place: float, height: float = 1.0, width: float = 1.0, base: float = 0.5) -> Floats:
    """d′ by depth, (L+1): the embedding's, then a bump over blocks about ``place``."""
    blocks = np.arange(BLOCKS)
    rise = height * np.exp(-(((blocks - place) / width) ** 2) / 2)
    return np.append(base, base + rise)


def apart(rng: np.random.Generator, profile: Floats, languages: int, n: int = SENTENCES) -> Floats:
    """d′ contributions: those of one sentence go together over depths, as they do in earnest."""
    shared = rng.normal(0, 0.7, (1, languages, n))
    return profile[:, None, None] + shared + rng.normal(0, 0.4, (len(profile), languages, n))


def observe(
    seed: int = 0,
    *,
    place: float = IN_WINDOW,
    height: float = 1.0,
    other_scripts: float | None = None,
    untrained: float = 0.0,
    found: int = BLOCKS,
    base: float = 0.5,
    shuffled: float = 0.002,
    n: int = SENTENCES,
) -> Observations:
    """Observations whose d′ peaks at block ``place``, ``height`` above the embedding's."""
    rng = np.random.default_rng(seed)
    a = len(LANGUAGES) - 1
    profile = bump(place, height, base=base)
    made = apart(rng, profile, a, n)
    if other_scripts is not None:
        made[:, 1:] = apart(rng, bump(other_scripts, height), a - 1, n)
    some = np.arange(0, n, max(1, n // 60))
    where = np.arange(20) * BLOCKS // 20
    planted = np.where(where < found, height + base + 1.0, -9.0)[:, None, None]
    hits = (rng.random((BLOCKS + 1, a, n)) < 0.3).astype(float)
    return Observations(
        experiment=t009.ID,
        version=3,
        arrays={
            "separation": made,
            "hits": hits,
            "hits_raw": hits,
            "hits_margin": hits,
            "hits_shuffled": (rng.random(made.shape) < shuffled).astype(float),
            "shuffled": rng.normal(0, 0.7 / np.sqrt(n * a), (199, BLOCKS + 1)),
            "cka": np.full((BLOCKS + 1, a), 0.5),
            "cosine_raw": np.linspace(0.2, 0.9, (BLOCKS + 1) * a).reshape(-1, a),
            "planted_on": some,
            "planted_block": where,
            "planted_separation": planted + rng.normal(0, 0.8, (20, a, len(some))),
            "few_separation": made[..., :36],
            "random_separation": apart(rng, bump(place, untrained), a, 36),
        },
        facts={
            "languages": list(LANGUAGES),
            "scripts": list(SCRIPTS),
            "n_blocks": BLOCKS,
            "n_calibration": n // 3,
            "params": {"sentences": 400},
        },
    )


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_a_planted_peak_in_the_window():
    assert_planted(t009.EXPERIMENT.judge, observe, seeds=range(20), thresholds=LENIENT)


@pytest.mark.parametrize("place", [1, 4, 11])
def test_judge_refutes_a_peak_elsewhere(place):
    assert_planted(
        t009.EXPERIMENT.judge, lambda s: observe(s, place=place), seeds=range(20), label="refuted"
    )


def test_a_flat_profile_is_supported_no_oftener_than_chance():
    # Flat over blocks but clearly above the embedding, so that there is something to locate.
    def make(seed: int) -> Observations:
        flat = observe(seed)
        rng = np.random.default_rng(seed)
        flat.arrays["separation"] = apart(rng, np.append(0.5, np.full(BLOCKS, 1.0)), 3)
        return flat

    found = labels(t009.EXPERIMENT.judge, make, range(10), LENIENT)
    assert found["not testable"] == 0
    assert_null(t009.EXPERIMENT.judge, make, seeds=range(60), thresholds=LENIENT)


def test_the_best_of_many_blocks_is_something_no_oftener_than_declared():
    # 24 blocks that add nothing to their embedding, which has a d′ of its own.
    def p(seed: int, rise: float = 0.0) -> float:
        rng, n = np.random.default_rng(seed), 200
        rises = rng.normal(rise, 0.4, (24, n)) + rng.normal(0, 0.4, (1, n))
        weights = bootstrap_weights(n, 500, seed)
        return _p_best(rises.mean(1), weights @ rises.T / n, rng.normal(0, 1e-6, (199, 25)))

    found = np.array([p(seed) for seed in range(300)])
    assert stats.binom.sf((found < 0.05).sum() - 1, len(found), 0.05) > CHANCE
    assert np.mean([p(seed, 0.3) < 0.05 for seed in range(20)]) == 1.0


def test_shuffled_partners_open_the_gate_no_oftener_than_declared():
    # States without meaning, 24 blocks: whatever the pairing, nothing is there. The embedding is
    # one more such depth, and the gate asks for both of its null distributions.
    n, blocks, opened = 60, 24, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        states = rng.normal(size=(blocks + 1, 2, n + 20, 16))
        profile = alignment_profile(states, np.arange(20), np.arange(20, n + 20), 3, shufflings=99)
        above = (profile["separation"][1:] - profile["separation"][:1]).mean(1)
        weights = bootstrap_weights(n, 300, seed)
        p = _p_best(above.mean(1), weights @ above.T / n, profile["shuffled"])
        opened += p < 0.05
    assert stats.binom.sf(opened - 1, 60, 0.05) > CHANCE


def test_nothing_to_locate_is_not_testable():
    def make(seed: int) -> Observations:
        return observe(seed, height=0.0)

    found = labels(t009.EXPERIMENT.judge, make, range(40), QUICK)
    assert found["supported"] == 0
    assert found["not testable"] >= 34
    finding = t009.EXPERIMENT.judge(observe(height=-0.2), LENIENT)
    assert finding.verdict.label == "not testable"
    assert "nothing to locate" in finding.verdict.reason
    assert finding.verdict.p is None
    assert_presentable(t009.EXPERIMENT, finding)


def test_too_few_test_sentences_are_not_testable_and_say_how_many_are_needed():
    finding = t009.EXPERIMENT.judge(observe(n=60), LENIENT)
    assert finding.verdict.label == "not testable"
    assert "60 test sentences, 200 are needed" in finding.verdict.reason
    assert "some 267 parallel sentences, as 20 of 80" in finding.verdict.reason
    assert "60 test sentences" in finding.sentence
    assert t009.EXPERIMENT.judge(observe(n=200), LENIENT).verdict.label == "supported"


def test_documents_are_resampled_where_they_are_known():
    made = observe()
    alone = t009.EXPERIMENT.judge(made, LENIENT)
    # Sentences of a document share what they have: ten lines of each say no more than one.
    made.arrays["separation"][:] = np.repeat(made.arrays["separation"][..., ::10], 10, axis=-1)
    few = t009.EXPERIMENT.judge(made, LENIENT).estimates["peak_height"]
    made.arrays["documents"] = np.arange(SENTENCES) // 10
    finding = t009.EXPERIMENT.judge(made, LENIENT)
    height = finding.estimates["peak_height"]
    assert height.n == 21 and "documents" in height.method
    assert height.high - height.low > 2 * (few.high - few.low)
    assert alone.estimates["peak_height"].n == SENTENCES
    assert_presentable(t009.EXPERIMENT, finding)


def test_no_block_in_the_window_is_not_testable():
    narrow = replace(LENIENT, window=(0.74, 0.75))
    finding = t009.EXPERIMENT.judge(observe(), narrow)
    assert finding.verdict.label == "not testable"
    assert "none of 12 blocks" in finding.verdict.reason


def test_one_model_cannot_support_at_the_declared_level():
    finding = t009.EXPERIMENT.judge(observe(), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "cannot reach α" in finding.verdict.reason
    assert finding.verdict.p == window_share(BLOCKS, QUICK.window) == 2 / 12


def test_an_interval_that_leaves_the_window_is_inconclusive():
    # Two peaks of one height, in the window and at the end.
    torn = observe()
    torn.arrays["separation"][12] = torn.arrays["separation"][IN_WINDOW + 1][:, ::-1]
    finding = t009.EXPERIMENT.judge(torn, LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert "reaches outside" in finding.verdict.reason or "touches" in finding.verdict.reason


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 9}, "P5"),
        ({"shuffled": 0.2}, "shuffled pairing"),
        ({"untrained": 2.0}, "random-init twin"),
        ({"other_scripts": 2}, "languages of other scripts"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    base = {"place": IN_WINDOW, "height": 1.0}
    assert t009.EXPERIMENT.judge(observe(**base), LENIENT).verdict.label == "supported"
    changed = observe(**{**base, **change})
    if "other_scripts" in change:
        # The language in the reference's script makes the peak, the others have theirs elsewhere.
        changed.arrays["separation"][IN_WINDOW + 1, 0] += 4.0
    finding = t009.EXPERIMENT.judge(changed, LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_same_script_control_is_not_run_where_all_scripts_are_the_same():
    one = observe()
    one.facts["scripts"] = ["Latn"] * 4
    finding = t009.EXPERIMENT.judge(one, LENIENT)
    assert control(finding, "languages of other scripts").passed is None
    assert finding.verdict.label == "supported"


def test_origin_measure_names_its_two_pairs():
    seed = t009.EXPERIMENT.judge(observe(), QUICK).original_measure
    assert seed["cosine_at_peak_de"].value != seed["cosine_at_peak_he"].value
    assert seed["peak_of_cosine_all"].value == 1.0


def test_finding_and_figure_can_be_shown():
    finding = t009.EXPERIMENT.judge(observe(), QUICK)
    assert_presentable(t009.EXPERIMENT, finding)
    figure: Any = t009.EXPERIMENT.figure(finding)
    values = figure["layer"][0]["data"]["values"]
    assert (values[0]["from"], values[0]["to"]) == (0.65 * 11, 0.85 * 11)
    assert finding.tables["profile"][IN_WINDOW]["alignment"] == pytest.approx(1.0, abs=0.15)
    assert depths(BLOCKS)[IN_WINDOW] == finding.estimates["peak_depth"].value


# -- alignment in closed form ---------------------------------------------------------------------


def rotation(rng: np.random.Generator, d: int) -> Floats:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def test_cka_and_retrieval_are_not_interchangeable():
    # Isotropic, and a rotated copy with noise of half its size: CKA 1/(1+σ²) = .8, and yet a
    # sentence finds its partner no oftener than by chance.
    n, d, sigma, draws = 200, 16, 0.5, 8
    cka, found = [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        one = rng.normal(size=(n, d))
        two = one @ rotation(rng, d) + sigma * rng.normal(size=(n, d))
        profile = alignment_profile(np.stack([one, two])[None], np.arange(n), np.arange(n), 0)
        cka.append(profile["cka"][0, 0])
        found.append(profile["hits"][0, 0].mean())
    error = np.std(cka, ddof=1) / np.sqrt(draws)
    assert abs(np.mean(cka) - 0.8) < 4 * error + 1 / n
    # Both ways and alone: at most as often as one way, 1/n.
    assert np.sum(found) * n <= draws + 4 * np.sqrt(draws)


def many_languages(seed: int = 0, meaning: float = 0.0) -> Floats:
    """States of (4 depths x 3 languages x 80 sentences x 12): noise, a language's own mean, and
    a meaning that parallel sentences share."""
    rng = np.random.default_rng(seed)
    own = 4 * rng.normal(size=(4, 3, 1, 12))
    return rng.normal(size=(4, 3, 80, 12)) + own + meaning * rng.normal(size=(4, 1, 80, 12))


CALIBRATION, TEST = np.arange(0, 80, 4), np.setdiff1d(np.arange(80), np.arange(0, 80, 4))


def test_d_prime_of_isotropic_states_is_its_closed_form():
    # x isotropic in d dimensions and x + σ noise: cosines of other pairs have mean 0 and SD 1/√d,
    # those of parallel ones mean 1/√(1 + σ²), so d′ = √(d / (1 + σ²)), to order 1/d.
    n, d, draws = 200, 64, 12
    for sigma in (0.5, 1.0, 3.0):
        found = []
        for seed in range(draws):
            rng = np.random.default_rng(seed)
            one = rng.normal(size=(n, d))
            two = one + sigma * rng.normal(size=(n, d))
            profile = alignment_profile(np.stack([one, two])[None], np.arange(n), np.arange(n), 0)
            found.append(profile["separation"].mean())
        error = np.std(found, ddof=1) / np.sqrt(draws)
        wanted = np.sqrt(d / (1 + sigma**2))
        assert abs(np.mean(found) - wanted) < 4 * error + wanted / d


def test_d_prime_of_states_that_share_nothing_is_0():
    n, d, found = 200, 32, []
    for seed in range(12):
        found.append(d_prime(np.random.default_rng(seed).normal(size=(2, n, d))).mean())
    assert abs(np.mean(found)) < 4 * np.std(found, ddof=1) / np.sqrt(12)


def test_shuffled_d_prime_is_that_of_the_shuffled_pairs():
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(30, 30))
    partners = np.array([rng.permutation(30) for _ in range(5)])
    wanted = [separation(similarity[:, order]).mean() for order in partners]
    np.testing.assert_allclose(shuffled_d_prime(similarity, partners), wanted, rtol=1e-10)


def test_pulling_sentences_together_raises_d_prime_to_the_size_asked_for():
    states = many_languages(meaning=0.5)
    clean = cleaned(states[2], CALIBRATION, TEST, 3)
    own = d_prime(clean).mean()
    assert d_prime(pulled_together(clean, 0.0)).mean() == pytest.approx(own)
    sizes = [d_prime(pulled_together(clean, share)).mean() for share in (0, 0.2, 0.4, 0.8)]
    assert sizes == sorted(sizes)
    for above in (0.5, 1.0):
        planted, share = planted_d_prime(clean, own + above, seed=0)
        assert planted.mean() == pytest.approx(own + above, abs=0.02)
        assert 0 < share < 1
    other, _ = planted_d_prime(clean, own + 1.0, seed=1)
    assert not np.allclose(other, planted)
    assert planted_d_prime(clean, 1e6, seed=0)[1] == 1.0


def test_removing_language_means_cannot_show_where_they_are_removed_already():
    # The method's P5: it moves raw retrieval, and the corrected profile not at all.
    states = many_languages(meaning=1.5)
    levelled = states.copy()
    levelled[2] -= levelled[2].mean(axis=1, keepdims=True)
    before, after = (alignment_profile(s, CALIBRATION, TEST, 3) for s in (states, levelled))
    np.testing.assert_array_equal(after["hits"], before["hits"])
    assert after["hits_raw"][2].mean() > before["hits_raw"][2].mean() + 0.3


def test_wrong_partners_are_found_by_chance_only():
    profile = alignment_profile(many_languages(meaning=6.0), CALIBRATION, TEST, 3)
    assert profile["hits"].mean() > 0.9
    assert profile["hits_shuffled"].mean() < 1 / len(TEST)


# -- on models ------------------------------------------------------------------------------------

SMALL = t009.Params(control_sentences=12, shufflings=49, planted_sentences=18)


def test_random_letters_in_a_random_model_meet_nowhere():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(24, ("en", "de", "he")))
    measured = t009.EXPERIMENT.measure(lab, "rtn4-g32", SMALL)
    assert measured.arrays["hits"].shape == (7, 2, 18)
    assert measured.arrays["random_separation"].shape == (7, 2, 9)
    assert measured.arrays["shuffled"].shape == (49, 7)
    assert measured.arrays["planted_separation"].shape == (20, 2, 18)
    assert measured.facts["scripts"] == ["Latn", "Latn", "Hebr"]
    finding = t009.EXPERIMENT.judge(measured, QUICK)
    assert finding.verdict.label == "not testable"
    assert "18 test sentences, 200 are needed" in finding.verdict.reason
    assert finding.tables["p_best"] > 0.01
    assert_presentable(t009.EXPERIMENT, finding)


def test_planted_convergence_of_a_models_states_is_found_at_every_block():
    lab = make_lab("llama", blocks=5, corpus=write_corpus(100, ("en", "de", "he")))
    measured = t009.EXPERIMENT.measure(lab, "rtn4-g32", replace(SMALL, planted_sentences=75))
    assert sorted(set(measured.arrays["planted_block"].tolist())) == [0, 1, 2, 3, 4]
    found = control(t009.EXPERIMENT.judge(measured, QUICK), "P5")
    assert found.passed is True
    own = measured.arrays["separation"].mean((1, 2))[1:].max()
    risen = measured.arrays["planted_separation"].mean((1, 2)) - own
    np.testing.assert_allclose(risen, 1.0, atol=0.05)  # twice the SESOI


def test_a_part_of_a_text_is_asked_on_as_many_sentences_as_the_whole_has():
    whole = make_lab("gpt2", corpus=write_corpus(32))
    part = whole.spread(8)
    assert part.whole is whole and part.spread(4).whole is whole
    wide = t009.EXPERIMENT.measure(part, "rtn4-g32", replace(SMALL, sentences=400))
    assert wide.arrays["separation"].shape[-1] == 24
    some = t009.EXPERIMENT.measure(part, "rtn4-g32", replace(SMALL, sentences=16))
    assert some.arrays["separation"].shape[-1] == 12
    assert t009.EXPERIMENT.inputs(part) == t009.EXPERIMENT.inputs(whole)
    other = make_lab("gpt2", corpus=write_corpus(33)).spread(8)
    assert t009.EXPERIMENT.inputs(part) != t009.EXPERIMENT.inputs(other)
    # Shuffled tokens and other models are not parts of the text they were made of.
    assert part.with_shuffled_tokens(0).whole is None
    assert part.random_twin().whole is None


def test_too_few_sentences_are_refused_with_what_to_do():
    with pytest.raises(UsageError, match="at least 4"):
        t009.EXPERIMENT.measure(make_lab("gpt2", corpus=write_corpus(2)), "rtn4-g32", t009.Params())
