"""A file's scores as its toolchain runs it: the same token ids, the runtime's own logits.

What full precision says comes from the model in hand, sentence by sentence, and is compared with
what the runtime sends in float64. What is finished is kept, so that a run that was stopped goes on.
"""

from __future__ import annotations

import glob
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bitgap.formats.running import Running, Runtime, RuntimeFailure, running
from bitgap.lab.store import content_key
from bitgap.records import Floats, Integers, Observations

if TYPE_CHECKING:
    from bitgap.lab.bench import Bench

_KEPT_AS = "as run"
"""What scores of runtimes are kept as; no experiment judges them."""
_VERSION = 1
_KEEP_EVERY_S = 10.0
_ROWS = 64
"""Tokens whose logits are compared at a time: in float64 a vocabulary takes megabytes a token."""
_READ_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScores:
    """What a runtime made of each sentence, (A x N) each."""

    versions: Mapping[str, str]
    nll_nats: Floats
    kl_nats: Floats
    flipped: Integers


def run_scores(
    bench: Bench,
    file: Path,
    runtime: Runtime,
    *,
    python: str | None = None,
    threads: int | None = None,
) -> RunScores:
    """Returns what a runtime makes of a bench's text with a file.

    Args:
        bench: The full-precision model, text and store.
        file: What the runtime runs.
        runtime: Which.
        python: Of the environment that has it; this one's when None.
        threads: Of its products; as many as this process uses when None.

    Raises:
        RuntimeFailure: If it cannot; the message says why.
        UsageError: If there is no such Python.
    """
    text = bench.text
    shape = text.counts.tokens.shape
    asked = list(enumerate(ids for language in text.ids for ids in language))
    how: dict[str, Any] = {"python": python, "threads": threads or torch.get_num_threads()}
    work = _Work(bench, runtime.name, _empty(shape))
    with running(runtime, file, _in_order(asked), text.prefix.first, **how) as begun:
        work.about(begun.versions, file_digest(file))
        if not work.take_up():
            work.take(begun)
    todo = [(i, ids) for i, ids in asked if np.isnan(work.found["kl_nats"].flat[i])]
    if todo:  # of a run that was stopped
        with running(runtime, file, _in_order(todo), text.prefix.first, **how) as begun:
            work.take(begun)
    found = work.found
    return RunScores(
        versions=begun.versions,
        nll_nats=found["nll_nats"],
        kl_nats=found["kl_nats"],
        flipped=np.rint(found["flipped"]).astype(np.int64),
    )


class _Work:
    """What is known of each sentence so far, and where it is kept."""

    def __init__(self, bench: Bench, name: str, found: dict[str, Floats]) -> None:
        self._bench, self._name, self.found = bench, name, found
        self._flat = [ids for language in bench.text.ids for ids in language]
        self._facts: dict[str, object] = {}
        self._key = ""

    def about(self, versions: Mapping[str, str], digest: str) -> None:
        """Says what runs which file."""
        self._facts = {"runtime": self._name, "versions": dict(versions), "file": digest}
        self._key = content_key(_KEPT_AS, _VERSION, self._facts, self._bench.text_key)

    def take_up(self) -> bool:
        """Takes what was kept before, and returns whether there was anything."""
        kept = self._bench.store.get_observations(self._key)
        if kept is not None:
            self.found = {name: np.array(values) for name, values in kept.arrays.items()}
        return kept is not None

    def take(self, begun: Running) -> None:
        """Takes every sentence that a runtime sends, and keeps what is there whatever happens."""
        progress = self._bench.progress
        begun.loaded()
        missing = int(np.isnan(self.found["kl_nats"]).sum())
        progress.start(f"running it with {self._name}", float(missing))
        last = time.monotonic()
        try:
            while (sent := begun.next()) is not None:
                number, logits = sent
                first = self._bench.text.prefix.first
                values = _compared(self._bench, self._flat[number], first, logits, self._name)
                for name, value in values.items():
                    self.found[name].flat[number] = value
                progress.advance(1.0)
                if time.monotonic() - last > _KEEP_EVERY_S:
                    self._keep()
                    last = time.monotonic()
        finally:
            progress.stop()
            self._keep()

    def _keep(self) -> None:
        if np.isfinite(self.found["kl_nats"]).any():
            kept = Observations(
                experiment=_KEPT_AS, version=_VERSION, arrays=dict(self.found), facts=self._facts
            )
            self._bench.store.put_observations(self._key, kept)


def _in_order(
    asked: list[tuple[int, tuple[int, ...]]],
) -> list[tuple[int, tuple[int, ...]]]:
    """Returns the longest sentence first, so that memory that does not suffice is told at once."""
    return sorted(asked, key=lambda one: -len(one[1]))


def _empty(shape: tuple[int, ...]) -> dict[str, Floats]:
    return {name: np.full(shape, np.nan) for name in ("nll_nats", "kl_nats", "flipped")}


def _compared(
    bench: Bench, ids: tuple[int, ...], first: int, logits: NDArray[np.float32], name: str
) -> dict[str, float]:
    """Returns NLL, KL and the number of flips of a sentence under a runtime's logits."""
    with torch.no_grad():
        tokens = torch.tensor([list(ids)], device=bench.settings.device)
        whole = bench.decoder.logits(tokens)[0, first - 1 : len(ids) - 1].cpu()
    theirs = torch.from_numpy(logits)
    if theirs.shape != whole.shape:
        raise RuntimeFailure(
            f"{name} gives {theirs.shape[1]:,} logits for {theirs.shape[0]} tokens where the model "
            f"has {whole.shape[1]:,} for {whole.shape[0]}; the file is of another model"
        )
    if not theirs.isfinite().all():
        raise RuntimeFailure(f"{name} gives logits that are not finite on a sentence of the text")
    nll = kl = flips = 0.0
    targets = torch.tensor(ids[first:])
    for rows in _slabs(len(targets)):
        p = whole[rows].double().log_softmax(-1)
        q = theirs[rows].double().log_softmax(-1)
        kl += float((p.exp() * (p - q)).sum())
        nll -= float(q.gather(1, targets[rows, None]).sum())
        top = whole[rows].argmax(-1, keepdim=True)
        flips += float((theirs[rows].amax(-1) > theirs[rows].gather(1, top)[:, 0]).sum())
    return {"nll_nats": nll, "kl_nats": kl, "flipped": flips}


def _slabs(n: int) -> Iterator[slice]:
    return (slice(at, at + _ROWS) for at in range(0, n, _ROWS))


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of what a runtime reads: a folder's files, or a file and, where it is no
    GGUF, those beside it that share its name.

    Args:
        path: A file or folder.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    elif path.suffix == ".gguf":
        files = [path]
    else:
        beside = path.parent.glob(f"{glob.escape(path.stem)}[._]*")
        files = sorted(file for file in beside if file.is_file())
    for file in files:
        digest.update(os.fsencode(file.relative_to(path if path.is_dir() else path.parent)))
        with file.open("rb") as content:
            while part := content.read(_READ_BYTES):
                digest.update(part)
    return digest.hexdigest()
