"""Arrays too large for a row of the store: files in a folder beside it, mapped and checked.

A file is written whole before the store learns of it, so a run that is killed leaves at worst a
folder that the next one writes over.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_READ_BYTES = 1 << 22


class NewFiles:
    """A folder of float32 arrays in the making."""

    def __init__(self, folder: Path) -> None:
        """Empties the folder.

        Args:
            folder: Made where it is not there.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._maps: dict[str, np.memmap[Any, Any]] = {}

    def make(self, name: str, shape: tuple[int, ...]) -> Any:
        """Returns a new array of zeros to be written to, mapped to a file of its own."""
        path = self._folder / f"{name}.npy"
        self._maps[name] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        return self._maps[name]

    def finish(
        self, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Returns the arrays, mapped to read, and what to remember of each file.

        Args:
            shapes: Other shapes in which to read some of them.
        """
        for array in self._maps.values():
            array.flush()
        about = {
            name: {"sha256": _digest(self._folder / f"{name}.npy"),
                   "shape": list(shapes.get(name, array.shape))}
            for name, array in self._maps.items()
        }  # fmt: skip
        self._maps.clear()
        arrays = read_files(self._folder, about, check=False)
        assert arrays is not None
        return arrays, about


def read_files(
    folder: Path, about: Mapping[str, Mapping[str, Any]], *, check: bool = True
) -> dict[str, Any] | None:
    """Returns mapped arrays by name, or None where a file is missing or not as it was.

    Args:
        folder: Where they are.
        about: What :meth:`NewFiles.finish` said of them.
        check: Whether to compare checksums.
    """
    found = {}
    for name, facts in about.items():
        path = folder / f"{name}.npy"
        if not path.is_file() or (check and _digest(path) != facts["sha256"]):
            return None
        found[name] = np.load(path, mmap_mode="r").reshape(facts["shape"])
    return found


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
