"""An export loaded back by its toolchain, in a process of its own and in any environment.

A script of :mod:`bitgap.formats.loaders` is run by :mod:`bitgap.formats.process`, and its answer
read from a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.formats.loaders.answers import sums
from bitgap.formats.process import SCRIPTS, environment, missing_packages, why_it_ended
from bitgap.formats.target import Target

_SCRIPTS = {
    "transformers": "transformers_folder.py",
    "gptqmodel": "gptqmodel_folder.py",
    "gguf": "gguf_file.py",
    "mlx": "mlx_folder.py",
    "onnxruntime": "onnxruntime_folder.py",
    "openvino": "openvino_folder.py",
}
_ALWAYS = {"transformers": ("torch", "transformers"), "gguf": ("torch", "transformers")}
"""Packages that a script imports, beside those that a target needs."""
_LONGEST_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One sentence, and the file of the logits that it should have."""

    language: str
    ids: tuple[int, ...]
    logits: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a toolchain said of an export.

    Attributes:
        missing: Packages that were not there, so that nothing was loaded.
        failure: Why it could not be loaded or run; empty if it could.
        matrices: What it holds for each matrix.
        texts: For each text how far its logits were off, as sums.
        versions: What was installed.
        own: Why our own reader ran it in the toolchain's place; empty where the toolchain did.
        lacked: Packages of the toolchain's own library, which another read it in the place of.
    """

    missing: tuple[str, ...] = ()
    failure: str = ""
    matrices: Mapping[str, str] = field(default_factory=dict[str, str])
    texts: tuple[Mapping[str, float], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    own: str = ""
    lacked: tuple[str, ...] = ()


def load_back(
    target: Target,
    folder: Path,
    matrices: Sequence[str],
    texts: Sequence[Text],
    *,
    python: str | None = None,
    threads: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> Loaded:
    """Loads an export in a fresh process and compares its logits.

    Args:
        target: Whose loader is used.
        folder: The export.
        matrices: Parameters to describe.
        texts: What to run.
        python: Of the environment that has the toolchain; this one's when None.
        threads: Of that process.
        settings: Further arguments of ``from_pretrained``.

    Raises:
        UsageError: If there is no such Python.
    """
    asked = python or sys.executable
    missing = dict[str, tuple[str, ...]]()
    for reader in target.readers():
        packages = ("numpy", *_ALWAYS.get(reader.loader, ()), *reader.needs)
        missing[reader.loader] = missing_packages(asked, packages)
        if not missing[reader.loader]:
            break
    else:
        # The last is the one that installs beside most.
        return Loaded(missing=[*missing.values()][-1])
    lacked = next(iter(missing.values()))
    with tempfile.TemporaryDirectory(prefix="bitgap-") as place:
        request, out = Path(place) / "request.json", Path(place) / "answer.json"
        content = {
            "folder": os.fspath(folder.resolve()),
            "matrices": list(matrices),
            "texts": [{"ids": list(t.ids), "logits": os.fspath(t.logits)} for t in texts],
            "out": os.fspath(out),
            "threads": threads,
            "settings": {**(settings or {}), **reader.settings},
        }
        request.write_text(json.dumps(content), encoding="utf-8")
        script = SCRIPTS / _SCRIPTS[reader.loader]
        try:
            done = _run([asked, "-I", os.fspath(script), os.fspath(request)], place, threads)
        except subprocess.TimeoutExpired:
            return Loaded(failure=f"it took longer than {_LONGEST_S:.0f} s")
        if done.returncode or not out.is_file():
            return Loaded(failure=why_it_ended(done.returncode, done.stderr))
        answer = json.loads(out.read_text(encoding="utf-8"))
    return Loaded(
        matrices=answer["matrices"],
        texts=tuple(answer["texts"]),
        versions=answer["versions"],
        lacked=lacked,
    )


def sums_of(logits: NDArray[np.float32], text: Text) -> dict[str, float]:
    """Returns how far logits are from those of a text, as the loaders' scripts do.

    Args:
        logits: (tokens x vocabulary).
        text: Whose they are.
    """
    return sums(logits, {"logits": text.logits})


def _run(command: list[str], place: str, threads: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place,
        env=environment(threads),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LONGEST_S,
    )
