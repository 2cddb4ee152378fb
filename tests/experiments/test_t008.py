"""T-008: morphology planted in states and in damage, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import counted_blocks, make_lab, write_corpus
from scipy import stats

from bitgap.experiments import t008_morphology as t008
from bitgap.experiments.t008_morphology import twins
from bitgap.experiments.t008_morphology.causal import (
    contrast_estimates,
    contrast_p,
    equivalence_p,
    group_contrast,
    inside_less_outside,
    planted_contrast,
    window_of,
    without_each_block,
)
from bitgap.experiments.t008_morphology.lens import margins as margins_of
from bitgap.experiments.t008_morphology.matched_pairs import choose_items
from bitgap.experiments.t008_morphology.probed import Probed
from bitgap.experiments.t008_morphology.sources import sources
from bitgap.experiments.t008_morphology.tagged_words import sample_words
from bitgap.experiments.t008_morphology.twins import pushed_margins
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Floats, Observations
from bitgap.stats.best_block import p_best_by_draws
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.profiles import depths
from grammar_samples import sample_grammar
from harness import (
    CHANCE,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    labels,
)
from harness import QUICK as DECLARED

BLOCKS, ITEMS, WORDS = 12, 100, 150
LANGUAGES, RICH = ("en", "fr", "he", "fi"), (False, False, True, True)
IN_WINDOW = 8
# The declared rules on fewer words than are declared, so that many data can be made.
QUICK = replace(
    DECLARED,
    hypotheses={
        **DECLARED.hypotheses,
        "H3.2": {**DECLARED.hypotheses["H3.2"], "words_min": 40},
    },
)
# One model's p is the window's share of its blocks, 2 of 12, which α = .05 does not let through.
LENIENT = replace(QUICK, alpha=0.2)


# -- observations whose truth is known ------------------------------------------------------------


def accuracies(place: float, height: float = 0.3, base: float = 0.6) -> Floats:
    """Accuracy by site, (L+1): the embedding's, then a bump over blocks about ``place``."""
    rise = height * np.exp(-((np.arange(BLOCKS) - place) ** 2) / 2)
    return np.append(base, base + rise)


def named(rng: np.random.Generator, profile: Floats, n: int) -> Any:
    return rng.random((len(profile), n)) < profile[:, None]


def margins(rng: np.random.Generator, effect: float, items: int = ITEMS, noise: float = 0.2):
    """Margins of which agreement in rich languages loses ``effect`` nats more in the window."""
    full = rng.normal(2.0, 1.0, (2, len(RICH), items))
    lost = rng.normal(0.1, noise, (BLOCKS, 2, len(RICH), items))
    inside = window_of(BLOCKS, QUICK.window)
    rich = np.flatnonzero(RICH)
    lost[np.ix_(inside, [0], rich)] += effect
    return np.concatenate([full[None], full - lost])


def observe(
    seed: int = 0,
    *,
    place: float = IN_WINDOW,
    height: float = 0.3,
    effect: float = 0.2,
    found: int = BLOCKS,
    broken: float = 3.0,
    untrained: float = 0.0,
    untrained_effect: float = 0.0,
    leaks: float = 0.0,
    english: float = 0.0,
    items: int = ITEMS,
    words: int = WORDS,
) -> Observations:
    """Number peaks at block ``place``, and rounding the window costs ``effect`` nats."""
    rng = np.random.default_rng(seed)
    n, few = words * len(RICH), np.arange(3 * words)
    of, units = np.repeat(np.arange(len(RICH)), words), np.arange(n) // 2
    real, drawn = rng.integers(0, 2, n), rng.integers(0, 2, n)
    chance = np.full(BLOCKS + 1, 0.48)
    margin = margins(rng, effect, items)
    margin[1:][np.ix_(window_of(BLOCKS, QUICK.window), [0], [0])] -= english
    blocks = np.flatnonzero(window_of(BLOCKS, QUICK.window))[np.arange(20) % 2]
    planted = margin[1 + blocks][:, 0, 2:] - broken
    return Observations(
        experiment=t008.ID,
        version=2,
        arrays={
            "Number_hits": named(rng, accuracies(place, height), n),
            "Number_control_hits": named(rng, chance + leaks, n),
            "Number_labels": real,
            "Number_control": drawn,
            "Number_units": units,
            "Number_languages": of,
            "code_bits": np.full((BLOCKS + 1, len(RICH)), 90.0),
            "label_bits": np.full(len(RICH), 149.0),
            "uniform_bits": np.full(len(RICH), 150.0),
            "few": few,
            "shuffled_labels": real[few],
            "shuffled_hits": named(rng, chance, len(few)),
            "random_hits": named(rng, accuracies(place, untrained), len(few)),
            "random_control_hits": named(rng, chance, len(few)),
            "written_hits": named(rng, np.where(np.arange(BLOCKS) < found, 1.0, 0.4), len(few)),
            "written_control_hits": named(rng, chance[1:], len(few)),
            "margin": margin,
            "lens_tuned": np.cumsum(rng.random((BLOCKS + 1, len(RICH), items)), axis=0),
            "lens_logit": np.cumsum(rng.random((BLOCKS + 1, len(RICH), items)), axis=0),
            "item_tokens": np.full((2, len(RICH), items), 6.0),
            "random_margin": margins(rng, untrained_effect, items),
            "broken_margin": planted,
            "broken_block": blocks,
        },
        facts={
            "n_blocks": BLOCKS,
            "params": {"features": ["Number", "Gender"], "plantings": 20, "planted_height": 0.1},
            "sources": {"agreement": "sample"},
            "word_languages": list(LANGUAGES),
            "word_rich": list(RICH),
            "item_languages": list(LANGUAGES),
            "item_rich": list(RICH),
            "left_out": {},
            "excluded": {},
            "seed_pair": {"language": "he", "good": "a", "bad": "b", "margin": 0.0},
        },
    )


def without(observations: Observations, *starts: str) -> Observations:
    kept = {k: v for k, v in observations.arrays.items() if not k.startswith(starts)}
    return replace(observations, arrays=kept)


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_morphology_that_is_told_and_used_in_the_window():
    assert_planted(t008.EXPERIMENT.judge, observe, seeds=range(20), thresholds=LENIENT)


@pytest.mark.parametrize("place", [1, 4, 11])
def test_judge_refutes_a_peak_elsewhere(place):
    assert_planted(
        t008.EXPERIMENT.judge,
        lambda s: observe(s, place=place),
        seeds=range(10),
        label="refuted",
        thresholds=QUICK,
    )


def test_a_peak_without_the_causal_part_is_encoded_and_not_used():
    def make(seed: int) -> Observations:
        return observe(seed, effect=0.0, items=120)

    assert_planted(
        t008.EXPERIMENT.judge, make, seeds=range(10), label="inconclusive", thresholds=LENIENT
    )
    reasons = [t008.EXPERIMENT.judge(make(seed), LENIENT).verdict.reason for seed in range(10)]
    assert sum("encoded, not used" in reason for reason in reasons) >= 8


def test_damage_without_a_peak_in_the_window_is_refuted_only_where_breakage_shows():
    # Two peaks of one height: the higher is outside, and the interval reaches into the window.
    def torn(seed: int, **changes: Any) -> Observations:
        made = observe(seed, place=4, effect=0.0, items=120, **changes)
        rng = np.random.default_rng(seed + 999)
        made.arrays["Number_hits"][1 + IN_WINDOW] = rng.random(WORDS * 4) < 0.89
        return made

    found = [t008.EXPERIMENT.judge(torn(seed), LENIENT) for seed in range(10)]
    outside = [f for f in found if f.estimates["peak_depth"].value == depths(BLOCKS)[4]]
    assert len(outside) >= 2
    assert sum(f.verdict.label == "refuted" for f in outside) >= 0.5 * len(outside)
    blind = [t008.EXPERIMENT.judge(torn(seed, broken=0.0), LENIENT) for seed in range(10)]
    caught = [f for f in blind if "d_z" in f.verdict.reason]
    assert all(f.verdict.label != "refuted" for f in caught)


def test_nothing_anywhere_is_supported_no_oftener_than_declared():
    # Number is told as well by every block, better than by the embedding; nothing costs agreement.
    def make(seed: int) -> Observations:
        flat = observe(seed, effect=0.0)
        rng = np.random.default_rng(seed + 10**6)
        flat.arrays["Number_hits"] = named(rng, np.append(0.6, np.full(BLOCKS, 0.8)), WORDS * 4)
        return flat

    found = labels(t008.EXPERIMENT.judge, make, range(40), LENIENT)
    assert found["not testable"] == 0
    assert_null(t008.EXPERIMENT.judge, make, seeds=range(40), thresholds=LENIENT)


def test_nothing_above_the_embedding_is_not_testable():
    finding = t008.EXPERIMENT.judge(observe(height=-0.05), LENIENT)
    assert finding.verdict.label == "not testable"
    assert "nothing to locate" in finding.verdict.reason
    assert finding.verdict.p is None
    assert_presentable(t008.EXPERIMENT, finding)


def test_languages_with_fewer_words_than_declared_are_not_probed():
    made = observe()
    finding = t008.EXPERIMENT.judge(made, DECLARED)
    assert finding.verdict.label == "not testable"
    assert "1,500 tagged words with Number: en 150, fr 150, he 150" in finding.verdict.reason
    assert control(finding, "P6").passed is None
    assert_presentable(t008.EXPERIMENT, finding)
    # Of one language half the words are gone, and with them the language.
    few = made.arrays["few"]
    keep = (made.arrays["Number_languages"] != 3) | (np.arange(WORDS * 4) % 4 == 0)
    for name in list(made.arrays):
        if name.startswith("Number_"):
            made.arrays[name] = made.arrays[name][..., keep]
    assert keep[few].all()
    enough = replace(
        LENIENT,
        hypotheses={**LENIENT.hypotheses, "H3.2": {**LENIENT.of("H3.2"), "words_min": 100}},
    )
    finding = t008.EXPERIMENT.judge(made, enough)
    assert finding.verdict.label == "supported"
    assert "fi words (37 of the 100 that are needed)" in finding.sentence
    assert finding.tables["words"] == 3 * WORDS


def test_the_best_of_many_blocks_is_something_no_oftener_than_declared():
    # 24 blocks that tell number as well as the embedding and no better; words answer alike at all.
    def told(seed: int, rise: float = 0.0) -> bool:
        rng, n = np.random.default_rng(seed), 600
        easy = rng.random((1, n)) < 0.5
        hits = np.where(
            easy, True, rng.random((25, n)) < 0.5 + np.append(0, np.full(24, rise))[:, None]
        )
        probed = Probed(hits, np.zeros_like(hits), np.arange(n) // 2, np.arange(n) % 3)
        drawn = probed.selectivity(bootstrap_weights(n // 2, 300, seed))
        sites = probed.selectivity()[0]
        return p_best_by_draws(sites[1:] - sites[0], drawn[:, 1:] - drawn[:, :1]) < 0.05

    opened = sum(told(seed) for seed in range(150))
    assert stats.binom.sf(opened - 1, 150, 0.05) > CHANCE
    assert all(told(seed, 0.2) for seed in range(10))


def test_a_planted_contrast_is_of_the_size_asked_for_and_found_at_this_design():
    rng, rich = np.random.default_rng(0), np.array(RICH)
    own = rng.normal(0, 0.2, (4, 24))
    nothing = own - own.mean(1, keepdims=True)
    push = rng.normal(1.0, 0.5, (2, 24))
    planted = planted_contrast(nothing, push, rich, 0.6)
    theta, size = group_contrast(planted, rich)(np.ones((1, 24)))[0]
    assert size == pytest.approx(0.6, abs=1e-4) and theta > 0
    np.testing.assert_array_equal(planted[~rich], nothing[~rich])
    # Too few items to see a contrast of twice the SESOI: nothing may be refuted with them.
    few = control(t008.EXPERIMENT.judge(observe(items=4), LENIENT), "agreement broken")
    many = control(t008.EXPERIMENT.judge(observe(items=60), LENIENT), "agreement broken")
    assert few.passed is False and many.passed is True


def test_d_z_without_each_block_is_that_of_the_others():
    margin, rich = margins(np.random.default_rng(3), 0.3), np.array(RICH)
    left_out = without_each_block(margin, rich, QUICK)
    assert list(left_out) == [f"without block {block}" for block in range(BLOCKS)]
    kept = np.delete(np.arange(BLOCKS), 4)
    values = inside_less_outside(
        margin[np.append(0, 1 + kept)], window_of(BLOCKS, QUICK.window)[kept]
    )
    wanted = group_contrast(values, rich)(np.ones((1, ITEMS)))[0, 1]
    assert left_out["without block 4"].value == pytest.approx(wanted)
    assert equivalence_p(margins(np.random.default_rng(3), 0.0, 400), rich, QUICK) < 0.05
    assert equivalence_p(margins(np.random.default_rng(3), 0.5, 400), rich, QUICK) > 0.9


def test_no_block_in_the_window_is_not_testable():
    finding = t008.EXPERIMENT.judge(observe(), replace(LENIENT, window=(0.74, 0.75)))
    assert finding.verdict.label == "not testable"
    assert "none of 12 blocks" in finding.verdict.reason


def test_one_model_cannot_support_at_the_declared_level():
    finding = t008.EXPERIMENT.judge(observe(), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "cannot reach α" in finding.verdict.reason


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 6}, "planted effects were missed: P6"),
        ({"untrained": 0.4}, "random-init twin"),
        ({"leaks": 0.15}, "control task"),
        ({"untrained_effect": 0.5}, "random-init twin, rounded"),
        ({"english": 0.5, "effect": 0.8}, "English alone"),
        ({"broken": -3.0}, "no positive control was detected"),
        ({"effect": 0.0}, "causal contrast, d_z is"),
    ],
)
def test_each_control_and_part_alone_keeps_support_back(change, clause):
    assert t008.EXPERIMENT.judge(observe(), LENIENT).verdict.label == "supported"
    finding = t008.EXPERIMENT.judge(observe(**change), LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_shuffled_labels_that_are_known_keep_support_back():
    made = observe()
    made.arrays["shuffled_hits"][:] = True
    finding = t008.EXPERIMENT.judge(made, LENIENT)
    assert control(finding, "shuffled labels").passed is False
    assert "shuffled labels" in finding.verdict.reason


def test_without_pairs_the_probe_alone_may_refute_and_not_support():
    def bare(place: int) -> Observations:
        made = without(observe(place=place), "margin", "lens", "item_", "random_margin", "broken")
        return replace(made, facts={**made.facts, "item_languages": [], "item_rich": []})

    inside, outside = (
        t008.EXPERIMENT.judge(bare(IN_WINDOW), LENIENT),
        t008.EXPERIMENT.judge(bare(2), LENIENT),
    )
    assert inside.verdict.label == "inconclusive"
    assert "no minimal pairs" in inside.verdict.reason
    assert inside.estimates["contrast_d_z"].value is None
    assert outside.verdict.label == "refuted"
    assert control(inside, "agreement broken").passed is None
    for finding in (inside, outside):
        assert_presentable(t008.EXPERIMENT, finding)


def test_languages_of_one_kind_have_no_contrast():
    made = observe()
    made.arrays["broken_margin"] = np.repeat(made.arrays["broken_margin"], 2, axis=1)
    facts = {**made.facts, "item_rich": [True] * 4, "word_rich": [True] * 4}
    finding = t008.EXPERIMENT.judge(replace(made, facts=facts), LENIENT)
    assert finding.estimates["contrast_d_z"].value is None
    assert finding.estimates["rich_less_other"].value is None
    assert finding.verdict.label == "inconclusive"
    assert_presentable(t008.EXPERIMENT, finding)


def test_without_words_there_is_nothing_to_judge():
    probe = ("Number", "few", "shuffled", "random_hits", "random_control", "written")
    made = without(observe(), *probe, "code", "label", "uniform")
    finding = t008.EXPERIMENT.judge(replace(made, facts={**made.facts, "seed_pair": None}), LENIENT)
    assert finding.verdict.label == "not testable"
    assert finding.original_measure["p_correct"].value is None
    assert_presentable(t008.EXPERIMENT, finding)
    nothing = without(made, "margin", "lens", "item_", "random_margin", "broken", "code", "label")
    assert_presentable(t008.EXPERIMENT, t008.EXPERIMENT.judge(nothing, LENIENT))


def test_origin_measure_is_of_one_pair_and_no_block():
    made = observe()
    made.facts["seed_pair"]["margin"] = float(np.log(3))
    seed = t008.EXPERIMENT.judge(made, QUICK).original_measure
    assert list(seed) == ["p_correct"]
    assert seed["p_correct"].value == pytest.approx(0.75)


def test_figure_has_a_panel_for_probe_readout_and_damage():
    finding = t008.EXPERIMENT.judge(observe(), QUICK)
    figure: Any = t008.EXPERIMENT.figure(finding)
    assert len(figure["concat"]) == 3
    assert {row["language"] for row in finding.tables["codes"]} == set(LANGUAGES)


# -- the contrast in closed form ------------------------------------------------------------------


def test_contrast_is_the_planted_difference_in_differences():
    # Effect e in half of the languages; D = mean in − mean out: θ = e, and an item's spread is
    # that of two means of 2 and 10 blocks of agreement and as many of lexical pairs.
    rng, effect, noise, items = np.random.default_rng(0), 0.3, 0.2, 20000
    margin, rich = margins(rng, effect, items, noise), np.array(RICH)
    statistic = group_contrast(inside_less_outside(margin, window_of(BLOCKS, QUICK.window)), rich)
    theta, size = statistic(np.ones((1, items)))[0]
    spread = noise * np.sqrt(2 * (1 / 2 + 1 / 10))
    error = spread / np.sqrt(items)
    assert abs(theta - effect) < 4 * error
    assert abs(size - effect / spread) < 4 / np.sqrt(items) * (1 + effect / spread)


def test_contrast_without_effect_keeps_its_rate():
    ps = [contrast_p(margins(np.random.default_rng(s), 0.0), np.array(RICH), QUICK)
          for s in range(200)]  # fmt: skip
    assert np.mean(np.array(ps) < 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)
    found = [contrast_estimates(margins(np.random.default_rng(s), 0.2), np.array(RICH), QUICK)[0]
             for s in range(40)]  # fmt: skip
    covered = [e.low is not None and e.high is not None and e.low <= 0.2 <= e.high for e in found]
    assert sum(covered) >= 30


def test_what_all_languages_or_both_kinds_of_pairs_lose_cancels():
    margin, rich = margins(np.random.default_rng(1), 0.0), np.array(RICH)
    inside = window_of(BLOCKS, QUICK.window)
    theta = contrast_estimates(margin, rich, QUICK)[0].value
    shared = margin.copy()
    shared[1:][inside] -= 0.7  # every pair
    shared[1:, 0] -= 0.4  # agreement, at every block
    np.testing.assert_allclose(contrast_estimates(shared, rich, QUICK)[0].value, theta, atol=1e-12)


# -- on models ------------------------------------------------------------------------------------

SMALL = t008.Params(
    features=("Number",),
    fewest_words=6,
    folds=2,
    items=6,
    control_items=4,
    broken_items=4,
    pushes=4,
)


def lab_of(grammar: Any = None, languages: tuple[str, ...] = LANGUAGES, blocks: int = 5) -> Lab:
    lab = make_lab("llama", blocks=blocks, corpus=write_corpus(8, languages))
    lab.grammar = grammar or sample_grammar(languages)  # type: ignore[attr-defined]
    return lab


@pytest.fixture(scope="module")
def measured() -> Observations:
    return t008.EXPERIMENT.measure(lab_of(), "rtn3-g32", SMALL)


def test_the_last_blocks_lens_is_the_model_itself(measured):
    made = measured
    assert made.arrays["Number_hits"].shape == (6, 4 * 48)
    assert made.arrays["margin"].shape == (6, 2, 4, 6)
    assert made.arrays["lens_tuned"].shape == (6, 4, 6)
    np.testing.assert_allclose(
        made.arrays["lens_tuned"][-1], made.arrays["margin"][0, 0], atol=1e-4
    )


def test_labels_written_into_a_models_states_are_found_at_every_block(measured):
    found = control(t008.EXPERIMENT.judge(measured, QUICK), "P6")
    assert found.passed is True
    assert "20 of 20" in found.detail


def test_agreement_is_pushed_towards_the_wrong_form_in_rich_languages(measured):
    arrays = measured.arrays
    rich, few = np.array(RICH), arrays["broken_margin"].shape[-1]
    assert arrays["broken_margin"].shape == (4, 2, 4)
    assert set(arrays["broken_block"]) == {3}
    rounded = arrays["margin"][1 + arrays["broken_block"]][:, 0, rich, :few]
    assert (arrays["broken_margin"] - rounded).mean() < 0


def test_a_push_grows_with_its_strength_and_vanishes_without():
    lab = lab_of()
    found = sources(lab)
    items = choose_items(lab, found.agreement, found.lexical, n_items=4, fewest=2, seed=0)
    alone = margins_of(lab, items.pairs, [Plan.parse("rtn3-g32 protect 0,1,2,4", 5)])[0]
    none, some, more = (
        pushed_margins(lab, items.pairs, "rtn3-g32", [3], size)[0] for size in (0.0, 0.05, 0.5)
    )
    np.testing.assert_allclose(none, alone, atol=1e-4)
    assert alone.mean() > some.mean() > more.mean()


def test_cost_is_what_a_measurement_runs(monkeypatch):
    """Counts sequences through blocks, each text against its own part of the cost line."""
    lab, n = lab_of(), 5
    found = sources(lab)
    words = sample_words(
        lab, found.tagged, per_language=600, per_type=4, features=("Number",), seed=0
    )
    monkeypatch.setattr(twins, "_broken", lambda *_: {})
    blocks = counted_blocks(lab, monkeypatch)
    t008.EXPERIMENT.measure(lab, "rtn3-g32", SMALL)
    text, pairs = lab.text.counts.tokens.size, 2 * 2 * 2 * 4 * SMALL.items
    rounded = n * (n + 1) // 2 + n - 1
    one_pair = 2 * n
    assert (
        blocks()
        == n * text + n * len(words.ids) + (n + rounded) * pairs + n * pairs // 2 + one_pair
    )
    assert t008.EXPERIMENT.cost is not None
    assert t008.EXPERIMENT.cost.block_evaluations(n) == n + n + (n + rounded) + n


def test_what_a_set_lacks_is_borrowed_from_the_bundled_one():
    grammar = sample_grammar(("en", "he"))
    agreement = {c: tuple(p for p in ps if p.phenomenon != "lexical")
                 for c, ps in grammar.pairs.items()}  # fmt: skip
    bare = replace(grammar, pairs=agreement, tagged={c: () for c in agreement}, fingerprint="x")
    found = sources(lab_of(bare, ("en", "he")))
    assert found.names == {"agreement": "sample", "lexical": "bundled", "words": "bundled"}
    assert all(len(found.lexical[code]) > 50 for code in ("en", "he"))
    assert set(found.tagged) == {"en", "he"}
    whole = sources(lab_of(grammar, ("en", "he")))
    assert set(whole.names.values()) == {"sample"}
    assert whole.fingerprints != found.fingerprints


def test_a_language_that_the_text_tells_by_region_or_script_meets_its_pairs_and_words():
    grammar = sample_grammar(("en", "he"))
    pairs, tagged = (
        {"he-IL" if code == "he" else code: of_it for code, of_it in kind.items()}
        for kind in (grammar.pairs, grammar.tagged)
    )
    found = sources(lab_of(replace(grammar, pairs=pairs, tagged=tagged), ("en", "he")))
    assert set(found.agreement) == set(found.tagged) == {"en", "he"}
    assert found.agreement["he"] == sources(lab_of(grammar, ("en", "he"))).agreement["he"]


def test_languages_with_too_few_words_or_items_are_named():
    grammar = sample_grammar()
    few = {**grammar.tagged, "fi": grammar.tagged["fi"][:3]}
    pairs = {**grammar.pairs, "fr": grammar.pairs["fr"][:8]}
    made = t008.EXPERIMENT.measure(
        lab_of(replace(grammar, tagged=few, pairs=pairs)), "rtn3-g32", SMALL
    )
    assert set(made.facts["left_out"]) == {"fi words", "fr pairs"}
    finding = t008.EXPERIMENT.judge(made, QUICK)
    assert "Left out: fi words (too few of two values of Number)" in finding.sentence
    assert finding.sentence.endswith(".")
    assert finding.tables["left_out"] == made.facts["left_out"]


def test_languages_of_either_kind_can_be_limited():
    found = sources(lab_of(), per_kind=1)
    assert set(found.tagged) == set(found.agreement) == {"en", "he"}


def test_a_text_without_a_language_of_the_tests_is_not_testable():
    lab = lab_of(languages=("en", "he"))
    lab.grammar = sample_grammar(("fi",))  # type: ignore[attr-defined]
    made = t008.EXPERIMENT.measure(lab, "rtn3-g32", SMALL)
    finding = t008.EXPERIMENT.judge(made, QUICK)
    assert finding.verdict.label == "not testable"
    assert_presentable(t008.EXPERIMENT, finding)


def test_grammar_tests_are_part_of_the_key():
    one, other = lab_of(), lab_of(sample_grammar(LANGUAGES, seed=1))
    assert t008.EXPERIMENT.inputs(one) != t008.EXPERIMENT.inputs(other)
    assert t008.EXPERIMENT.inputs(one) == t008.EXPERIMENT.inputs(lab_of())
