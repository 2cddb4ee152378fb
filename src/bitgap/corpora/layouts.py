"""Which files of a folder are which language, in the layouts that corpora come in.

=============  ===================================  ==========================================
layout         files                                from
=============  ===================================  ==========================================
text           ``he.txt``                           our own, and anyone's
NTREX-128      ``newstest2019-ref.heb.txt``         as published; :mod:`bitgap.corpora.readers`
FLORES-200     ``dev/heb_Hebr.dev``                 its archive
FLORES+        ``dev/dev.heb_Hebr``                 its releases
Moses          ``train.he``                         translation toolkits, OPUS
records        ``dev/heb_Hebr.jsonl``, ``.parquet``  clones of FLORES+ from the hub
=============  ===================================  ==========================================

Text may be packed (``he.txt.gz``). Where a folder holds one of these only below folders named after
splits, one split is read: the first there is of :data:`SPLITS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitgap.corpora import documents
from bitgap.corpora.intake import CORE_LANGUAGES, WORDS, Sentences, is_guess, unpacked_name
from bitgap.errors import CorpusError, LanguageError
from bitgap.languages import UNKNOWN_SCRIPT, language, script_of

SPLITS = ("devtest", "test", "validation", "dev", "train")
"""Which split is read when none is named: the first of these that there is."""
RECORDS = (".jsonl", ".parquet")
"""Endings of files of records, one a language."""
_TABLES = (".tsv", ".tab", ".csv", ".jsonl", ".ndjson", ".parquet")

_SPLIT_FIRST = re.compile(r"(?P<stem>.+)\.(?P<tag>[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)")
_SPLIT_LAST = re.compile(r"(?P<tag>[a-z]{3}_[A-Z][a-z]{3}(?:_\w+)?)\.(?P<stem>dev|devtest|test)")
_DEEPEST = 2  # flores200_dataset/dev below the folder that was named
_MOST_FOLDERS = 64  # a folder of hundreds is no corpus, and would be searched for long


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one text in several languages.

    Attributes:
        folder: Where they are.
        labels: Name of each file to the spelling of its language.
        kind: A row of the table above.
        split: Stem of the files' names, such as ``dev``; empty where they have none.
    """

    folder: Path
    labels: Mapping[str, str]
    kind: str
    split: str = ""


def find_layout(folder: Path) -> Layout:
    """Returns the files of languages in a folder, or in a folder of a split below it.

    Raises:
        CorpusError: If there are none, or of several texts.
    """
    found = _layout_of(folder)
    below = [folder]
    for _ in range(_DEEPEST):
        if found is not None:
            return found
        below = [child for parent in below for child in _folders(parent)][:_MOST_FOLDERS]
        named = {child.name.lower(): child for child in reversed(below)}
        splits = (_layout_of(named[split]) for split in SPLITS if split in named)
        found = next((one for one in splits if one is not None), None)
    if found is not None:
        return found
    tables = [name for name in file_names(folder) if name.lower().endswith(_TABLES)]
    hint = f"; a table of all languages is named itself: {folder / tables[0]}" if tables else ""
    raise CorpusError(
        f"{folder}: no <language>.txt file, such as en.txt, in this folder (packed by gz, xz or "
        "bz2 or not), and no text as FLORES (dev/eng_Latn.dev, dev/dev.eng_Latn), NTREX-128 or "
        f"Moses (train.en) lay it out; each language needs a file, with one sentence a line. Found "
        f"{', '.join(file_names(folder)[:6]) or 'no files'}{hint}"
    )


def beginning_layout(path: Path) -> Layout | None:
    """Returns the files that share a beginning, as Moses' tools name a corpus: ``train`` of
    ``train.en`` and ``train.de``, or any one of them; None where there are not two.

    Args:
        path: The beginning, or one of the files.
    """  # fmt: skip
    folder = path.parent
    if not folder.is_dir():
        return None
    match = _SPLIT_FIRST.fullmatch(unpacked_name(path.name))
    for stem in (path.name, *([match["stem"]] if match and path.is_file() else [])):
        labels = _by_stem(file_names(folder)).get(stem, {})
        if len(labels) > 1:
            return Layout(folder, _sorted(labels), "Moses", stem)
    return None


def file_names(folder: Path) -> list[str]:
    """Returns the names of the files of a folder that are not hidden, sorted.

    Raises:
        CorpusError: If the folder cannot be read.
    """
    try:
        children = sorted(folder.iterdir())
        return [p.name for p in children if p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be read ({error.strerror})") from error


def code_or_spelling(spelling: str) -> str:
    """Returns the code of a language, or what was written where that names none."""
    try:
        return language(spelling).code
    except LanguageError:
        return spelling


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def _layout_of(folder: Path) -> Layout | None:
    names = file_names(folder)
    texts = {
        name: unpacked_name(name)[: -len(".txt")]
        for name in names
        if unpacked_name(name).lower().endswith(".txt") and name != documents.DOCUMENTS_FILE
    }
    if texts:
        return Layout(folder, _sorted(texts), "text")
    last = {name: m for name in names if (m := _SPLIT_LAST.fullmatch(unpacked_name(name)))}
    if last:
        labels = {name: m["tag"] for name, m in last.items()}
        splits = {m["stem"] for m in last.values()}
        _require_one(folder, splits)
        return Layout(folder, _sorted(labels), "FLORES-200", min(splits))
    stems = {stem: labels for stem, labels in _by_stem(names).items() if len(labels) > 1}
    if stems:
        _require_one(folder, stems)
        ((stem, labels),) = stems.items()
        flores = stem in SPLITS and all("_" in tag for tag in labels.values())
        return Layout(folder, _sorted(labels), "FLORES+" if flores else "Moses", stem)
    records = {
        name: name.removesuffix(ending)
        for ending in RECORDS
        for name in names
        if name.endswith(ending)
    }
    if len(records) > 1 and all(_is_certain(spelling) for spelling in records.values()):
        split = folder.name if folder.name in SPLITS else ""
        return Layout(folder, _sorted(records), "records", split)
    return None


def _require_one(folder: Path, stems: Iterable[str]) -> None:
    found = sorted(stems)
    if len(found) > 1:
        raise CorpusError(
            f"{folder}: files of {len(found)} texts ({', '.join(found)}); name the one to read by "
            f"what its files begin with, such as {folder / found[0]}, or put it in a folder alone"
        )


def _by_stem(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Returns the files that end in a language, by what stands before it."""
    stems: dict[str, dict[str, str]] = {}
    for name in names:
        match = _SPLIT_FIRST.fullmatch(unpacked_name(name))
        if match and _is_certain(match["tag"]):
            stems.setdefault(match["stem"], {})[name] = match["tag"]
    return stems


def _is_certain(spelling: str) -> bool:
    """Whether an ending is a language and hardly anything else, as ``csv`` is Sumtu Chin."""
    try:
        return not is_guess(language(spelling)) or spelling.casefold() not in WORDS
    except LanguageError:
        return False


def _sorted(labels: Mapping[str, str]) -> dict[str, str]:
    def customary(name: str) -> tuple[int, str]:
        code = code_or_spelling(labels[name])
        rank = CORE_LANGUAGES.index(code) if code in CORE_LANGUAGES else len(CORE_LANGUAGES)
        return rank, name

    return {name: labels[name] for name in sorted(labels, key=customary)}


# -- scripts ---------------------------------------------------------------------------------------


def with_scripts(sentences: Sentences, name: str) -> Sentences:
    """Returns sentences by codes that say the script of the text, where no table and no tag does.

    Args:
        sentences: By code.
        name: What a message calls the corpus.

    Raises:
        CorpusError: If two are then the same language.
    """
    found: Sentences = {}
    for code, texts in sentences.items():
        script = script_of("\n".join(texts)) if _is_open(code) else UNKNOWN_SCRIPT
        full = code if script == UNKNOWN_SCRIPT else f"{code}-{script}"
        if full in found:
            raise CorpusError(f"{name}: {code} is in the script of {full}, which is there; "
                              "remove one of them")  # fmt: skip
        found[full] = texts
    return found


def _is_open(code: str) -> bool:
    entry = language(code)
    return is_guess(entry) and entry.code == code
