"""Treebanks: every line accounted for, words with their head's features, and their last tokens."""

from __future__ import annotations

import gzip
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitgap.corpora.grammar.treebank import (
    NO_TAGS,
    NOT_IN_TEXT,
    load_treebanks,
    locate,
    token_ranges,
)
from bitgap.errors import CorpusError, LanguageError
from bitgap.models.load import load_model

SHARED = Path(__file__).parents[4] / "shared" / "data" / "treebanks"


def row(
    number: str, form: str, upos: str = "_", feats: str = "_", head: str = "0", misc: str = "_"
):
    return "\t".join([number, form, form, upos, "_", feats, head, "_", "_", misc])


PLAIN = "\n".join(
    [
        "# sent_id = 1",
        "# text = The dogs run.",
        row("1", "The", "DET"),
        row("2", "dogs", "NOUN", "Number=Plur", "3"),
        row("3", "run", "VERB", "Number=Plur|Person=3|Tense=Pres", misc="SpaceAfter=No"),
        row("4", ".", "PUNCT", head="3"),
    ]
)
HEBREW = "\n".join(
    [
        "# text = מתאילנד כשהם ביתו הלכו",
        row("1-2", "מתאילנד"),
        row("1", "מ", "ADP", head="2"),
        row("2", "תאילנד", "PROPN", "Number=Sing", "8"),
        row("3-4", "כשהם"),
        row("3", "כש", "SCONJ", "Case=Tem", "8"),
        row("4", "הם", "PRON", "Gender=Masc|Number=Plur|Person=3", "8"),
        row("5-7", "ביתו"),
        row("5", "בית", "NOUN", "Gender=Masc|Number=Sing", "8"),
        row("6", "של", "ADP", head="7"),
        row("7", "הוא", "PRON", "Gender=Masc|Number=Sing|Person=3", "5"),
        row("8", "הלכו", "VERB", "Number=Plur|Person=3"),
    ]
)


def write(folder: Path, text: str, name: str = "en-test.conllu") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# -- what is read ---------------------------------------------------------------------------------


def test_words_stand_where_their_spans_say(tmp_path):
    (sentence,) = load_treebanks(write(tmp_path, PLAIN)).tagged["en"]
    assert sentence.words == ("The", "dogs", "run", ".")
    assert tuple(sentence.text[a:b] for a, b in sentence.spans) == sentence.words
    assert sentence.features == ({}, {"Number": "Plur"}, {"Number": "Plur", "Person": "3"}, {})
    assert sentence.lemmas == sentence.words


def test_a_multiword_token_is_one_word_with_the_features_of_its_head(tmp_path):
    (sentence,) = load_treebanks(write(tmp_path, HEBREW, "he-x.conllu")).tagged["he"]
    assert sentence.words == ("מתאילנד", "כשהם", "ביתו", "הלכו")
    # The proper noun, not its preposition; the pronoun of two heads; the noun, not its possessor.
    assert sentence.features[:3] == (
        {"Number": "Sing"},
        {"Number": "Plur", "Gender": "Masc", "Person": "3"},
        {"Number": "Sing", "Gender": "Masc"},
    )
    assert sentence.lemmas[0] == "תאילנד"


def test_a_multiword_token_without_a_content_word_has_no_features(tmp_path):
    text = "\n".join(
        [
            "# text = zum Haus",
            row("1-2", "zum"),
            row("1", "zu", "ADP", head="3"),
            row("2", "dem", "DET", "Case=Dat|Number=Sing", "3"),
            row("3", "Haus", "NOUN", "Number=Sing"),
        ]
    )
    (sentence,) = load_treebanks(write(tmp_path, text, "de_gsd.conllu")).tagged["de"]
    assert sentence.features == ({}, {"Number": "Sing"})


def test_empty_nodes_are_passed_over(tmp_path):
    text = PLAIN.replace(row("4", ".", "PUNCT", head="3"), row("3.1", "run", "VERB", "Number=Sing"))
    text = text.replace("run.", "run") + "\n"
    (sentence,) = load_treebanks(write(tmp_path, text)).tagged["en"]
    assert sentence.words == ("The", "dogs", "run")


def test_a_sentence_without_text_is_put_together(tmp_path):
    (sentence,) = load_treebanks(
        write(tmp_path, PLAIN.replace("# text = The dogs run.\n", ""))
    ).tagged["en"]
    assert sentence.text == "The dogs run."


def test_text_and_words_are_normalised_alike(tmp_path):
    decomposed = unicodedata.normalize("NFD", "ü")
    text = f"# text = m{decomposed}de\n" + row("1", "müde", "ADJ", "Number=Sing")
    (sentence,) = load_treebanks(write(tmp_path, text, "de.conllu")).tagged["de"]
    assert sentence.text == sentence.words[0] == "müde"


def test_sentences_that_cannot_be_used_are_counted(tmp_path):
    wrong = PLAIN.replace("# text = The dogs run.", "# text = The cats run.")
    bare = "# text = oh\n" + row("1", "oh", "INTJ")
    found = load_treebanks(write(tmp_path, "\n\n".join([PLAIN, wrong, bare])))
    assert len(found.tagged["en"]) == 1
    assert found.excluded == {NOT_IN_TEXT: 1, NO_TAGS: 1}


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
def test_the_end_of_the_file_may_be_anything(tmp_path, end):
    text = (PLAIN + "\n\n" + PLAIN + end).replace("\n", "\r\n")
    assert len(load_treebanks(write(tmp_path, text)).tagged["en"]) == 2


def test_files_of_a_folder_are_languages_and_those_of_one_language_are_joined(tmp_path):
    write(tmp_path, PLAIN, "en_pud-ud-test.conllu")
    write(tmp_path, PLAIN, "en-ewt-dev.conllu")
    write(tmp_path, HEBREW, "he-htb-dev.conllu")
    found = load_treebanks(tmp_path)
    assert {code: len(rows) for code, rows in found.tagged.items()} == {"en": 2, "he": 1}
    assert found.languages == ("en", "he")
    assert load_treebanks(tmp_path, languages="he").languages == ("he",)
    assert load_treebanks(tmp_path, languages=["Hebrew", "en"]).languages == ("he", "en")
    assert found.select(["he", "fi"]).languages == ("he",)


def test_fingerprint_hangs_on_words_and_features_alone(tmp_path):
    first = load_treebanks(write(tmp_path, PLAIN, "en-a.conllu")).fingerprint
    assert load_treebanks(write(tmp_path, PLAIN, "en-b.conllu")).fingerprint == first
    other = PLAIN.replace("Number=Plur|Person", "Number=Sing|Person")
    assert load_treebanks(write(tmp_path, other, "en-c.conllu")).fingerprint != first


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "line", "told"),
    [
        (PLAIN.replace("2\tdogs\tdogs\tNOUN", "2\tdogs\tNOUN"), 4, "10 columns"),
        (PLAIN.replace("2\tdogs", "two\tdogs"), 4, "no word number"),
        (PLAIN.replace("3\trun", "3 run"), 5, "10 columns"),
        (PLAIN.replace("\t3\t_\t_\t_", "\t3\t_\t_\t", 1), 4, "has 9"),
        (PLAIN + "\n\n# text = nothing", 8, "single word"),
        (PLAIN.replace("\t3\t_\t_\t_", "\tthree\t_\t_\t_", 1), 4, "no CoNLL-U"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, line, told):
    with pytest.raises(CorpusError, match=rf"en-test\.conllu, line {line}: .*{told}"):
        load_treebanks(write(tmp_path, broken))


def test_what_is_no_text_or_no_file_is_refused(tmp_path):
    (tmp_path / "en.conllu").write_bytes(PLAIN.encode() + b"\n\xff\xfe\n")
    with pytest.raises(CorpusError, match=r"en\.conllu, line 7: .* is not UTF-8"):
        load_treebanks(tmp_path)
    with pytest.raises(CorpusError, match="no such file"):
        load_treebanks(tmp_path / "absent.conllu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"no \.conllu file"):
        load_treebanks(tmp_path / "empty")


def test_names_must_tell_the_language(tmp_path):
    with pytest.raises(LanguageError, match="must begin with its language"):
        load_treebanks(write(tmp_path, PLAIN, "dogs.conllu"))
    with pytest.raises(LanguageError, match="no treebank of fi"):
        load_treebanks(write(tmp_path, PLAIN, "en.conllu"), languages="fi,en")


def test_universal_dependencies_are_read_as_released_a_folder_a_treebank(tmp_path, caplog):
    for name in (
        *("UD_German-GSD/de_gsd-ud-dev", "UD_German-PUD/de_pud-ud-test"),
        *("UD_English-PUD/en_pud-ud-test", "UD_Erzya-JR/myv_jr-ud-test"),
        "UD_Mixed-Fame/qfn_fame-ud-test",
    ):
        (tmp_path / name).parent.mkdir()
        write((tmp_path / name).parent, PLAIN, f"{Path(name).name}.conllu")
    found = load_treebanks(tmp_path)
    assert {code: len(some) for code, some in found.tagged.items()} == {"de": 2, "en": 1, "myv": 1}
    assert "passed over" in caplog.text and "qfn_fame-ud-test.conllu" in caplog.text
    assert load_treebanks(tmp_path, languages="en,deu").languages == ("en", "de")
    one = load_treebanks(tmp_path / "UD_German-GSD")
    assert (one.languages, len(one.tagged["de"])) == (("de",), 1)


def test_a_folder_may_name_the_language_and_files_may_be_packed(tmp_path):
    for folder, name in (
        ("UD_Old_French-PROFITEROLE", "test.conllu"),
        ("UD_Norwegian-Bokmaal", "no_bokmaal-ud-dev.conllu"),
        ("UD_Norwegian-Nynorsk", "no_nynorsk-ud-dev.conllu"),
        ("UD_Hebrew-HTB", "dev.conllu"),
    ):
        (tmp_path / "ud" / "ud-treebanks" / folder).mkdir(parents=True)
        write(tmp_path / "ud" / "ud-treebanks" / folder, PLAIN, name)
    english = tmp_path / "ud" / "ud-treebanks" / "UD_English-PUD" / "en_pud-ud-test.conllu.gz"
    english.parent.mkdir()
    english.write_bytes(gzip.compress(PLAIN.encode()))
    found = load_treebanks(tmp_path / "ud")
    assert set(found.languages) == {"nb", "nn", "he", "en"}


def test_of_a_collection_only_the_text_s_languages_are_opened(tmp_path):
    write(tmp_path, PLAIN, "en_pud-ud-test.conllu")
    write(tmp_path, PLAIN, "gsw_uzh-ud-test.conllu")
    write(tmp_path, "no CoNLL-U at all", "de_gsd-ud-test.conllu")
    found = load_treebanks(tmp_path, text=("en-GB", "gsw-Latn", "fi"))
    assert found.languages == ("en", "gsw")
    with pytest.raises(LanguageError, match=r"of de, en, gsw, and the text is of fi, he; no lang"):
        load_treebanks(tmp_path, text=("fi", "he"))


def test_a_treebank_without_a_sentence_to_use_is_refused_and_not_replaced(tmp_path):
    (tmp_path / "en.conllu").write_text("\n\n")
    with pytest.raises(CorpusError, match="no sentence that can be used; left out: none"):
        load_treebanks(tmp_path)
    bare = PLAIN.replace("Number=Plur|Person=3|", "").replace("Number=Plur", "_")
    write(tmp_path, bare, "en.conllu")
    with pytest.raises(CorpusError, match="left out: 1 in which no word has any of Number"):
        load_treebanks(tmp_path)
    (tmp_path / "en.conllu").write_text("")
    with pytest.raises(CorpusError, match=r"en\.conllu: the file is empty"):
        load_treebanks(tmp_path)


def test_one_file_of_an_unknown_language_does_not_stop_the_others(tmp_path, caplog):
    write(tmp_path, PLAIN, "en.conllu")
    write(tmp_path, "no CoNLL-U at all", "qfn_fame.conllu")
    assert load_treebanks(tmp_path).languages == ("en",) and "qfn_fame.conllu" in caplog.text
    with pytest.raises(LanguageError, match=r"must begin with its language.*qfn_fame"):
        load_treebanks(tmp_path / "qfn_fame.conllu")


@pytest.mark.parametrize(
    ("words", "text"), [(["a", "c"], "a b c"), (["a"], "a b"), (["ab"], "a b"), ([""], "")]
)
def test_nothing_but_space_may_stand_between_words(words, text):
    assert locate(words, text) is None
    assert locate(["a", "b"], " a  b\u00a0") == ((1, 2), (4, 5))


# -- words and tokens -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_model(None).tokenizer


SENTENCES = {
    "he": "עשרות אנשים מגיעים מתאילנד לישראל כשהם נרשמים.",
    "ar": "كتبت كوري شولمان المساعدة الخاصة لأوباما في تدوينة.",
    "de": "Die Übergänge „sind“ schön — 😀 sehr schön!",
    "hi": "बच्चे किताबें पढ़ते हैं।",
}


def spans_of(text: str) -> list[tuple[int, int]]:
    found = locate(text.split(), text)
    assert found is not None
    return list(found)


def last_tokens(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]
) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    ids, ranges = token_ranges(tokenizer, text, spans)
    return ids, tuple(None if tokens is None else tokens[1] for tokens in ranges)


@pytest.mark.parametrize("code", SENTENCES)
def test_the_last_token_of_a_word_ends_it(tokenizer, code):
    """Decoding up to a word's last token gives the text up to the word, and no token less does."""
    text = SENTENCES[code]
    spans = spans_of(text)
    ids, last = last_tokens(tokenizer, text, spans)
    for (_, end), at in zip(spans, last, strict=True):
        assert at is not None
        assert tokenizer.decode(ids[: at + 1]) == text[:end]
        assert tokenizer.decode(ids[:at]) != text[:end]


def test_a_token_may_be_the_last_of_two_words(tokenizer):
    # A mark is a word of its own in a treebank, but no space need part it from the word before.
    ids, last = last_tokens(
        tokenizer, 'He said "no".', [(0, 2), (3, 7), (8, 9), (9, 11), (11, 12), (12, 13)]
    )
    assert all(at is not None for at in last)
    assert list(last) == sorted(last)
    assert last[-1] == len(ids) - 1


class WithoutOffsets:
    """A slow tokenizer: the same tokens, and no offsets."""

    is_fast = False

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
        return self._inner(texts, add_special_tokens=add_special_tokens)


@pytest.mark.parametrize("code", SENTENCES)
def test_without_offsets_the_same_tokens_are_found_or_none(tokenizer, code):
    text = SENTENCES[code]
    ids, last = last_tokens(tokenizer, text, spans_of(text))
    slow_ids, slow = last_tokens(WithoutOffsets(tokenizer), text, spans_of(text))
    assert slow_ids == ids
    assert all(b in (a, None) for a, b in zip(last, slow, strict=True))
    assert sum(b is not None for b in slow) >= len(slow) // 2


def test_without_offsets_a_word_cut_otherwise_than_in_the_text_is_not_aligned():
    def pairs(texts: list[str], add_special_tokens: bool) -> Any:
        cut = [[text[i : i + 2] for i in range(0, len(text), 2)] for text in texts]
        return SimpleNamespace(input_ids=[[hash(piece) for piece in row] for row in cut])

    _, last = last_tokens(pairs, "abc de", [(0, 3), (4, 6)])
    # "abc" ends in the token "c" alone and in "c " in the text.
    assert last == (None, 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("aאب é😀.", min_size=1, max_size=6), min_size=1, max_size=6))
def test_every_visible_word_has_a_last_token_in_order(tokenizer, pieces):
    words = " ".join(pieces).split()
    if not words:
        return
    text = " ".join(words)
    ids, last = last_tokens(tokenizer, text, spans_of(text))
    assert all(at is not None for at in last)
    assert list(last) == sorted(last)
    assert last[-1] == len(ids) - 1


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is absent")
def test_real_treebanks_line_up(tokenizer):
    found = load_treebanks(SHARED, languages=["he", "ar"])
    assert len(found.tagged["he"]) + sum(found.excluded.values()) >= 484
    assert len(found.tagged["ar"]) == 1000
    for code in ("he", "ar"):
        n_words = n_aligned = 0
        for sentence in found.tagged[code][:100]:
            assert tuple(sentence.text[a:b] for a, b in sentence.spans) == sentence.words
            _, last = last_tokens(tokenizer, sentence.text, sentence.spans)
            n_words += len(last)
            n_aligned += sum(at is not None for at in last)
        assert n_aligned == n_words
