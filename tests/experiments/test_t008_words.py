"""States of tagged words: the right token, every site, balanced types, and what is left out."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import make_lab, write_corpus

from bitgap.corpora.grammar.pairs import TaggedSentence
from bitgap.experiments.t008_morphology.tagged_words import (
    NO_TOKEN,
    TOO_LONG,
    UNKNOWN,
    sample_words,
    word_states,
)
from bitgap.lab.lab import Lab
from grammar_samples import sample_grammar


def tagged(*words: str, number: str = "Sing", features: dict[str, str] | None = None):
    text = " ".join(words)
    starts = [sum(len(w) + 1 for w in words[:i]) for i in range(len(words))]
    given = {"Number": number} if features is None else features
    return TaggedSentence(
        language="en", words=words, text=text, lemmas=words, features=tuple(given for _ in words),
        spans=tuple((a, a + len(w)) for a, w in zip(starts, words, strict=True)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Lab:
    return make_lab("gpt2", blocks=4, corpus=write_corpus(6))


def sample(lab: Lab, sentences: Any, **changes: Any) -> Any:
    given = {"per_language": 100, "per_type": 4, "seed": 0, **changes}
    return sample_words(lab, sentences, **given)


def test_states_are_those_of_a_words_last_token_at_every_site(lab):
    grammar = sample_grammar(("en", "he"), n_items=4)
    words = sample(lab, grammar.tagged)
    states = word_states(lab, words)
    assert states.shape == (lab.n_blocks + 1, len(words.sentence), lab.decoder.width)
    model: Any = lab.decoder.model
    for n in range(0, len(words.sentence), 5):
        ids, at = words.ids[words.sentence[n]], words.position[n]
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for site in range(lab.n_blocks):
            np.testing.assert_allclose(states[site, n], hidden[site][0, at].numpy(), atol=1e-5)
        # What transformers calls the last hidden state has been through the final norm.
        finished = lab.decoder.tail.finish(torch.from_numpy(states[-1, n]))
        np.testing.assert_allclose(finished.detach(), hidden[-1][0, at].numpy(), atol=1e-4)


def test_a_word_ends_where_the_next_space_begins(lab):
    words = sample(lab, {"en": [tagged("ab", "cde")]})
    # One token a letter, the BOS in front: "b" is token 2 and "e" token 6.
    assert words.position.tolist() == [2, 6]
    assert words.values["Number"].tolist() == ["Sing", "Sing"]


def test_no_type_is_drawn_more_often_than_asked_and_case_does_not_matter(lab):
    sentences = [tagged("The", f"w{i}") for i in range(9)] + [tagged("the", "x")]
    words = sample(lab, {"en": sentences}, per_type=3)
    counts = Counter(words.type.tolist())
    assert max(counts.values()) == 3
    assert len(counts) == 11


def test_languages_share_no_type_and_get_no_more_words_than_asked(lab):
    one = [tagged(f"w{i}", "run") for i in range(10)]
    words = sample(lab, {"en": one, "he": one}, per_language=7)
    assert np.bincount(words.language).tolist() == [7, 7]
    assert not set(words.type[words.language == 0]) & set(words.type[words.language == 1])


def test_values_that_say_nothing_are_none(lab):
    given = {"Number": "Sing", "Person": "1,2,3"}
    words = sample(lab, {"en": [tagged("a", features=given), tagged("b", features={"Case": "Nom"}),
                                tagged("c", features={})]})  # fmt: skip
    assert sorted(words.values["Number"].tolist()) == ["", "Sing"]
    assert set(words.values["Person"].tolist()) == {""}
    assert sorted(words.values["Case"].tolist()) == ["", "Nom"]


def test_a_part_of_the_sample_keeps_its_sentences(lab):
    words = sample(lab, sample_grammar(("en",), n_items=4).tagged)
    states = word_states(lab, words)
    rows = np.array([6, 1])
    few = words.select(rows)
    assert len(few.ids) == len({words.sentence[i] for i in rows})
    np.testing.assert_allclose(word_states(lab, few), states[:, rows], atol=1e-5)


def test_what_cannot_be_used_is_counted(lab, monkeypatch):
    unknown = 63
    inner = lab.loaded.tokenizer

    class Blind:
        bos_token_id, unk_token_id = inner.bos_token_id, unknown

        def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
            rows = inner(texts, add_special_tokens=add_special_tokens).input_ids
            hidden = [
                [unknown if c in "?!" else i for c, i in zip(text, row, strict=True)]
                for text, row in zip(texts, rows, strict=True)
            ]
            # A mark at the end is lost altogether, as some normalisers do.
            kept = [
                [i for c, i in zip(text, row, strict=True) if c != "*"]
                for text, row in zip(texts, hidden, strict=True)
            ]
            return SimpleNamespace(input_ids=kept)

    monkeypatch.setattr(lab, "loaded", SimpleNamespace(tokenizer=Blind(), info=lab.info))
    words = sample(lab, {"en": [tagged("a" * 60), tagged("ab", "?!", "cd"), tagged("x", "*")]})
    assert words.excluded == {TOO_LONG: 1, UNKNOWN: 1, NO_TOKEN: 1}
    assert len(words.type) == 3


def test_no_words_are_no_states(lab):
    words = sample(lab, {"en": [tagged("a", features={})]})
    assert word_states(lab, words).shape == (lab.n_blocks + 1, 0, lab.decoder.width)
    assert sample(lab, {}).languages == ()
