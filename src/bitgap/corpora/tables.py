"""Tables into aligned sentences: with tabs or commas, JSON lines, Parquet, wide or long.

A *wide* table has a column a language. A *long* one has a row a sentence, with a column
``language`` (``lang``, ``locale``) and a column ``text`` (``sentence``); rows of languages are
joined by a column ``id`` where there is one, else by their order. In either a column ``id`` of row
ids is passed over, and a column ``document`` tells documents. Rows are counted from 1, lines as
editors count them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitgap.codec import is_object
from bitgap.corpora import documents
from bitgap.corpora.intake import (
    DOCUMENT_COLUMN,
    Request,
    Text,
    clean_sentences,
    is_numbering,
    kind_of,
    text_lines,
)
from bitgap.errors import CorpusError, first_line, import_extra

LANGUAGE_COLUMNS = ("language", "lang", "locale", "iso_639_3")
_BESIDE = ("iso_15924", "glottocode")
"""Columns that say more of a language, as FLORES+ has them."""
TEXT_COLUMNS = ("text", "sentence")
ID_COLUMNS = ("id", "sentence_id", "sent_id", "idx")
_QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
"""A cell that was put in quotes because it has some inside, as spreadsheets and pandas do."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of a file, and how messages call their places.

    Attributes:
        where: What a message calls the file.
        columns: Names, as they stand there.
        rows: Cells, one a column each.
        row: What a message calls row i from 0.
        column: What a message calls column i from 0.
    """

    where: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    row: Callable[[int], str]
    column: Callable[[int], str]

    def place(self, row: int, column: int) -> str:
        """What a message calls a cell."""
        return f"{self.where}, {self.row(row)}, {self.column(column)}"

    def find(self, names: Sequence[str]) -> int | None:
        """Returns the number of the first column that is called one of these, or None."""
        lowered = [column.strip().lower() for column in self.columns]
        return next((lowered.index(name) for name in names if name in lowered), None)

    def text(self, request: Request) -> Text:
        """Returns its sentences, whether it is wide or long."""
        language, text = self.find(LANGUAGE_COLUMNS), self.find(TEXT_COLUMNS)
        if language is not None and text is not None:
            return self._long(request, language, text)
        return self._wide(request)

    def _wide(self, request: Request) -> Text:
        labels = [f"{self.column(i)} ({name.strip()})" for i, name in enumerate(self.columns)]
        cells = zip(labels, self.columns, self.rows[0], strict=True)
        spellings = {label: name for label, name, cell in cells if not is_numbering(name, cell)}
        picked = request.pick(spellings, self.where)
        found = {code: labels.index(label) for code, label in picked.items()}
        texts = {
            code: clean_sentences(
                (row[at], self.place(number, at)) for number, row in enumerate(self.rows)
            )
            for code, at in found.items()
        }
        return Text(texts, self._documents(range(len(self.rows))))

    def _long(self, request: Request, language: int, text: int) -> Text:
        members: dict[str, list[int]] = {}
        lowered = [column.strip().lower() for column in self.columns]
        beside = [lowered.index(name) for name in _BESIDE if name in lowered]
        for number, row in enumerate(self.rows):
            spelling = row[language]
            if not isinstance(spelling, str) or not spelling.strip():
                raise CorpusError(
                    f"{self.place(number, language)}: expected the code of a language, found "
                    f"{kind_of(spelling) if not isinstance(spelling, str) else 'nothing'}"
                )
            more = [row[i] for i in beside] if len(spelling.strip()) < 4 else []
            parts = (spelling, *(cell for cell in more if isinstance(cell, str)))
            tag = "_".join(part.strip() for part in parts if part.strip())
            members.setdefault(tag, []).append(number)
        labels = {f"{self.columns[language].strip()} {spelling}": spelling for spelling in members}
        picked = request.pick(labels, self.where)
        numbers = {code: members[labels[label]] for code, label in picked.items()}
        ordered = self._joined(numbers)
        texts = {
            code: clean_sentences((self.rows[i][text], self.place(i, text)) for i in rows)
            for code, rows in ordered.items()
        }
        return Text(texts, self._documents(next(iter(ordered.values()))))

    def _joined(self, numbers: Mapping[str, list[int]]) -> Mapping[str, list[int]]:
        """Returns the rows of each language, row i of every one being the same sentence."""
        first, *others = numbers
        column = self.find(ID_COLUMNS)
        if column is None:
            counts = {code: len(rows) for code, rows in numbers.items()}
            if len(set(counts.values())) > 1:
                listing = ", ".join(f"{code} {n}" for code, n in counts.items())
                raise CorpusError(
                    f"{self.where}: languages have different numbers of rows ({listing}), and no "
                    f"column {' or '.join(ID_COLUMNS)} says which are the same sentence"
                )
            return numbers
        by_id = {code: self._by_id(rows, column, code) for code, rows in numbers.items()}
        ids = list(by_id[first])
        for code in others:
            require_same_ids(ids, by_id[code], f"{self.where}, {code}", first)
        return {code: [by_id[code][i] for i in ids] for code in numbers}

    def _by_id(self, rows: Sequence[int], column: int, code: str) -> dict[object, int]:
        found: dict[object, int] = {}
        for number in rows:
            name = self.rows[number][column]
            if not isinstance(name, str | int) or name in found:
                fault = "stands twice" if isinstance(name, str | int) else "is no id"
                raise CorpusError(f"{self.place(number, column)}: {name!r} {fault} in {code}")
            found[name] = number
        return found

    def _documents(self, rows: Sequence[int]) -> tuple[int, ...] | None:
        names = [name.strip().lower() for name in self.columns]
        if (n := names.count(DOCUMENT_COLUMN)) > 1:
            raise CorpusError(
                f"{self.where}: {n} columns are called {DOCUMENT_COLUMN!r}, which tells the "
                "document of each sentence; rename all but one"
            )
        if not n:
            return None
        at = names.index(DOCUMENT_COLUMN)
        cells = [self.rows[i][at] for i in rows]
        return documents.of_cells(cells, f"{self.where}, {self.column(at)}")


def require_same_ids(
    ids: Sequence[object], table: Mapping[object, object], where: str, reference: str
) -> None:
    """Refuses a language that has not the same sentences as the reference.

    Args:
        ids: Of the reference.
        table: Whose keys are the language's ids.
        where: What a message calls the language.
        reference: What it calls the reference.

    Raises:
        CorpusError: If an id is missing or added.
    """
    if len(table) == len(ids) and all(i in table for i in ids):
        return
    missing = next((i for i in ids if i not in table), None)
    fault = f"id {missing} is missing" if missing is not None else f"has ids that {reference} lacks"
    raise CorpusError(
        f"{where}: not aligned with {reference}: {len(table)} sentences against {len(ids)}, {fault}"
    )


# -- formats ---------------------------------------------------------------------------------------


def read_tsv(path: Path, request: Request) -> Text:
    """Reads a table with tabs between columns and a header row.

    Quotes are text, unless the file is quoted as spreadsheets and pandas do: its header is all in
    quotes, or a cell is that has quotes inside, doubled; and every quote is then closed.

    Raises:
        CorpusError: If a row has the wrong number of columns, or the text cannot be used.
        LanguageError: If a column or a request names no language that is there.
    """
    lines = [line.rstrip("\r") for line in text_lines(path)]
    numbers, table = _unquoted(lines) or (
        list(range(1, len(lines) + 1)),
        [line.split("\t") for line in lines],
    )
    if len(table[0]) < 2:
        raise CorpusError(
            f"{path}, line 1: expected a header of languages with tabs between them, found "
            f"{lines[0].strip()[:60]!r}"
        )
    return _text_of(path, numbers, table, request)


def read_csv(path: Path, request: Request) -> Text:
    """Reads a table with commas, semicolons or tabs between columns, as its header has them.

    With tabs it is read as :func:`read_tsv` reads it. Else cells that hold what stands between
    columns, or quotes, are in quotes (RFC 4180), as every program that writes such files does.

    Raises:
        CorpusError: If a row has the wrong number of columns, a quote is not closed, or the text
            cannot be used.
        LanguageError: If a column or a request names no language that is there.
    """
    lines = [line.rstrip("\r") for line in text_lines(path)]
    if "\t" in lines[0]:
        return read_tsv(path, request)
    between = max(",;", key=lines[0].count)
    if not lines[0].count(between):
        raise CorpusError(
            f"{path}, line 1: expected a header of languages with commas, semicolons or tabs "
            f"between them, found {lines[0].strip()[:60]!r}"
        )
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=between, strict=True)
    numbers, table, last = list[int](), list[list[str]](), 0
    try:
        for cells in reader:
            numbers.append(last + 1)
            table.append(cells)
            last = reader.line_num
    except csv.Error as error:
        raise CorpusError(
            f"{path}, line {last + 1}: {error}; a cell that holds {between!r} or a quote is put in "
            f"quotes, and quotes in it are doubled"
        ) from None
    return _text_of(path, numbers, table, request, f"; put cells that hold {between!r} in quotes")


def _text_of(
    path: Path, numbers: list[int], table: list[list[str]], request: Request, advice: str = ""
) -> Text:
    """Returns the sentences of a table whose rows begin at these lines."""
    columns, *rows = table
    for number, cells in zip(numbers[1:], rows, strict=True):
        if len(cells) != len(columns):
            raise CorpusError(
                f"{path}, line {number}: {len(cells)} column(s), but the header has "
                f"{len(columns)}{advice}"
            )
    if not rows:
        raise CorpusError(f"{path}: a header, but no sentences")
    found = Table(str(path), columns, rows, lambda i: f"line {numbers[i + 1]}", _column)
    return found.text(request)


def _unquoted(lines: Sequence[str]) -> tuple[list[int], list[list[str]]] | None:
    """Returns the rows of a quoted table and their first lines; None where it is not quoted."""
    header = lines[0].split("\t")
    whole = len(header) > 1 and all(len(c) > 1 and c[0] == c[-1] == '"' for c in header)
    if not whole and not any(
        _QUOTED.fullmatch(cell) for line in lines if '""' in line for cell in line.split("\t")
    ):
        return None
    reader = csv.reader(lines, delimiter="\t", strict=True)
    numbers, rows = list[int](), list[list[str]]()
    try:
        last = 0
        for row in reader:
            numbers.append(last + 1)
            rows.append(row)
            last = reader.line_num
    except csv.Error:
        return None
    return numbers, rows


def read_jsonl(path: Path, request: Request) -> Text:
    """Reads one JSON object a line, language to sentence; line 1 says which languages there are.

    Or one object a sentence and language, with keys ``language`` and ``text``.

    Raises:
        CorpusError: If a line is no such object, lacks a language or adds one, or the text cannot
            be used.
        LanguageError: If a key or a request names no language that is there.
    """
    rows = _json_rows(path)
    keys = list(rows[0])
    table = Table(
        str(path),
        keys,
        [[row.get(key) for key in keys] for row in rows],
        lambda i: f"line {i + 1}",
        lambda i: f"key {keys[i]}",
    )
    if table.find(LANGUAGE_COLUMNS) is not None and table.find(TEXT_COLUMNS) is not None:
        return table.text(request)
    spellings = {key: key for key, value in rows[0].items() if not is_numbering(key, value)}
    picked = request.pick(spellings, f"{path}, line 1")
    for number, row in enumerate(rows, start=1):
        missing = [key for key in picked.values() if key not in row]
        added = [key for key in row if key not in rows[0]] if request.languages is None else []
        if missing or added:
            fault = f"lacks {', '.join(missing)}" if missing else f"adds {', '.join(added)}"
            raise CorpusError(
                f"{path}, line {number}: {fault}; every line needs the keys of line 1: "
                f"{', '.join(rows[0])}"
            )
    return table.text(request)


def read_parquet(path: Path, request: Request) -> Text:
    """Reads a Parquet table with one string column a language, or a long one.

    Raises:
        MissingExtra: If pyarrow is not installed.
        CorpusError: If the file is no Parquet, or the text cannot be used.
        LanguageError: If a column or a request names no language that is there.
    """
    columns, rows = _parquet_rows(path)
    return Table(str(path), columns, rows, lambda i: f"row {i + 1}", _column).text(request)


def _parquet_rows(path: Path) -> tuple[list[str], list[tuple[object, ...]]]:
    """Returns the names of the columns of a Parquet file, and its rows."""
    purpose = f"reading {path}"
    parquet = import_extra("pyarrow.parquet", "parquet", purpose)
    faults = (OSError, ValueError, import_extra("pyarrow", "parquet", purpose).ArrowException)
    try:
        table = parquet.read_table(path)
        # Text is decoded here, and damaged text is found here.
        columns = [column.to_pylist() for column in table.columns]
    except faults as error:
        raise CorpusError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error
    if not table.num_rows:
        raise CorpusError(f"{path}: no rows")
    return list(table.column_names), list(zip(*columns, strict=True))


def read_records(files: Mapping[str, Path]) -> Text:
    """Reads records of each language, with keys ``text`` and, if told, ``id`` and ``url``.

    Args:
        files: JSON lines or Parquet, by code, the reference first.

    Raises:
        MissingExtra: If one is Parquet and pyarrow is not installed.
        CorpusError: If a line is no object with a text, or languages have not the same ids.
    """  # fmt: skip
    by_id = {code: _rows_by_id(path) for code, path in files.items()}
    first = next(iter(files))
    ids = list(by_id[first])
    for code, path in files.items():
        require_same_ids(ids, by_id[code], str(path), files[first].name)
    ordered = {code: [table[i] for i in ids] for code, table in by_id.items()}
    texts = {
        code: clean_sentences(
            (
                next((row[name] for name in TEXT_COLUMNS if name in row), None),
                f"{files[code]}, sentence {number}",
            )
            for number, row in enumerate(rows, start=1)
        )
        for code, rows in ordered.items()
    }
    cells = [row.get("url", row.get(DOCUMENT_COLUMN)) for row in ordered[first]]
    told = documents.of_cells(cells, f"{files[first]}, key url") if any(cells) else None
    return Text(texts, told)


def _rows_by_id(path: Path) -> dict[object, dict[str, object]]:
    if path.suffix.lower() == ".parquet":
        columns, cells = _parquet_rows(path)
        rows = [dict(zip(columns, row, strict=True)) for row in cells]
    else:
        rows = _json_rows(path)
    names = [row.get("id") for row in rows]
    keys = [name if isinstance(name, str | int) else i for i, name in enumerate(names)]
    found: dict[object, dict[str, object]] = dict(zip(keys, rows, strict=True))
    if len(found) < len(rows):
        raise CorpusError(f"{path}: an id stands twice")
    return found


def _column(i: int) -> str:
    return f"column {i + 1}"


def _json_rows(path: Path) -> list[dict[str, object]]:
    return [_json_object(line, f"{path}, line {i}") for i, line in enumerate(text_lines(path), 1)]


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
            f"{kind_of(value)}"
        )
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return mapping
