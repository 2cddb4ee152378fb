"""Treebanks in CoNLL-U: sentences whose words carry gold morphology, and where words end in tokens.

A file holds one language, told by the beginning of its name (``he-htb-dev.conllu``,
``en_pud-ud-test.conllu``), else by the treebank's folder (``UD_German-GSD/dev.conllu``); treebanks
may stand in folders of their own, as Universal Dependencies releases them, packed or not
(``.conllu.gz``). A file of no language that is known, such as one of mixed languages
(``qfn_fame-ud-test.conllu``), is passed over and told. A *word* is what stands in
the text: a multiword token such as Hebrew ``מתאילנד`` ("from Thailand") is one word, and its
features are those of its syntactic head: of the parts whose own head lies outside the word, the
last that is a noun, proper noun, verb, adjective, pronoun or auxiliary; else the last such part at
all; else none. Empty nodes are passed over.

A line that is no CoNLL-U stops the reading and is named; a sentence whose words do not stand in its
text in order, with nothing but space between them, is left out and counted.

Source: Nivre 2020 (Universal Dependencies v2).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitgap.corpora.grammar.pairs import TaggedSentence, require_common
from bitgap.corpora.intake import WORDS, parse_languages, text_lines, unpacked_name
from bitgap.errors import CorpusError, LanguageError, NoSuchText
from bitgap.languages import language, matching

_log = logging.getLogger(__name__)

FEATURES = ("Number", "Gender", "Person", "Case")
"""What is kept of a word's features."""
CONTENT = frozenset({"NOUN", "PROPN", "VERB", "ADJ", "PRON", "AUX"})
"""Parts of speech that a multiword token takes its features from."""

NOT_IN_TEXT = "words do not line up with the text"
NO_TAGS = f"no word has any of {', '.join(FEATURES)}"

_COLUMNS = 10
_FOLDER = re.compile(r"UD_(?P<language>\w+)-(?P<treebank>\w+)")
_ID = re.compile(r"\d+|\d+-\d+|\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Treebank:
    """Tagged sentences of several languages.

    Attributes:
        name: File or folder.
        tagged: Sentences by language code.
        excluded: Sentences left out, by reason.
        source: Who wrote it.
        licence: SPDX id or the source's own words.
    """

    name: str
    tagged: Mapping[str, tuple[TaggedSentence, ...]]
    excluded: Mapping[str, int]
    source: str = "CoNLL-U files"
    licence: str = "not stated"

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes, in the order of the files."""
        return tuple(self.tagged)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over languages, words and features (hex)."""
        digest = hashlib.sha256()
        for code, sentences in self.tagged.items():
            for one in sentences:
                content = [code, one.text, one.words, one.spans, [dict(f) for f in one.features]]
                digest.update(json.dumps(content, sort_keys=True).encode())
        return digest.hexdigest()

    def select(self, languages: Sequence[str]) -> Treebank:
        """Returns the treebank of some languages, in that order; absent ones are passed over."""
        return replace(self, tagged={c: self.tagged[c] for c in languages if c in self.tagged})


def load_treebanks(
    spec: str | os.PathLike[str],
    *,
    languages: str | Sequence[str] | None = None,
    text: Sequence[str] | None = None,
) -> Treebank:
    """Reads one ``.conllu`` file, or all of a folder; several files of a language become one.

    Args:
        spec: File or folder.
        languages: Which languages to keep; all when None.
        text: Codes of the text that is measured: files of other languages are not opened.

    Raises:
        CorpusError: If there is nothing to read, or no sentence that can be used, or a line is no
            CoNLL-U; with file and line.
        LanguageError: If no file name begins with a language, a language asked for is absent, or
            no file is of a language of the text.
        NoSuchText: If there is no such file or folder.
        MissingExtra: If the conllu library is not installed.
    """
    path = Path(spec).expanduser()
    by_language, strays = _by_language(path)
    if not by_language:
        raise LanguageError(
            f"{path}: a treebank's name must begin with its language, as in "
            f"he-htb-dev.conllu; found {', '.join(file.name for file in strays[:5])}"
        )
    wanted = parse_languages(languages)
    codes = list(by_language)
    if wanted is not None:
        codes = [_wanted(path, spelling, by_language) for spelling in wanted]
    if text is not None:
        require_common(codes, text, f"treebanks {path}")
        codes = [code for code in codes if any(code in matching(own, codes) for own in text)]
    if strays:
        _log.warning(
            "%s: passed over, as their names begin with no language that is known: %s",
            path,
            ", ".join(file.name for file in strays),
        )
    excluded: Counter[str] = Counter()
    tagged = {
        code: tuple(
            sentence for file in by_language[code] for sentence in _read(file, code, excluded)
        )
        for code in dict.fromkeys(codes)
    }
    if not any(tagged.values()):
        why = ", ".join(f"{n} in which {reason}" for reason, n in excluded.items())
        raise CorpusError(f"{path}: no sentence that can be used; left out: {why or 'none'}")
    return Treebank(path.name, tagged, dict(excluded))


def _wanted(path: Path, spelling: str, have: Mapping[str, Sequence[Path]]) -> str:
    found = matching(spelling, have)
    if len(found) != 1:
        raise LanguageError(
            f"{path}: no treebank of {spelling} ({language(spelling).code}); there are "
            f"{', '.join(sorted(have))}"
        )
    return found[0]


def _by_language(path: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Returns the files of each language, and those of none that is known."""
    by_language: dict[str, list[Path]] = {}
    strays: list[Path] = []
    for file in _files(path):
        code = _language_of(file)
        if code is None:
            strays.append(file)
        else:
            by_language.setdefault(code, []).append(file)
    return by_language, strays


def _language_of(file: Path) -> str | None:
    """Returns the language that a file's name begins with, or that its treebank's folder names."""
    head, _, treebank = re.sub("[-.]", "_", file.name).partition("_")
    folder = _FOLDER.fullmatch(file.resolve().parent.name)
    # One code for both written languages of Norwegian; the treebank's name tells them apart.
    if "nynorsk" in (treebank.lower()[:7], folder and folder["treebank"].lower()[:7]):
        return "nn"
    heads = [] if head.casefold() in WORDS else [head]
    for spelling in (*heads, *([folder["language"].replace("_", " ")] if folder else [])):
        try:
            return language(spelling).code
        except LanguageError:
            continue
    return None


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        below = (sorted(path.glob(f"{folders}*.conllu*")) for folders in ("", "*/", "*/*/"))
        kept = ([file for file in files if _is_treebank(file)] for files in below)
        found = next((files for files in kept if files), None)
        if found is None:
            raise CorpusError(
                f"{path}: no .conllu file in this folder or in folders of it, such as "
                "UD_German-GSD/de_gsd-ud-dev.conllu"
            )
        return found
    if not path.is_file():
        raise NoSuchText(f"{path}: no such file or folder; name a .conllu file or a folder of them")
    return [path]


def _is_treebank(file: Path) -> bool:
    return unpacked_name(file.name).endswith(".conllu") and file.is_file()


# -- one file -------------------------------------------------------------------------------------
def _read(file: Path, code: str, excluded: Counter[str]) -> Iterator[TaggedSentence]:
    import conllu

    for first, block in _blocks(file):
        _check(file, first, block)
        parsed = _parsed(conllu.parse, file, first, block)
        made = _sentence(parsed, code)
        if made is None:
            excluded[NOT_IN_TEXT] += 1
        elif not any(made.features):
            excluded[NO_TAGS] += 1
        else:
            yield made


def _parsed(parse: Callable[[str], Any], file: Path, first: int, block: Sequence[str]) -> Any:
    """Returns a sentence as the library reads it; where it cannot, says which line it is about."""
    try:
        (parsed,) = parse("\n".join(block) + "\n\n")
        return parsed
    except Exception as error:  # The library's own, and whatever its field parsers raise.
        number, told = first, error
        for at, line in enumerate(block, start=first):
            try:
                parse(line + "\n\n")
            except Exception as of_line:
                number, told = at, of_line
                break
        raise CorpusError(f"{file}, line {number}: this is no CoNLL-U: {told}") from None


def _blocks(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number of each sentence's first line, from 1, and its lines."""
    lines = text_lines(file)
    block: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            block.append(line.rstrip("\r"))
        elif block:
            yield number - len(block), block
            block = []


def _check(file: Path, first: int, block: Sequence[str]) -> None:
    """Refuses what the library would read as something else: lines with too few columns."""
    words = 0
    for number, line in enumerate(block, start=first):
        if line.startswith("#"):
            continue
        # An empty column is written _; the library strips it away where it is the last.
        columns = line.rstrip().split("\t")
        if len(columns) != _COLUMNS:
            raise CorpusError(
                f"{file}, line {number}: a word has {_COLUMNS} columns with tabs between, this "
                f"line has {len(columns)}; mend or remove the sentence"
            )
        if not _ID.fullmatch(columns[0]):
            raise CorpusError(
                f"{file}, line {number}: {columns[0]!r} is no word number (4, 4-5 or 4.1)"
            )
        words += 1
    if not words:
        raise CorpusError(f"{file}, line {first}: comments without a single word")


def _sentence(parsed: Any, code: str) -> TaggedSentence | None:
    """Returns a sentence, or None where its words are not in its text."""
    words = list(_surface_words(parsed))
    forms = [unicodedata.normalize("NFC", form) for form, *_ in words]
    given = parsed.metadata.get("text")
    text = unicodedata.normalize("NFC", given) if given else _joined(forms, words)
    spans = locate(forms, text)
    if spans is None:
        return None
    return TaggedSentence(
        language=code,
        words=tuple(forms),
        text=text,
        spans=spans,
        features=tuple(features for _, _, features, _ in words),
        lemmas=tuple(lemma for _, lemma, _, _ in words),
    )


Word = tuple[str, str, dict[str, str], bool]
"""Form, lemma, features, and whether a space follows."""


def _surface_words(parsed: Any) -> Iterator[Word]:
    """Yields what stands in the text; parts of a multiword token only as the whole."""
    parts = {token["id"]: token for token in parsed if isinstance(token["id"], int)}
    covered = 0
    misc: Mapping[str, str]
    for token in parsed:
        number, misc = token["id"], token["misc"] or dict[str, str]()
        spaced = misc.get("SpaceAfter") != "No"
        if isinstance(number, int):
            if number > covered:
                yield token["form"], token["lemma"] or "", _features(token), spaced
        elif number[1] == "-":
            first, _, last = number
            covered = last
            # Not every number between the two: a damaged file may name any.
            inside = [parts[i] for i in sorted(parts) if first <= i <= last]
            head = _head(inside)
            features = _features(head) if head else {}
            yield token["form"], (head["lemma"] or "") if head else "", features, spaced


def _head(parts: Sequence[Any]) -> Any | None:
    """Returns the part that a multiword token takes its features from; see the module."""
    inside = {part["id"] for part in parts}
    content = [part for part in parts if part["upos"] in CONTENT]
    heads = [part for part in content if part["head"] not in inside]
    return (heads or content or [None])[-1]


def _features(token: Any) -> dict[str, str]:
    found: dict[str, str] = token["feats"] or dict[str, str]()
    return {name: found[name] for name in FEATURES if found.get(name)}


def _joined(forms: Sequence[str], words: Sequence[Word]) -> str:
    spaced = (form + (" " if word[3] else "") for form, word in zip(forms, words, strict=True))
    return "".join(spaced).strip()


def locate(words: Sequence[str], text: str) -> tuple[tuple[int, int], ...] | None:
    """Returns where words stand in a text, [start, end) in characters each.

    Args:
        words: In order.
        text: In which nothing but space may stand between them.

    Returns:
        None where they do not.
    """
    spans, at = list[tuple[int, int]](), 0
    for word in words:
        while at < len(text) and text[at].isspace():
            at += 1
        if not word or not text.startswith(word, at):
            return None
        spans.append((at, at + len(word)))
        at += len(word)
    return None if text[at:].strip() else tuple(spans)


# -- words and tokens -----------------------------------------------------------------------------
TokenRange = tuple[int, int]
"""First and last token of a word."""


def token_ranges(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]
) -> tuple[tuple[int, ...], tuple[TokenRange | None, ...]]:
    """Tokenizes a sentence and finds each word's first and last token.

    A token belongs to every word that it shares a visible character with: tokens of a byte-level
    vocabulary may hold half a character, and a space before the word or a mark after it. Where a
    tokenizer tells no offsets, the text is tokenized again up to both ends of each word.

    Args:
        tokenizer: A transformers tokenizer; nothing is added to the text.
        text: The sentence.
        spans: Where its words stand, [start, end) in characters.

    Returns:
        Token ids; and for each word its tokens, or None where it has none, or where a tokenizer
        without offsets cuts the beginning of the text otherwise than the whole.
    """
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True)
        offsets = [_visible(text, *pair) for pair in found["offset_mapping"][0]]
        ranges = tuple(_overlapping(offsets, *span) for span in spans)
        return tuple(found["input_ids"][0]), ranges
    before = [text[:start] for start, _ in spans]
    texts = [text, *(text[:end] for _, end in spans), *before, *(b.rstrip() for b in before)]
    ids, *prefixes = map(tuple, tokenizer(texts, add_special_tokens=False).input_ids)
    # The prefixes' tokens are those of the whole, or the prefix ends in the middle of one.
    lengths = [len(p) if ids[: len(p)] == p else None for p in prefixes]
    n = len(spans)
    columns = zip(lengths[:n], lengths[n : 2 * n], lengths[2 * n :], strict=True)
    return ids, tuple(_between(end, spaced if spaced is not None else bare)
                      for end, spaced, bare in columns)  # fmt: skip


def _between(end: int | None, start: int | None) -> TokenRange | None:
    return None if end is None or start is None or end <= start else (start, end - 1)


def _visible(text: str, start: int, end: int) -> tuple[int, int]:
    """Returns a token's characters without the spaces around them."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _overlapping(offsets: Sequence[tuple[int, int]], start: int, end: int) -> TokenRange | None:
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    return (inside[0], inside[-1]) if inside else None
