"""Which document each sentence is from: read beside a corpus, or known by the sentences.

Sentences of one document share topic and writer, so they say less than as many sentences of
different documents: what is resampled, and what is set aside for calibration, is the document. A
corpus says which they are by ``documents.txt`` or NTREX's ``DOCUMENT_IDS.tsv`` in its folder, or by
a column or key ``document`` in its table. Of NTREX-128 the publishers' ids are shipped.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from bitgap.corpora.intake import text_lines
from bitgap.errors import CorpusError

DOCUMENTS_FILE = "documents.txt"
"""One id a line, beside the languages' files."""
NTREX_FILE = "DOCUMENT_IDS.tsv"
"""The same as NTREX's publishers call it."""
_NTREX = Path(__file__).parent / "ntrex_documents.tsv"
_DIGITS = 8


def numbered(ids: Sequence[str]) -> tuple[int, ...]:
    """Returns documents as numbers, in the order they are first met.

    Args:
        ids: As written, without surrounding whitespace; an empty one is a document of its own.
    """
    numbers: dict[str, int] = {}
    found: list[int] = []
    own = 0
    for name in ids:
        if name:
            found.append(numbers.setdefault(name, len(numbers) + own))
        else:
            found.append(len(numbers) + own)
            own += 1
    return tuple(found)


def of_folders(folders: Sequence[Path], n_sentences: int) -> tuple[int, ...] | None:
    """Returns the documents that the first file of ids in these folders tells; None without one.

    Args:
        folders: Where the file may be.
        n_sentences: Of the corpus.

    Raises:
        CorpusError: If the file cannot be read, or has not one line a sentence.
    """
    names = (DOCUMENTS_FILE, NTREX_FILE)
    found = [folder / name for folder in folders for name in names if (folder / name).is_file()]
    if not found:
        return None
    ids = [line.strip() for line in text_lines(found[0])]
    if len(ids) != n_sentences:
        raise CorpusError(
            f"{found[0]}: {len(ids)} lines for {n_sentences} sentences; line i must hold the id of "
            "the document that sentence i is from, and be blank where it is from none of the "
            "others'. Mend the file, or remove it to count every sentence as its own document"
        )
    return numbered(ids)


def of_flores(folder: Path, split: str, n_sentences: int) -> tuple[int, ...] | None:
    """Returns the documents that FLORES' archive tells by address; None where it tells none.

    Args:
        folder: Of the split's files; ``metadata_dev.tsv`` is in it or beside it.
        split: Such as ``dev``.
        n_sentences: Of the corpus.
    """
    for place in (folder, folder.parent):
        file = place / f"metadata_{split}.tsv"
        if not split or not file.is_file():
            continue
        header, *rows = (line.split("\t") for line in text_lines(file))
        column = next((i for i, name in enumerate(header) if name.strip().lower() == "url"), None)
        if column is not None and len(rows) == n_sentences:
            return numbered([row[column].strip() if column < len(row) else "" for row in rows])
    return None


def of_cells(cells: Sequence[object], where: str) -> tuple[int, ...]:
    """Returns the documents that a column of a table tells.

    Args:
        cells: One a sentence: text or a whole number; None or empty for a document of its own.
        where: What a message calls the column.

    Raises:
        CorpusError: If a cell is anything else.
    """
    ids: list[str] = []
    for row, cell in enumerate(cells, start=1):
        if isinstance(cell, bool) or not isinstance(cell, str | int | None):
            raise CorpusError(
                f"{where}, sentence {row}: expected the id of a document, as text or a whole "
                f"number, found {type(cell).__name__}"
            )
        ids.append("" if cell is None else str(cell).strip())
    return numbered(ids)


def of_ntrex(english: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the documents of sentences of NTREX-128, or None where some are not of it.

    Known are its first 1,000 sentences, some or all of them, in any order.

    Args:
        english: The English sentences, cleaned.
    """
    known = _ntrex_documents()
    digests = (hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] for text in english)
    found = [known.get(digest) for digest in digests]
    ids = [name for name in found if name is not None]
    return numbered(ids) if len(ids) == len(found) else None


@functools.cache
def _ntrex_documents() -> dict[str, str]:
    rows = (row.split("\t") for row in text_lines(_NTREX) if not row.startswith("#"))
    return {digest: name for name, digests in rows for digest in digests.split(" ")}
