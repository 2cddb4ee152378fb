from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from corpus_samples import AR, EN, HE, refuses, write

from bitgap.corpora.parallel import load_corpus
from bitgap.errors import CorpusError, LanguageError, MissingExtra


class Rows:
    """A split of a dataset: columns by name."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self.columns, self.column_names = columns, list(columns)

    def __getitem__(self, name: str) -> list[object]:
        return self.columns[name]


Hub = dict[str, dict[str, dict[str, Rows]]]


def fake_datasets(monkeypatch: pytest.MonkeyPatch, content: Hub) -> list[tuple[str, str, str]]:
    """Installs a ``datasets`` that knows these datasets, and returns its log of downloads."""
    loaded: list[tuple[str, str, str]] = []

    def load_dataset(path: str, name: str, *, split: str) -> Rows:
        loaded.append((path, name, split))
        return content[path][name][split]

    module = types.ModuleType("datasets")
    module.get_dataset_config_names = lambda path: list(content[path])  # type: ignore[attr-defined]
    module.get_dataset_split_names = (  # type: ignore[attr-defined]
        lambda path, name: list(content[path][name])
    )
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return loaded


def flores(**languages: list[str]) -> Hub:
    def rows(texts: list[str], ids: list[int]) -> Rows:
        return Rows({"id": [*ids], "iso_639_3": ["x"] * len(ids), "text": [*texts]})

    configs = {
        code: {"dev": rows(["D."], [0]), "devtest": rows(texts, list(range(len(texts))))}
        for code, texts in languages.items()
    }
    return {"openlanguagedata/flores_plus": {"default": {"dev": Rows({})}, **configs}}


@pytest.mark.parametrize("spec", ["flores+", "FLORES_plus", "openlanguagedata/flores_plus"])
def test_flores_plus_is_read_by_its_names(spec: str, monkeypatch: pytest.MonkeyPatch):
    loaded = fake_datasets(monkeypatch, flores(eng_Latn=EN, heb_Hebr=HE, arb_Arab=AR, cmn_Hans=EN))
    found = load_corpus(spec, languages="he,zh")
    assert found.languages == ("en", "he", "zh")
    assert found.text("he") == tuple(HE)
    assert found.licence == "CC-BY-SA-4.0"
    assert {config for _, config, _ in loaded} == {"eng_Latn", "heb_Hebr", "cmn_Hans"}
    assert {split for *_, split in loaded} == {"devtest"}


def test_flores_plus_without_languages_gives_the_bundled_ones_it_has(
    monkeypatch: pytest.MonkeyPatch,
):
    content = flores(zul_Latn=EN, heb_Hebr=HE, eng_Latn=EN, cat_Latn_vale1252=EN)
    fake_datasets(monkeypatch, content)
    assert load_corpus("flores+").languages == ("en", "he")
    refuses(LanguageError, "openlanguagedata/flores_plus", "zu", spec="flores+", languages="fi")
    fake_datasets(monkeypatch, flores(zul_Latn=EN, eng_Latn=EN))
    assert load_corpus("flores+").languages == ("en", "zu")


def test_a_split_can_be_named(monkeypatch: pytest.MonkeyPatch):
    fake_datasets(monkeypatch, flores(eng_Latn=EN, heb_Hebr=HE))
    assert load_corpus("flores+:dev").text("he") == ("D.",)
    refuses(CorpusError, "no split named train", "dev, devtest", spec="flores+:train")


def test_flores_plus_is_joined_on_the_id(monkeypatch: pytest.MonkeyPatch):
    content = flores(eng_Latn=EN, heb_Hebr=HE)
    shuffled = Rows({"id": [4, 3, 2, 1, 0], "text": [*HE[::-1]]})
    content["openlanguagedata/flores_plus"]["heb_Hebr"]["devtest"] = shuffled
    fake_datasets(monkeypatch, content)
    assert load_corpus("flores+").text("he") == tuple(HE)


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"id": [0, 1, 2, 4], "text": HE[:4]}, ("heb_Hebr", "4 sentences against 5", "id 3")),
        ({"id": [0, 1, 2, 3, 4, 9], "text": [*HE, "x"]}, ("heb_Hebr", "eng_Latn lacks")),
        ({"id": [0, 1, 2, 3, 3], "text": HE}, ("heb_Hebr", "stands twice")),
        ({"id": [0], "words": ["x"]}, ("heb_Hebr", "no column named text or sentence", "words")),
        ({"id": [], "text": []}, ("heb_Hebr", "no rows")),
        ({"id": range(5), "text": [*HE[:2], "", *HE[3:]]}, ("heb_Hebr, id 2", "empty")),
        ({"id": range(5), "text": [*HE[:2], None, *HE[3:]]}, ("heb_Hebr, id 2", "null")),
    ],
)
def test_a_wrong_configuration_is_named(
    columns: dict[str, list[object]], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    content = flores(eng_Latn=EN, heb_Hebr=HE)
    content["openlanguagedata/flores_plus"]["heb_Hebr"]["devtest"] = Rows(columns)
    fake_datasets(monkeypatch, content)
    refuses(CorpusError, *parts, spec="flores+")


@pytest.mark.parametrize("prefix", ["", "sentence_", "text_"])
def test_a_dataset_with_one_column_a_language_is_read(prefix: str, monkeypatch: pytest.MonkeyPatch):
    rows = Rows({"id": [*range(5)], f"{prefix}heb_Hebr": [*HE], f"{prefix}eng_Latn": [*EN]})
    fake_datasets(monkeypatch, {"me/pets": {"default": {"train": rows}}})
    found = load_corpus("me/pets")
    assert (found.languages, found.text("he")) == (("en", "he"), tuple(HE))
    assert found.source == "me/pets"


def test_a_dataset_without_languages_or_rows_is_refused(monkeypatch: pytest.MonkeyPatch):
    content: Hub = {
        "me/none": {"default": {"train": Rows({"question": ["x"], "answer": ["y"]})}},
        "me/void": {"default": {"odd": Rows({"en": [], "he": []})}},
        "me/bad": {"default": {"test": Rows({"en": ["A.", "B."], "he": ["א.", 3]})}},
    }
    fake_datasets(monkeypatch, content)
    refuses(CorpusError, "me/none", "question, answer", "at least two", spec="me/none")
    refuses(CorpusError, "me/void", "no rows", spec="me/void")
    refuses(CorpusError, "me/bad, row 2, column he", "a number", spec="me/bad")


def test_what_the_hub_refuses_is_a_corpus_error_that_mentions_the_path(
    monkeypatch: pytest.MonkeyPatch,
):
    fake_datasets(monkeypatch, {})
    refuses(CorpusError, "'data/pets' is no file or folder here", "gated", spec="data/pets")


def test_without_datasets_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    refuses(
        MissingExtra, "is no file or folder here", "pip install 'bitgap[hub]'", spec="data/pets"
    )


def test_an_existing_path_comes_before_a_dataset_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "pets", en=EN, he=HE)
    assert load_corpus("data/pets").n_sentences == 5
