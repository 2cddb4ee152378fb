"""Files of text into aligned sentences: one file a language, and NTREX-128.

Each reader takes a place and a :class:`~bitgap.corpora.intake.Request` and returns code to
sentences, cleaned, equally many in each language, the reference first, and which document each is
from where that is told. Only the languages asked for are checked. Lines are counted from 1.
Tables are read by :mod:`bitgap.corpora.tables`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitgap.corpora import documents
from bitgap.corpora.intake import Request, Text, clean_sentences, text_lines
from bitgap.corpora.layouts import Layout, code_or_spelling, file_names
from bitgap.corpora.tables import read_records
from bitgap.errors import CorpusError, LanguageError
from bitgap.languages import matching, variant

_NTREX_FILE = re.compile(r"newstest2019-(?P<kind>src|ref)(?:-\d+)?\.(?P<tag>[A-Za-z-]+)\.txt")


def read_folder(layout: Layout, request: Request, where: str | None = None) -> Text:
    """Reads one file a language, one sentence a line.

    Hidden files, subfolders and files of other kinds are passed over. Documents are told by
    ``documents.txt`` or ``DOCUMENT_IDS.tsv``, or by FLORES' own tables; NTREX-128 is known by its
    English sentences.

    Args:
        layout: Which files; see :func:`bitgap.corpora.layouts.find_layout`.
        request: Which languages.
        where: What a message calls the corpus; the folder when None.

    Raises:
        CorpusError: If the text cannot be used or is not aligned, or the documents are not one a
            sentence.
        LanguageError: If a file name or a request names no language that is there.
    """
    if layout.kind == "records":
        picked = request.pick(layout.labels, where or str(layout.folder))
        return read_records({code: layout.folder / name for code, name in picked.items()})
    beside = [layout.folder]
    return _read_texts(layout, request, beside, where or str(layout.folder))


def ntrex_folder(folder: Path) -> Path | None:
    """Returns the folder with the NTREX-128 files, be it this one or its child, or None."""
    for candidate in (folder, folder / "NTREX-128"):
        if candidate.is_dir() and any(map(_NTREX_FILE.fullmatch, file_names(candidate))):
            return candidate
    return None


def read_ntrex(folder: Path, request: Request) -> Text:
    """Reads NTREX-128 as published: ``newstest2019-src.eng.txt`` and ``newstest2019-ref.*.txt``.

    A language has one text: the source before a reference, the first reference before a second,
    the plain file before a regional one (``fra`` before ``fra-CA``), unless the regional one is
    asked for by its region. Scripts are told apart, so Chinese and Serbian come twice. Documents
    are told by ``DOCUMENT_IDS.tsv``, which is published beside the folder, or known by the English
    sentences.

    Raises:
        CorpusError: If the text cannot be used or is not aligned.
        LanguageError: If a file name or a request names no language that is there.
    """
    matches = [m for name in file_names(folder) if (m := _NTREX_FILE.fullmatch(name))]
    matches.sort(key=lambda m: (m["kind"] != "src", "ref-" in m[0], "-" in m["tag"], m[0]))
    asked = {_full(spelling) for spelling in (request.reference, *(request.languages or ()))}
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for match in matches:
        code, full = code_or_spelling(match["tag"]), _full(match["tag"])
        if code not in seen or (full in asked and full not in seen):
            seen |= {code, full}
            labels[match[0]] = match["tag"]
    layout = Layout(folder, labels, "NTREX-128")
    return _read_texts(layout, request, [folder, folder.parent], str(folder))


def _full(spelling: str) -> str:
    """Returns the code of a language with its region, or what was written where it is none."""
    try:
        return variant(spelling)
    except LanguageError:
        return spelling


def read_lines(path: Path) -> tuple[str, ...]:
    """Returns the sentences of a text file, one a line, cleaned.

    Raises:
        CorpusError: If the file is empty or no UTF-8, or a line cannot be used.
    """
    return clean_sentences(
        (line, f"{path}, line {i}") for i, line in enumerate(text_lines(path), 1)
    )


def _read_texts(layout: Layout, request: Request, beside: Sequence[Path], where: str) -> Text:
    folder = layout.folder
    picked = request.pick(layout.labels, where)
    texts = {code: read_lines(folder / name) for code, name in picked.items()}
    longest = max(texts, key=lambda code: len(texts[code]))
    n_lines = len(texts[longest])
    short = [
        f"{picked[code]} has {len(text)} (line {len(text) + 1} is missing)"
        for code, text in texts.items()
        if len(text) < n_lines
    ]
    if short:
        raise CorpusError(
            f"{where}: the files differ in length: {picked[longest]} has {n_lines} lines, "
            f"{', '.join(short)}; line i of every file must be the same sentence"
        )
    told = documents.of_folders(beside, n_lines) or documents.of_flores(
        folder, layout.split, n_lines
    )
    return Text(texts, told or _known_documents(layout, texts))


def _known_documents(
    layout: Layout, texts: Mapping[str, tuple[str, ...]]
) -> tuple[int, ...] | None:
    """Documents of a text that is known by its English, which need not be asked for."""
    english = next((texts[code] for code in matching("en", texts)), None)
    if english is None:
        names = [name for name, label in layout.labels.items() if code_or_spelling(label) == "en"]
        try:
            english = read_lines(layout.folder / names[0]) if names else ()
        except CorpusError:
            return None  # a file that nobody asked for is nobody's fault
    n = len(next(iter(texts.values())))
    return documents.of_ntrex(english) if len(english) == n else None
