"""Corpora as they are downloaded, cloned and made by translation toolkits."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
from corpus_samples import AR, EN, HE, refuses, write

from bitgap.corpora.parallel import load_corpus
from bitgap.errors import CorpusError, LanguageError

TEXTS = {"eng_Latn": EN, "heb_Hebr": HE, "arb_Arab": AR}
BRX = ["बर' नंगौ।", "आं बिजाब फरायो।", "सोर बेयो?", "बे गोजान।", "मोजां हर।"]


def put(folder: Path, **files: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_bytes(("\n".join(lines) + "\n").encode())
    return folder


def flores_200(root: Path) -> Path:
    for split, lines in (("dev", slice(0, 4)), ("devtest", slice(0, 5))):
        put(root / split, **{f"{tag}.{split}": text[lines] for tag, text in TEXTS.items()})
        urls = ["URL\tdomain", *(f"https://example.org/{i // 2}\tnews" for i in range(5)[lines])]
        put(root, **{f"metadata_{split}.tsv": urls})
    put(root, README=["FLORES-200"])
    return root


@pytest.mark.parametrize("below", ["", "flores200_dataset"])
def test_flores_200_is_read_as_downloaded_with_its_documents(tmp_path: Path, below: str):
    flores_200(tmp_path / below)
    found = load_corpus(tmp_path)
    assert (found.name, found.licence) == ("FLORES-200 devtest", "CC-BY-SA-4.0")
    assert found.languages == ("en", "he", "ar") and found.text("he") == tuple(HE)
    assert found.documents == (0, 0, 1, 1, 2)
    dev = load_corpus(tmp_path / below / "dev")
    assert (dev.name, dev.n_sentences, dev.documents) == ("FLORES-200 dev", 4, (0, 0, 1, 1))


@pytest.mark.parametrize("below", ["", "floresp-v2.0"])
def test_flores_plus_is_read_as_released(tmp_path: Path, below: str):
    for split, n in (("dev", 4), ("devtest", 5)):
        files = {f"{split}.{tag}": text[:n] for tag, text in TEXTS.items()}
        put(tmp_path / below / split, **files)
    found = load_corpus(tmp_path, languages="he")
    assert (found.name, found.languages) == ("FLORES+ devtest", ("en", "he"))
    dev = load_corpus(tmp_path / below / "dev")
    assert (dev.name, dev.n_sentences) == ("FLORES+ dev", 4)


def test_dialects_that_flores_plus_tells_by_glottolog_codes_are_two_languages(tmp_path: Path):
    files = {"dev.eng_Latn": EN, "dev.apc_Arab_nort3139": AR, "dev.apc_Arab_sout3123": AR}
    put(tmp_path / "dev", **files, **{"dev.cat_Latn_vale1252": EN})
    found = load_corpus(tmp_path)
    assert set(found.languages) == {"en", "apc-nort3139", "apc-sout3123", "ca"}
    assert load_corpus(tmp_path, languages="apc_Arab_nort3139").languages == ("en", "apc-nort3139")


def test_records_of_parquet_are_read_as_cloned_from_the_hub(tmp_path: Path):
    pa, pq = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    folder = put(tmp_path / "dev")
    for tag, text in TEXTS.items():
        rows = [{"id": i, "text": one, "url": f"u{i // 2}"} for i, one in enumerate(text)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{tag}.parquet")
    found = load_corpus(tmp_path)
    assert found.languages == ("en", "he", "ar") and found.text("he") == tuple(HE)
    assert found.documents == (0, 0, 1, 1, 2)


def test_a_table_by_the_columns_of_flores_plus_tells_scripts_and_dialects(tmp_path: Path):
    tags = (("eng", "Latn", "stan1293"), ("apc", "Arab", "nort3139"), ("apc", "Arab", "sout3123"))
    rows = [
        {"id": i, "iso_639_3": code, "iso_15924": script, "glottocode": dialect, "text": one}
        for code, script, dialect in tags
        for i, one in enumerate(EN)
    ]
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert load_corpus(path).languages == ("en", "apc-nort3139", "apc-sout3123")
    refuses(CorpusError, "is named itself", str(path), spec=tmp_path)


def test_flores_plus_is_read_as_cloned_from_the_hub(tmp_path: Path):
    for split, n in (("dev", 4), ("devtest", 5)):
        for tag, text in TEXTS.items():
            rows = [
                {"id": i, "iso_639_3": tag[:3], "text": line, "url": f"u{i // 2}"}
                for i, line in enumerate(text[:n])
            ]
            if tag == "heb_Hebr":
                rows.reverse()  # joined by id, whatever the order
            put(tmp_path / split, **{f"{tag}.jsonl": [json.dumps(row) for row in rows]})
    put(tmp_path, **{"README.md": ["..."]})
    found = load_corpus(tmp_path)
    assert found.languages == ("en", "he", "ar") and found.n_sentences == 5
    assert found.text("he") == tuple(HE) and found.documents == (0, 0, 1, 1, 2)
    bad = tmp_path / "devtest" / "heb_Hebr.jsonl"
    bad.write_text(bad.read_text("utf-8").replace('"id": 3', '"id": 9'), encoding="utf-8")
    refuses(CorpusError, "heb_Hebr.jsonl", "id 3 is missing", spec=tmp_path)
    bad.write_text('{"id": 0, "text": null}\n' * 1 + bad.read_text("utf-8").split("\n", 1)[1])
    refuses(CorpusError, "heb_Hebr.jsonl", spec=tmp_path)


def test_moses_files_are_named_by_their_folder_their_beginning_or_one_of_them(tmp_path: Path):
    put(tmp_path, **{"train.en": EN, "train.he": HE, "train.align": ["0-0"], "README.md": ["x"]})
    for spec in (tmp_path, tmp_path / "train", tmp_path / "train.en"):
        found = load_corpus(spec)
        assert found.languages == ("en", "he") and found.text("he") == tuple(HE)
    put(tmp_path, **{"dev.en": EN, "dev.he": HE})
    refuses(CorpusError, "files of 2 texts (dev, train)", str(tmp_path / "dev"), spec=tmp_path)
    assert load_corpus(tmp_path / "dev").name == "dev"


def test_opus_names_with_both_languages_in_the_stem_are_read(tmp_path: Path):
    put(tmp_path, **{"Tatoeba.de-en.de": HE, "Tatoeba.de-en.en": EN, "LICENSE": ["CC"]})
    assert load_corpus(tmp_path).languages == ("en", "de")


@pytest.mark.parametrize(("end", "pack"), [("gz", gzip), ("xz", lzma), ("bz2", bz2)])
def test_packed_text_is_unpacked(tmp_path: Path, end: str, pack: object):
    plain = load_corpus(put(tmp_path / "plain", **{"en.txt": EN, "he.txt": HE}))
    for name, text in (("en", EN), ("he", HE)):
        packed = pack.compress(("\n".join(text) + "\n").encode())  # type: ignore[attr-defined]
        put(tmp_path / "packed", readme=[])
        (tmp_path / "packed" / f"{name}.txt.{end}").write_bytes(packed)
    found = load_corpus(tmp_path / "packed")
    assert found.info.fingerprint == plain.info.fingerprint
    torn = tmp_path / "packed" / f"he.txt.{end}"
    torn.write_bytes(torn.read_bytes()[:-9])
    refuses(CorpusError, f"he.txt.{end}", "unpacked", spec=tmp_path / "packed")
    torn.write_bytes(b"no packed file")
    refuses(CorpusError, f"he.txt.{end}", spec=tmp_path / "packed")


def test_a_folder_of_something_else_is_told_what_is_read_and_what_was_found(tmp_path: Path):
    put(tmp_path, **{"model.safetensors": ["x"], "data.csv.zip": ["y"], "a.tsv": ["z"]})
    refuses(CorpusError, "FLORES (dev/eng_Latn.dev", "Moses", "a.tsv", spec=tmp_path)
    refuses(CorpusError, "corpus.en beside corpus.de", spec=tmp_path / "data.csv.zip")


# -- languages outside the table -------------------------------------------------------------------


def test_languages_outside_the_table_are_read_with_the_script_of_their_text(tmp_path: Path):
    put(tmp_path, **{"en.txt": EN, "gsw.txt": EN, "brx.txt": BRX, "myv.txt": ["Эрзя."] * 5})
    found = load_corpus(tmp_path)
    assert set(found.languages) == {"en", "gsw-Latn", "brx-Deva", "myv-Cyrl"}
    assert found.text("brx") == found.text("brx-Deva") == tuple(BRX)
    assert load_corpus(tmp_path, languages="brx,gsw").languages == ("en", "brx-Deva", "gsw-Latn")
    assert load_corpus(tmp_path, languages="brx_Deva").languages == ("en", "brx-Deva")
    other = load_corpus(tmp_path, languages="en", reference="gsw")
    assert (other.reference, other.languages) == ("gsw-Latn", ("gsw-Latn", "en"))
    assert found.select("gsw").languages == ("en", "gsw-Latn")


def test_a_tag_with_a_script_is_believed(tmp_path: Path):
    put(tmp_path, **{"en.txt": EN, "hoc_Wara.txt": EN, "brx-Latn.txt": EN})
    assert set(load_corpus(tmp_path).languages) == {"en", "hoc-Wara", "brx-Latn"}


def test_a_word_that_is_a_code_too_is_no_language_until_it_is_asked_for(tmp_path: Path):
    """``url`` is Urali, and ``src`` Logudorese Sardinian."""
    put(tmp_path, **{"t.tsv": ["url\ten\the", *(f"x\t{e}\t{h}" for e, h in zip(EN, HE))]})  # noqa: B905
    refuses(LanguageError, "column 1 (url)", "url (Urali)", spec=tmp_path / "t.tsv")
    found = load_corpus(tmp_path / "t.tsv", languages="url")
    assert found.languages == ("en", "url-Latn") and found.text("url")[0] == "x"
    put(tmp_path / "f", **{"en.txt": EN, "he.txt": HE, "log.txt": EN})
    refuses(LanguageError, "log.txt", "log (Logo)", "--languages", spec=tmp_path / "f")
    assert load_corpus(tmp_path / "f", languages="log").languages == ("en", "log-Latn")


def test_a_stray_file_is_told_from_a_language_that_is_not_known(tmp_path: Path):
    write(tmp_path, en=EN, he=HE, readme=EN, xqz=EN)
    refuses(LanguageError, "readme.txt, xqz.txt", "remove what is no language", spec=tmp_path)


# -- variants --------------------------------------------------------------------------------------


def test_variants_beside_each_other_keep_their_regions(tmp_path: Path):
    write(tmp_path, **{"en": EN, "pt-BR": HE, "pt_PT": AR})
    found = load_corpus(tmp_path)
    assert set(found.languages) == {"en", "pt-BR", "pt-PT"}
    assert found.text("por_BR") == tuple(HE) and found.text("pt-PT") == tuple(AR)
    assert load_corpus(tmp_path, languages="pt-BR").languages == ("en", "pt-BR")
    refuses(LanguageError, "pt may be pt-BR or pt-PT", spec=tmp_path, languages="pt")
    refuses(LanguageError, "pt-AO (pt) is not there", spec=tmp_path, languages="pt-AO")


def test_a_variant_alone_is_its_language_as_it_always_was(tmp_path: Path):
    assert load_corpus(write(tmp_path, **{"en": EN, "pt-BR": HE})).languages == ("en", "pt")
    refuses(
        LanguageError, "reference language en means en-GB and en-US", "--reference",
        spec=write(tmp_path / "two", **{"en-GB": EN, "en-US": EN, "he": HE}),
    )  # fmt: skip
    found = load_corpus(tmp_path / "two", reference="en-US")
    assert found.languages[0] == "en-US" and set(found.languages) == {"en-US", "en-GB", "he"}


def test_regional_texts_of_ntrex_come_when_they_are_asked_for(tmp_path: Path):
    names = {"src.eng": EN, "ref.eng-US": AR, "ref.por": EN, "ref.por-BR": HE}
    write(tmp_path, **{f"newstest2019-{name}": lines for name, lines in names.items()})
    assert load_corpus(tmp_path).languages == ("en", "pt")
    found = load_corpus(tmp_path, languages="pt,pt-BR")
    assert found.languages == ("en", "pt", "pt-BR") and found.text("pt-BR") == tuple(HE)
    assert load_corpus(tmp_path, languages="pt", reference="en-US").text("en-US") == tuple(AR)


# -- a reference of one's own ----------------------------------------------------------------------


def test_a_corpus_without_english_names_the_remedy(tmp_path: Path):
    write(tmp_path, de=EN, he=HE)
    refuses(
        LanguageError, "reference language en is not there", "de, he", "--reference", spec=tmp_path
    )
    assert load_corpus(tmp_path, reference="German").languages == ("de", "he")


def test_the_bundled_corpus_is_called_so_and_not_by_its_place():
    with pytest.raises(LanguageError) as caught:
        load_corpus(languages="xx")
    assert str(caught.value).startswith("the bundled corpus: unknown language 'xx'")
    assert "site-packages" not in str(caught.value) and "/" not in str(caught.value).split(";")[0]
