from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from bitgap.corpora.grammar import agreement
from bitgap.corpora.grammar.agreement import AgreementSet, MinimalPair, load_agreement
from bitgap.corpora.grammar.pairs import require_common
from bitgap.errors import CorpusError, LanguageError

CLAMS = Path(__file__).parents[4] / "shared" / "data" / "clams"
LANGUAGES = ("en", "de", "fr", "es", "ru", "he", "ar", "tr", "fi", "hu")
GENDERED = ("fr", "es", "ru", "he", "ar")
LEGAL = {
    "Number": {"Sing", "Plur"},
    "Gender": {"Masc", "Fem", "Neut"},
    "Person": {"1", "2", "3"},
    "Case": {"Nom", "Acc", "Dat", "Gen", "Ins", "Par"},
}


@pytest.fixture(scope="module")
def bundled() -> AgreementSet:
    return load_agreement()


def agreeing(pairs: tuple[MinimalPair, ...]) -> list[MinimalPair]:
    return [pair for pair in pairs if pair.phenomenon != "lexical"]


# Our own


def test_the_bundled_set_is_large_enough_in_every_language(bundled: AgreementSet):
    assert bundled.languages == LANGUAGES
    assert (bundled.name, bundled.licence, bundled.excluded) == ("bundled", "Apache-2.0", {})
    for code in LANGUAGES:
        counts = Counter(pair.phenomenon for pair in bundled.pairs[code])
        assert sum(counts.values()) - counts["lexical"] >= 300, code
        assert counts["lexical"] >= 100 and counts["number"] >= 150 and counts["person"] >= 40
        assert (counts["gender"] > 80) == (code in GENDERED), code
        assert len({pair.template for pair in agreeing(bundled.pairs[code])}) >= 5, code


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_pair_differs_in_its_critical_word_alone(bundled: AgreementSet, code: str):
    for pair in bundled.pairs[code]:
        good, bad = pair.good.split(), pair.bad.split()
        assert pair.language == code and pair.item and len(good) == len(bad)
        assert [i for i in range(len(good)) if good[i] != bad[i]] == [pair.critical], pair


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_pair_stands_twice_and_no_good_sentence_is_bad_elsewhere(
    bundled: AgreementSet, code: str
):
    pairs = bundled.pairs[code]
    goods, bads = {pair.good for pair in pairs}, {pair.bad for pair in pairs}
    assert len({(pair.good, pair.bad) for pair in pairs}) == len(pairs)
    assert not goods & bads


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("phenomenon", ["number", "gender", "person", "lexical"])
def test_liking_a_form_wins_nothing(bundled: AgreementSet, code: str, phenomenon: str):
    balance: Counter[str] = Counter()
    pairs = [pair for pair in bundled.pairs[code] if pair.phenomenon == phenomenon]
    for pair in pairs:
        balance[pair.good.split()[pair.critical].rstrip(".")] += 1
        balance[pair.bad.split()[pair.critical].rstrip(".")] -= 1
    assert sum(map(abs, balance.values())) <= 0.1 * len(pairs), balance


@pytest.mark.parametrize("code", LANGUAGES)
def test_longer_or_shorter_is_no_better(bundled: AgreementSet, code: str):
    longer = Counter(
        (len(pair.good) > len(pair.bad)) - (len(pair.good) < len(pair.bad))
        for pair in agreeing(bundled.pairs[code])
    )
    assert abs(longer[1] - longer[-1]) <= 0.1 * longer.total()


@pytest.mark.parametrize("code", LANGUAGES)
def test_words_are_used_about_equally_often(bundled: AgreementSet, code: str):
    items = Counter(pair.item for pair in bundled.pairs[code])
    assert len(items) >= 180 and max(items.values()) <= 12


@pytest.mark.parametrize("code", LANGUAGES)
def test_bundled_text_is_clean(bundled: AgreementSet, code: str):
    for pair in bundled.pairs[code]:
        for text in (pair.good, pair.bad):
            assert text == unicodedata.normalize("NFC", text) == " ".join(text.split())
            assert text.endswith(".") and not re.search(r"[{}|~_!]|\.\S|,\S", text), text
            assert text[0] == text[0].upper()
            # No vowel points, and no Latin letter, in Hebrew and Arabic.
            assert code not in ("he", "ar") or not re.search(
                r"[A-Za-z\u0591-\u05c7\u064b-\u0652]", text
            )


@pytest.mark.parametrize("code", LANGUAGES)
def test_tagged_sentences_have_legal_features_and_exact_spans(bundled: AgreementSet, code: str):
    sentences = bundled.tagged[code]
    assert len({sentence.text for sentence in sentences}) == len(sentences) >= 300
    for sentence in sentences:
        assert sentence.language == code and sentence.text == " ".join(sentence.words)
        n_words = len(sentence.words)
        assert len(sentence.spans) == len(sentence.features) == len(sentence.lemmas) == n_words
        for word, (start, end) in zip(sentence.words, sentence.spans, strict=True):
            assert sentence.text[start:end] == word
        for word, features in zip(sentence.words, sentence.features, strict=True):
            assert all(value in LEGAL[name] for name, value in features.items())
            assert not features or word[-1].isalpha(), "its last token would be a comma"


def test_gold_features_are_those_of_the_sentence(bundled: AgreementSet):
    seen = {code: {s.text: s for s in bundled.tagged[code]} for code in ("de", "he", "ru", "fi")}
    for code, pattern, word, features in (
        ("de", r"^Die Lehrer \w+", 1, {"Number": "Plur", "Gender": "Masc", "Case": "Nom"}),
        ("he", r"^ה\w+ות \w+ות$", 1, {"Number": "Plur", "Gender": "Fem"}),
        ("ru", r"^\w+ла\b|^\w+ \w+ла$", 1, {"Number": "Sing", "Gender": "Fem"}),
        ("fi", r"^\w+ien \w+ \w+vat$", 0, {"Number": "Plur", "Case": "Gen"}),
    ):
        found = [s for text, s in seen[code].items() if re.search(pattern, text)]
        assert found, (code, pattern)
        assert dict(found[0].features[word]) == features, found[0]


def test_the_bundled_set_is_the_one_that_stored_results_rest_on(bundled: AgreementSet):
    # Stored scores are found again by this fingerprint; another one means that they are not.
    assert bundled.fingerprint == (
        "b1e9c053d11557ba4152244d666de6d1c958a7267f277884d0c84b12dbb777a0"
    )
    assert load_agreement("bundled").fingerprint == bundled.fingerprint


def test_the_bundled_tables_are_those_of_the_manifest():
    lines = (agreement.BUNDLED / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    tables = {path.name: path.read_bytes() for path in agreement.BUNDLED.glob("*.tsv")}
    assert len(tables) == 2 * len(LANGUAGES)
    assert {name: hashlib.sha256(text).hexdigest() for name, text in tables.items()} == sums


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("en.pairs.tsv", "good\tbad\n", "columns"),
        ("en.pairs.tsv", "{}number\tsimple\ta\tA b.\tA b.\n", "are no pair: identical"),
    ],
)
def test_a_broken_bundled_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, part: str
):
    head = "\t".join(agreement.PAIR_COLUMNS) + "\n"
    write(tmp_path / name, text.format(head))
    monkeypatch.setattr(agreement, "BUNDLED", tmp_path)
    agreement._bundled.cache_clear()
    with pytest.raises(CorpusError, match=part):
        load_agreement()


def test_selecting_languages(bundled: AgreementSet):
    some = bundled.select("heb_Hebr, English, zh")
    assert some.languages == tuple(some.tagged) == ("en", "he")
    assert some.pairs["he"] == bundled.pairs["he"]
    assert some.fingerprint == load_agreement(languages=["he", "en"]).fingerprint
    assert some.fingerprint != bundled.fingerprint
    assert bundled.select(None) is bundled
    with pytest.raises(LanguageError, match=r"none of zh is there; it has en, de"):
        bundled.select("zh")
    with pytest.raises(LanguageError, match="qqq"):
        load_agreement(languages="qqq")
    with pytest.raises(FrozenInstanceError):
        some.pairs["he"][0].good = "x"  # type: ignore[misc]


def test_the_bundled_folder_says_whose_it_is():
    about = (agreement.BUNDLED / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in about and "written for bitgap" in about


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


# CLAMS

CLAMS_EN = "True\tthe cat runs\nFalse\tthe cat run\nTrue\tthe cats run\nFalse\tthe cats runs\n"


def test_a_folder_in_the_layout_of_clams_is_read(tmp_path: Path):
    write(tmp_path / "set" / "en" / "simple_agrmt.txt", CLAMS_EN)
    write(tmp_path / "set" / "heb" / "vp_coord.txt", "True\tה זמר רץ\nFalse\tה זמר רצים\n")
    write(tmp_path / "set" / "en" / "simple_npi.txt", "True\tfew cats ran\nFalse\tall cats ran\n")
    found = load_agreement(tmp_path / "set")
    assert found.languages == ("en", "he") and found.name == "set" and not found.tagged
    assert found.excluded == {"not agreement": 1}
    first = found.pairs["en"][0]
    assert (first.good, first.bad, first.critical) == ("the cat runs", "the cat run", 2)
    assert (first.phenomenon, first.template, first.item) == ("number", "simple agrmt", "run/runs")
    assert found.pairs["he"][0].good == "ה זמר רץ"
    assert load_agreement(tmp_path / "set", languages="he, fr").languages == ("he",)
    with pytest.raises(LanguageError, match="none of fr is there"):
        load_agreement(tmp_path / "set", languages="fr")


def test_clams_is_read_as_cloned(tmp_path: Path):
    write(tmp_path / "en_evalset" / "simple_agrmt.txt", CLAMS_EN)
    write(tmp_path / "he_evalset" / "vp_coord.txt", "True\tה זמר רץ\nFalse\tה זמר רצים\n")
    write(tmp_path / "word_lists" / "nouns.txt", "cat\ncats\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vocab.txt").write_bytes(b"\xff\xfe")
    write(tmp_path / "README.md", "CLAMS")
    found = load_agreement(tmp_path)
    assert found.languages == ("en", "he")
    assert found.excluded == {"unknown language word_lists": 1}
    assert load_agreement(tmp_path / "he_evalset").languages == ("he",)


def test_one_file_of_a_layout_is_read(tmp_path: Path):
    write(tmp_path / "en_evalset" / "simple_agrmt.txt", CLAMS_EN)
    write(tmp_path / "heb.tsv", "sen\twrong_sen\nהוא רץ\tהוא רצה\n")
    write(tmp_path / "eng" / "data.tsv", "sen\twrong_sen\nShe runs\tShe run\n")
    for name, code in (
        ("en_evalset/simple_agrmt.txt", "en"), ("heb.tsv", "he"), ("eng/data.tsv", "en"),
    ):  # fmt: skip
        assert load_agreement(tmp_path / name).languages == (code,)


def test_pairs_of_none_of_the_text_s_languages_are_refused():
    require_common(("gsw", "pt"), ("en", "gsw-Latn"), "pairs")
    require_common(("gsw", "pt"), ("en", "pt-BR"), "pairs")
    with pytest.raises(LanguageError, match=r"pairs: of gsw, pt, and the text is of en, he; no"):
        require_common(("gsw", "pt"), ("en", "he"), "pairs")


def test_pairs_that_are_none_are_left_out_and_counted(tmp_path: Path):
    lines = (
        "True\tthe cat runs\nFalse\tthe cat runs\n"
        "True\tthe cat runs\nFalse\tthe cats run\n"
        "True\tthe cat runs\nFalse\tthe cat run fast\n"
    )
    write(tmp_path / "en" / "a.txt", CLAMS_EN + lines + CLAMS_EN)
    found = load_agreement(tmp_path)
    assert len(found.pairs["en"]) == 2
    assert found.excluded == {"identical": 1, "not minimal": 2, "repeated": 2}
    write(tmp_path / "en" / "a.txt", lines)
    with pytest.raises(CorpusError, match="no usable minimal pair; left out: 1 identical, 2 not"):
        load_agreement(tmp_path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("True\tthe cat runs\nTrue\tthe cat run\n", "line 2: expected False<TAB>sentence"),
        ("False\tthe cat run\nTrue\tthe cat runs\n", "line 1: expected True<TAB>sentence"),
        ("True the cat runs\nFalse\tthe cat run\n", "line 1: expected True<TAB>sentence"),
        ("True\tthe cat runs\n\n", "line 2: expected False<TAB>sentence"),
        ("True\tthe cat runs\nFalse\t \n", "line 2: the line is empty"),
        ("True\tthe cat\x00 runs\nFalse\tthe cat run\n", "line 1: control character"),
        (CLAMS_EN + "True\tthe cat runs\n", "line 5: the right sentence at the end"),
        ("", "the file is empty"),
    ],
)
def test_a_broken_line_of_clams_is_named(tmp_path: Path, text: str, part: str):
    write(tmp_path / "en" / "simple.txt", text)
    with pytest.raises(CorpusError) as caught:
        load_agreement(tmp_path)
    assert part in str(caught.value) and "simple.txt" in str(caught.value)


@pytest.mark.shared
def test_clams_itself_is_read():
    if not CLAMS.is_dir():
        pytest.skip("../shared/data/clams is not here")
    found = load_agreement(CLAMS)
    assert found.languages == ("en", "de", "he")
    assert all(len(found.pairs[code]) > 2000 for code in found.languages)
    assert found.excluded.keys() <= {"not agreement", "repeated", "identical", "not minimal"}
    assert all(pair.phenomenon == "number" for pairs in found.pairs.values() for pair in pairs)
    assert "simple agrmt" in {pair.template for pair in found.pairs["he"]}


# MultiBLiMP

TABLE = (
    "\tsen\twrong_sen\tphenomenon\n"
    "0\tShe runs .\tShe run .\tSV-#\n"
    '1\t"He said ""no"" ."\t"He say ""no"" ."\tSV-P\n'
    "2\tIt is late .\tIt are late .\tother\n"
)


@pytest.mark.parametrize("name", ["eng/data.tsv", "eng.tsv"])
def test_a_folder_in_the_layout_of_multiblimp_is_read(tmp_path: Path, name: str):
    write(tmp_path / name, TABLE)
    write(tmp_path / name.replace("eng", "heb"), "sen\twrong_sen\nהוא רץ\tהוא רצה\n")
    write(tmp_path / name.replace("eng", "qqq"), TABLE)
    found = load_agreement(tmp_path)
    assert found.languages == ("en", "he")
    assert found.excluded == {"not agreement": 1, "unknown language qqq": 3}
    assert [pair.phenomenon for pair in found.pairs["en"]] == ["number", "person"]
    assert found.pairs["en"][1].good == 'He said "no" .'
    assert (found.pairs["he"][0].phenomenon, found.pairs["he"][0].critical) == ("number", 1)
    assert load_agreement(tmp_path, languages="he").languages == ("he",)


def test_gender_and_sentences_without_spaces(tmp_path: Path):
    table = "sen\twrong_sen\tphenomenon\nהיא רצה\tהיא רץ\tSP-G\n"
    write(tmp_path / "heb.tsv", table)
    write(tmp_path / "zho.tsv", "sen\twrong_sen\n三本书\t三只书\n")
    found = load_agreement(tmp_path)
    assert found.pairs["he"][0].phenomenon == "gender"
    assert found.pairs["zh"][0].critical == 0


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("sen\tphenomenon\nA b\tSV-#\n", "line 1: no column wrong_sen; found sen, phenomenon"),
        ("sen\twrong_sen\nA b\tA c\nA b\n", "line 3: 1 column(s), but the header has 2"),
        ("sen\twrong_sen\nA b\t\n", "line 2: the line is empty"),
        ('sen\twrong_sen\n"A b\tA c\n', "line 2"),
        ("sen\twrong_sen\nA b\tA b\n", "no usable minimal pair; left out: 1 identical"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, table: str, part: str):
    write(tmp_path / "pairs" / "eng.tsv", table)
    with pytest.raises(CorpusError) as caught:
        load_agreement(tmp_path / "pairs")
    assert part in str(caught.value)


# Whatever the layout


def test_unknown_layouts_say_which_are_known(tmp_path: Path):
    for spec in (tmp_path, tmp_path / "absent", write(tmp_path / "pairs.json", "{}")):
        with pytest.raises(CorpusError, match=r"known layouts are CLAMS .* and MultiBLiMP"):
            load_agreement(spec)
    write(tmp_path / "misc" / "a.txt", CLAMS_EN)
    with pytest.raises(CorpusError, match="named after a language"):
        load_agreement(tmp_path)


def test_decomposed_text_is_composed(tmp_path: Path):
    text = "True\tהַזַמָּר שׂר\nFalse\tהַזַמָּר שׂרים\n"
    write(tmp_path / "nfd" / "he" / "a.txt", unicodedata.normalize("NFD", text))
    write(tmp_path / "nfc" / "he" / "a.txt", unicodedata.normalize("NFC", text))
    first, second = load_agreement(tmp_path / "nfd"), load_agreement(tmp_path / "nfc")
    assert first.pairs == second.pairs and first.fingerprint == second.fingerprint
    good = first.pairs["he"][0].good
    assert good == unicodedata.normalize("NFC", good)
