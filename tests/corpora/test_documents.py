"""Which document a sentence is from: read, refused, carried, split by, and spread over."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpus_samples import EN, HE, refuses, write
from hypothesis import given
from hypothesis import strategies as st

from bitgap.corpora.documents import numbered
from bitgap.corpora.parallel import ParallelCorpus, load_corpus, spread_order
from bitgap.errors import CorpusError, LanguageError


def told(folder: Path, text: str | bytes, name: str = "documents.txt") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def corpus(documents: list[int] | None, n: int | None = None) -> ParallelCorpus:
    numbers = tuple(f"sentence {i}" for i in range(n if documents is None else len(documents)))
    return ParallelCorpus(
        "numbers", {"en": numbers, "he": numbers}, "us", "Apache-2.0",
        documents=None if documents is None else tuple(documents),
    )  # fmt: skip


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["documents.txt", "DOCUMENT_IDS.tsv"])
@pytest.mark.parametrize(
    "text",
    ["a\na\nb\n\nb\n", "a\r\na\r\nb\r\n\r\nb\r\n", b"\xef\xbb\xbfa\na\nb\n\nb\n", "a\na \nb\n\nb"],
)
def test_a_folder_tells_its_documents_whatever_the_line_ends(
    folder: Path, name: str, text: str | bytes
):
    found = load_corpus(told(folder, text, name))
    assert found.documents == (0, 0, 1, 2, 1), "a blank line is a document of its own"
    assert found.languages == ("en", "he", "ar"), "the file is no language"
    assert found.n_documents == 3


def test_without_such_a_file_documents_are_not_known(folder: Path):
    assert load_corpus(folder).documents is None
    assert load_corpus(folder).n_documents == 5
    assert load_corpus().documents is None, "our own sentences are independent"


@pytest.mark.parametrize("text", ["a\na\nb\nb\n", "a\na\nb\nb\nb\nb\n"])
def test_as_many_documents_as_sentences(folder: Path, text: str):
    found = len(text.split())
    refuses(CorpusError, "documents.txt", f"{found} lines", "5 sentences", spec=told(folder, text))


def test_documents_that_are_no_text_are_refused(folder: Path):
    refuses(CorpusError, "documents.txt", "not UTF-8", spec=told(folder, b"a\xff\na\nb\nb\nb\n"))
    refuses(CorpusError, "documents.txt", "empty", spec=told(folder, b""))


TABLE = [["en", "document", "he"], *([e, d, h] for e, d, h in zip(EN, "aabba", HE, strict=True))]


def test_a_table_tells_documents_by_a_column(tmp_path: Path):
    path = tmp_path / "pets.tsv"
    path.write_text("\r\n".join("\t".join(row) for row in TABLE) + "\r\n", newline="")
    found = load_corpus(path)
    assert found.documents == (0, 0, 1, 1, 0) and found.languages == ("en", "he")
    rows = [
        '{{"en": "{}", "he": "{}", "document": {}}}'.format(*r)
        for r in zip(EN, HE, [7, 7, '"x"', "null", 7], strict=True)
    ]
    path = tmp_path / "pets.jsonl"
    path.write_text("\n".join(rows))
    assert load_corpus(path).documents == (0, 0, 1, 2, 0)


def test_a_column_that_is_nearly_called_so_is_an_unknown_language(tmp_path: Path):
    path = tmp_path / "pets.tsv"
    path.write_text("\n".join("\t".join(row) for row in TABLE).replace("document", "doc"))
    refuses(LanguageError, "column 2 (doc)", "rename or remove", spec=path)
    path.write_text("en\tdocument\the\tDocument\nA.\t1\tB.\t2\n")
    refuses(CorpusError, "2 columns are called 'document'", spec=path)


@pytest.mark.parametrize("cell", ["1.5", "true", "[1]"])
def test_an_id_is_text_or_a_whole_number(tmp_path: Path, cell: str):
    path = tmp_path / "pets.jsonl"
    path.write_text(f'{{"en": "A.", "he": "B.", "document": {cell}}}\n')
    refuses(CorpusError, "key document, sentence 1", "id of a document", spec=path)


def test_ids_are_numbered_as_they_are_met():
    assert numbered(["x", "", "y", "x", "", "z"]) == (0, 1, 2, 0, 3, 4)


# -- NTREX -----------------------------------------------------------------------------------------

NTREX = Path(__file__).parents[3] / "shared" / "data" / "ntrex"


def ntrex(folder: Path, numbers: list[int], languages: str = "en,de,he") -> Path:
    for code in languages.split(","):
        lines = (NTREX / f"{code}.txt").read_text(encoding="utf-8").split("\n")
        write(folder, **{code: [lines[i] for i in numbers]})
    return folder


@pytest.mark.shared
def test_ntrex_is_known_by_its_sentences_and_not_by_its_name(tmp_path: Path):
    if not NTREX.is_dir():
        pytest.skip("the shared folder holds NTREX, and is not here")
    whole = load_corpus(NTREX, languages="de").documents
    assert whole is not None and len(whole) == 1000
    runs = [len(list(same)) for _, same in itertools.groupby(whole)]
    # As published: 16 lines of the BBC, six of RT, 21 of the New York Times, …
    assert runs[:6] == [16, 6, 21, 14, 18, 21] and len(runs) == len(set(whole)) == 63
    some = load_corpus(ntrex(tmp_path / "news", [300, 5, 17, 299]), languages="he").documents
    assert some == (0, 1, 2, 0), "any of them, in any order, with English there or not asked for"
    other = ntrex(tmp_path / "mine", [1, 2, 3])
    write(other, en=["Not of it.", "It is cold.", "So they say."])
    assert load_corpus(other).documents is None
    told(other, "a\nb\nb\n")
    assert load_corpus(other).documents == (0, 1, 1), "what is told comes first"


# -- carried, split by, spread over ----------------------------------------------------------------

DOCUMENTS = [4, 4, 9, 9, 9, 2, 2, 7, 1, 1, 1, 3]


def test_a_part_keeps_its_documents_and_the_text_its_fingerprint():
    whole = corpus(DOCUMENTS)
    assert whole.select("he", [11, 0, 2]).documents == (3, 4, 9)
    assert whole.info.fingerprint == corpus(None, len(DOCUMENTS)).info.fingerprint
    with pytest.raises(CorpusError, match="1 documents were named for 2 sentences"):
        ParallelCorpus("x", {"en": ("a", "b"), "he": ("a", "b")}, "", "", documents=(1,))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60))
def test_no_document_is_in_both_halves_of_the_split(documents: list[int]):
    calibration, test = corpus(documents).split()
    assert sorted([*calibration, *test]) == list(range(len(documents)))
    assert len(calibration) and len(test)
    if len(set(documents)) > 1:
        where = np.array(documents)
        assert not set(where[calibration]) & set(where[test])
        fitted = len(set(where[calibration]))
        assert fitted == -(-len(set(documents)) // 4), "every fourth document, from the first"
    else:
        assert (calibration % 4 == 0).all(), "one document is split by sentences"


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.data())
def test_few_sentences_are_part_of_more_and_of_as_many_documents_as_can_be(
    documents: list[int], data: st.DataObject
):
    whole = corpus(documents)
    n = data.draw(st.integers(2, len(documents)))
    more = data.draw(st.integers(n, len(documents)))
    few, many = whole.spread(n), whole.spread(more)
    assert len(few) == n and set(few) <= set(many) and (np.diff(few) > 0).all()
    where = np.array(documents)
    assert len(set(where[few])) == min(n, len(set(documents)))
    # What is taken of documents differs by one at most, but for those that have no more.
    taken, size = Counter(where[few].tolist()), Counter(documents)
    open_ = [taken[d] for d in size if taken[d] < size[d]]
    assert not open_ or max(taken.values()) - min(open_) <= 1
    part = whole.select(sentences=many)
    assert list(many[part.spread(n)]) == list(few), "few of a part are few of the whole"


@pytest.mark.parametrize("n", [7, 32, 96, 1000])
def test_sentences_are_spread_evenly_over_a_text_without_documents(n: int):
    whole = corpus(None, n)
    for k in (2, 4, 5, 16, n):
        found = whole.spread(min(k, n))
        assert len(found) == min(k, n)
        gaps = np.diff([*found, n + found[0]])
        # The longest gap is less than four times what a grid would leave.
        assert gaps.max() <= 4 * n / len(found)
    assert sorted(spread_order(n)) == list(range(n))
