"""Files into aligned sentences: folders of text, NTREX, tab-separated tables, JSONL and Parquet.

Each reader takes a path and a :class:`~bitgap.corpora.intake.Request` and returns code to
sentences, cleaned, equally many in each language, the reference first, and which document each is
from where that is told. Only the languages asked for are checked. Lines and rows are counted from
1. In a table a column ``id`` of row ids is passed over, and a column ``document`` tells documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitgap.codec import is_object
from bitgap.corpora import documents
from bitgap.corpora.intake import (
    CORE_LANGUAGES,
    DOCUMENT_COLUMN,
    Request,
    Text,
    clean_sentence,
    import_extra,
    is_numbering,
    text_lines,
)
from bitgap.errors import CorpusError, LanguageError
from bitgap.languages import language

_NTREX_FILE = re.compile(r"newstest2019-(?P<kind>src|ref)(?:-\d+)?\.(?P<tag>[A-Za-z-]+)\.txt")


def read_folder(folder: Path, request: Request) -> Text:
    """Reads a folder of one ``<language>.txt`` a language, one sentence a line.

    Hidden files, subfolders and files that are not ``.txt`` are passed over. Documents are told by
    ``documents.txt`` or ``DOCUMENT_IDS.tsv``; NTREX-128 is known by its English sentences.

    Raises:
        CorpusError: If there is no such file, the text cannot be used or is not aligned, or the
            documents are not one a sentence.
        LanguageError: If a file name or a request names no language that is there.
    """
    names = [
        name
        for name in _file_names(folder)
        if name.lower().endswith(".txt") and name != documents.DOCUMENTS_FILE
    ]
    if not names:
        raise CorpusError(
            f"{folder}: no <language>.txt file, such as en.txt, in this folder; each language "
            "needs one, with one sentence a line"
        )
    labels = {name: name[: -len(".txt")] for name in sorted(names, key=_customary)}
    return _read_texts(folder, labels, request, [folder])


def ntrex_folder(folder: Path) -> Path | None:
    """Returns the folder with the NTREX-128 files, be it this one or its child, or None."""
    for candidate in (folder, folder / "NTREX-128"):
        if candidate.is_dir() and any(map(_NTREX_FILE.fullmatch, _file_names(candidate))):
            return candidate
    return None


def read_ntrex(folder: Path, request: Request) -> Text:
    """Reads NTREX-128 as published: ``newstest2019-src.eng.txt`` and ``newstest2019-ref.*.txt``.

    A language has one text: the source before a reference, the first reference before a second,
    the plain file before a regional one (``fra`` before ``fra-CA``). Scripts are told apart, so
    Chinese and Serbian come twice. Documents are told by ``DOCUMENT_IDS.tsv``, which is published
    beside the folder, or known by the English sentences.

    Raises:
        CorpusError: If the text cannot be used or is not aligned.
        LanguageError: If a file name or a request names no language that is there.
    """
    matches = [m for name in _file_names(folder) if (m := _NTREX_FILE.fullmatch(name))]
    matches.sort(key=lambda m: (m["kind"] != "src", "ref-" in m[0], "-" in m["tag"], m[0]))
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for match in matches:
        code = _code_or_spelling(match["tag"])
        if code not in seen:
            seen.add(code)
            labels[match[0]] = match["tag"]
    return _read_texts(folder, labels, request, [folder, folder.parent])


def read_tsv(path: Path, request: Request) -> Text:
    """Reads a table with tabs between columns and a header row of languages; nothing is quoted.

    Raises:
        CorpusError: If a row has the wrong number of columns, or the text cannot be used.
        LanguageError: If a column or a request names no language that is there.
    """
    header, *rows = text_lines(path)
    columns = header.rstrip("\r").split("\t")
    if len(columns) < 2:
        raise CorpusError(
            f"{path}, line 1: expected a header of languages with tabs between them, found "
            f"{header.strip()[:60]!r}"
        )
    table = [row.rstrip("\r").split("\t") for row in rows]
    for number, cells in enumerate(table, start=2):
        if len(cells) != len(columns):
            raise CorpusError(
                f"{path}, line {number}: {len(cells)} column(s), but the header has {len(columns)}"
            )
    if not table:
        raise CorpusError(f"{path}: a header, but no sentences")
    picked = _pick_columns(columns, table[0], path, request)
    texts = {
        code: tuple(
            clean_sentence(cells[column], f"{path}, line {number}, column {column + 1}")
            for number, cells in enumerate(table, start=2)
        )
        for code, column in picked.items()
    }
    told = _document_column(columns, path)
    if told is None:
        return Text(texts)
    cells = [row[told] for row in table]
    return Text(texts, documents.of_cells(cells, f"{path}, column {told + 1}"))


def read_jsonl(path: Path, request: Request) -> Text:
    """Reads one JSON object a line, language to sentence; line 1 says which languages there are.

    Raises:
        CorpusError: If a line is no such object, lacks a language or adds one, or the text cannot
            be used.
        LanguageError: If a key or a request names no language that is there.
    """
    rows = [_json_object(line, f"{path}, line {i}") for i, line in enumerate(text_lines(path), 1)]
    keys = {key: key for key, value in rows[0].items() if not is_numbering(key, value)}
    told = _document_column(list(rows[0]), path)
    picked = request.pick(keys, f"{path}, line 1")
    for number, row in enumerate(rows, start=1):
        missing = [key for key in picked.values() if key not in row]
        added = [key for key in row if key not in rows[0]] if request.languages is None else []
        if missing or added:
            fault = f"lacks {', '.join(missing)}" if missing else f"adds {', '.join(added)}"
            raise CorpusError(
                f"{path}, line {number}: {fault}; every line needs the keys of line 1: "
                f"{', '.join(rows[0])}"
            )
    texts = {
        code: tuple(
            clean_sentence(row[key], f"{path}, line {number}, key {key}")
            for number, row in enumerate(rows, start=1)
        )
        for code, key in picked.items()
    }
    if told is None:
        return Text(texts)
    key = list(rows[0])[told]
    return Text(texts, documents.of_cells([row.get(key) for row in rows], f"{path}, key {key}"))


def read_parquet(path: Path, request: Request) -> Text:
    """Reads a Parquet table with one string column a language.

    Raises:
        MissingExtra: If pyarrow is not installed.
        CorpusError: If the file is no Parquet, or the text cannot be used.
        LanguageError: If a column or a request names no language that is there.
    """
    purpose = f"reading {path}"
    parquet = import_extra("pyarrow.parquet", "parquet", purpose)
    faults = (OSError, ValueError, import_extra("pyarrow", "parquet", purpose).ArrowException)
    try:
        table = parquet.read_table(path)
    except faults as error:
        raise CorpusError(f"{path}: cannot be read as Parquet ({error})") from error
    if not table.num_rows:
        raise CorpusError(f"{path}: no rows")
    first = [column[0].as_py() for column in table.columns]
    picked = _pick_columns(table.column_names, first, path, request)
    texts = {
        code: tuple(
            clean_sentence(text, f"{path}, row {row}, column {column + 1}")
            for row, text in enumerate(table.column(column).to_pylist(), start=1)
        )
        for code, column in picked.items()
    }
    told = _document_column(table.column_names, path)
    if told is None:
        return Text(texts)
    cells = table.column(told).to_pylist()
    return Text(texts, documents.of_cells(cells, f"{path}, column {told + 1}"))


def read_lines(path: Path) -> tuple[str, ...]:
    """Returns the sentences of a text file, one a line, cleaned.

    Raises:
        CorpusError: If the file is empty or no UTF-8, or a line cannot be used.
    """
    return tuple(
        clean_sentence(line, f"{path}, line {i}") for i, line in enumerate(text_lines(path), 1)
    )


def _read_texts(
    folder: Path, labels: Mapping[str, str], request: Request, beside: Sequence[Path]
) -> Text:
    picked = request.pick(labels, str(folder))
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
            f"{folder}: the files differ in length: {picked[longest]} has {n_lines} lines, "
            f"{', '.join(short)}; line i of every file must be the same sentence"
        )
    told = documents.of_folders(beside, n_lines)
    return Text(texts, told or _known_documents(folder, labels, texts))


def _known_documents(
    folder: Path, labels: Mapping[str, str], texts: Mapping[str, tuple[str, ...]]
) -> tuple[int, ...] | None:
    """Documents of a text that is known by its English, which need not be asked for."""
    english = texts.get("en")
    if english is None:
        names = [name for name, label in labels.items() if _code_or_spelling(label) == "en"]
        try:
            english = read_lines(folder / names[0]) if names else ()
        except CorpusError:
            return None  # a file that nobody asked for is nobody's fault
    n = len(next(iter(texts.values())))
    return documents.of_ntrex(english) if len(english) == n else None


def _pick_columns(
    columns: Sequence[str], first: Sequence[object], path: Path, request: Request
) -> dict[str, int]:
    """Code to column number from 0; columns may share a name, so labels carry the number."""
    labels = [f"column {i} ({name.strip()})" for i, name in enumerate(columns, start=1)]
    cells = zip(labels, columns, first, strict=True)
    spellings = {label: name for label, name, cell in cells if not is_numbering(name, cell)}
    return {code: labels.index(label) for code, label in request.pick(spellings, str(path)).items()}


def _document_column(columns: Sequence[str], path: Path) -> int | None:
    """Returns the number from 0 of the column that tells documents, or None.

    Raises:
        CorpusError: If there are several.
    """
    found = [i for i, name in enumerate(columns) if name.strip().lower() == DOCUMENT_COLUMN]
    if len(found) > 1:
        raise CorpusError(
            f"{path}: {len(found)} columns are called {DOCUMENT_COLUMN!r}, which tells the "
            "document of each sentence; rename all but one"
        )
    return found[0] if found else None


def _json_object(line: str, where: str) -> dict[str, object]:
    if not line.strip():
        raise CorpusError(f"{where}: the line is empty; every line must hold one JSON object")
    try:
        value = json.loads(line, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where}: not valid JSON ({error})") from error
    if not is_object(value):
        raise CorpusError(
            f'{where}: expected an object such as {{"en": "...", "he": "..."}}, found '
            f"{type(value).__name__}"
        )
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return mapping


def _file_names(folder: Path) -> list[str]:
    try:
        children = sorted(folder.iterdir())
        return [p.name for p in children if p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be read ({error.strerror})") from error


def _customary(name: str) -> tuple[int, str]:
    code = _code_or_spelling(name[: -len(".txt")])
    rank = CORE_LANGUAGES.index(code) if code in CORE_LANGUAGES else len(CORE_LANGUAGES)
    return rank, name


def _code_or_spelling(spelling: str) -> str:
    try:
        return language(spelling).code
    except LanguageError:
        return spelling
