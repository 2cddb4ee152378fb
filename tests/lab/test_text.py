from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_samples import Letters, load_tiny, write_corpus
from tiny_models import VOCABULARY

from bitgap.corpora.parallel import ParallelCorpus
from bitgap.errors import CorpusError
from bitgap.lab.engine import text as text_module
from bitgap.lab.engine.text import make_chunks, tokenize
from bitgap.lab.lab import Lab

OVERHEAD = text_module._CHUNK_OVERHEAD_ROWS


def read(corpus: ParallelCorpus, bos: int | None = 1, context: int | None = 40):
    return tokenize(corpus, Letters(bos), context=context, vocabulary=VOCABULARY)


def cost(lengths: list[int], bounds: list[int]) -> int:
    return sum((b - a) * lengths[b - 1] + OVERHEAD for a, b in pairwise(bounds))


def greedy(lengths: list[int], max_rows: int, waste: float) -> list[int]:
    """Starts a new chunk where the old would be too big or would waste too large a share."""
    bounds = [0]
    for i in range(1, len(lengths) + 1):
        rows = lengths[bounds[-1] : i]
        if len(rows) * rows[-1] > max_rows or 1 - sum(rows) / (len(rows) * rows[-1]) > waste:
            bounds.append(i - 1)
    return [*bounds, len(lengths)]


@pytest.mark.parametrize("bos", [1, None])
@pytest.mark.parametrize("max_rows", [1, 30, 100, 10**6])
def test_chunks_hold_every_scored_token_once_with_its_own_context(
    bos: int | None, max_rows: int
) -> None:
    text = read(write_corpus(7), bos)
    flat = [ids for language in text.ids for ids in language]
    seen: list[tuple[int, int, int]] = []
    for chunk in make_chunks(text, max_rows):
        for position, target, owner in zip(
            chunk.positions.tolist(), chunk.targets.tolist(), chunk.owners.tolist(), strict=True
        ):
            row, column = divmod(position, chunk.shape[1])
            assert chunk.where[row] == owner
            assert tuple(chunk.input_ids[row, : column + 1].tolist()) == flat[owner][: column + 1]
            seen.append((owner, column + 1, target))
    wanted = [(o, i, ids[i]) for o, ids in enumerate(flat) for i in range(1, len(ids))]
    assert sorted(seen) == sorted(wanted)
    per_row = np.bincount([owner for owner, _, _ in seen], minlength=len(flat))
    assert (per_row == text.counts.tokens.ravel()).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=40), st.integers(60, 600))
def test_no_cut_into_chunks_is_cheaper_than_the_one_taken(lengths: list[int], limit: int) -> None:
    lengths = sorted(lengths)
    bounds = text_module._cut(np.array(lengths), limit)
    assert bounds[0] == 0 and bounds[-1] == len(lengths)
    assert all((b - a) * lengths[b - 1] <= limit for a, b in pairwise(bounds))
    mine = cost(lengths, bounds)
    if len(lengths) * lengths[-1] <= limit:
        assert mine <= cost(lengths, [0, len(lengths)])
    for waste in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0):
        assert mine <= cost(lengths, greedy(lengths, limit, waste))


def test_a_chunk_outgrows_its_bound_only_for_one_longer_sequence() -> None:
    text = read(write_corpus(9))
    longest = max(len(ids) for language in text.ids for ids in language)
    for bound in (longest - 5, longest, 3 * longest):
        for chunk in make_chunks(text, bound):
            assert chunk.n_rows <= max(bound, longest)


@pytest.mark.parametrize("bos", [1, None])
def test_unigram_cross_entropy_leaves_the_sentence_itself_out(bos: int | None) -> None:
    text = read(write_corpus(4), bos)
    for row, sentences in zip(text.unigram_nats, text.ids, strict=True):
        for i, sentence in enumerate(sentences):
            others = [t for j, s in enumerate(sentences) if j != i for t in s[1:]]
            nats = sum(
                -math.log((others.count(t) + 1) / (len(others) + VOCABULARY)) for t in sentence[1:]
            )
            assert row[i] == pytest.approx(nats, rel=1e-12)


def test_a_sentence_too_long_in_one_language_is_dropped_in_all_and_counted() -> None:
    english = ("short one", "x" * 50, "the third", "fourth")
    hebrew = ("abc def", "ghi", "jkl mno", "y" * 40)
    corpus = ParallelCorpus("c", {"en": english, "he": hebrew}, "nobody", "CC0-1.0")
    text = read(corpus, context=40)
    assert text.kept.tolist() == [0, 2] and text.n_dropped == 2
    assert [len(rows) for rows in text.ids] == [2, 2]
    assert text.counts.characters.tolist() == [[9, 9], [7, 7]]
    assert text.counts.tokens.tolist() == [[9, 9], [7, 7]]
    assert read(corpus, context=41).kept.tolist() == [0, 2, 3], "the context counts the prefix"
    assert read(corpus, context=None).n_dropped == 0


def test_without_a_bos_the_first_token_is_given_and_not_scored() -> None:
    corpus = write_corpus(3)
    with_bos, without = read(corpus, 1), read(corpus, None)
    assert with_bos.prefix.ids == (1,) and without.prefix.ids == ()
    assert (with_bos.counts.tokens - without.counts.tokens == 1).all()
    assert all(
        a[1:] == b
        for x, y in zip(with_bos.ids, without.ids, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_text_of_which_fewer_than_two_sentences_fit_is_refused_with_advice() -> None:
    with pytest.raises(CorpusError, match=r"0 of 3 sentences.*longer than.*4 tokens.*shorter"):
        read(write_corpus(3), context=4)


def test_text_too_short_to_score_is_refused_as_such_with_its_place() -> None:
    texts = {"en": ("ab", "cd", "ef"), "he": ("אב", "ג", "ד")}
    corpus = ParallelCorpus("c", texts, "nobody", "CC0-1.0")
    with pytest.raises(CorpusError, match=r"1 of 3 .*2 are too short.*sentence 2 in he") as caught:
        read(corpus, bos=None)
    assert "context" not in str(caught.value)


def test_bytes_and_characters_are_those_of_nfc() -> None:
    texts = {"en": ("e\u0301a", "bc"), "he": ("שלום", "אב")}
    text = read(ParallelCorpus("c", texts, "nobody", "CC0-1.0"))
    assert text.counts.characters.tolist() == [[2, 2], [4, 2]]
    assert text.counts.bytes.tolist() == [[3, 2], [8, 4]]


# -- languages a tokenizer cannot read -------------------------------------------------------------


class LatinOnly(Letters):
    """A tokenizer to which every letter outside ASCII is unknown."""

    unk_token_id = 2

    def __call__(self, texts: list[str], add_special_tokens: bool):
        found = super().__call__(texts, add_special_tokens)
        for text, row in zip(texts, found.input_ids, strict=True):
            row[:] = [i if c.isascii() else 2 for c, i in zip(text, row, strict=True)]
        return found


THREE = ParallelCorpus(
    "three",
    {"en": ("one two", "three"), "he": ("אחת שתיים", "שלוש"), "de": ("eins zwei", "drei")},
    "nobody",
    "CC0-1.0",
)


def test_a_language_mostly_unknown_is_left_out_with_its_count():
    found = text_module.unreadable(THREE, LatinOnly())
    assert found.keys() == {"he"}
    assert found["he"] == "12 of 13 tokens are unknown to the model's tokenizer"
    assert text_module.unreadable(THREE, Letters()) == {}


def test_a_lab_goes_on_without_it_and_says_so(caplog):
    loaded = replace(load_tiny(), tokenizer=LatinOnly())
    lab = Lab.of(loaded, THREE)
    assert lab.languages == ("en", "de") and lab.unreadable.keys() == {"he"}
    assert "left out: he: 12 of 13" in caplog.text
    assert lab.on(sentences=[0, 1]).unreadable == lab.unreadable


@pytest.mark.parametrize("codes", [("he", "de"), ("en", "he")])
def test_without_the_reference_or_any_other_language_there_is_nothing_to_compare(codes):
    texts = {code: THREE.sentences[code] for code in codes}
    corpus = ParallelCorpus("two", texts, "nobody", "CC0-1.0", reference=codes[0])
    with pytest.raises(CorpusError, match=r"too few languages.*he: 12 of 13 tokens are unknown"):
        text_module.unreadable(corpus, LatinOnly())
