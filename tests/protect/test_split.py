"""Sentences go to one part each, documents as wholes, and a text too small is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitgap.errors import CorpusError
from bitgap.protect.split import FEWEST, SHARES, sentences_needed, split_sentences


@settings(max_examples=80, deadline=None)
@given(n=st.integers(27, 300), seed=st.integers(0, 10**6))
def test_every_sentence_is_in_one_part_and_parts_have_their_shares(n: int, seed: int) -> None:
    split = split_sentences(n, seed)
    parts = {name: getattr(split, name) for name in SHARES}
    assert sorted(i for part in parts.values() for i in part) == list(range(n))
    for name, part in parts.items():
        assert len(part) >= FEWEST[name]
        assert abs(len(part) - SHARES[name] * n) <= 1 or len(part) == FEWEST[name]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=27, max_size=80),
    seed=st.integers(0, 10**6),
)
def test_documents_stay_whole(sizes: list[int], seed: int) -> None:
    documents = np.repeat(np.arange(len(sizes)) * 3 + 5, sizes)
    split = split_sentences(documents, seed)
    held = [set(documents[list(getattr(split, name))]) for name in SHARES]
    assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]
    assert all(len(one) >= FEWEST[name] for one, name in zip(held, SHARES, strict=True))


def test_the_seed_decides_and_nothing_else() -> None:
    assert split_sentences(60, 1) == split_sentences(60, 1)
    assert split_sentences(60, 1).digest != split_sentences(60, 2).digest


def test_a_text_too_small_says_how_many_sentences_are_needed() -> None:
    assert sentences_needed() == 27
    split_sentences(27, 0)
    with pytest.raises(CorpusError, match=r"26 sentences are too few .* 27 or more are needed"):
        split_sentences(26, 0)
    few = np.repeat(np.arange(3), 100)
    with pytest.raises(CorpusError, match=r"3 documents \(300 sentences\) are too few"):
        split_sentences(few, 0)
