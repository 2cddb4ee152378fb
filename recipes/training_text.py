"""Text on disk: reading it, training a tokenizer on it, and tokenising it once.

A text is one line. Tokenised, every text is led by the separator, so that one stream of numbers a
language is all that training reads; it is kept in a file and mapped, never loaded.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.errors import CorpusError, UsageError

SEPARATOR = "<|endoftext|>"
"""The one special token, id 0: it begins every text and ends the one before."""
TOKENIZER_SHARE = 3
"""The tokenizer is trained on every third line."""

_LANGUAGE_FILE = re.compile(r"([a-z]{2,3}(?:[-_][A-Za-z0-9]+)*)\.txt(?:\.xz)?")
_FORMAT = 1  # Raise it whenever a stream would come out differently.
_LINES_AT_ONCE = 4096
_STRETCH = 100
"""Halves of a text alternate in stretches of so many lines, so that most of what belongs together
stays together and both halves have some of every source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFacts:
    """What the text of one language is; lines and bytes are those trained on."""

    language: str
    lines: int
    bytes: int
    """UTF-8 bytes of the lines."""
    tokens: int
    """Tokens of the lines with their separators."""
    held_out: tuple[str, ...]
    """Lines that were kept out."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One language, tokenised."""

    facts: TextFacts
    tokens: NDArray[Any]
    """All texts in a row, each led by the separator; uint16 or uint32, mapped from a file."""


# -- reading -------------------------------------------------------------------------------------


def find_texts(folder: Path) -> dict[str, Path]:
    """Returns the ``<lang>.txt`` and ``<lang>.txt.xz`` of a folder by language, sorted.

    Raises:
        UsageError: If there is no such folder, or it has two files of one language.
        CorpusError: If it has no such file.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}; give one that holds <lang>.txt files")
    texts: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _LANGUAGE_FILE.fullmatch(path.name)
        if not match or not path.is_file():
            continue
        if match[1] in texts:
            raise UsageError(f"{folder} has {texts[match[1]].name} and {path.name}; keep one")
        texts[match[1]] = path
    if not texts:
        raise CorpusError(
            f"{folder} has no text; name files <lang>.txt or <lang>.txt.xz, such as en.txt"
        )
    return texts


def choose_texts(texts: Mapping[str, Path], mix: Mapping[str, float] | None) -> dict[str, Path]:
    """Returns the texts of the languages that a mix names, or all without one.

    Raises:
        UsageError: If the mix names a language that has no text.
    """
    if mix is None:
        return dict(texts)
    absent = [language for language in mix if language not in texts]
    if absent:
        raise UsageError(
            f"--mix names {', '.join(absent)}, but there is text in {', '.join(texts)}"
        )
    return {language: path for language, path in texts.items() if language in mix}


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file that are not blank, stripped and in NFC.

    Raises:
        CorpusError: If it cannot be read, is no UTF-8, or has no such line.
    """
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); check it or copy it again") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CorpusError(f"{path}, line {line}: no UTF-8; convert the file to UTF-8") from error
    # splitlines would also break at signs that may stand inside a text, such as U+2028.
    lines = [unicodedata.normalize("NFC", line.strip()) for line in text.split("\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise CorpusError(f"{path} has no text; fill it or take it out of the folder")
    return lines


def split_lines(lines: Sequence[str], n_held_out: int, name: str) -> tuple[list[str], list[str]]:
    """Returns the lines to train on and those kept out, which are spread evenly over the file.

    Args:
        lines: All lines of a language.
        n_held_out: How many to keep out.
        name: The language, for the error.

    Raises:
        UsageError: If more than half of the lines would be kept out.
    """
    if 2 * n_held_out > len(lines):
        raise UsageError(
            f"--held-out {n_held_out} is more than half of the {len(lines)} lines in {name}; "
            f"give a smaller number or more text"
        )
    chosen = {(2 * i + 1) * len(lines) // (2 * n_held_out) for i in range(n_held_out)}
    train = [line for i, line in enumerate(lines) if i not in chosen]
    return train, [lines[i] for i in sorted(chosen)]


def choose_half(lines: Sequence[str], half: int | None) -> list[str]:
    """Returns the lines of one of two disjoint halves of a text, or all of them.

    Args:
        lines: Lines to train on, in the order of the file.
        half: 1 or 2, whose stretches of 100 lines alternate; None for all lines.
    """
    if half is None:
        return list(lines)
    return [line for i, line in enumerate(lines) if i // _STRETCH % 2 == half - 1]


def fingerprint_files(paths: Mapping[str, Path]) -> dict[str, str]:
    """Returns the SHA-256 (hex) of every file as it is stored, by language.

    Raises:
        CorpusError: If a file cannot be read.
    """
    digests = {}
    for language, path in paths.items():
        try:
            with path.open("rb") as file:
                digests[language] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CorpusError(f"{path} cannot be read ({error.strerror})") from error
    return digests


# -- tokenizer -----------------------------------------------------------------------------------


def train_tokenizer(paths: Mapping[str, Path], vocabulary: int, n_held_out: int) -> Any:
    """Trains a byte-level BPE on every third line of each language.

    Args:
        paths: Text files by language.
        vocabulary: Tokens wanted, the separator included.
        n_held_out: Lines of each language that the tokenizer must not see.

    Returns:
        A ``tokenizers.Tokenizer`` with exactly that many tokens; the separator has id 0.

    Raises:
        UsageError: If the text is too little for so many tokens.
        CorpusError: If a file cannot be used.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_lines(paths, n_held_out), trainer)
    found = tokenizer.get_vocab_size()
    if found < vocabulary:
        raise UsageError(
            f"--vocabulary {vocabulary} is too large for this text, which gives {found} tokens; "
            f"ask for at most {found}, or give more text"
        )
    return tokenizer


def _tokenizer_lines(paths: Mapping[str, Path], n_held_out: int) -> Iterator[str]:
    for language, path in paths.items():
        train, _ = split_lines(read_lines(path), n_held_out, language)
        yield from train[::TOKENIZER_SHARE]


def save_tokenizer(tokenizer: Any, folder: Path, context: int) -> None:
    """Saves a trained tokenizer so that ``AutoTokenizer`` loads it.

    Args:
        tokenizer: From :func:`train_tokenizer`.
        folder: Where to.
        context: Longest sequence of the model in tokens.
    """
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        model_max_length=context,
    )
    wrapped.save_pretrained(folder)


def load_tokenizer(folder: Path) -> Any:
    """Loads a tokenizer that can separate texts.

    Raises:
        UsageError: If there is none, or it has no token for the end of a text.
    """
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise UsageError(f"{folder} has no tokenizer.json; give a folder that has one")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception for a file it cannot read
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"the tokenizer in {folder} cannot be read ({reason})") from error
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer in {folder} has no eos token to separate texts with")
    return tokenizer


# -- tokenising ----------------------------------------------------------------------------------


def tokenise(
    paths: Mapping[str, Path],
    digests: Mapping[str, str],
    tokenizer: Any,
    n_held_out: int,
    cache: Path,
    half: int | None = None,
) -> Iterator[Stream]:
    """Yields the stream of each language, tokenised now or found in the cache.

    Args:
        paths: Text files by language.
        digests: Their SHA-256.
        tokenizer: From :func:`load_tokenizer`.
        n_held_out: Lines of each language to keep out.
        cache: Folder for the streams; entries are named by what they were made from.
        half: Which half of the lines, 1 or 2 (:func:`choose_half`); None for all.

    Raises:
        UsageError: If too many lines would be kept out, or a half has none.
        CorpusError: If a file cannot be used.
    """
    cache.mkdir(parents=True, exist_ok=True)
    rules = tokenizer.backend_tokenizer.to_str() + f"|{tokenizer.eos_token_id}|{_FORMAT}"
    for language, path in paths.items():
        made_from = f"{rules}|{digests[language]}|{n_held_out}" + (f"|{half}" if half else "")
        key = hashlib.sha256(made_from.encode()).hexdigest()
        entry = cache / f"{language}-{key[:20]}"
        kind = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
        facts = _cached(entry, kind)
        if facts is None:
            train, held_out = split_lines(read_lines(path), n_held_out, language)
            lines = choose_half(train, half)
            if not lines:
                raise UsageError(
                    f"--half {half} of the {len(train)} lines of {language} holds none; halves "
                    f"alternate in stretches of {_STRETCH} lines, so give more text"
                )
            facts = _tokenise_lines(language, lines, held_out, tokenizer, entry, kind)
        yield Stream(facts, np.memmap(_stream_file(entry), dtype=kind, mode="r"))


def _stream_file(entry: Path) -> Path:
    return entry.with_suffix(".tokens")


def _cached(entry: Path, kind: np.dtype[Any]) -> TextFacts | None:
    # The facts are written after the stream, so with them the stream is whole.
    try:
        facts = json.loads(entry.with_suffix(".json").read_text(encoding="utf-8"))
        size = _stream_file(entry).stat().st_size
    except (OSError, ValueError):
        return None
    if size != facts["tokens"] * kind.itemsize:
        return None
    return TextFacts(**facts | {"held_out": tuple(facts["held_out"])})


def _tokenise_lines(
    language: str,
    train: Sequence[str],
    held_out: Sequence[str],
    tokenizer: Any,
    entry: Path,
    kind: np.dtype[Any],
) -> TextFacts:
    n_tokens = 0
    part = entry.with_suffix(f".part{os.getpid()}")
    with part.open("wb") as file:
        for start in range(0, len(train), _LINES_AT_ONCE):
            ids = encode_lines(train[start : start + _LINES_AT_ONCE], tokenizer)
            tokens = np.concatenate(ids).astype(kind)
            file.write(tokens.tobytes())
            n_tokens += len(tokens)
    os.replace(part, _stream_file(entry))
    facts = TextFacts(
        language=language,
        lines=len(train),
        bytes=sum(len(line.encode()) for line in train),
        tokens=n_tokens,
        held_out=tuple(held_out),
    )
    write_json(entry.with_suffix(".json"), asdict(facts))
    return facts


def encode_lines(lines: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Returns the token ids of each line, led by the separator.

    Text that spells out a special token does not become one.

    Args:
        lines: Texts.
        tokenizer: From :func:`load_tokenizer`.
    """
    engine = tokenizer.backend_tokenizer
    before = engine.encode_special_tokens
    engine.encode_special_tokens = True
    try:
        batch = engine.encode_batch_fast(list(lines), add_special_tokens=False)
    finally:
        engine.encode_special_tokens = before
    return [[tokenizer.eos_token_id, *encoding.ids] for encoding in batch]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a reader finds the old file or the whole new one.

    Args:
        path: Where to.
        content: What can be JSON; NaN and infinities are refused.
    """
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)
