from __future__ import annotations

import re
import unicodedata

import pytest

from bitgap.corpora.intake import CORE_LANGUAGES
from bitgap.corpora.parallel import BUNDLED, ParallelCorpus, load_corpus

SCRIPTS = {
    "he": r"\u0590-\u05ff",
    "ar": r"\u0600-\u06ff",
    "ru": r"\u0400-\u04ff",
    "zh": r"\u4e00-\u9fff",
    "ja": r"\u3040-\u30ff\u4e00-\u9fff々",
    "ko": r"\uac00-\ud7af",
    "hi": r"\u0900-\u097f",
}
LATIN = r"A-Za-zÀ-ɏ"
FINAL = {"zh": "。！？", "ja": "。！？", "ar": ".!؟", "hi": "।!?"}
CLOSING = "\"'”’»」』)）"


@pytest.fixture(scope="module")
def bundled() -> ParallelCorpus:
    absent = [code for code in CORE_LANGUAGES if not (BUNDLED / f"{code}.txt").is_file()]
    if absent:
        pytest.skip(f"not written yet: {', '.join(absent)}")
    return load_corpus(None)


def test_the_bundled_corpus_has_96_unique_lines_in_16_languages(bundled: ParallelCorpus):
    assert bundled.languages == CORE_LANGUAGES
    assert bundled.n_sentences == 96
    for code in CORE_LANGUAGES:
        assert len(set(bundled.text(code))) == 96, code
    assert bundled.info.fingerprint == load_corpus("bundled").info.fingerprint
    assert (bundled.name, bundled.licence) == ("bundled", "Apache-2.0")


@pytest.mark.parametrize("code", CORE_LANGUAGES)
def test_every_bundled_line_is_in_the_script_of_its_language(bundled: ParallelCorpus, code: str):
    own = re.compile(f"[{SCRIPTS.get(code, LATIN)}]")
    for number, text in enumerate(bundled.text(code), start=1):
        letters = [c for c in text if unicodedata.category(c)[0] == "L"]
        inside = sum(bool(own.match(c)) for c in letters)
        assert inside == len(letters), f"{code}.txt, line {number}: {text}"


def test_every_bundled_japanese_line_has_kana_which_chinese_has_not(bundled: ParallelCorpus):
    kana = re.compile(r"[\u3040-\u30ff]")
    assert all(map(kana.search, bundled.text("ja")))
    assert not any(map(kana.search, bundled.text("zh")))


@pytest.mark.parametrize("code", CORE_LANGUAGES)
def test_every_bundled_line_ends_as_its_language_ends_a_sentence(
    bundled: ParallelCorpus, code: str
):
    for number, text in enumerate(bundled.text(code), start=1):
        assert text.rstrip(CLOSING)[-1] in FINAL.get(code, ".!?"), f"{code}.txt, line {number}"
        question = bundled.text("en")[number - 1].endswith("?")
        if question and code != "ja":
            assert text.rstrip(CLOSING)[-1] in "?？؟", f"{code}.txt, line {number}"


@pytest.mark.parametrize("code", CORE_LANGUAGES)
def test_no_bundled_line_is_a_placeholder_or_untranslated(bundled: ParallelCorpus, code: str):
    placeholder = re.compile(r"TODO|TBD|FIXME|XXX|[Ll]orem|[<>{}\[\]|_�]|\.\.\.|\s\s")
    for number, text in enumerate(bundled.text(code), start=1):
        assert not placeholder.search(text), f"{code}.txt, line {number}"
        assert code == "en" or text != bundled.text("en")[number - 1], f"{code}.txt, line {number}"


def test_the_bundled_folder_says_whose_it_is():
    about = (BUNDLED / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in about and "written" in about
