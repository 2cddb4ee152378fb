"""Logits of a file from the toolchain that runs it, sentence by sentence.

Weights are half of the story where a runtime rounds activations too. So the same token ids are
given to the toolchain itself, in a process of its own: what it sends is read from a pipe one
sentence at a time, and a crash, a hang or a missing package becomes a message.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bitgap.errors import ModelError, UsageError
from bitgap.formats.checkpoint import graphs_in
from bitgap.formats.process import SCRIPTS, environment, missing_packages, why_it_ended

_STARTING_S = 300.0
_LOADING_S = 1800.0
_SENTENCE_S = 600.0
_LONGEST_LINE = 1 << 16


class RuntimeFailure(ModelError):
    """A runtime that is not there, refused the file, crashed or hung; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A toolchain that runs files."""

    name: str
    script: str
    needs: tuple[str, ...]
    """Modules that its Python must have."""
    extra: str
    """What installs them."""
    files: tuple[str, ...]
    """Endings of what it runs; an empty one stands for a folder of safetensors."""

    def why_not(self, file: Path) -> str:
        """Returns why it cannot run a file; empty where it may.

        Args:
            file: As a user named it.
        """
        ending = file.suffix.lower() if file.is_file() else ""
        if not ending and file.is_dir() and "" not in self.files:
            inside = [e for e in self.files if len(graphs_in(file, e)) == 1]
            ending = inside[0] if inside else ""
        if ending in self.files:
            return ""
        runs = " or ".join(end or "folders of safetensors" for end in self.files)
        return f"{self.name} runs {runs}, and {file.name} is none"


RUNTIMES: Mapping[str, Runtime] = {
    one.name: one
    for one in (
        Runtime(name="transformers", script="run_transformers.py",
                needs=("torch", "transformers"), extra="'bitgap[runtime-transformers]'",
                files=("", ".gguf")),
        Runtime(name="llama.cpp", script="run_llama_cpp.py", needs=("llama_cpp", "numpy"),
                extra="'bitgap[llama-cpp]'", files=(".gguf",)),
        Runtime(name="onnxruntime", script="run_onnxruntime.py", needs=("onnxruntime", "numpy"),
                extra="'bitgap[onnxruntime]'", files=(".onnx",)),
        Runtime(name="openvino", script="run_openvino.py", needs=("openvino", "numpy"),
                extra="'bitgap[openvino]'", files=(".xml",)),
    )
}  # fmt: skip
"""Every runtime by its name."""


def find_runtime(name: str) -> Runtime:
    """Returns a runtime by name.

    Raises:
        UsageError: If there is none.
    """
    if name not in RUNTIMES:
        raise UsageError(f"{name!r} is no runtime; give {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def check_installed(runtime: Runtime, python: str | None = None) -> None:
    """Refuses a runtime that is not there.

    Args:
        runtime: Which.
        python: Of the environment that should have it; this one's when None.

    Raises:
        RuntimeFailure: If it is not; the message says how to get it.
        UsageError: If there is no such Python.
    """
    if missing := missing_packages(python or sys.executable, runtime.needs):
        raise RuntimeFailure(
            f"{runtime.name} is not installed ({', '.join(missing)} not found): pip install "
            f"{runtime.extra}, or name with --runtime-python the Python of an environment that "
            f"has it"
        )


@dataclass(frozen=True, slots=True)
class Running:
    """A runtime with its file in hand.

    Attributes:
        versions: Of its environment.
    """

    versions: Mapping[str, str]
    _process: subprocess.Popen[bytes]
    _said: Path
    _name: str

    def loaded(self) -> None:
        """Waits until the file is loaded.

        Raises:
            RuntimeFailure: If it cannot be.
        """
        self._frame(_LOADING_S, "loading the file")

    def next(self) -> tuple[int, NDArray[np.float32]] | None:
        """Returns the number of the next sentence and its logits (T x V); None after the last.

        Raises:
            RuntimeFailure: If the process ends before that, or takes too long.
        """
        said, logits = self._frame(_SENTENCE_S, "a sentence")
        if said.get("done"):
            return None
        assert logits is not None
        return int(said["sentence"]), logits

    def _frame(
        self, limit_s: float, doing: str
    ) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
        pipe = self._process.stdout
        assert pipe is not None
        hung = threading.Event()

        def end() -> None:
            hung.set()
            self._process.kill()

        watch = threading.Timer(limit_s, end)
        watch.daemon = True
        watch.start()
        try:
            line = pipe.readline(_LONGEST_LINE)
            said = json.loads(line) if line.endswith(b"\n") else {}
            logits = _array(pipe, said["shape"]) if "shape" in said else None
        except ValueError:  # half a frame, or none
            said, logits = {}, None
        finally:
            watch.cancel()
        if hung.is_set():
            raise RuntimeFailure(f"{self._name} took longer than {limit_s:.0f} s over {doing}")
        if not said:
            code = self._process.wait()
            text = self._said.read_text(encoding="utf-8", errors="replace")
            raise RuntimeFailure(f"{self._name} failed over {doing}: {why_it_ended(code, text)}")
        return said, logits


def _array(pipe: IO[bytes], shape: Sequence[int]) -> NDArray[np.float32]:
    rows, columns = (int(n) for n in shape)
    held = bytearray(4 * rows * columns)
    view = memoryview(held)
    at = 0
    while at < len(view):
        read = pipe.readinto(view[at:])  # type: ignore[attr-defined]
        if not read:
            raise ValueError("the pipe ended within an array")
        at += read
    return np.frombuffer(held, dtype="<f4").reshape(rows, columns)


@contextmanager
def running(
    runtime: Runtime,
    file: Path,
    sentences: Sequence[tuple[int, Sequence[int]]],
    first: int,
    *,
    python: str | None = None,
    threads: int = 1,
) -> Generator[Running]:
    """Starts a runtime on a file, and ends it in the end.

    Args:
        runtime: Which.
        file: What it is to run.
        sentences: Number and token ids of each.
        first: Place of the first scored token in each; logits are of what stands before it and on.
        python: Of the environment that has the runtime; this one's when None.
        threads: Of its products.

    Raises:
        RuntimeFailure: If the runtime cannot run such files, is not installed, or does not start.
        UsageError: If there is no such Python.
    """
    if why := runtime.why_not(file):
        raise RuntimeFailure(why)
    asked = python or sys.executable
    check_installed(runtime, python)
    if runtime.files[0] and file.is_dir():
        (file,) = next(found for end in runtime.files if (found := graphs_in(file, end)))
    with tempfile.TemporaryDirectory(prefix="bitgap-") as place:
        request, said = Path(place) / "request.json", Path(place) / "said.txt"
        content = {
            "file": os.fspath(file.resolve()),
            "sentences": [[number, list(ids)] for number, ids in sentences],
            "first": first,
            "threads": threads,
        }
        request.write_text(json.dumps(content), encoding="utf-8")
        with said.open("wb") as errors:
            process = subprocess.Popen(
                [asked, "-I", os.fspath(SCRIPTS / runtime.script), os.fspath(request)],
                cwd=place,
                env=environment(threads),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            begun = Running({}, process, said, runtime.name)
            versions, _ = begun._frame(_STARTING_S, "starting")
            yield Running(versions["versions"], process, said, runtime.name)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()
            process.wait()
