"""What a corpus may contain: acceptable text, and the languages asked for, in order.

Every reader passes its text through :func:`clean_sentences` and its file or column names through
:meth:`Request.pick`, so that all formats refuse the same things in the same words, and mend the
same.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bitgap.errors import CorpusError, LanguageError
from bitgap.languages import UNKNOWN_SCRIPT, Language, language, matching, variant

_log = logging.getLogger(__name__)

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

# Line ends inside a sentence, tabs, NUL, and halves of surrogate pairs, which JSON can smuggle in
# and UTF-8 cannot encode. Direction marks (U+200E, U+200F, ...) are text.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# What text of others' making has by mistake, and nobody sees: C1 controls, which are Windows
# letters read as Latin-1 (NTREX-128 has two), and byte order marks of files put one after another.
_DROPPED = re.compile(r"[\x80-\x9f\ufeff]")
_NEXT_LINE = "\x85"

_KINDS: dict[type, str] = {
    type(None): "null (an empty cell)", bool: "true or false", int: "a number", float: "a number",
    list: "a list", dict: "an object", bytes: "bytes",
}  # fmt: skip
"""How messages call what is no text, in no language's own words."""


def kind_of(value: object) -> str:
    """Returns what a message calls a value that should have been text."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def clean_sentence(text: object, where: str) -> str:
    """Returns a sentence in NFC without surrounding whitespace, C1 controls and byte order marks.

    Args:
        text: What stood in the file; anything but a string is refused.
        where: File and line, for the message.

    Raises:
        CorpusError: If there is no visible character, or a control character.
    """
    if not isinstance(text, str):
        raise CorpusError(f"{where}: expected a sentence, found {kind_of(text)}")
    if _DROPPED.search(text):
        text = _DROPPED.sub("", text.replace(_NEXT_LINE, " "))
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


def clean_sentences(texts: Iterable[tuple[object, str]]) -> tuple[str, ...]:
    """Returns sentences as :func:`clean_sentence` does, and tells in the log what was dropped.

    Args:
        texts: What stood in the file, and where.
    """
    found, dropped, first = list[str](), Counter[str](), ""
    for text, where in texts:
        sentence = clean_sentence(text, where)
        odd = _DROPPED.findall(text) if isinstance(text, str) else []
        if odd:
            first = first or where
            dropped.update(odd)
        found.append(sentence)
    if dropped:
        names = ", ".join(f"U+{ord(c):04X} {n} time(s)" for c, n in sorted(dropped.items()))
        _log.warning("%s: invisible characters dropped, here and further on: %s", first, names)
    return tuple(found)


WORDS = frozenset(
    """
    all ann app bin cfg cid col csv dat dep dev did doc env git ids key lab lem len lib lic log max
    mod ner new num old par pid pkg png pos raw row sen seq set sid src std sum tag tar tex tgt tmp
    trg tsv txt uri url val xml yml
    """.split()
)
"""Codes of languages outside the table that as names of files and columns mostly mean something
else. They count where they were asked for, or written with a script (``url_Latn``)."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which languages to read from a corpus."""

    languages: tuple[str, ...] | None
    """Spellings as the user wrote them, or None for all that the corpus has."""
    reference: str
    """Spelling of the reference language, which is always read and comes first."""

    def pick(
        self, labels: Mapping[str, str], where: str, *, lenient: bool = False
    ) -> dict[str, str]:
        """Chooses among the files, columns or configurations of a corpus.

        A region is kept in a code only where it tells two texts apart: ``pt-BR`` beside ``pt-PT``.

        Args:
            labels: What a message calls each one, and the spelling of its language.
            where: What a message calls the corpus.
            lenient: Pass over labels that name no language, as in a table with other columns; then
                a language outside the table counts only with a script, or if it was asked for.

        Returns:
            Code to label, the reference first, then as asked, else in the order of ``labels``.

        Raises:
            LanguageError: If a label names no language and no languages were asked for, or a
                language asked for, or the reference, is not there.
            CorpusError: If there are fewer than two languages, or one language twice.
        """
        by_language: dict[str, list[tuple[str, str]]] = {}
        unknown: list[str] = []
        for label, spelling in labels.items():
            entry = self._taken(spelling, lenient)
            if entry is None:
                unknown.append(label)
            else:
                by_language.setdefault(entry.code, []).append((label, variant(spelling)))
        if unknown and self.languages is None and not lenient:
            raise LanguageError(_strays(unknown, labels, where))
        by_code: dict[str, list[str]] = {}
        for code, found in by_language.items():
            for label, full in found:
                own = full if len({full for _, full in found}) > 1 else code
                by_code.setdefault(own, []).append(label)
        codes = order_codes(tuple(by_code), self.languages, self.reference, where)
        for code in codes:
            if len(by_code[code]) > 1:
                raise CorpusError(
                    f"{where}: {' and '.join(by_code[code])} are the same language ({code}); "
                    "remove all but one"
                )
        return {code: by_code[code][0] for code in codes}

    def _taken(self, spelling: str, lenient: bool) -> Language | None:
        """Returns the language of a label, or None where it is none, or hardly meant as one."""
        try:
            entry = language(spelling)
        except LanguageError:
            return None
        if not is_guess(entry) or not (lenient or spelling.strip().casefold() in WORDS):
            return entry
        asked = (self.reference, *(self.languages or ()))
        return entry if any(matching(one, (entry.code,)) for one in asked if _known(one)) else None


def is_guess(entry: Language) -> bool:
    """Whether a language is known by a bare code outside the table, which may be another word."""
    return entry.family is None and entry.script == UNKNOWN_SCRIPT


def _known(spelling: str) -> bool:
    try:
        return bool(language(spelling))
    except LanguageError:
        return False


def _strays(unknown: Sequence[str], labels: Mapping[str, str], where: str) -> str:
    """Returns what to do about files or columns that name no language."""
    said = (
        f"{where}: no language is known by the name of {', '.join(unknown)}; rename or remove what "
        "is no language, or say which languages to read (--languages)"
    )
    words = [labels[label] for label in unknown if _known(labels[label])]
    if words:
        names = ", ".join(f"{word} ({language(word).name})" for word in words)
        said += f"; a language by that code must be named with --languages: {names}"
    return said


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

    What is packed (``.gz``, ``.xz``, ``.bz2``) is unpacked.

    Raises:
        CorpusError: If the file is empty, cannot be read, or is no UTF-8.
    """
    raw = _unpacked(path)
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


PACKED: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
"""Endings of packed files, and what opens them."""
# Text is packed to a tenth, hardly ever to a thirtieth; what claims more is no text.
_MOST_UNPACKED, _SPARE_BYTES = 32, 64 << 20


def unpacked_name(name: str) -> str:
    """Returns a file's name without the ending that says how it is packed."""
    return next((name[: -len(end)] for end in PACKED if name.lower().endswith(end)), name)


def most_unpacked_bytes(path: Path) -> int:
    """Returns as how many bytes a packed file is read at most."""
    return _SPARE_BYTES + _MOST_UNPACKED * path.stat().st_size


def _unpacked(path: Path) -> bytes:
    try:
        if (opened := PACKED.get(path.suffix.lower())) is None:
            return path.read_bytes()
        most = most_unpacked_bytes(path)
        with opened(path) as file:
            raw: bytes = file.read(most + 1)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path}: cannot be unpacked ({error}); pack it again") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(raw) > most:
        raise CorpusError(
            f"{path}: more than {most >> 20} MiB are packed in it, which no text is; give it "
            f"unpacked if it is one, a few thousand sentences will do"
        )
    return raw


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
        reference: The reference language, in any spelling.
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
    first = _resolved(reference, have)
    if len(first) != 1:
        several = f"means {' and '.join(first)}" if first else "is not there"
        raise LanguageError(
            f"{where}: the reference language {reference} {several}; the corpus has "
            f"{', '.join(have)}; name one of them with --reference (reference= in Python)"
        )
    reference = first[0]
    chosen = list(have) if wanted is None else _resolve(have, wanted, where)
    codes = (reference, *(code for code in chosen if code != reference))
    if len(codes) < 2:
        raise LanguageError(
            f"only the reference language {reference} was asked for; add at least one of "
            f"{', '.join(code for code in have if code != reference)}"
        )
    return codes


def _resolved(spelling: str, have: Sequence[str]) -> tuple[str, ...]:
    try:
        return matching(spelling, have)
    except LanguageError:
        return ()


def _resolve(have: Sequence[str], wanted: Sequence[str], where: str) -> list[str]:
    listing = f"the corpus has {', '.join(have)}"
    chosen: dict[str, str] = {}
    for spelling in wanted:
        try:
            # A code that only this corpus knows, such as one half of a split language, is its own.
            found = matching(spelling, have)
        except LanguageError as error:
            raise LanguageError(f"{where}: {error}; {listing}") from None
        if not found:
            raise LanguageError(
                f"{where}: {spelling} ({language(spelling).code}) is not there; {listing}"
            )
        if len(found) > 1:
            raise LanguageError(
                f"{where}: {spelling} may be {' or '.join(found)}; write which; {listing}"
            )
        code = next(iter(found))
        if code in chosen:
            raise LanguageError(
                f"language {code} was asked for twice, as {chosen[code]} and {spelling}; {listing}"
            )
        chosen[code] = spelling
    return list(chosen)
