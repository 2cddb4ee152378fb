"""Evidence as files: what a model left, small enough to ship where its weights are not.

One model is one ``NAME.evidence.zip``, the same bytes whoever writes it:

=================  ===============================================================================
entry              what
=================  ===============================================================================
``evidence.json``  ``format`` (:data:`FORMAT`), ``version`` of the evidence, ``facts``: names,
                   languages, findings of every experiment, and what else is no array
``NAME.npy``       one array each, as numpy writes it: float64, int64 or bool, not pickled
=================  ===============================================================================

Arrays are those of :class:`~bitgap.theory.evidence.Evidence`, whose attributes say shapes and
units. No torch is needed to read one, nor to judge a theory by a folder of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bitgap.codec import is_object
from bitgap.errors import NoSuchPath, UserError, one_line
from bitgap.files import read_arrays, write_arrays
from bitgap.records import Observations
from bitgap.theory.evidence import Evidence
from bitgap.theory.packing import VERSION, pack, unpack

FORMAT = "bitgap evidence"
SUFFIX = ".evidence.zip"


def write_evidence(evidence: Evidence, folder: str | os.PathLike[str]) -> Path:
    """Writes one model's evidence, over what was there of it, and returns its file.

    A model that was named by its folder is named by that folder's last part alone.

    Args:
        evidence: Of one model.
        folder: Made where it is not there.

    Raises:
        UserError: If it cannot be written.
    """
    name = evidence.model.rstrip("/").rsplit("/", 1)[-1]
    kept = pack(replace(evidence, model=name))
    content = {"format": FORMAT, "version": kept.version, "facts": kept.facts}
    path = Path(folder) / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-') or 'model'}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, "evidence.json", content, kept.arrays, level=9)
    except OSError as error:
        raise UserError(
            f"cannot write evidence into {os.fspath(folder)!r} ({error.strerror or error}); name a "
            f"folder that can be written"
        ) from error
    return path


def read_evidence(path: str | os.PathLike[str]) -> Evidence:
    """Returns the evidence that a file holds.

    Raises:
        UserError: If it cannot be read, is no evidence, or is of another version.
    """
    name = os.fspath(path)
    try:
        content, arrays = read_arrays(path, "evidence.json")
    except OSError as error:
        kind = NoSuchPath if isinstance(error, FileNotFoundError) else UserError
        raise kind(
            f"cannot read {name!r} ({error.strerror or error}); name a file that `bitgap theory "
            f"--export FOLDER` wrote, or a folder of them"
        ) from None
    except ValueError:
        raise _no_evidence(name) from None
    if not is_object(content) or content.get("format") != FORMAT:
        raise _no_evidence(name)
    if content.get("version") != VERSION:
        raise UserError(
            f"{name!r} holds evidence of version {content.get('version')!r}, this bitgap reads "
            f"{VERSION}, in which numbers mean something else; measure the model again"
        )
    try:
        facts = cast("dict[str, Any]", content["facts"])
        return unpack(
            Observations(experiment="evidence", version=VERSION, arrays=arrays, facts=facts)
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{name!r} lacks what evidence has ({one_line(error)}); restore the file"
        ) from None


def read_all(paths: Sequence[str | os.PathLike[str]]) -> list[Evidence]:
    """Returns the evidence in some files and folders of them, in order, a model once.

    Args:
        paths: Files, or folders that hold ``*.evidence.zip``.

    Raises:
        UserError: If a folder holds none, or a file cannot be used.
    """
    files = list[Path]()
    for path in map(Path, paths):
        inside = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not inside:
            raise UserError(
                f"{os.fspath(path)!r} holds no evidence (*{SUFFIX}); name a folder that `bitgap "
                f"theory --export` wrote"
            )
        files += inside
    return merged([read_evidence(file) for file in files])


def merged(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Returns evidence with every model once, the first of those with the same weights."""
    first = dict[str, Evidence]()
    for one in evidence:
        first.setdefault(one.fingerprint, one)
    return list(first.values())


def _no_evidence(name: str) -> UserError:
    return UserError(f"{name!r} is no evidence; name a file that `bitgap theory --export` wrote")
