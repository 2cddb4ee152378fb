"""Margins and lenses: the last block's is the model's, and a suffix tells what the whole does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lab_samples import log_probabilities, make_lab, quantized_copy, write_corpus

from bitgap.corpora.grammar.pairs import MinimalPair
from bitgap.experiments.t008_morphology.lens import fit_lens, lens_margins, margins, ridge_map
from bitgap.experiments.t008_morphology.matched_pairs import (
    NOTHING_BEFORE,
    SAME_TOKENS,
    TOO_LONG,
    UNKNOWN,
    choose_items,
    tokenize_pairs,
)
from bitgap.lab.engine.tree import PlanTree
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from grammar_samples import sample_grammar

SCHEME = "rtn3-g32"


def pair(good: str, bad: str, *, phenomenon: str = "number", item: str = "i", template: str = "t"):
    return MinimalPair(
        language="en", phenomenon=phenomenon, template=template, good=good, bad=bad, critical=0,
        item=item,
    )  # fmt: skip


PAIRS = [
    pair("the dogs bark", "the dogs barks"),
    pair("a cat on mats sits here", "a cat on mats sit here"),
    pair("abc", "xbc"),
]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lab(request: pytest.FixtureRequest) -> Lab:
    return make_lab(request.param, blocks=5, corpus=write_corpus(12))


def plans(lab: Lab) -> list[Plan]:
    n = lab.n_blocks
    alone = [Plan.uniform(SCHEME, n, set(range(n)) - {j}) for j in range(n)]
    return [Plan.uniform("fp", n), *alone]


# -- tokens ---------------------------------------------------------------------------------------


def test_pairs_are_scored_from_the_first_token_that_differs(lab):
    tokens, kept, why = tokenize_pairs(lab, PAIRS)
    assert kept.tolist() == [0, 1, 2]
    assert why == {}
    # The BOS in front; "barks" is longer than the end of "bark".
    assert tokens.first.tolist() == [len("the dogs bark") + 1, len("a cat on mats sit") + 1, 1]
    assert tokens.scored.tolist() == [1, 11, 6]
    two = tokens.select([2, 0])
    assert two.ids == (*tokens.ids[4:6], *tokens.ids[0:2])
    assert two.first.tolist() == [1, 14]


def test_pairs_that_cannot_be_used_are_counted(lab):
    tokenizer = lab.loaded.tokenizer
    tokenizer.unk_token_id = 3 + ord("?") % 61
    tokenizer_size = [tokenizer(["?"], add_special_tokens=False).input_ids[0][0]]
    tokenizer.unk_token_id = tokenizer_size[0]
    try:
        bad = [pair("same", "same"), pair("a" * 60, "a" * 59 + "b"), pair("a ?", "a b")]
        _, kept, why = tokenize_pairs(lab, bad + PAIRS[:1])
    finally:
        del tokenizer.unk_token_id
    assert kept.tolist() == [3]
    assert why == {SAME_TOKENS: 1, TOO_LONG: 1, UNKNOWN: 1}


def test_without_a_bos_the_first_token_cannot_be_scored():
    mine = make_lab("llama", corpus=write_corpus(4))
    mine = Lab.of(mine.loaded, mine.corpus, prefix="none")
    _, kept, why = tokenize_pairs(mine, PAIRS)
    assert kept.tolist() == [0, 1]
    assert why == {NOTHING_BEFORE: 1}
    assert tokenize_pairs(mine, [])[0].n_pairs == 0


# -- margins --------------------------------------------------------------------------------------


def by_hand(lab: Lab, plan: Plan) -> list[float]:
    """Full-sentence log-probabilities of a copy of the model with its weights exchanged."""
    model = quantized_copy(lab.decoder, plan)
    tokens, _, _ = tokenize_pairs(lab, PAIRS)
    logs = []
    for ids in tokens.ids:
        found = log_probabilities(model, ids)
        logs.append(float(found.gather(1, torch.tensor(ids[1:])[:, None]).sum()))
    return [a - b for a, b in zip(logs[::2], logs[1::2], strict=True)]


def test_margin_is_that_of_whole_sentences_under_every_plan(lab):
    tokens, _, _ = tokenize_pairs(lab, PAIRS)
    found = margins(lab, tokens, plans(lab))
    wanted = np.array([by_hand(lab, plan) for plan in plans(lab)])
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    whole = replace(tokens, first=np.ones_like(tokens.first))
    np.testing.assert_allclose(margins(lab, whole, plans(lab)), found, atol=1e-4)


def test_full_precision_is_run_once_for_all_plans(lab):
    tokens, _, _ = tokenize_pairs(lab, PAIRS)
    before = (lab.ledger.block_rows, lab.ledger.asked_block_rows)
    margins(lab, tokens, plans(lab))
    run, asked = lab.ledger.block_rows - before[0], lab.ledger.asked_block_rows - before[1]
    n = lab.n_blocks
    # One pass for full precision itself, n(n+1)/2 blocks after the rounded one, n − 1 before it.
    assert PlanTree(plans(lab)[1:]).work().block_evaluations == n * (n + 1) // 2 + n - 1
    assert asked * (n + n * (n + 1) // 2 + n - 1) == run * n * (n + 1)


# -- lenses ---------------------------------------------------------------------------------------


def test_both_lenses_at_the_last_block_are_the_model_itself(lab):
    tokens, _, _ = tokenize_pairs(lab, PAIRS)
    own = margins(lab, tokens, plans(lab)[:1])[0]
    tuned, logit = lens_margins(lab, tokens, fit_lens(lab, 0.1))
    assert tuned.shape == logit.shape == (lab.n_blocks + 1, 3)
    np.testing.assert_array_equal(tuned[-1], own)
    np.testing.assert_array_equal(logit[-1], own)
    assert np.abs(tuned[0] - logit[0]).max() > 1e-3


def test_a_lens_without_freedom_adds_a_constant_to_the_logit_lens(lab):
    lens = fit_lens(lab, 1e9)
    assert np.abs(lens.weight).max() < 1e-6
    assert np.abs(lens.bias[0]).max() > 0
    assert not lens.bias[-1].any()


def test_tuned_lens_predicts_the_last_state_better_than_the_logit_lens(lab):
    lens, seen = fit_lens(lab, 0.01), lab.activations()
    calibration, _ = lab.corpus.split()
    mine = np.isin(seen.sentence, calibration)
    last = seen.states[lab.n_blocks][mine]
    for site in range(lab.n_blocks):
        states = torch.from_numpy(np.array(seen.states[site][mine]))
        left = ((lens.read(site, states).numpy() - last) ** 2).sum()
        assert left < ((states.numpy() - last) ** 2).sum()


def test_ridge_map_recovers_a_planted_map_and_shrinks_to_the_mean():
    rng = np.random.default_rng(0)
    x, a, b = rng.normal(size=(400, 6)), rng.normal(size=(6, 3)), np.array([1.0, 2.0, 3.0])
    weight, bias = ridge_map(x, x @ a + b, 1e-9)
    np.testing.assert_allclose(weight, a, atol=1e-6)
    np.testing.assert_allclose(bias, b, atol=1e-6)
    weight, bias = ridge_map(x, x @ a + b, 1e9)
    np.testing.assert_allclose(weight, 0, atol=1e-6)
    np.testing.assert_allclose(bias, (x @ a + b).mean(0), atol=1e-6)
    assert not ridge_map(x[:1], x[:1], 0.1)[0].any()


# -- which pairs are run --------------------------------------------------------------------------


def split(languages=("en", "he", "fi", "fr"), n_items=12):
    grammar = sample_grammar(languages, n_items=n_items)
    real = {c: [p for p in ps if p.phenomenon != "lexical"] for c, ps in grammar.pairs.items()}
    control = {c: [p for p in ps if p.phenomenon == "lexical"] for c, ps in grammar.pairs.items()}
    return real, control


def test_every_language_has_as_many_items_and_both_mirrors_of_each(lab):
    items = choose_items(lab, *split(), n_items=8, fewest=4, seed=0)
    assert items.n_items == 8
    assert items.languages == ("en", "he", "fi", "fr")
    counts = np.bincount(items.owner, minlength=2 * 4 * 8).reshape(2, 4, 8)
    np.testing.assert_array_equal(counts, 2)
    values = np.arange(items.pairs.n_pairs, dtype=float)
    means = items.by_item(values[None])[0]
    assert means.shape == (2, 4, 8)
    first = [p for p, owner in enumerate(items.owner) if owner == 0]
    assert means[0, 0, 0] == values[first].mean()
    for place, text in zip(items.owner, items.texts, strict=True):
        kind, row, _ = np.unravel_index(place, (2, 4, 8))
        assert (text.phenomenon == "lexical") == bool(kind)
        assert text.language == items.languages[row]


def test_the_first_items_are_the_first_of_each_language_and_kind(lab):
    items = choose_items(lab, *split(), n_items=8, fewest=4, seed=0)
    few = items.first(3)
    values = np.random.default_rng(0).normal(size=items.pairs.n_pairs)
    kept = [p for p, owner in enumerate(items.owner) if owner % 8 < 3]
    np.testing.assert_array_equal(few.by_item(values[kept]), items.by_item(values)[..., :3])
    assert few.texts == tuple(items.texts[p] for p in kept)
    assert items.first(99).n_items == 8


def test_lexical_items_are_as_long_as_they_can_be(lab):
    real = [pair(f"a{'b' * k}s", f"a{'b' * k}xyz"[: k + 2], item=f"i{k}") for k in (2, 9)]
    control = [
        pair(f"c{'d' * k}s", f"c{'d' * k}x", phenomenon="lexical", item=f"l{k}") for k in (9, 5, 2)
    ]
    items = choose_items(lab, {"en": real}, {"en": control}, n_items=2, fewest=1, seed=0)
    matched = {
        items.texts[a].item[1:]: items.texts[b].item[1:]
        for a, b in zip(range(0, 4, 2), range(1, 4, 2), strict=True)
    }
    assert matched == {"2": "2", "9": "9"}


def test_phenomena_and_templates_take_turns(lab):
    real = [
        pair(f"a{i}", f"b{i}", phenomenon=name, template=template, item=f"{name}{template}{i}")
        for name, template, n in (("number", "x", 30), ("number", "y", 3), ("gender", "x", 3))
        for i in range(n)
    ]
    control = [pair(f"c{i}", f"d{i}", phenomenon="lexical", item=f"l{i}") for i in range(40)]
    items = choose_items(lab, {"en": real}, {"en": control}, n_items=9, fewest=1, seed=0)
    strata = [(t.phenomenon, t.template) for t in items.texts if t.phenomenon != "lexical"]
    assert {strata.count(s) for s in set(strata)} == {3}


def test_a_language_with_too_few_items_is_left_out_and_told(lab):
    real, control = split()
    real["fi"], control["fr"] = real["fi"][:4], []
    items = choose_items(lab, real, control, n_items=8, fewest=4, seed=0)
    assert items.languages == ("en", "he")
    assert set(items.left_out) == {"fi", "fr"}
    assert "0 of them with a lexical match" in items.left_out["fr"]
    none = choose_items(lab, {}, {}, n_items=8, fewest=4, seed=0)
    assert none.n_items == 0
    assert none.first(3).n_items == 0
