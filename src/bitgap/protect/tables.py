"""A damage table as a file, resampled, cut, and with its labels permuted.

A table is one ``NAME.table.zip``, the same bytes whoever writes it: ``table.json`` with the facts
and the digest, and one ``NAME.npy`` an array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bitgap.codec import from_json, is_object, to_json
from bitgap.errors import StoreError
from bitgap.files import read_arrays, write_arrays
from bitgap.protect.records import DamageTable, TableFacts
from bitgap.records import Floats, Integers, Units
from bitgap.stats.bootstrap import bootstrap_weights

FORMAT = "bitgap damage table"
VERSION = 1


def write_table(table: DamageTable, path: str | os.PathLike[str]) -> None:
    """Writes a table, over what was there.

    Raises:
        StoreError: If it cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(TABLE, pathlib.Path(folder) / "t.zip")
        ...     read_table(pathlib.Path(folder) / "t.zip").digest == TABLE.digest
        True
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "digest": table.digest,
        "facts": to_json(table.facts),
    }
    try:
        write_arrays(Path(path), "table.json", content, table.arrays(), level=6)
    except OSError as error:
        raise StoreError(
            f"cannot write the table {os.fspath(path)!r} ({error.strerror or error}); name a file "
            f"in a folder that can be written"
        ) from error


def read_table(path: str | os.PathLike[str]) -> DamageTable:
    """Returns the table that :func:`write_table` wrote.

    Raises:
        StoreError: If it cannot be read, is no table, or is not what was written.

    Example:
        >>> read_table("nowhere.zip")
        Traceback (most recent call last):
        ...
        bitgap.errors.StoreError: cannot read the table 'nowhere.zip' (No such file or directory)
    """
    name = os.fspath(path)
    try:
        content, arrays = read_arrays(path, "table.json")
    except OSError as error:
        raise StoreError(f"cannot read the table {name!r} ({error.strerror or error})") from None
    except ValueError:
        raise _no_table(name) from None
    if not is_object(content) or content.get("format") != FORMAT or "facts" not in content:
        raise _no_table(name)
    if content.get("version") != VERSION:
        raise StoreError(
            f"{name!r} is a table of version {content.get('version')!r}, this bitgap reads "
            f"{VERSION}; make it again"
        )
    facts = from_json(TableFacts, content["facts"])
    try:
        table = DamageTable(facts=facts, **arrays)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the table {name!r} does not fit: {error}; make it again") from None
    if table.digest != content.get("digest"):
        raise StoreError(f"the table {name!r} is not what was written; make it again")
    return table


def _no_table(name: str) -> StoreError:
    return StoreError(f"{name!r} is no damage table; name a file that `bitgap protect` wrote")


def on_sentences(table: DamageTable, sentences: Integers) -> DamageTable:
    """Returns the table of some of its sentences.

    Args:
        table: With sentences.
        sentences: Their numbers; one that is there twice counts twice.

    Raises:
        StoreError: If the table has no sentences.

    Example:
        >>> half = on_sentences(TABLE, np.arange(0, 24, 2))
        >>> half.sentence_bits.shape
        (3, 7, 6, 12)
    """
    sentence_bits, characters, _ = _known(table)
    bits, lengths = sentence_bits[..., sentences], characters[sentences]
    return replace(
        table,
        damage_bits=bits.sum(-1) / lengths.sum(),
        sentence_bits=bits,
        characters=lengths,
        documents=None if table.documents is None else table.documents[sentences],
        draws_bits=None,
    )


def draws_of(table: DamageTable, draws: int, seed: int) -> Iterator[Floats]:
    """Yields the damage of resampled text, each (A x U x C).

    Sentences are drawn jointly for all languages, units and choices; documents as wholes.

    Args:
        table: With sentences, or with draws of its own, which are then given in order.
        draws: How many.
        seed: Of the draws.

    Raises:
        StoreError: If the table has neither, or fewer draws of its own than are asked for.

    Example:
        >>> [d.shape for d in draws_of(TABLE, 2, seed=0)]
        [(3, 7, 6), (3, 7, 6)]
    """
    if table.sentence_bits is None and table.draws_bits is not None:
        if len(table.draws_bits) < draws:
            raise StoreError(f"the table holds {len(table.draws_bits)} draws, {draws} are needed")
        yield from table.draws_bits[:draws]
        return
    sentence_bits, characters, units = _known(table)
    for weights in bootstrap_weights(units, draws, seed):
        yield sentence_bits @ weights / (characters @ weights)


def permuted(table: DamageTable, rng: np.random.Generator) -> DamageTable:
    """Returns the table with the labels of languages permuted within every sentence.

    Units, choices and the mean over languages stay what they are, to the bit of rounding; only
    which language was hurt by what is lost. Languages that are left out keep their labels.

    Raises:
        StoreError: If the table has no sentences.

    Example:
        >>> placebo = permuted(TABLE, np.random.default_rng(0))
        >>> bool(np.allclose(placebo.damage_bits.mean(0), TABLE.damage_bits.mean(0)))
        True
    """
    sentence_bits, characters, _ = _known(table)
    rows = [table.facts.languages.index(one) for one in table.counted]
    bits = sentence_bits.copy()
    for n in range(bits.shape[-1]):
        bits[rows, :, :, n] = sentence_bits[rng.permutation(rows), :, :, n]
    return replace(
        table,
        damage_bits=bits.sum(-1) / characters.sum(),
        sentence_bits=bits,
        draws_bits=None,
    )


def _known(table: DamageTable) -> tuple[Floats, Integers, Units]:
    units = table.sampled
    if table.sentence_bits is None or table.characters is None or units is None:
        raise StoreError(
            f"a table by {table.facts.instrument} holds no sentences, which are needed to resample "
            f"it; make it by an instrument that keeps them"
        )
    return table.sentence_bits, table.characters, units
