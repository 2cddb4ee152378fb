"""Fingerprints of weights that were read before, by what the system says of their files.

A fingerprint is of numbers, so all of a checkpoint must be read for it, which of a large one takes
longer than the first answers to a user's question. Where somebody keeps notes, the fingerprint is
noted under what the system tells of every file of the folder without reading it: which file it is,
its size, and when its contents and its entry were last changed. A file that was written to since,
put back from elsewhere or replaced is read again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import transformers

_VERSION = 1
"""Of what a fingerprint is made of."""
_SETTLED_S = 2.0
"""How long ago files must have changed: clocks of file systems tick, some every two seconds, and a
file written to twice within a tick looks as it did after the first time."""


class Notes(Protocol):
    """Who keeps what was learned, such as :class:`bitgap.lab.store.Store`."""

    def learned(self, key: str) -> dict[str, Any] | None:
        """Returns what was last learned under a key, or None."""
        ...

    def learn(self, key: str, value: Mapping[str, Any]) -> None:
        """Keeps something under a key."""
        ...


def known_fingerprint(
    folder: Path, find: Callable[[], str], notes: Notes | None, *, about: str = ""
) -> str:
    """Returns the fingerprint of a folder's weights, found anew only where they may have changed.

    Args:
        folder: Of the model.
        find: Reads the weights for it. What it raises is noted nowhere.
        notes: Where it may be noted; it is found anew when None.
        about: What else it hangs on, such as which class read the folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from bitgap.lab.store import Store
        >>> with TemporaryDirectory() as made:
        ...     file = Path(made, "model.safetensors")
        ...     _ = file.write_bytes(b"weights")
        ...     os.utime(file, (1, 1))
        ...     known_fingerprint(Path(made), lambda: "0" * 8, Store(":memory:"))
        '00000000'
    """
    state = None if notes is None else _state(folder)
    if notes is None or state is None:
        return find()
    key = _key(state, about)
    held = notes.learned(key)
    if held is not None and isinstance(held.get("fingerprint"), str):
        return held["fingerprint"]
    began = time.time()
    found = find()
    newest_s = max(times[-1] for times in state.values()) / 1e9
    if _state(folder) == state and newest_s < began - _SETTLED_S:
        notes.learn(key, {"fingerprint": found})
    return found


def _state(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Returns what the system says of each file of a folder; None where it says nothing."""
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
        told = [file.stat() for file in files]  # of the file itself, where it is a link
    except OSError:
        return None
    state = {
        file.name: (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, max(s.st_ctime_ns, s.st_mtime_ns))
        for file, s in zip(files, told, strict=True)
    }
    return state or None


def _key(state: Mapping[str, tuple[int, ...]], about: str) -> str:
    parts = [_VERSION, transformers.__version__, about, sorted(state.items())]
    return f"fingerprint {hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"
