from __future__ import annotations

import hashlib
import json
import pickle
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from corpus_samples import AR, EN, HE, refuses, write

from bitgap.corpora.parallel import ParallelCorpus, load_corpus
from bitgap.errors import CorpusError, LanguageError, NoSuchText, UsageError, UserError


def corpus(**texts: list[str]) -> ParallelCorpus:
    texts = texts or {"en": EN, "he": HE}
    return ParallelCorpus("pets", {k: tuple(v) for k, v in texts.items()}, "us", "Apache-2.0")


def test_reference_comes_first_whatever_the_order_of_the_files(folder: Path):
    found = load_corpus(folder)
    assert found.languages == ("en", "he", "ar")
    assert load_corpus(folder, reference="he").languages == ("he", "en", "ar")
    assert found.info.languages == found.languages
    assert found.info.n_sentences == found.n_sentences == 5
    assert found.name == "pets"


def test_hebrew_and_arabic_are_kept_code_point_for_code_point(tmp_path: Path):
    pointed = "שָׁלוֹם \u200fABC\u200e 3."
    arabic = "مُدَرِّسٌ \u061c(١٢) لا\u200cيزال."
    write(tmp_path, en=["Hello."], he=[f"  {pointed}\t"], ar=[f"\u00a0{arabic}"])
    found = load_corpus(tmp_path)
    assert found.text("he") == (unicodedata.normalize("NFC", pointed),)
    assert found.text("ar") == (unicodedata.normalize("NFC", arabic),)
    assert "\u200f" in found.text("he")[0] and "\u061c" in found.text("ar")[0]


def test_decomposed_text_is_composed_and_means_the_same_corpus(tmp_path: Path):
    decomposed = unicodedata.normalize("NFD", "Où est l'été ?")
    write(tmp_path / "nfc", en=["Where?"], fr=["Où est l'été ?"])
    write(tmp_path / "nfd", en=["Where?"], fr=[decomposed])
    first, second = load_corpus(tmp_path / "nfc"), load_corpus(tmp_path / "nfd")
    assert second.text("fr") == ("Où est l'été ?",)
    assert first.info.fingerprint == second.info.fingerprint


def test_fingerprint_changes_with_any_character_language_or_order():
    base = corpus().info.fingerprint
    assert re.fullmatch(r"[0-9a-f]{64}", base)
    assert base == corpus().info.fingerprint
    others = {base}
    for position in range(len(EN[0])):
        changed = EN[0][:position] + "x" + EN[0][position + 1 :]
        others.add(corpus(en=[changed, *EN[1:]], he=HE).info.fingerprint)
    others.add(corpus(en=EN, ar=HE).info.fingerprint)
    others.add(corpus(en=EN[::-1], he=HE[::-1]).info.fingerprint)
    others.add(corpus(en=EN, he=HE, ar=AR).info.fingerprint)
    others.add(corpus(en=EN, ar=AR, he=HE).info.fingerprint)
    assert len(others) == 1 + len(EN[0]) + 4


def test_fingerprint_is_the_documented_hash_of_the_content():
    content = json.dumps([["en", EN], ["he", HE]], ensure_ascii=False, separators=(",", ":"))
    assert corpus().info.fingerprint == hashlib.sha256(content.encode()).hexdigest()


def test_every_fourth_sentence_is_for_calibration():
    numbers = [str(i) for i in range(10)]
    calibration, test = corpus(en=numbers, he=numbers).split()
    assert calibration.tolist() == [0, 4, 8]
    assert test.tolist() == [1, 2, 3, 5, 6, 7, 9]
    assert calibration.dtype == test.dtype == np.int64


def test_split_of_kept_sentences_goes_by_their_number_in_the_corpus():
    numbers = [str(i) for i in range(10)]
    calibration, test = corpus(en=numbers, he=numbers).split_of(np.array([1, 4, 5, 8]))
    assert (calibration.tolist(), test.tolist()) == ([1, 3], [0, 2])


def test_one_sentence_cannot_be_split():
    with pytest.raises(CorpusError, match="one sentence"):
        corpus(en=["A."], he=["ב."]).split()


def test_selection_keeps_the_reference_the_order_asked_and_the_numbers_asked():
    full = corpus(en=EN, he=HE, ar=AR)
    part = full.select("arb_Arab", sentences=np.array([3, 0]))
    assert part.languages == ("en", "ar")
    assert part.text("ar") == (AR[3], AR[0])
    assert full.select(["ar", "he"]).languages == ("en", "ar", "he")
    assert full.select().info.fingerprint == full.info.fingerprint
    assert part.info.fingerprint != full.info.fingerprint


@pytest.mark.parametrize("numbers", [[5], [-1], [], [0.5], [True, False], [[0]], ["1"]])
def test_sentence_numbers_that_are_not_there_are_a_usage_error(numbers: list[int]):
    with pytest.raises(UsageError, match="0 to 4"):
        corpus().select(sentences=numbers)


def test_selection_of_absent_unknown_or_repeated_languages_is_refused():
    full = corpus(en=EN, he=HE, ar=AR)
    for wanted, part in (("fi", "fi"), ("xx", "xx"), ("he,heb", "twice"), ("en", "only the ref")):
        with pytest.raises(LanguageError, match=part):
            full.select(wanted)
    with pytest.raises(LanguageError, match="it has en, he, ar"):
        full.text("fi")


def test_codes_of_the_caller_s_own_are_kept_for_controls():
    halves = corpus(**{"en": EN[:2], "en-b": EN[2:4]})
    assert halves.select(["en-b"]).languages == ("en", "en-b")
    assert halves.text("en-b") == tuple(EN[2:4])


@pytest.mark.parametrize(
    ("texts", "error", "part"),
    [
        ({"en": EN}, CorpusError, "at least two"),
        ({"he": HE, "ar": AR}, LanguageError, "reference language en"),
        ({"en": EN, "he": HE[:4]}, CorpusError, "en 5, he 4"),
        ({"en": [], "he": []}, CorpusError, "at least one"),
        ({"en": EN, "he": [*HE[:2], " ", *HE[3:]]}, CorpusError, "he, sentence 3"),
    ],
)
def test_a_corpus_made_by_hand_keeps_the_same_promises(
    texts: dict[str, list[str]], error: type[Exception], part: str
):
    with pytest.raises(error, match=part):
        corpus(**texts)


def test_a_corpus_survives_pickling_and_serves_as_a_key():
    found = corpus()
    again = pickle.loads(pickle.dumps(found))
    assert again == found and {found: 1}[again] == 1


def test_a_file_of_another_kind_is_refused_with_the_kinds_there_are(folder: Path):
    refuses(CorpusError, "en.txt", ".tsv", ".jsonl", ".parquet", spec=folder / "en.txt")


@pytest.mark.parametrize(
    "spec", ["nowhere.tsv", "./no/such/folder", "/no/such", "a\0b", "x" * 5000, "~nobody/x", ""]
)
def test_what_is_neither_path_nor_dataset_says_so(spec: str):
    refuses(NoSuchText, "no such file or folder", "bundled", spec=spec)


def test_a_user_error_is_what_a_caller_needs_to_catch(tmp_path: Path):
    with pytest.raises(UserError):
        load_corpus(tmp_path)
