"""Unigrams: read, refused in words, bundled for the models here, and right in closed form."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitgap.corpora.unigrams import (
    SHIPPED,
    Unigrams,
    add_one_nats,
    count_tokens,
    load_unigrams,
    shipped_unigrams,
    tokenizer_fingerprint,
)
from bitgap.errors import CorpusError, LanguageError, NoSuchText
from bitgap.stats.verdicts import load_thresholds

VOCABULARY = 64


class Words:
    """One token a letter: a is 0, b is 1, and so on; what is no letter is 30."""

    vocab_size = VOCABULARY

    def get_vocab(self) -> dict[str, int]:
        return {chr(97 + i): i for i in range(26)}

    def __call__(self, text: str | list[str], add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        one = [text] if isinstance(text, str) else text
        ids = [[ord(c) - 97 if "a" <= c <= "z" else 30 for c in line] for line in one]
        return SimpleNamespace(input_ids=ids[0] if isinstance(text, str) else ids)


def read(folder: Path, *languages: str) -> Unigrams:
    return load_unigrams(folder, Words(), VOCABULARY, languages or ("en", "he"))


# -- a folder ------------------------------------------------------------------------------------


def test_text_and_counts_packed_or_not_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("abba\nb\n")
    (tmp_path / "heb_Hebr.tsv").write_text("# id, count\n0\t2\n1\t3\n")
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "eng.tsv.xz").write_bytes(lzma.compress(b"0\t2\n1\t3\n"))
    (packed / "Hebrew.txt.xz").write_bytes(lzma.compress(b"abba\nb\n"))
    (packed / "README.md").write_text("passed over")
    wanted = np.array([2, 3] + [0] * (VOCABULARY - 2))
    for found in (read(tmp_path), read(packed)):
        assert set(found.counts) == {"en", "he"}
        for counts in found.counts.values():
            np.testing.assert_array_equal(counts, wanted)
    fingerprints = read(tmp_path).fingerprint(["en", "he", "fi"])
    assert fingerprints == read(packed).fingerprint(["he", "en"])
    assert set(fingerprints) == {"en", "he"}


def test_a_folder_may_be_called_in_hebrew(tmp_path: Path) -> None:
    folder = tmp_path / "מילים"
    folder.mkdir()
    (folder / "he.txt").write_text("abc")
    assert read(folder).name == "מילים"
    (folder / "עברית.txt").write_text("abc")
    with pytest.raises(LanguageError, match=r"עברית.txt: .* called by its language"):
        read(folder)


def test_files_of_languages_not_asked_for_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "en.tsv").write_text("0\t5\n")
    (tmp_path / "fi.tsv").write_text("this is no count")
    assert set(read(tmp_path).counts) == {"en"}


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        (None, NoSuchText, "no such folder of unigrams"),
        ({}, CorpusError, "no unigrams in this folder"),
        ({"fi.txt": "abc"}, LanguageError, "no unigrams of en, he; there are those of fi"),
        ({"notes.txt": "abc"}, LanguageError, "notes.txt: a file of unigrams is called by"),
        ({"en.txt": "abc", "eng.tsv": "0\t1"}, CorpusError, "en.txt and eng.tsv are both en"),
        ({"en.txt": ""}, CorpusError, "not one token is counted"),
        ({"en.tsv": "3\t0\n"}, CorpusError, "not one token is counted"),
        ({"en.tsv": "0\t1\n64\t2\n"}, CorpusError, "line 2: token 64, but the model has 64"),
        ({"en.tsv": "0\t1\n0\t2\n"}, CorpusError, "line 2: token 0 is counted twice"),
        ({"en.tsv": "0 1\n"}, CorpusError, "line 1: '0 1' is not a token's id"),
        ({"en.tsv": "0\t-1\n"}, CorpusError, "is not a token's id, a tab and its count"),
        ({"en.tsv": b"0\t1\n\xff\t1\n"}, CorpusError, "line 2: not UTF-8"),
        ({"en.tsv.xz": b"no xz"}, CorpusError, "en.tsv.xz: cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    tmp_path: Path, files: Any, error: Any, said: str
) -> None:
    folder = tmp_path / "given"
    if files is not None:
        folder.mkdir()
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error) as caught:
        read(folder)
    assert said in str(caught.value)


def test_a_tokenizer_that_makes_what_the_model_has_not_is_refused() -> None:
    with pytest.raises(CorpusError, match="makes token 30, but the model has 20"):
        count_tokens(["a!"], Words(), 20)


def test_of_a_long_text_lines_are_drawn_at_random() -> None:
    # Sorted lines: the first half has only a, the second only b.
    lines = ["a" * 10] * 4000 + ["b" * 10] * 4000
    counts = count_tokens(lines, Words(), VOCABULARY, most=20_000)
    assert 20_000 <= counts.sum() < 40_000
    share = counts[0] / counts.sum()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(counts.sum() / 10)


def test_given_counts_come_before_others() -> None:
    mine, theirs = (Unigrams(n, {c: np.full(3, i) for c in codes})
                    for i, (n, codes) in enumerate([("mine", "ab"), ("theirs", "bc")]))  # fmt: skip
    both = mine.over(theirs)
    assert both.name == "mine, theirs"
    assert {code: int(counts[0]) for code, counts in both.counts.items()} == dict(a=0, b=0, c=1)
    assert mine.over(None) is mine


# -- the bundled ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "gpt_neox-12"])
def test_bundled_counts_are_large_enough_and_say_what_they_are_of(name: str) -> None:
    about = json.loads((SHIPPED / name / "about.json").read_text(encoding="utf-8"))
    least = load_thresholds().unigram_tokens_min
    assert len(about["tokens"]) == 16
    assert min(about["tokens"].values()) >= 10 * least
    assert about["source"] and "no text" in about["licence"]
    counts = load_unigrams(SHIPPED / name, None, about["vocabulary"], list(about["tokens"])).counts
    assert {code: int(row.sum()) for code, row in counts.items()} == about["tokens"]
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*.xz")) < 1e6


def test_bundled_counts_are_found_by_what_a_tokenizer_does() -> None:
    from transformers import AutoTokenizer

    from bitgap.models import load

    tokenizer = AutoTokenizer.from_pretrained(load._REFERENCE_FOLDER)
    found = shipped_unigrams(tokenizer, 8192, ["he", "en", "xx"])
    assert found is not None and set(found.counts) == {"he", "en"}
    assert shipped_unigrams(tokenizer, 8192, ["xx"]) is None
    assert shipped_unigrams(tokenizer, 9000, ["he"]) is None
    assert shipped_unigrams(Words(), VOCABULARY, ["he"]) is None
    assert shipped_unigrams(object(), VOCABULARY, ["he"]) is None
    tokenizer.add_tokens(["an added word"])
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(Words())
    assert shipped_unigrams(tokenizer, 8192, ["he"]) is None


# -- closed forms --------------------------------------------------------------------------------


def zipf(types: int, used: int) -> Any:
    """A language that uses some of the types, by Zipf's law, and its entropy in nats."""
    p = np.zeros(types)
    p[:used] = 1 / np.arange(1, used + 1)
    p /= p.sum()
    return p, float(-(p[p > 0] * np.log(p[p > 0])).sum())


@pytest.mark.parametrize(("used", "n"), [(1600, 3_000), (1600, 50_000), (4000, 3_000),
                                         (4000, 50_000), (1600, 1_000_000)])  # fmt: skip
def test_the_estimate_is_the_entropy_plus_what_smoothing_costs(used: int, n: int) -> None:
    # Of counts c ~ Multinomial(n, p) a token drawn from p costs Σ p ln((n + V)/(c + 1)) nats. To
    # second order E ln(c + 1) = ln(np + 1) − (np(1 − p))/(2 (np + 1)²).
    types, repeats = 8192, 20
    p, entropy = zipf(types, used)
    rng = np.random.default_rng(0)
    held = rng.choice(types, 200_000, p=p)
    found = [add_one_nats(held, rng.multinomial(n, p)) / len(held) for _ in range(repeats)]
    own = float(-np.log(p[held]).mean())
    m = n * p
    told = float((p * (np.log((n + types) / (m + 1)) + m * (1 - p) / (2 * (m + 1) ** 2))).sum())
    excess = np.mean(found) - own
    assert abs(excess - (told - entropy)) < 0.02
    assert excess > 0
    if n == 3_000:
        assert excess / np.log(2) > 0.9  # bits a token
    if n == 1_000_000:
        assert excess / np.log(2) < 0.03


def test_small_unigrams_are_unequally_wrong_and_large_ones_are_not() -> None:
    # Two languages of one model, one with 1,600 word pieces and one with 4,000: what was learned
    # of them would differ by a quarter of a bit a token at 3,000 tokens, and not at a million.
    types, rng = 8192, np.random.default_rng(1)
    excess = {}
    for n in (3_000, 50_000, 1_000_000):
        for used in (1600, 4000):
            p, entropy = zipf(types, used)
            q = (rng.multinomial(n, p) + 1) / (n + types)
            excess[n, used] = float(-(p * np.log2(q)).sum()) - entropy / np.log(2)
    unequal = {n: abs(excess[n, 1600] - excess[n, 4000]) for n, _ in excess}
    assert unequal[3_000] > 0.25 > unequal[50_000] > unequal[1_000_000]
    assert unequal[1_000_000] < 0.02
