"""How often tokens come in a language: counts that ship with bitgap, and those of a folder.

What a model had learned of a language is measured against unigrams, and unigrams of a few thousand
tokens are worse than the language is: add-one smoothing of n tokens over V types costs a token
known to be frequent log2(1 + V/n) bits, and a rare one more. So counts come from text of their own,
of another source than what is measured.

A folder of unigrams has one file a language, text or counts, either packed by xz or not:

* ``<language>.txt``: any text, one piece a line, cut by the tokenizer of the model at hand. Of a
  long text as many lines are counted, at random, as have :data:`MOST_TOKENS`.
* ``<language>.tsv``: a token's id, a tab and how often it came, a line each; ids not named never
  came. Lines that begin with ``#`` are passed over.

Other files are passed over. The bundled counts are such folders, with ``about.json`` beside them:
of which tokenizer they are, from what text, and under which terms. No torch.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bitgap.corpora.intake import most_unpacked_bytes
from bitgap.errors import CorpusError, LanguageError, NoSuchText
from bitgap.languages import language, matching
from bitgap.records import Integers

MOST_TOKENS = 2_000_000
"""Tokens of one language that are counted, at most."""
SHIPPED = Path(__file__).parent / "bundled_unigrams"
_KINDS = (".txt", ".tsv")
_LINES_AT_ONCE = 1024
# Some of every script; two tokenizers that cut it alike and share their vocabulary are one.
_PROBE = "The 3 cats’ café, naïve — größer; еда, 言語の違い, שלום עולם, مرحبا, हिन्दी, 한국어 ."


@dataclass(frozen=True, slots=True)
class Unigrams:
    """Token counts of some languages.

    Attributes:
        name: Where they are from.
        counts: How often each of V tokens came, by language, (V).
    """

    name: str
    counts: Mapping[str, Integers]

    def fingerprint(self, languages: Sequence[str]) -> dict[str, str]:
        """Returns the SHA-256 (hex) of the counts of those languages that there are, by code."""
        found: dict[str, str] = {}
        for code in (code for code in languages if code in self.counts):
            ids = np.flatnonzero(self.counts[code])
            pairs = np.stack([ids, self.counts[code][ids]]).astype("<i8")
            found[code] = hashlib.sha256(pairs.tobytes()).hexdigest()
        return found

    def over(self, other: Unigrams | None) -> Unigrams:
        """Returns these, and another's in languages that these have not."""
        if other is None or not set(other.counts) - set(self.counts):
            return self
        return Unigrams(f"{self.name}, {other.name}", {**other.counts, **self.counts})


def add_one_nats(tokens: Integers, counts: Integers) -> float:
    """Returns the cross-entropy of tokens under add-one unigrams, in nats, summed.

        Σ −ln((c(token) + 1) / (n + V)),   n = Σ c

    Args:
        tokens: Ids.
        counts: How often each of V tokens came elsewhere, (V).
    """
    return float(-np.log((counts[tokens] + 1) / (counts.sum() + len(counts))).sum())


# -- reading -------------------------------------------------------------------------------------


def load_unigrams(
    folder: str | os.PathLike[str], tokenizer: Any, vocabulary: int, languages: Sequence[str]
) -> Unigrams:
    """Reads a folder of unigrams.

    Args:
        folder: See the module.
        tokenizer: A transformers tokenizer, which cuts what is text.
        vocabulary: Number of logits V.
        languages: Codes; files of others are not opened.

    Raises:
        CorpusError: If there is no such folder, it has no such file, two files are of one language,
            or a file is empty, damaged, no UTF-8, or counts what is no token of the model.
        LanguageError: If a file name is no language, or none of those asked for is there.
    """
    path = Path(folder).expanduser()
    files = _files(path)
    wanted = _of(files, languages)
    if not wanted:
        raise LanguageError(
            f"{path}: no unigrams of {', '.join(languages)}; there are those of "
            f"{', '.join(sorted(files))}"
        )
    counts = {code: _read(file, tokenizer, vocabulary) for code, file in wanted.items()}
    return Unigrams(path.resolve().name, counts)


def shipped_unigrams(tokenizer: Any, vocabulary: int, languages: Sequence[str]) -> Unigrams | None:
    """Returns the bundled counts of a tokenizer in some languages, or None where there are none.

    Args:
        tokenizer: Any; told by what it does, not by its name.
        vocabulary: Number of logits V.
        languages: Codes.
    """
    size = getattr(tokenizer, "vocab_size", None)
    kinds = [about for about in _shipped() if about["vocabulary"] == size == vocabulary]
    if not kinds:
        return None
    mine = tokenizer_fingerprint(tokenizer)
    for about in (about for about in kinds if about["tokenizer"] == mine):
        files = _of(_files(SHIPPED / about["name"]), languages)
        counts = {code: _read(file, tokenizer, vocabulary) for code, file in files.items()}
        return Unigrams(f"bundled counts ({about['name']})", counts) if counts else None
    return None


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    found = sorted(SHIPPED.glob("*/about.json"))
    return tuple(
        {"name": file.parent.name, **json.loads(file.read_text(encoding="utf-8"))} for file in found
    )


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Returns the SHA-256 (hex) of a tokenizer's vocabulary and of how it cuts a line."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    cut = list(map(int, tokenizer(_PROBE, add_special_tokens=False).input_ids))
    text = json.dumps([vocabulary, cut], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _of(files: Mapping[str, Path], languages: Sequence[str]) -> dict[str, Path]:
    """Returns the file of each language that has one; ``pt-BR`` counts by ``pt``."""
    found: dict[str, Path] = {}
    for code in languages:
        try:
            own = matching(code, files)
        except LanguageError:
            continue  # a name that only this corpus knows
        if len(own) == 1:
            found[code] = files[own[0]]
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Returns the file of each language."""
    try:
        names = sorted(path for path in folder.iterdir() if path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchText(
            f"{folder}: no such folder of unigrams; it has one <language>.txt or .tsv a language"
        ) from None
    except OSError as error:
        raise CorpusError(
            f"{folder}: cannot be read as a folder of unigrams ({error.strerror}); it has one "
            f"<language>.txt or .tsv a language"
        ) from None
    files: dict[str, Path] = {}
    for path in names:
        bare = path.name.removesuffix(".xz")
        kind = next((kind for kind in _KINDS if bare.lower().endswith(kind)), None)
        if kind is None or bare.startswith("."):
            continue
        try:
            code = language(bare[: -len(kind)]).code
        except LanguageError as error:
            raise LanguageError(
                f"{path}: a file of unigrams is called by its language, as in he.txt or "
                f"he.tsv.xz: {error}"
            ) from None
        if code in files:
            raise CorpusError(
                f"{folder}: {files[code].name} and {path.name} are both {code}; keep one of them"
            )
        files[code] = path
    if not files:
        raise CorpusError(
            f"{folder}: no unigrams in this folder; it needs one <language>.txt (text) or "
            f"<language>.tsv (a token's id, a tab and its count) a language"
        )
    return files


def _read(path: Path, tokenizer: Any, vocabulary: int) -> Integers:
    lines = _lines(path)
    if path.name.removesuffix(".xz").lower().endswith(".tsv"):
        counts = _counted(path, lines, vocabulary)
    else:
        counts = count_tokens(lines, tokenizer, vocabulary)
    if not counts.sum():
        raise CorpusError(f"{path}: not one token is counted in it; remove it, or fill it")
    return counts


def _lines(path: Path) -> list[str]:
    try:
        most = most_unpacked_bytes(path)
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            # A plain file's own size bounds it, and room is made for as much as is asked.
            raw = file.read(most + 1) if path.suffix == ".xz" else file.read()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise CorpusError(f"{path}: cannot be read ({error})") from None
    if len(raw) > most:
        raise CorpusError(f"{path}: more than {most >> 20} MiB are packed in it; give it unpacked")
    try:
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise CorpusError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None


def _counted(path: Path, lines: Iterable[str], vocabulary: int) -> Integers:
    counts = np.zeros(vocabulary, dtype=np.int64)
    seen: set[int] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        # No count has more digits than a whole number of 64 bits.
        if len(cells) != 2 or not all(
            cell.isascii() and cell.isdecimal() and len(cell) <= 18 for cell in cells
        ):
            raise CorpusError(
                f"{path}, line {number}: {line[:40]!r} is not a token's id, a tab and its count"
            )
        token, times = int(cells[0]), int(cells[1])
        if token >= vocabulary:
            raise CorpusError(
                f"{path}, line {number}: token {token}, but the model has {vocabulary} (from 0); "
                f"these are counts of another tokenizer"
            )
        if token in seen:
            raise CorpusError(f"{path}, line {number}: token {token} is counted twice")
        seen.add(token)
        counts[token] = times
    return counts


def count_tokens(
    lines: Sequence[str], tokenizer: Any, vocabulary: int, most: int = MOST_TOKENS
) -> Integers:
    """Returns how often each token comes in lines of text, (V).

    Args:
        lines: Cut one by one, without the tokens that begin or end a text.
        tokenizer: A transformers tokenizer.
        vocabulary: Number of logits V.
        most: Lines are taken at random until there are so many tokens.

    Raises:
        CorpusError: If the tokenizer makes an id that the model has no logit for.
    """
    counts = np.zeros(vocabulary, dtype=np.int64)
    order = np.random.default_rng(0).permutation(len(lines))
    for start in range(0, len(lines), _LINES_AT_ONCE):
        some = [lines[int(i)] for i in order[start : start + _LINES_AT_ONCE]]
        ids = np.array(
            [i for row in tokenizer(some, add_special_tokens=False).input_ids for i in row],
            dtype=np.int64,
        )
        if len(ids) and ids.max() >= vocabulary:
            raise CorpusError(
                f"the tokenizer makes token {ids.max()}, but the model has {vocabulary} (from 0)"
            )
        counts += np.bincount(ids, minlength=vocabulary)
        if counts.sum() >= most:
            break
    return counts
