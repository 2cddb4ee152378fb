"""What the scripts that run a toolchain share: a request read, logits sent; run by those scripts.

Frames go to what was standard output when the process began: a line of JSON, and after one with a
``shape`` so many float32 numbers, little-endian. Whatever the toolchain prints goes to standard
error, so that nothing but frames is on the pipe.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Logits = Callable[[Sequence[int]], Any]
"""Gives the logits (T x V) of token ids (T)."""


class Pipe:
    """Where frames go."""

    def __init__(self) -> None:
        """Takes standard output for frames alone."""
        self._file = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def send(self, logits: Any = None, **said: Any) -> None:
        """Sends what is said, and an array (T x V) behind it if one is given."""
        array = None if logits is None else np.ascontiguousarray(logits, dtype="<f4")
        if array is not None:
            said["shape"] = list(array.shape)
        self._file.write(json.dumps(said).encode() + b"\n")
        if array is not None:
            self._file.write(array.tobytes())
        self._file.flush()


def answer(packages: Sequence[str], load: Callable[[dict[str, Any]], Logits]) -> None:
    """Answers the request that the first argument names.

    Args:
        packages: Whose versions are told, before anything is loaded.
        load: Gives what runs the file, of the request; raises ``SystemExit`` with why it cannot.
    """
    pipe = Pipe()
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    pipe.send(versions=import_module("answers").versions(packages))
    logits = load(request)
    pipe.send(loaded=True)
    first = int(request["first"])
    for number, ids in request["sentences"]:
        rows = np.asarray(logits(ids))
        # What the last token foretells is not scored, nor what stands before the first.
        pipe.send(rows[first - 1 : len(ids) - 1], sentence=number)
    pipe.send(done=True)
