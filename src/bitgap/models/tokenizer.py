"""A model's tokenizer, read as its own file says.

transformers rebuilds some tokenizers from their class and leaves out what ``tokenizer.json`` says
of normalisation and of spaces, in silence: 5.3.0 lost every space of tokenizers of the
DeepSeek-distill kind, and 5.23.0 leaves out a file's NFKC, or puts a space in front that the file
does not. So a few lines are cut by both. Where they differ the file is followed, and that is told.
A ``tokenizer.model`` that stands alone is compared with sentencepiece in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers import __version__ as _transformers_version

from bitgap.errors import MissingExtra, ModelError

_log = logging.getLogger(__name__)

_FILE = "tokenizer.json"
_SENTENCEPIECE = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model")
_PROBES = (
    "The 3 cats' café: naïve (größer)  two spaces.",
    "ﬁve Ⅳ № ½ ﬀ",
    "еда, 言語の違い, שלום עולם, مرحبا, हिन्दी, 한국어, ภาษาไทย.",
    "def f(x): return {'a': 10_000}",
)
"""Sentences as corpora have them, without space around; what stands in front of text is not
compared here (:mod:`bitgap.lab.engine.prefix`)."""


def read_tokenizer(name: str, folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Reads the tokenizer of a model's folder.

    Args:
        name: What messages call the model.
        folder: Where its files are.
        trust_remote_code: Whether Python code that comes with it may be run.

    Raises:
        MissingExtra: If it is a sentencepiece model and what reads those is not installed.
        ModelError: If it cuts text otherwise than its only file says.
        Exception: What transformers raises where it cannot read the files.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:
        _ask_for_sentencepiece(name, folder, error)
        raise
    if (folder / _FILE).is_file():
        return _as_the_file_says(name, folder, tokenizer)
    _check_against_sentencepiece(name, folder, tokenizer)
    return tokenizer


def _as_the_file_says(name: str, folder: Path, tokenizer: Any) -> Any:
    file: Any = Tokenizer.from_file(str(folder / _FILE))
    own = [list(one.ids) for one in file.encode_batch(list(_PROBES), add_special_tokens=False)]
    if _cut(tokenizer) == own:
        return tokenizer
    generic: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if _cut(generic) != own:
        raise ModelError(
            f"{name}: transformers {_transformers_version} cuts text otherwise than its {_FILE} "
            f"says ({_difference(tokenizer, own, file)}); install another version of "
            "transformers, or save the tokenizer with it once more if its reading is meant"
        )
    _log.warning(
        "%s: transformers %s as %s cuts text otherwise than %s says (%s); the file is followed. "
        "Save the tokenizer with transformers once more if its reading is meant",
        name,
        _transformers_version,
        type(tokenizer).__name__,
        _FILE,
        _difference(tokenizer, own, file),
    )
    return generic


def _cut(tokenizer: Any) -> list[list[int]]:
    return [list(row) for row in tokenizer(list(_PROBES), add_special_tokens=False).input_ids]


def _difference(tokenizer: Any, own: Sequence[Sequence[int]], file: Any) -> str:
    """Returns where the first probe that is cut in two ways parts, as both have it."""
    for mine, theirs in zip(_cut(tokenizer), own, strict=True):
        if mine != theirs:
            return _parting(
                list(map(str, tokenizer.convert_ids_to_tokens(mine))),
                [str(file.id_to_token(i)) for i in theirs],
            )
    return "nowhere"


def _parting(mine: Sequence[str], theirs: Sequence[str]) -> str:
    pairs = enumerate(zip(mine, theirs, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(mine), len(theirs)))
    return f"{' '.join(mine[at : at + 4])!r} instead of {' '.join(theirs[at : at + 4])!r}"


# -- sentencepiece ---------------------------------------------------------------------------------


def _ask_for_sentencepiece(name: str, folder: Path, error: Exception) -> None:
    """Says what is missing, where that is why a sentencepiece model could not be read."""
    found = _sentencepiece_file(folder)
    needed = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
    missing = [package for package, module in needed.items() if not _is_there(module)]
    if found is None or not missing:
        return
    raise MissingExtra(
        f"{name}: its tokenizer is a sentencepiece model ({found.name}, and no {_FILE}), and "
        f"{' and '.join(missing)}, which transformers reads those with, "
        f"{'is' if len(missing) == 1 else 'are'} not installed; install with: pip install "
        "'bitgap[sentencepiece]'"
    ) from error


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def _sentencepiece_file(folder: Path) -> Path | None:
    if (folder / _FILE).is_file():
        return None
    return next((folder / name for name in _SENTENCEPIECE if (folder / name).is_file()), None)


def _check_against_sentencepiece(name: str, folder: Path, tokenizer: Any) -> None:
    found = _sentencepiece_file(folder)
    if found is None or not _is_there("sentencepiece"):
        return
    import sentencepiece

    model: Any = sentencepiece.SentencePieceProcessor()
    try:
        model.Load(str(found))
    except (OSError, RuntimeError):
        return  # some call other formats tokenizer.model
    # Pieces, as ids may be shifted by special tokens.
    for text, ids in zip(_PROBES, _cut(tokenizer), strict=True):
        mine = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
        theirs = [str(model.IdToPiece(i)) for i in model.EncodeAsIds(text)]
        if mine != theirs:
            raise ModelError(
                f"{name}: transformers {_transformers_version} as {type(tokenizer).__name__} cuts "
                f"text otherwise than {found.name} says ({_parting(mine, theirs)}); put the "
                f"tokenizer_config.json that names its class (tokenizer_class) beside it, or a "
                f"{_FILE} that agrees with it"
            )
