"""Files written whole or not at all, and records with arrays as one file, the same bytes each time.

Such a file is a zip of one JSON entry and a ``NAME.npy`` for each array, as numpy writes it, never
pickled; entries carry no time, so that the bytes tell of the content alone.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

# What only some commands need is imported where it is needed, as every command writes text.
if TYPE_CHECKING:
    from zipfile import ZipFile

_DATE = (1980, 1, 1, 0, 0, 0)
# Of text in such a file: evidence of a whole investigation has some megabytes.
_MOST_JSON_BYTES = 1 << 28


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, whole or not at all, and never half over an older one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, and never half over an older one.

    Raises:
        OSError: If it cannot be written; it names the file that was asked for.
    """
    # Two commands may leave the same page at once.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        # A full disk is told without the name of the file that filled it.
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:  # as when somebody interrupts
        part.unlink(missing_ok=True)
        raise


def write_arrays(
    path: Path, entry: str, content: Mapping[str, Any], arrays: Mapping[str, Any], level: int
) -> None:
    """Writes a record with arrays as one file, whole or not at all.

    Args:
        path: Where to.
        entry: Name of the JSON entry, such as ``table.json``.
        content: What stands in it.
        arrays: By name.
        level: Of compression, 1 to 9.

    Raises:
        OSError: If it cannot be written.
    """
    import zipfile

    import numpy as np

    entries = {entry: json.dumps(content, sort_keys=True, allow_nan=False).encode()}
    for name, values in sorted(arrays.items()):
        held = io.BytesIO()
        # Equal values are equal bytes, however they lay in memory.
        np.save(held, np.asarray(values, order="C"), allow_pickle=False)
        entries[f"{name}.npy"] = held.getvalue()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, level)
    write_bytes(path, whole.getvalue())


def read_arrays(path: str | os.PathLike[str], entry: str) -> tuple[Any, dict[str, Any]]:
    """Returns the JSON entry and the arrays of a file that :func:`write_arrays` wrote.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file.
    """
    from zipfile import ZipFile

    with _damage_told():
        with ZipFile(path) as archive:
            if archive.getinfo(entry).file_size > _MOST_JSON_BYTES:
                raise ValueError(
                    f"{entry} says that it is {archive.getinfo(entry).file_size} bytes"
                )
            content = json.loads(archive.read(entry))
            return content, _arrays_in(archive, beside=entry)


def unpack_arrays(file: IO[bytes]) -> dict[str, Any]:
    """Returns the arrays of an ``.npz``, never pickled, by name.

    Raises:
        ValueError: If it is none.
    """
    from zipfile import ZipFile

    with _damage_told(), ZipFile(file) as archive:
        return _arrays_in(archive)


@contextmanager
def _damage_told() -> Generator[None]:
    """Raises ValueError for all that zipfile and numpy raise of bytes that are not what was
    written: an entry missing, cut, moved before the file, or said to be encrypted or packed in
    another way. That a file cannot be read stays an OSError.
    """
    import errno
    import struct
    import tokenize
    import zipfile
    import zlib

    plain = (KeyError, EOFError, RuntimeError, OverflowError, MemoryError, TypeError, SyntaxError)
    damaged = (*plain, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
    try:
        yield
    except damaged as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(str(error)) from error


def _arrays_in(archive: ZipFile, beside: str = "") -> dict[str, Any]:
    """Returns the arrays of an archive that holds nothing else but an entry beside them.

    An entry of another name is an array whose name was damaged, and would be missed in silence.
    """
    for name in archive.namelist():
        if not name.endswith(".npy") and name != beside:
            raise ValueError(f"{name!r} is no entry of such a file")
    return {
        name.removesuffix(".npy"): _array(archive.read(name))
        for name in archive.namelist()
        if name.endswith(".npy")
    }


def _array(held: bytes) -> Any:
    """Returns the array of an ``.npy``; numpy itself makes room for what its header only claims."""
    import numpy as np

    file = io.BytesIO(held)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array in version {version} of its format")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays are not read")
    left = len(held) - file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"an array of shape {shape} in {left} bytes")
    values = np.frombuffer(held, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if fortran else "C").copy()
