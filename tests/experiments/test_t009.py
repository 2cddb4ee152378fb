"""T-009: planted convergence, closed forms of alignment, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus

from bitgap.errors import UsageError
from bitgap.experiments import t009_convergence as t009
from bitgap.experiments.t009_convergence.alignment import alignment_profile, pulled_together
from bitgap.records import Floats, Observations
from bitgap.stats.profiles import depths, window_share
from harness import (
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    labels,
)

BLOCKS, SENTENCES = 12, 60
LANGUAGES, SCRIPTS = ("en", "de", "he", "ru"), ("Latn", "Latn", "Hebr", "Cyrl")
IN_WINDOW = 8
# One model's p is the window's share of its blocks, 2 of 12, which α = .05 does not let through.
LENIENT = replace(QUICK, alpha=0.2)


# -- observations whose truth is known ------------------------------------------------------------


def bump(place: float, height: float = 0.5, width: float = 1.0, base: float = 0.1) -> Floats:
    """Retrieval by depth, (L+1): the embedding's, then a bump over blocks about ``place``."""
    blocks = np.arange(BLOCKS)
    rise = height * np.exp(-(((blocks - place) / width) ** 2) / 2)
    return np.append(base, base + rise)


def hits(rng: np.random.Generator, profile: Floats, languages: int, n: int = SENTENCES) -> Floats:
    return (rng.random((len(profile), languages, n)) < profile[:, None, None]).astype(float)


def observe(
    seed: int = 0,
    *,
    place: float = IN_WINDOW,
    height: float = 0.5,
    other_scripts: float | None = None,
    untrained: float = 0.0,
    found: int = BLOCKS,
    separation: float | None = None,
    base: float = 0.1,
    shuffled: float = 0.002,
) -> Observations:
    """Observations whose retrieval peaks at block ``place``, ``height`` above the embedding's."""
    rng = np.random.default_rng(seed)
    a = len(LANGUAGES) - 1
    profile = bump(place, height, base=base)
    made = hits(rng, profile, a)
    if other_scripts is not None:
        made[:, 1:] = hits(rng, bump(other_scripts, height), a - 1)
    d_prime = np.where(np.arange(BLOCKS + 1) == 1 + (separation or 0), 3.0, 1.0)
    apart = d_prime[:, None, None] + rng.normal(0, 0.3, made.shape)
    planted = np.ones_like(made)
    planted[1 + found :] = 0.0
    return Observations(
        experiment=t009.ID,
        version=2,
        arrays={
            "hits": made,
            "hits_raw": hits(rng, profile / 2, a),
            "hits_margin": hits(rng, profile, a),
            "hits_shuffled": hits(rng, np.full(BLOCKS + 1, shuffled), a),
            "separation": apart,
            "cka": np.full((BLOCKS + 1, a), 0.5),
            "cosine_raw": np.linspace(0.2, 0.9, (BLOCKS + 1) * a).reshape(-1, a),
            "planted_hits": planted,
            "planted_separation": np.where(planted > 0, 9.0, -9.0),
            "few_hits": made[..., :20],
            "few_separation": apart[..., :20],
            "random_hits": hits(rng, bump(place, untrained), a, 20),
            "random_separation": 0.1 * rng.normal(size=(BLOCKS + 1, a, 20)),
        },
        facts={
            "languages": list(LANGUAGES),
            "scripts": list(SCRIPTS),
            "n_blocks": BLOCKS,
            "n_calibration": 20,
            "params": {"wanted_sentences": 200},
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
        flat.arrays["hits"] = hits(rng, np.append(0.1, np.full(BLOCKS, 0.4)), 3)
        return flat

    found = labels(t009.EXPERIMENT.judge, make, range(100), LENIENT)
    assert found["not testable"] == 0
    assert_null(t009.EXPERIMENT.judge, make, seeds=range(100), thresholds=LENIENT)


def test_nothing_to_locate_is_not_testable():
    def make(seed: int) -> Observations:
        return observe(seed, height=0.0, base=0.02)

    found = labels(t009.EXPERIMENT.judge, make, range(40), LENIENT)
    assert found["supported"] == 0
    assert found["not testable"] >= 20
    finding = t009.EXPERIMENT.judge(observe(height=-0.05), LENIENT)
    assert finding.verdict.label == "not testable"
    assert "nothing to locate" in finding.verdict.reason
    assert finding.verdict.p is None
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
    torn.arrays["hits"][12] = torn.arrays["hits"][IN_WINDOW + 1][:, ::-1]
    finding = t009.EXPERIMENT.judge(torn, LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert "reaches outside" in finding.verdict.reason or "touches" in finding.verdict.reason


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 9}, "planted effects were missed: P5"),
        ({"shuffled": 0.2}, "shuffled pairing"),
        ({"untrained": 0.9}, "random-init twin"),
        ({"other_scripts": 2}, "languages of other scripts"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    base = {"place": IN_WINDOW, "height": 0.5}
    assert t009.EXPERIMENT.judge(observe(**base), LENIENT).verdict.label == "supported"
    changed = observe(**{**base, **change})
    if "other_scripts" in change:
        # The language in the reference's script makes the peak, the others have theirs elsewhere.
        changed.arrays["hits"][IN_WINDOW + 1, 0] = 1.0
        changed.arrays["hits"][3, 1:] *= np.arange(SENTENCES) % 2
    finding = t009.EXPERIMENT.judge(changed, LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_where_retrieval_saturates_the_peak_is_that_of_separation():
    full = observe(base=0.999, height=0.0, separation=3)
    finding = t009.EXPERIMENT.judge(full, QUICK)
    assert finding.tables["measure"] == "separation"
    assert finding.estimates["peak_depth"].value == depths(BLOCKS)[3]
    assert finding.verdict.label == "refuted"
    assert_presentable(t009.EXPERIMENT, finding)


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


def test_pulling_sentences_together_at_one_depth_is_seen_there_and_only_there():
    plain = alignment_profile(many_languages(), CALIBRATION, TEST, 3)
    pulled = alignment_profile(pulled_together(many_languages(), 2, 0.8), CALIBRATION, TEST, 3)
    for name in ("hits", "separation"):
        gained = (pulled[name] - plain[name]).mean((1, 2))
        assert gained[2] > 0.3
        np.testing.assert_array_equal(np.delete(gained, 2), 0)


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


def test_random_letters_in_a_random_model_meet_nowhere():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(24, ("en", "de", "he")))
    measured = t009.EXPERIMENT.measure(lab, "rtn4-g32", t009.Params(control_sentences=12))
    assert measured.arrays["hits"].shape == (7, 2, 18)
    assert measured.arrays["random_hits"].shape == measured.arrays["few_hits"].shape == (7, 2, 9)
    assert measured.facts["scripts"] == ["Latn", "Latn", "Hebr"]
    finding = t009.EXPERIMENT.judge(measured, QUICK)
    # Random letters in a random model mean nothing, so nothing meets anywhere.
    assert finding.verdict.label == "not testable"
    assert_presentable(t009.EXPERIMENT, finding)
    assert "fewer than the 200" in finding.sentence


def test_planted_convergence_of_a_models_states_is_found_at_every_block():
    lab = make_lab("llama", blocks=5, corpus=write_corpus(24, ("en", "de", "he")))
    measured = t009.EXPERIMENT.measure(lab, "rtn4-g32", t009.Params(control_sentences=12))
    found = control(t009.EXPERIMENT.judge(measured, QUICK), "P5")
    assert found.passed is True
    assert "5 of 5" in found.detail


def test_too_few_sentences_are_refused_with_what_to_do():
    with pytest.raises(UsageError, match="at least 4"):
        t009.EXPERIMENT.measure(make_lab("gpt2", corpus=write_corpus(2)), "rtn4-g32", t009.Params())
