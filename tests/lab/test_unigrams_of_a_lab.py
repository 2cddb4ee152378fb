"""What unigrams of other text do to scores, to their key and to what was learned."""

from __future__ import annotations

import lzma
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lab_samples import load_tiny, write_corpus

from bitgap.corpora.unigrams import Unigrams, add_one_nats
from bitgap.disparity.audit import audit
from bitgap.disparity.formulas import share_disparity, unigrams_known
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Floats

PLAN = "rtn3-g32"


def lab_of(unigrams: Unigrams | None = None, n: int = 6) -> Lab:
    return Lab.of(load_tiny("llama"), write_corpus(n, ("en", "he")), unigrams=unigrams)


def counts(seed: int = 0, total: int = 60_000) -> Floats:
    rng, types = np.random.default_rng(seed), load_tiny("llama").info.vocabulary
    return rng.multinomial(total, rng.dirichlet(np.full(types, 2.0))).astype(np.int64)


def test_scores_say_what_their_unigrams_rest_on() -> None:
    given = Unigrams("mine", {"he": counts()})
    lab = lab_of(given)
    scores = lab.score([Plan.parse(PLAN, lab.n_blocks)])
    assert scores.unigram_tokens.tolist() == [0, 60_000]
    assert scores.vocabulary == lab.info.vocabulary
    for i, ids in enumerate(lab.text.ids[1]):
        nats = add_one_nats(np.array(ids[1:]), given.counts["he"])
        assert scores.unigram_nats[1, i] == pytest.approx(nats)
    alone = lab_of().score([Plan.parse(PLAN, lab.n_blocks)])
    np.testing.assert_array_equal(scores.unigram_nats[0], alone.unigram_nats[0])
    assert unigrams_known(scores).tolist() == [False, True]
    assert unigrams_known(alone).tolist() == [False, False]


def test_unigrams_are_part_of_the_key_and_nothing_changes_without_them() -> None:
    mine, same, other = (
        Unigrams("x", {"he": counts(0)}),
        Unigrams("y", {"he": counts(0)}),
        Unigrams("x", {"he": counts(1)}),
    )
    keys = [lab_of(given).text_key for given in (None, mine, same, other)]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3
    # Counts of a language that the text has not are nothing to it.
    assert lab_of(Unigrams("x", {"fi": counts()})).text_key == keys[0]
    part = lab_of(mine).spread(4)
    assert part.unigrams is not None and part.text.unigram_tokens.tolist() == [0, 60_000]
    assert part.text_key != lab_of().spread(4).text_key
    assert lab_of(mine).with_shuffled_tokens(0).text.unigram_tokens.tolist() == [0, 60_000]


def test_a_text_stored_before_is_read_and_what_was_learned_is_not_known() -> None:
    lab = lab_of()
    plan = Plan.parse(PLAN, lab.n_blocks)
    lab.score([plan])
    facts, arrays = lab.store.get_text(lab.text_key)
    del arrays["unigram_tokens"], facts["vocabulary"]
    lab.store.put_text(lab.text_key, facts, arrays)
    scores = lab.score([plan])
    assert scores.unigram_tokens is None and scores.vocabulary is None
    report = audit(scores, plan.text, seed=0, draws=50)
    assert report.share_disparity.value is None and report.unigram_tokens is None
    assert "not known" in report.language("he").learned_share.reason
    assert any("not known of any language" in caveat for caveat in report.caveats)


def test_a_folder_is_counted_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    made = write_corpus(3000, ("en", "he"), seed=9).sentences
    for code, lines in made.items():
        text = "\n".join(lines)
        (tmp_path / f"{code}.txt.xz").write_bytes(lzma.compress(text.encode()))
    lab = Lab.from_pretrained(languages="en,he", unigrams=tmp_path)
    assert lab.unigrams is not None and lab.unigrams.name == tmp_path.name
    assert (lab.text.unigram_tokens > 10_000).all()
    shipped = Lab.from_pretrained(languages="en,he")
    assert shipped.unigrams is not None and "bundled counts" in shipped.unigrams.name
    assert (shipped.text.unigram_tokens > 500_000).all()
    assert shipped.text_key != lab.text_key


def test_a_note_of_the_model_is_the_first_caveat() -> None:
    loaded = load_tiny("llama")
    noted = replace(loaded, info=replace(loaded.info, note="rounded before"))
    caveats = [Lab.of(of, write_corpus(6)).audit(PLAN).caveats for of in (noted, loaded)]
    assert caveats[0] == ("Of this model: rounded before", *caveats[1])


@pytest.fixture(scope="module")
def bundled():
    lab = Lab.from_pretrained(languages="en,tr,eu,hi")
    return lab.score([Plan.parse("rtn4-g128", lab.n_blocks)])


def test_the_learned_share_does_not_turn_with_the_amount_of_text(bundled) -> None:
    # Leaving one sentence out, D_share went from −.32 at 31 sentences to −.14 at 95, and with
    # 100,000 tokens a language it is above 0.
    few, many = (
        audit(bundled.select(sentences=range(n)), bundled.plans[0], seed=0, draws=400)
        for n in (31, 95)
    )
    a, b = few.share_disparity, many.share_disparity
    assert a.value > 0 and b.value > 0
    assert a.low <= b.value <= a.high
    for code in bundled.languages:
        small, large = few.language(code).learned, many.language(code).learned
        assert small.low <= large.value <= small.high
    assert many.unigram_tokens == bundled.unigram_tokens.min()
    assert not any("not known" in caveat for caveat in many.caveats)
    assert share_disparity(bundled) == pytest.approx(b.value, abs=0.05)
