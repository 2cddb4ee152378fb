"""Minimal pairs of agreement, with lexical control pairs, and sentences with gold features.

:func:`load_agreement` reads our own (``bundled/``), or a folder in the layout of CLAMS
(Mueller et al. 2020, *Cross-Linguistic Syntactic Evaluation of Word Prediction Models*) or of
MultiBLiMP (Jumelet et al. 2025, *MultiBLiMP 1.0*). Whatever the source, text is in NFC, the two
sentences of a pair differ in exactly one word, and what had to be left out is counted.
"""

from __future__ import annotations

import csv
import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bitgap.corpora.grammar.pairs import (
    PHENOMENA,
    AgreementSet,
    MinimalPair,
    TaggedSentence,
    make_pair,
    make_set,
    present,
)
from bitgap.corpora.intake import clean_sentence, text_lines
from bitgap.errors import CorpusError, LanguageError, NoSuchText
from bitgap.languages import language

__all__ = [
    "AgreementSet",
    "MinimalPair",
    "TaggedSentence",
    "load_agreement",
]

BUNDLED = Path(__file__).parent / "bundled"
"""Our own, two tables a language, as ``recipes/grammar_tables.py`` makes them."""
PAIR_COLUMNS = ("phenomenon", "template", "item", "good", "bad")
TAGGED_COLUMNS = ("text", "lemmas", "features")
"""Lemmas and features have one entry for each word of the text, with spaces between."""

_LAYOUTS = (
    "known layouts are CLAMS (<language>/*.txt or <language>_evalset/*.txt with lines "
    "True<TAB>sentence and "
    "False<TAB>sentence by turns) and MultiBLiMP (<language>/data.tsv or <language>.tsv with "
    "columns sen and wrong_sen)"
)
_PHENOMENON = {"#": "number", "G": "gender", "P": "person"} | {name: name for name in PHENOMENA}
"""How MultiBLiMP's SV-# or SP-G end, and our own names."""
_NOT_AGREEMENT = re.compile(r"(^|_)npi(_|$)")
"""CLAMS also has polarity items (few teachers have ever ...), which agree with nothing."""


def load_agreement(
    spec: str | os.PathLike[str] | None = None, *, languages: str | Sequence[str] | None = None
) -> AgreementSet:
    """Reads a set of minimal pairs.

    Args:
        spec: None or ``bundled`` for our own; else a folder in the layout of CLAMS or MultiBLiMP,
            or one file of it.
        languages: Which to read, as ``"en,he"`` or a list, in any spelling; those that the set
            lacks are passed over. All when None.

    Raises:
        CorpusError: If there is no such folder, its layout is unknown, a line is broken, or no
            usable pair is there; names file and line.
        LanguageError: If a spelling names no language, or none of them is there.
    """
    if spec is None or spec == "bundled":
        codes = [path.name.partition(".")[0] for path in sorted(BUNDLED.glob("*.pairs.tsv"))]
        codes = present(codes, languages, "bundled minimal pairs")
        return _bundled(tuple(codes))
    folder = Path(spec).expanduser()
    if folder.is_file():
        return _read_file(folder, languages)
    if not folder.is_dir():
        raise NoSuchText(
            f"{folder}: no such folder; {_LAYOUTS}; leave the set out for the bundled one"
        )
    files = {path: _spelling(path.parent) for path in sorted(folder.glob("*/*.txt"))}
    if not files and _is_language(_spelling(folder.resolve())):
        files = {path: _spelling(folder.resolve()) for path in sorted(folder.glob("*.txt"))}
    if files:
        return _read_clams(folder, files, languages)
    files = {path: path.parent.name for path in sorted(folder.glob("*/data.tsv"))}
    files = files or {path: path.stem for path in sorted(folder.glob("*.tsv"))}
    if files:
        return _read_multiblimp(folder, files, languages)
    raise CorpusError(f"{folder}: minimal pairs in no layout that is known; {_LAYOUTS}")


def _read_file(path: Path, languages: str | Sequence[str] | None) -> AgreementSet:
    """Reads one table of MultiBLiMP, or one construction of CLAMS in the folder of its language."""
    if path.suffix == ".tsv":
        spelling = path.parent.resolve().name if path.stem == "data" else path.stem
        return _read_multiblimp(path, {path: spelling}, languages)
    if path.suffix == ".txt" and _is_language(_spelling(path.parent.resolve())):
        return _read_clams(path, {path: _spelling(path.parent.resolve())}, languages)
    raise CorpusError(f"{path}: a file in no layout of minimal pairs that is known; {_LAYOUTS}")


def _spelling(folder: Path) -> str:
    """Returns how a folder spells its language; as cloned, CLAMS has ``he_evalset``."""
    return folder.name.removesuffix("_evalset")


def _is_language(spelling: str) -> bool:
    try:
        return bool(language(spelling))
    except LanguageError:
        return False


@functools.lru_cache(maxsize=8)
def _bundled(codes: tuple[str, ...]) -> AgreementSet:
    return make_set(
        "bundled",
        {code: _bundled_pairs(code) for code in codes},
        tagged={code: _bundled_tagged(code) for code in codes},
        excluded={},
        source="written for bitgap",
        licence="Apache-2.0",
    )


def _bundled_pairs(code: str) -> list[MinimalPair]:
    pairs: list[MinimalPair] = []
    for phenomenon, template, item, good, bad in _rows(f"{code}.pairs.tsv", PAIR_COLUMNS):
        pair = make_pair(good, bad, code=code, phenomenon=phenomenon, template=template, item=item)
        if isinstance(pair, str):
            raise CorpusError(f"{code}.pairs.tsv: {good!r} and {bad!r} are no pair: {pair}")
        pairs.append(pair)
    return pairs


def _bundled_tagged(code: str) -> list[TaggedSentence]:
    sentences: list[TaggedSentence] = []
    for text, lemmas, features in _rows(f"{code}.tagged.tsv", TAGGED_COLUMNS):
        words = text.split(" ")
        starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
        sentences.append(
            TaggedSentence(
                language=code,
                words=tuple(words),
                text=text,
                spans=tuple((i, i + len(word)) for i, word in zip(starts, words, strict=True)),
                features=tuple(_features(cell) for cell in features.split(" ")),
                lemmas=tuple(lemmas.split(" ")),
            )
        )
    return sentences


def _features(cell: str) -> dict[str, str]:
    """Reads ``Number=Plur|Case=Dat``; ``_`` is none."""
    parts = (part.partition("=") for part in cell.split("|") if cell != "_")
    return {name: value for name, _, value in parts}


def _rows(name: str, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yields the cells of a bundled table's lines."""
    header, *lines = (BUNDLED / name).read_text(encoding="utf-8").splitlines()
    if header.split("\t") != list(columns):
        raise CorpusError(f"{name}: columns {header!r}, not {', '.join(columns)}")
    for line in lines:
        yield line.split("\t")


def _read_clams(
    folder: Path, files: dict[Path, str], languages: str | Sequence[str] | None
) -> AgreementSet:
    pairs: dict[str, list[MinimalPair]] = {}
    excluded: Counter[str] = Counter()
    for code, path in _wanted(folder, files, languages, excluded):
        for good, bad in _clams_pairs(path):
            if _NOT_AGREEMENT.search(path.stem):
                excluded["not agreement"] += 1
                continue
            template = path.stem.replace("_", " ")
            pair = make_pair(good, bad, code=code, phenomenon="number", template=template)
            _sort(pair, pairs, excluded)
    return _folder_set(folder, pairs, excluded, "CLAMS, Mueller et al. 2020")


def _clams_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the sentences of a CLAMS file two by two, the right one first."""
    sentences: list[str] = []
    for number, line in enumerate(text_lines(path), start=1):
        expected = ("True", "False")[(number - 1) % 2]
        label, tab, text = line.partition("\t")
        if label.strip() != expected or not tab:
            raise CorpusError(
                f"{path}, line {number}: expected {expected}<TAB>sentence, found "
                f"{line.strip()[:60]!r}; right and wrong sentences must stand by turns"
            )
        sentences.append(clean_sentence(text, f"{path}, line {number}"))
    if len(sentences) % 2:
        raise CorpusError(
            f"{path}, line {len(sentences)}: the right sentence at the end has no wrong one; add "
            "the line False<TAB>sentence"
        )
    return zip(sentences[::2], sentences[1::2], strict=True)


def _read_multiblimp(
    folder: Path, files: dict[Path, str], languages: str | Sequence[str] | None
) -> AgreementSet:
    pairs: dict[str, list[MinimalPair]] = {}
    excluded: Counter[str] = Counter()
    for code, path in _wanted(folder, files, languages, excluded):
        for good, bad, label in _multiblimp_rows(path):
            phenomenon = _PHENOMENON.get(label.rpartition("-")[2].strip())
            if phenomenon is None:
                excluded["not agreement"] += 1
                continue
            template = label.strip() or "agreement"
            pair = make_pair(good, bad, code=code, phenomenon=phenomenon, template=template)
            _sort(pair, pairs, excluded)
    return _folder_set(folder, pairs, excluded, "MultiBLiMP, Jumelet et al. 2025")


def _multiblimp_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields right sentence, wrong sentence and phenomenon; quoted as pandas writes tables."""
    reader = csv.reader(text_lines(path), delimiter="\t", strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        missing = [name for name in ("sen", "wrong_sen") if name not in header]
        if missing:
            raise CorpusError(
                f"{path}, line 1: no column {' or '.join(missing)}; found {', '.join(header)[:200]}"
            )
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(header):
                raise CorpusError(
                    f"{where}: {len(cells)} column(s), but the header has {len(header)}"
                )
            row = dict(zip(header, cells, strict=True))
            good, bad = (clean_sentence(row[name], where) for name in ("sen", "wrong_sen"))
            yield good, bad, row.get("phenomenon", "number")
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}") from error


def _wanted(
    folder: Path,
    files: dict[Path, str],
    languages: str | Sequence[str] | None,
    excluded: Counter[str],
) -> list[tuple[str, Path]]:
    """Returns code and file of the languages asked for; files of no known language are counted."""
    by_code: dict[str, list[Path]] = {}
    for path, spelling in files.items():
        try:
            by_code.setdefault(language(spelling).code, []).append(path)
        except LanguageError:
            try:
                n_lines = len(text_lines(path))
            except CorpusError:
                continue  # what is no text in a folder of no language is nobody's pair
            n_pairs = n_lines // 2 if path.suffix == ".txt" else n_lines - 1
            excluded[f"unknown language {spelling}"] += n_pairs
    if not by_code:
        raise CorpusError(
            f"{folder}: no folder or file is named after a language; {_LAYOUTS}; a language is "
            "written as an ISO 639 code, such as he or heb"
        )
    codes = present(by_code, languages, str(folder))
    return [(code, path) for code in codes for path in by_code[code]]


def _sort(
    pair: MinimalPair | str, pairs: dict[str, list[MinimalPair]], excluded: Counter[str]
) -> None:
    if isinstance(pair, str):
        excluded[pair] += 1
    else:
        pairs.setdefault(pair.language, []).append(pair)


def _folder_set(
    folder: Path, pairs: dict[str, list[MinimalPair]], excluded: Counter[str], layout: str
) -> AgreementSet:
    name = folder.resolve().name
    return make_set(
        name,
        pairs,
        tagged={},
        excluded=excluded,
        source=f"folder {name} in the layout of {layout}",
        licence="not stated",
    )
