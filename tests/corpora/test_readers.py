from __future__ import annotations

import csv
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from corpus_samples import AR, EN, HE, refuses, write

from bitgap.corpora.intake import CORE_LANGUAGES
from bitgap.corpora.parallel import load_corpus
from bitgap.errors import CorpusError, LanguageError, MissingExtra

NTREX = Path(__file__).parents[2].parent / "shared" / "data" / "ntrex"


# Folders of text


def test_bom_crlf_and_a_missing_last_line_feed_are_accepted(folder: Path):
    plain = load_corpus(folder)
    (folder / "en.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(EN).encode())
    assert load_corpus(folder).info.fingerprint == plain.info.fingerprint


def test_identical_sentences_in_all_languages_are_no_error(tmp_path: Path):
    assert load_corpus(write(tmp_path, en=["OK."] * 3, de=["OK."] * 3)).n_sentences == 3


def test_line_separators_inside_a_sentence_do_not_shift_the_alignment(tmp_path: Path):
    write(tmp_path, en=["A.", "B."], he=["א\u2028א.", "ב."])
    assert load_corpus(tmp_path).text("he") == ("א\u2028א.", "ב.")


def test_files_may_be_named_by_any_spelling(tmp_path: Path):
    write(tmp_path, **{"eng_Latn": EN, "heb": HE, "zh-TW": EN})
    assert load_corpus(tmp_path).languages == ("en", "he", "zh-Hant")


def test_other_and_hidden_files_are_passed_over(folder: Path):
    (folder / "README.md").write_text("about")
    (folder / ".xx.txt").write_text("junk")
    (folder / "old.txt").mkdir()
    assert load_corpus(folder).languages == ("en", "he", "ar")


def test_files_of_different_length_are_named_with_the_first_line_missing(folder: Path):
    write(folder, he=HE[:3], ar=AR[:4])
    refuses(
        CorpusError,
        "en.txt has 5 lines",
        "he.txt has 3 (line 4 is missing)",
        "ar.txt has 4 (line 5 is missing)",
        spec=folder,
    )


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_invalid_utf8_is_named_with_file_line_and_byte_offset(folder: Path, bom: bytes):
    raw = bom + "\n".join(HE[:2]).encode() + b"\n\xd7\xff\n"
    (folder / "he.txt").write_bytes(raw)
    offset = raw.index(b"\xd7\xff")
    refuses(CorpusError, "he.txt, line 3", f"byte 0xd7 at byte offset {offset} ", spec=folder)


def test_utf16_is_refused_as_not_utf8(folder: Path):
    (folder / "he.txt").write_bytes("\n".join(HE).encode("utf-16"))
    refuses(CorpusError, "he.txt, line 1", "not UTF-8", spec=folder)


@pytest.mark.parametrize("blank", ["", "  ", "\u3000", "\u200f", "\u200b \t"])
def test_a_line_without_a_visible_character_is_named(folder: Path, blank: str):
    write(folder, he=[*HE[:3], blank, HE[4]])
    refuses(CorpusError, "he.txt, line 4", "empty", spec=folder)


def test_a_superfluous_blank_line_at_the_end_is_named(folder: Path):
    (folder / "he.txt").write_text("\n".join(HE) + "\n\n", encoding="utf-8")
    refuses(CorpusError, "he.txt, line 6", "empty", spec=folder)


@pytest.mark.parametrize(
    ("character", "name"), [("\0", "U+0000"), ("\t", "U+0009"), ("\x7f", "U+007F")]
)
def test_control_characters_are_named(folder: Path, character: str, name: str):
    write(folder, ar=[*AR[:1], f"ab{character}c", *AR[2:]])
    refuses(CorpusError, "ar.txt, line 2", name, "character 3", spec=folder)


def test_invisible_characters_of_others_making_are_dropped_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    """NTREX-128 has U+0083 in Polish and U+0084 in Bosnian; joined files have BOMs inside."""
    plain = load_corpus(folder)
    write(
        folder,
        he=["\ufeff" + HE[0], HE[1] + "\x83", "\ufeff" + HE[2][:3] + "\x84" + HE[2][3:], *HE[3:]],
    )
    found = load_corpus(folder)
    assert found.info.fingerprint == plain.info.fingerprint
    told = "he.txt, line 2: invisible characters dropped"
    assert told in caplog.text and "U+0083 1 time(s), U+0084 1 time(s), U+FEFF 1" in caplog.text
    write(folder, he=[HE[0], HE[1] + "\x85" + HE[1], *HE[2:]])
    assert load_corpus(folder).text("he")[1] == f"{HE[1]} {HE[1]}", "a line end parts words"


def test_an_old_mac_line_end_is_refused_rather_than_read_as_one_line(folder: Path):
    (folder / "he.txt").write_bytes("\r".join(HE).encode())
    refuses(CorpusError, "he.txt, line 1", "U+000D", spec=folder)


def test_an_empty_file_is_named(folder: Path):
    (folder / "ar.txt").write_bytes(b"\xef\xbb\xbf")
    refuses(CorpusError, "ar.txt", "is empty", spec=folder)


def test_a_folder_without_text_says_what_it_needs(tmp_path: Path):
    refuses(CorpusError, str(tmp_path), "no <language>.txt", spec=tmp_path)


def test_one_language_is_too_few(tmp_path: Path):
    refuses(CorpusError, "1 language(s) (en)", "at least two", spec=write(tmp_path, en=EN))


def test_a_missing_reference_says_which_languages_exist(folder: Path):
    refuses(LanguageError, "reference language fi", "en, he, ar", spec=folder, reference="finnish")
    refuses(LanguageError, "unknown language 'xx'", spec=folder, reference="xx")


def test_all_file_names_that_are_no_language_are_listed(folder: Path):
    write(folder, notes=EN, qqq=EN)
    refuses(LanguageError, str(folder), "notes.txt, qqq.txt", spec=folder)
    assert load_corpus(folder, languages="he").languages == ("en", "he")


def test_one_language_in_two_spellings_is_refused_with_both_files(folder: Path):
    write(folder, heb=HE)
    refuses(CorpusError, "he.txt and heb.txt", "same language (he)", spec=folder)
    assert load_corpus(folder, languages=["ar"]).languages == ("en", "ar")


@pytest.mark.parametrize(
    ("languages", "part"),
    [
        ("en,he,xx", "unknown language 'xx'"),
        ("en,fi", "fi (fi) is not there"),
        ("he,en,heb", "asked for twice, as he and heb"),
        ("en", "only the reference"),
        (" , ", "no language was named"),
        ([], "no language was named"),
    ],
)
def test_a_wrong_selection_is_a_language_error(folder: Path, languages: str, part: str):
    refuses(LanguageError, part, spec=folder, languages=languages)


def test_a_wrong_selection_lists_what_the_corpus_has(folder: Path):
    for wanted in ("xx", "fi", "he,he"):
        refuses(LanguageError, "the corpus has en, he, ar", spec=folder, languages=wanted)


def test_the_reference_is_added_and_comes_first(folder: Path):
    assert load_corpus(folder, languages="ar, he").languages == ("en", "ar", "he")
    assert load_corpus(folder, languages=["he", "en"]).languages == ("en", "he")


def test_only_the_files_asked_for_are_read(folder: Path):
    (folder / "ar.txt").write_bytes(b"\xff")
    assert load_corpus(folder, languages="he").languages == ("en", "he")


# NTREX-128 as published


def ntrex(folder: Path) -> Path:
    for name, lines in {
        "src.eng": EN,
        "ref.eng-US": AR,
        "ref.heb": HE,
        "ref.fra": EN,
        "ref.fra-CA": HE,
        "ref.spa": EN,
        "ref-2.spa": HE,
        "ref.zho-CN": EN,
        "ref.zho-TW": HE,
        "ref.srp-Cyrl": EN,
        "ref.srp-Latn": HE,
        "ref.sna-Latn": EN,
    }.items():
        write(folder, **{f"newstest2019-{name}": lines})
    write(folder, notes=["not NTREX"])
    return folder


@pytest.mark.parametrize("child", ["", "NTREX-128"])
def test_ntrex_is_read_from_its_folder_and_from_its_repository(tmp_path: Path, child: str):
    ntrex(tmp_path / child)
    found = load_corpus(tmp_path)
    assert set(found.languages) == set("en he fr es zh zh-Hant sr sr-Latn sn".split())
    assert found.languages[0] == "en"
    assert found.text("en") == found.text("fr") == found.text("es") == tuple(EN)
    assert found.text("zh-Hant") == found.text("sr-Latn") == tuple(HE)
    assert (found.name, found.licence) == ("NTREX-128", "CC-BY-SA-4.0")


def test_an_unknown_or_short_ntrex_file_is_named(tmp_path: Path):
    write(ntrex(tmp_path), **{"newstest2019-ref.qqq": EN})
    refuses(LanguageError, "newstest2019-ref.qqq.txt", spec=tmp_path)
    write(tmp_path, **{"newstest2019-ref.heb": HE[:2]})
    refuses(CorpusError, "newstest2019-ref.heb.txt has 2", spec=tmp_path, languages="he")


@pytest.mark.shared
def test_ntrex_sentences_are_read_in_all_sixteen_languages():
    if not NTREX.is_dir():
        pytest.skip("../shared/data/ntrex is not here")
    found = load_corpus(NTREX)
    assert found.languages == CORE_LANGUAGES
    assert found.n_sentences == 1000
    for code in ("he", "ar"):
        lines = (NTREX / f"{code}.txt").read_text(encoding="utf-8").split("\n")
        assert found.text(code) == tuple(
            unicodedata.normalize("NFC", s.strip()) for s in lines[:1000]
        )


LONG = [
    {"id": i, "language": language, "text": text, "document": f"d{i // 2}"}
    for language, texts in (("he", HE), ("eng_Latn", EN))
    for i, text in (enumerate(texts) if language == "he" else reversed([*enumerate(texts)]))
]


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet"])
def test_a_long_table_has_a_row_a_sentence_and_is_joined_by_ids(tmp_path: Path, kind: str):
    path = tmp_path / f"t.{kind}"
    if kind == "tsv":
        table(path, [[*LONG[0]], *([str(cell) for cell in row.values()] for row in LONG)])
    elif kind == "jsonl":
        jsonl(path, [json.dumps(row) for row in LONG])
    else:
        pa, pq = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
        pq.write_table(pa.Table.from_pylist(LONG), path)
    found = load_corpus(path)
    assert found.languages == ("en", "he")
    # In the order of the reference's rows.
    assert found.text("en") == tuple(EN[::-1]) and found.text("he") == tuple(HE[::-1])
    assert found.documents == (0, 1, 1, 2, 2)


def test_a_long_table_without_ids_is_joined_by_order_and_with_wrong_ones_refused(tmp_path: Path):
    rows = [["lang", "sentence"], ["en", "A."], ["he", "א."], ["he", "ב."], ["en", "B."]]
    path = table(tmp_path / "t.tsv", rows)
    assert load_corpus(path).text("he") == ("א.", "ב.")
    refuses(
        CorpusError, "en 2, he 3", "which are the same", spec=table(path, [*rows, ["he", "ג."]])
    )
    refuses(CorpusError, "line 4, column 1", "nothing", spec=table(path, [*rows[:3], ["", "C."]]))
    ids = [["id", "lang", "text"], ["1", "en", "A."], ["2", "en", "B."], ["1", "he", "א."]]
    refuses(CorpusError, "not aligned with en", "id 2 is missing", spec=table(path, ids))
    refuses(CorpusError, "'1' stands twice in he", spec=table(path, [*ids, ["1", "he", "ב."]]))
    refuses(LanguageError, "lang notes", spec=table(path, [*rows, ["notes", "x"]]))


# Tables


def table(path: Path, rows: list[list[str]]) -> Path:
    path.write_bytes(("\n".join("\t".join(row) for row in rows) + "\n").encode())
    return path


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.TAB"])
def test_a_table_with_tabs_is_read(tmp_path: Path, name: str):
    rows = [["he", "eng_Latn"], *map(list, zip(HE, EN, strict=True))]
    found = load_corpus(table(tmp_path / name, rows))
    assert found.languages == ("en", "he")
    assert (found.text("en"), found.text("he")) == (tuple(EN), tuple(HE))


@pytest.mark.parametrize(
    "cells", [['"A', 'B"'], ['"A."', '"B."'], ['"Hi," he said.', '"C'], ['A ""b""', "C"]]
)
def test_quotes_in_a_table_are_text(tmp_path: Path, cells: list[str]):
    found = load_corpus(table(tmp_path / "t.tsv", [["en", "de"], cells]))
    assert [found.text("en")[0], found.text("de")[0]] == cells


QUOTED = [
    ['He said "hi".', "Er sagte „hi“."],
    ['"Hello," she said.', '"Hallo", sagte sie.'],
    ['"All of it."', "Plain."],
    ["It costs 3, or 4.", '"'],
]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_that_spreadsheets_or_pandas_quoted_is_read_without_the_quotes(
    tmp_path: Path, quoting: Any
):
    path = tmp_path / "t.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting).writerows([["en", "de"], *QUOTED])
    found = load_corpus(path)
    assert list(zip(found.text("en"), found.text("de"), strict=True)) == list(map(tuple, QUOTED))
    with path.open("a", encoding="utf-8") as file:
        file.write('"three"\t"cells"\t"here"\n')
    refuses(CorpusError, "t.tsv, line 6", "3 column(s)", spec=path)


def test_a_quoted_cell_of_two_lines_is_named_by_its_first(tmp_path: Path):
    path = tmp_path / "t.tsv"
    path.write_text('en\tde\n"He ""said""\nso."\tEr.\nA.\tB.\n')
    refuses(CorpusError, "t.tsv, line 2", spec=path)
    path.write_text('en\tde\n"He ""said""."\tEr.\n"no end\tB.\n')
    assert load_corpus(path).text("en")[1] == '"no end', "not all is quoted, so quotes are text"


def test_a_row_with_the_wrong_number_of_columns_is_named(tmp_path: Path):
    path = table(tmp_path / "t.tsv", [["en", "he"], ["A.", "א."], ["B."]])
    refuses(CorpusError, "t.tsv, line 3", "1 column(s), but the header has 2", spec=path)


def test_an_empty_cell_is_named_with_line_and_column(tmp_path: Path):
    path = table(tmp_path / "t.tsv", [["en", "he"], ["A.", "א."], ["B.", " "]])
    refuses(CorpusError, "t.tsv, line 3, column 2", "empty", spec=path)


@pytest.mark.parametrize("between", [",", ";"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_of_commas_is_read_as_programs_write_it(tmp_path: Path, between: str, quoting: Any):
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=between, quoting=quoting).writerows([["en", "de"], *QUOTED])
    found = load_corpus(path)
    assert list(zip(found.text("en"), found.text("de"), strict=True)) == list(map(tuple, QUOTED))


def test_a_table_of_commas_that_is_not_whole_is_told_where(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("en,de\nA.,B.\nWell, A.,B.\n")
    refuses(CorpusError, "t.csv, line 3", "3 column(s)", "in quotes", spec=path)
    path.write_text('en,de\nA.,B.\n"A.,B.\nC.,D.\n')
    refuses(CorpusError, "t.csv, line 3", "in quotes", spec=path)
    path.write_text("en\nA.\n")
    refuses(CorpusError, "t.csv, line 1", "commas, semicolons or tabs", spec=path)
    path.write_text("id,language,text\n1,en,A.\n1,de,B.\n2,de,D.\n2,en,C.\n")
    assert load_corpus(path).text("de") == ("B.", "D.")


def test_a_table_of_tabs_alone_may_be_called_tsv_and_one_without_sentences_is_refused(
    tmp_path: Path,
):
    commas = tmp_path / "t.tsv"
    commas.write_text("en,he\nA.,B.\n")
    refuses(CorpusError, "t.tsv, line 1", "tabs", spec=commas)
    refuses(CorpusError, "no sentences", spec=table(tmp_path / "h.tsv", [["en", "he"]]))


def test_table_columns_that_are_no_language_are_listed_unless_languages_are_chosen(tmp_path: Path):
    path = table(tmp_path / "t.tsv", [["url", "en", "topic", "he"], ["1", "A.", "x", "א."]])
    refuses(LanguageError, "t.tsv", "column 1 (url), column 3 (topic)", spec=path)
    assert load_corpus(path, languages="he").text("he") == ("א.",)


def test_a_language_with_two_columns_is_refused(tmp_path: Path):
    path = table(tmp_path / "t.tsv", [["en", "he", "he"], ["A.", "א.", "ב."]])
    refuses(CorpusError, "column 2 (he) and column 3 (he)", spec=path)


@pytest.mark.parametrize("ids", [["1", "2"], ["dev-1", "dev-2"]])
def test_an_id_column_of_row_ids_is_not_taken_for_indonesian(tmp_path: Path, ids: list[str]):
    rows = [["id", "en", "he"], [ids[0], EN[0], HE[0]], [ids[1], EN[1], HE[1]]]
    assert load_corpus(table(tmp_path / "t.tsv", rows)).languages == ("en", "he")
    lines = [json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]]
    assert load_corpus(jsonl(tmp_path / "c.jsonl", lines)).languages == ("en", "he")


def test_an_id_column_of_sentences_is_indonesian(tmp_path: Path):
    path = table(tmp_path / "t.tsv", [["id", "en"], ["Ada 3 kucing.", "There are 3 cats."]])
    assert load_corpus(path).text("ind") == ("Ada 3 kucing.",)


def jsonl(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_json_lines_are_read(tmp_path: Path):
    rows = [json.dumps({"heb": h, "en": e}) for h, e in zip(HE, EN, strict=True)]
    found = load_corpus(jsonl(tmp_path / "c.jsonl", rows))
    assert (found.languages, found.text("he")) == (("en", "he"), tuple(HE))


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"en": "B."', "not valid JSON"),
        ("[" * 200_000, "not valid JSON"),
        ('["B."]', "expected an object"),
        ('{"en": "B."}', "lacks he"),
        ('{"en": "B.", "he": "ב.", "fi": "B."}', "adds fi"),
        ('{"en": "B.", "he": 7}', "expected a sentence, found a number"),
        ('{"en": "B.", "he": null}', "expected a sentence, found null (an empty cell)"),
        ('{"en": "B.", "he": ""}', "empty"),
        ('{"en": "B.", "he": "a\\u0000b"}', "U+0000"),
        ('{"en": "B.", "he": "a\\ud83db"}', "U+D83D"),
        ('{"en": "B.", "en": "C.", "he": "ב."}', "twice"),
        ("", "empty"),
    ],
)
def test_a_wrong_json_line_is_named(tmp_path: Path, line: str, part: str):
    good = '{"en": "A.", "he": "א."}'
    path = jsonl(tmp_path / "c.jsonl", [good, line, good])
    refuses(CorpusError, "c.jsonl, line 2", part, spec=path)


def test_json_keys_that_are_no_language_are_listed_unless_languages_are_chosen(tmp_path: Path):
    path = jsonl(tmp_path / "c.jsonl", ['{"url": 1, "en": "A.", "he": "א."}'])
    refuses(LanguageError, "c.jsonl, line 1", "url", spec=path)
    assert load_corpus(path, languages=["he"]).n_sentences == 1


def test_parquet_is_read_and_its_faults_are_named_by_row(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    good, holed, numbers, broken = (tmp_path / f"{n}.parquet" for n in "ghnb")
    pq.write_table(pa.table({"id": [*range(5)], "he": HE, "en": EN}), good)
    assert load_corpus(good).text("he") == tuple(HE)
    pq.write_table(pa.table({"en": EN, "he": [*HE[:2], None, *HE[3:]]}), holed)
    refuses(CorpusError, "h.parquet, row 3, column 2", "null", spec=holed)
    pq.write_table(pa.table({"en": EN, "he": [1, 2, 3, 4, 5], "x": EN}), numbers)
    refuses(LanguageError, "n.parquet", "column 3 (x)", spec=numbers)
    refuses(CorpusError, "n.parquet, row 1, column 2", "a number", spec=numbers, languages="he")
    broken.write_bytes(b"not parquet")
    refuses(CorpusError, "b.parquet", "cannot be read as Parquet", spec=broken)


def test_parquet_without_pyarrow_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    refuses(MissingExtra, "pip install 'bitgap[parquet]'", spec=tmp_path / "c.parquet")
