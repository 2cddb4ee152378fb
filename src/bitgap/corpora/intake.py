"""What a corpus may contain: acceptable text, and the languages asked for, in order.

Every reader passes its text through :func:`clean_sentence` and its file or column names through
:meth:`Request.pick`, so that all formats refuse the same things in the same words.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bitgap.errors import CorpusError, LanguageError, MissingExtra
from bitgap.languages import language

Sentences = dict[str, tuple[str, ...]]
"""Code to sentences."""


class Text(NamedTuple):
    """What a reader found."""

    sentences: Sentences
    documents: tuple[int, ...] | None = None
    """Number of each sentence's document; None where the source does not tell."""


_BOM = b"\xef\xbb\xbf"

CORE_LANGUAGES = tuple("en de fr es ru zh ja he ar tr fi hu ko hi sw eu".split())
"""The languages of the bundled corpus, in the order that tables and figures show them."""

DOCUMENT_COLUMN = "document"
"""Column or key of a table that tells the document of each sentence."""

# Line ends inside a sentence, tabs, NUL, C1 controls, and halves of surrogate pairs, which JSON
# can smuggle in and UTF-8 cannot encode. Direction marks (U+200E, U+200F, ...) are text.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_sentence(text: object, where: str) -> str:
    """Returns a sentence in NFC without surrounding whitespace.

    Args:
        text: What stood in the file; anything but a string is refused.
        where: File and line, for the message.

    Raises:
        CorpusError: If there is no visible character, or a control character.
    """
    if not isinstance(text, str):
        raise CorpusError(f"{where}: expected a sentence, found {type(text).__name__}")
    sentence = unicodedata.normalize("NFC", text.strip())
    forbidden = _FORBIDDEN.search(sentence)
    if forbidden:
        raise CorpusError(
            f"{where}: control character U+{ord(forbidden[0]):04X} at character "
            f"{forbidden.start() + 1}; remove it"
        )
    if not any(unicodedata.category(character)[0] not in "ZC" for character in sentence):
        raise CorpusError(
            f"{where}: the line is empty; every line must hold one sentence, aligned with the "
            "same line of the other languages"
        )
    return sentence


@dataclass(frozen=True, slots=True)
class Request:
    """Which languages to read from a corpus."""

    languages: tuple[str, ...] | None
    """Spellings as the user wrote them, or None for all that the corpus has."""
    reference: str
    """Code of the reference language, which is always read and comes first."""

    def pick(
        self, labels: Mapping[str, str], where: str, *, lenient: bool = False
    ) -> dict[str, str]:
        """Chooses among the files, columns or configurations of a corpus.

        Args:
            labels: What a message calls each one, and the spelling of its language.
            where: What a message calls the corpus.
            lenient: Pass over labels that name no language, as in a table with other columns.

        Returns:
            Code to label, the reference first, then as asked, else in the order of ``labels``.

        Raises:
            LanguageError: If a label names no language and no languages were asked for, or a
                language asked for, or the reference, is not there.
            CorpusError: If there are fewer than two languages, or one language twice.
        """
        by_code: dict[str, list[str]] = {}
        unknown: list[str] = []
        for label, spelling in labels.items():
            try:
                by_code.setdefault(language(spelling).code, []).append(label)
            except LanguageError:
                unknown.append(label)
        if unknown and self.languages is None and not lenient:
            raise LanguageError(
                f"{where}: no language is known by the name of {', '.join(unknown)}; rename or "
                "remove what is no language, or say which languages to read"
            )
        codes = order_codes(tuple(by_code), self.languages, self.reference, where)
        for code in codes:
            if len(by_code[code]) > 1:
                raise CorpusError(
                    f"{where}: {' and '.join(by_code[code])} are the same language ({code}); "
                    "remove all but one"
                )
        return {code: by_code[code][0] for code in codes}


def is_numbering(column: str, first: object) -> bool:
    """Whether a column holds no sentences but numbers them.

    That is ``document``, and ``id``, which is also Indonesian, where it holds 7, or ``dev-7``.
    """
    if column.strip().lower() == DOCUMENT_COLUMN:
        return True
    if column.strip().lower() != "id":
        return False
    return not isinstance(first, str) or bool(re.fullmatch(r"\S*\d\S*", first.strip()))


def text_lines(path: Path) -> list[str]:
    """Returns the lines of a UTF-8 file without their line feeds; splits as editors count.

    Raises:
        CorpusError: If the file is empty, cannot be read, or is no UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    body = raw.removeprefix(_BOM)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        offset = error.start + len(raw) - len(body)
        raise CorpusError(
            f"{path}, line {line}: byte 0x{body[error.start]:02x} at byte offset {offset} is not "
            "UTF-8; save the file as UTF-8"
        ) from error
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise CorpusError(f"{path}: the file is empty; it needs one sentence a line")
    return lines


def parse_languages(languages: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns the spellings in ``"en,he"`` or ``["en", "he"]``; None stays None.

    Raises:
        LanguageError: If there is none.
    """
    if languages is None:
        return None
    parts = languages.split(",") if isinstance(languages, str) else list(languages)
    spellings = tuple(part.strip() for part in parts if part.strip())
    if not spellings:
        raise LanguageError("no language was named; write codes such as en,he, or leave it out")
    return spellings


def order_codes(
    have: Sequence[str], wanted: Sequence[str] | None, reference: str, where: str
) -> tuple[str, ...]:
    """Returns the codes to use: the reference, then those wanted, else all the others.

    Args:
        have: Codes that the corpus has.
        wanted: Spellings asked for, or None for all.
        reference: Code of the reference language.
        where: What a message calls the corpus.

    Raises:
        LanguageError: If one is absent or asked for twice, or only the reference is left.
        CorpusError: If the corpus has fewer than two languages.
    """
    if len(have) < 2:
        raise CorpusError(
            f"{where}: found {len(have)} language(s) ({', '.join(have) or 'none'}); a parallel "
            "corpus needs at least two"
        )
    if reference not in have:
        raise LanguageError(
            f"{where}: the reference language {reference} is not there; the corpus has "
            f"{', '.join(have)}; name one of them with --reference (reference= in Python)"
        )
    chosen = list(have) if wanted is None else _resolve(have, wanted, where)
    codes = (reference, *(code for code in chosen if code != reference))
    if len(codes) < 2:
        raise LanguageError(
            f"only the reference language {reference} was asked for; add at least one of "
            f"{', '.join(code for code in have if code != reference)}"
        )
    return codes


def _resolve(have: Sequence[str], wanted: Sequence[str], where: str) -> list[str]:
    listing = f"the corpus has {', '.join(have)}"
    chosen: dict[str, str] = {}
    for spelling in wanted:
        try:
            # A code that only this corpus knows, such as one half of a split language, is its own.
            code = spelling if spelling in have else language(spelling).code
        except LanguageError as error:
            raise LanguageError(f"{where}: {error}; {listing}") from None
        if code not in have:
            raise LanguageError(f"{where}: {spelling} ({code}) is not there; {listing}")
        if code in chosen:
            raise LanguageError(
                f"language {code} was asked for twice, as {chosen[code]} and {spelling}; {listing}"
            )
        chosen[code] = spelling
    return list(chosen)


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Imports an optional library.

    Raises:
        MissingExtra: If it is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{purpose} needs the {module.split('.')[0]} library, which cannot be imported "
            f"({error}); install it with: pip install 'bitgap[{extra}]'"
        ) from error
