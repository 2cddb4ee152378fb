"""Sentences from grammars, and that the tables the package ships are what their recipe makes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import grammar_tables
import pytest
from grammar_lexicon import read_grammar
from grammar_sentences import make_pairs
from grammar_tables import GRAMMARS

from bitgap.corpora.grammar.agreement import BUNDLED, load_agreement
from bitgap.corpora.grammar.pairs import AgreementSet, MinimalPair
from bitgap.errors import CorpusError

LANGUAGES = tuple(path.stem for path in sorted(GRAMMARS.glob("*.yaml")))
GRAMMAR = """
nouns:
  person: |
    Sing Plur
    cat cats
    dog dogs
verbs:
  act: |
    lemma Sing Plur
    run runs run
templates:
  - {phenomenon: number, name: simple, pairs: 8, text: "the {person:s} {act:s!}"}
"""


@pytest.fixture(scope="module")
def bundled() -> AgreementSet:
    return load_agreement()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


# -- what is shipped ------------------------------------------------------------------------------


def test_the_shipped_tables_are_made_again_byte_for_byte(tmp_path: Path):
    command = [sys.executable, grammar_tables.__file__, "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_bytes() for path in BUNDLED.iterdir()}
    assert shipped.pop("README.md")
    assert made == shipped and len(made) == 2 * len(LANGUAGES) + 1 == 21


def test_what_a_table_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="tab or line break"):
        grammar_tables._table(("a", "b"), [("x", "y\tz")])


@pytest.mark.parametrize("code", LANGUAGES)
def test_singular_and_plural_are_right_equally_often(code: str):
    grammar = read_grammar(GRAMMARS / f"{code}.yaml")
    # Pairs of number have third persons, but Turkish ones the first two.
    persons = ("1", "2") if code == "tr" else (None, "3")
    numbers: dict[str, set[str]] = {}
    for word in (word for words in grammar.classes.values() for word in words):
        for cell, form in word.forms:
            tells = "Number" in cell and cell.get("Person") in persons
            if word.section in ("verbs", "adjectives") and tells:
                numbers.setdefault(form.casefold(), set()).add(cell["Number"])
    counts = Counter(
        " or ".join(numbers[_bare(pair, code)])
        for pair in make_pairs(grammar)
        if pair.phenomenon == "number"
    )
    assert counts.keys() <= {"Sing", "Plur"}
    assert abs(counts["Sing"] - counts["Plur"]) <= 0.1 * counts.total()


def _bare(pair: MinimalPair, code: str) -> str:
    """The critical form without what is written together with it."""
    word = pair.good.split()[pair.critical].rstrip(".").casefold()
    joined = {"he": "ו", "ar": "و"}.get(code, " ")
    return word.removeprefix(joined) if pair.template == "coordination" else word


@pytest.mark.parametrize("code", LANGUAGES)
def test_tagged_sentences_have_many_words_of_either_number(bundled: AgreementSet, code: str):
    grammar = read_grammar(GRAMMARS / f"{code}.yaml")
    sections = {
        word.lemma: word.section
        for words in grammar.classes.values()
        for word in words
        if word.section in ("nouns", "verbs")
    }
    lemmas: Counter[str] = Counter()
    types: dict[str, set[str]] = {"Sing": set(), "Plur": set()}
    seen: set[str] = set()
    for sentence in bundled.tagged[code]:
        for word, lemma, features in zip(
            sentence.words, sentence.lemmas, sentence.features, strict=True
        ):
            if features and lemma not in seen:
                seen.add(lemma)
                lemmas[sections.get(lemma, "other")] += 1
            if "Number" in features:
                types[features["Number"]].add(word)
    assert lemmas["nouns"] >= 60 and lemmas["verbs"] >= 30, lemmas
    assert min(map(len, types.values())) >= 60


# -- grammars -------------------------------------------------------------------------------------


def test_turkish_capitals_are_turkish(tmp_path: Path):
    text = GRAMMAR.replace("the {person:s}", "{person:s}").replace("cat cats", "iki ikiler")
    grammar = read_grammar(write(tmp_path / "tr.yaml", text))
    assert {pair.good[:3] for pair in make_pairs(grammar)} & {"İki"}


def test_a_small_grammar_gives_all_its_pairs_and_no_more(tmp_path: Path):
    pairs = make_pairs(read_grammar(write(tmp_path / "en.yaml", GRAMMAR)))
    assert {(pair.good, pair.bad) for pair in pairs} == {
        ("The cat runs.", "The cat run."),
        ("The cats run.", "The cats runs."),
        ("The dog runs.", "The dog run."),
        ("The dogs run.", "The dogs runs."),
    }
    assert {pair.item for pair in pairs} == {"cat + run", "dog + run"}
    assert {pair.critical for pair in pairs} == {2}


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("cat cats", "cat", "1 fields, not 2"),
        ("Sing Plur\n    cat", "Sing Many\n    cat", "Many is a value of no feature"),
        ("{act:s!}", "{act:s}", "not one word is marked"),
        ("{act:s!}", "{act:t!}", "a group has no head"),
        ("{act:s!}", "{fly:s!}", "no word class fly"),
        ("{act:s!}", "{act:s!", "not a slot"),
        ("templates:", "other:", "templates"),
        ("nouns:\n", "nouns: [\n", "en.yaml"),
    ],
)
def test_a_broken_grammar_is_refused(tmp_path: Path, old: str, new: str, part: str):
    with pytest.raises(CorpusError) as caught:
        read_grammar(write(tmp_path / "en.yaml", GRAMMAR.replace(old, new)))
    assert part in str(caught.value) and "en.yaml" in str(caught.value)


def test_a_missing_form_is_named(tmp_path: Path):
    text = GRAMMAR.replace("run runs run", "run runs -")
    with pytest.raises(CorpusError, match="run has no form"):
        make_pairs(read_grammar(write(tmp_path / "en.yaml", text)))
