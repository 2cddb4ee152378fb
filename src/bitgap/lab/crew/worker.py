"""What a worker does: it reads the model itself, and scores units of what it is asked.

Wherever it runs, a worker is this: :meth:`Worker.take` is given messages one after another, and
what it has to say goes to whoever made it.
"""

from __future__ import annotations

import platform
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.lab.bench import split
from bitgap.lab.crew.messages import (
    Done,
    Failed,
    ModelSource,
    Ran,
    Ready,
    Request,
    Tried,
    Try,
    Unit,
)
from bitgap.lab.crew.wire import packed, unpacked
from bitgap.lab.engine.arithmetic import fast_products_round
from bitgap.lab.engine.budget import tune_heap_for
from bitgap.lab.engine.floor import Part, cut_again
from bitgap.lab.engine.head import Target
from bitgap.lab.engine.rates import pace
from bitgap.lab.engine.scoring import Engine, Leaf
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.lab.engine.stream import score_streaming
from bitgap.lab.engine.text import Chunk, cut_rows
from bitgap.lab.reading import read_model
from bitgap.lab.settings import Settings
from bitgap.models.decoder import Decoder
from bitgap.models.load import LoadedModel
from bitgap.models.twins import loaded_with, random_twin
from bitgap.quant.bank import Bank
from bitgap.version import __version__

_TELL_EVERY_S = 0.2
_MOST_MODELS = 2
"""Models held at a time: one, and a twin of it."""


def facts() -> dict[str, str]:
    """Returns what bits hang on beside the request, by name: versions and the processor's kind."""
    return {
        "bitgap": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def where() -> str:
    """Returns host and process."""
    return f"{socket.gethostname()} process {getpid()}"


class Worker:
    """Holds models and texts between units."""

    def __init__(self, tell: Callable[[Any], None], *, threads: int = 1, alone: bool = True):
        """Holds nothing yet.

        Args:
            tell: Takes messages.
            threads: Of products.
            alone: Whether the process is there for this alone, and its memory may be tuned.
        """
        self._tell, self._alone = tell, alone
        if alone:
            torch.set_num_threads(threads)
        self._models: dict[ModelSource, LoadedModel] = {}
        self._split: tuple[Any, Decoder, Bank] | None = None
        self._request: Request | None = None
        self._chunks: tuple[Chunk, ...] = ()
        self._engines: dict[tuple[int, ...], Engine] = {}
        self._told_s = 0.0
        self._ran = [0, 0, 0, 0]

    def ready(self) -> None:
        """Says that it has come up."""
        self._tell(Ready(where(), facts()))

    def take(self, message: Request | Unit | Try) -> None:
        """Does what a message asks; what goes wrong is told."""
        if isinstance(message, Request):
            self._take_request(message)
            return
        try:
            self._tell(self._tried(message) if isinstance(message, Try) else self._done(message))
        except Exception as error:  # told, whatever it is, and raised where the command runs
            self._tell(Failed(_as_sent(error), traceback.format_exc()))

    # -- what is asked --------------------------------------------------------------------------

    def _take_request(self, request: Request) -> None:
        before = self._request
        if before is None or _text(before) != _text(request):
            self._engines.clear()
            self._chunks = ()
        self._request = request

    def _done(self, unit: Unit) -> Done:
        began, request = time.perf_counter(), self._request
        assert request is not None, "a unit of no request"
        engine = self._engine(request, unit.chunks)
        engine.watch, engine.tops = Stopwatch(), request.tops
        again = self._again(request) if unit.watches or unit.again else []
        part = Part(len(request.rows), again) if unit.watches else None
        watch = _Watch(self, part, again if unit.again and request.layout.streams else [])
        leaves: list[Leaf] = []
        asked: dict[str, Any] = {"tick": self._ticked, "watch": watch}
        wanted = [request.plans[i] for i in unit.wanted]
        if not unit.chunks:
            pass
        elif request.layout.streams:
            folder = Path(unit.folder) if unit.folder else None
            key = f"{request.text_key} {unit.chunks}"
            score_streaming(engine, wanted, leaves.extend, **asked, folder=folder, key=key)
        else:
            whole = request.plans[slice(*unit.span)] if wanted else ()
            here = frozenset(wanted)
            engine.score(whole, leaves.extend, known=lambda plan: plan not in here, **asked)
        if unit.again and not request.layout.streams:
            watch.hidden = engine.full_precision(again, watch)
        text = self._text(request)
        places = [int(place) for i in unit.chunks for place in text[i].where]
        self._told_s = 0.0
        self._send_ran()
        return Done(
            unit=unit.number,
            request=request.number,
            sums=_sums(wanted, leaves, places, engine.n_sums),
            places=tuple(places),
            part=part,
            hidden=watch.hidden,
            watch=engine.watch,
            took_s=time.perf_counter() - began,
        )

    def _tried(self, asked: Try) -> Tried:
        request = self._request
        assert request is not None, "a try of no request"
        engine = self._made(request, self._text(request))
        return Tried(asked.number, pace(engine, asked.rows, asked.seconds))

    # -- what is held ---------------------------------------------------------------------------

    def _engine(self, request: Request, chunks: tuple[int, ...]) -> Engine:
        """Returns the engine of some chunks, with what it keeps of full precision."""
        engine = self._engines.get(chunks)
        if engine is None:
            text = self._text(request)
            if sum(chunk.n_rows for chunk in text) > request.layout.segment_rows:
                self._engines.clear()  # what is kept of one share is as much as memory may hold
            engine = self._made(request, [text[i] for i in chunks])
            self._engines[chunks] = engine
        return engine

    def _text(self, request: Request) -> tuple[Chunk, ...]:
        if not self._chunks:
            layout = request.layout
            self._chunks = cut_rows(request.rows, layout.chunk_rows, first=request.first)
        return self._chunks

    def _made(self, request: Request, chunks: Sequence[Chunk]) -> Engine:
        decoder, bank = self._parts(request)
        n = len(request.rows)
        return Engine(decoder, bank, chunks, n, request.arithmetic, request.layout)

    def _again(self, request: Request) -> list[Chunk]:
        return cut_again(self._made(request, self._text(request)), request.sampled)

    def _parts(self, request: Request) -> tuple[Decoder, Bank]:
        """Returns the model, split, and the bank of its variants."""
        about = request.source, request.arithmetic
        if self._split is None or self._split[0] != about:
            self._split = None
            if request.rounds != (request.arithmetic == "fast" and fast_products_round()):
                raise ModelError(
                    f"the processor of {where()} rounds products otherwise than the one that the "
                    "command runs on, where --arithmetic is fast; give --arithmetic exact"
                )
            loaded = self._loaded(request)
            decoder, bank = split(loaded, Settings(arithmetic=request.arithmetic))
            if self._alone:
                tune_heap_for(decoder, request.layout)
            self._split = about, decoder, bank
        _, decoder, bank = self._split
        bank.limit_bytes = request.layout.bank_bytes
        bank.holds_cast = not request.layout.streams
        return decoder, bank

    def _loaded(self, request: Request) -> LoadedModel:
        source = request.source
        loaded = self._models.get(source)
        if loaded is None:
            while len(self._models) >= _MOST_MODELS:
                del self._models[next(iter(self._models))]
            loaded = self._models[source] = self._read(source)
        if loaded.info.fingerprint != request.fingerprint:
            self._models.clear()
            raise ModelError(
                f"{where()} reads another model as {source.model or 'the bundled model'!r}: its "
                f"fingerprint is {loaded.info.fingerprint[:12]}, and {request.fingerprint[:12]} "
                "where the command runs; give a folder that holds the same files for all, or "
                "org/name@revision"
            )
        return loaded

    def _read(self, source: ModelSource) -> LoadedModel:
        if source.random_seed is not None:
            plain = replace(source, random_seed=None)
            if plain not in self._models:
                self._models[plain] = self._read(plain)
            base = self._models[plain]
            return loaded_with(base, random_twin(base.model, source.random_seed), "random")
        return read_model(
            source.model,
            allow_pickle=source.allow_pickle,
            trust_remote_code=source.trust_remote_code,
        )

    # -- what is told ---------------------------------------------------------------------------

    def _ticked(self, blocks: int, heads: int) -> None:
        self.ran(blocks=blocks, heads=heads)

    def ran(
        self, blocks: int = 0, heads: int = 0, full_blocks: int = 0, full_heads: int = 0
    ) -> None:
        """Notes work, in token rows, and tells of it now and then; called from any thread."""
        for i, rows in enumerate((blocks, heads, full_blocks, full_heads)):
            self._ran[i] += rows
        if time.monotonic() - self._told_s > _TELL_EVERY_S:
            self._send_ran()

    def _send_ran(self) -> None:
        told, self._ran = self._ran, [0, 0, 0, 0]
        self._told_s = time.monotonic()
        if any(told):
            self._tell(Ran(*told))


class _Watch:
    """Sees full precision of a unit's chunks; a :class:`bitgap.lab.engine.scoring.Watch`."""

    def __init__(self, worker: Worker, part: Part | None, again: list[Chunk]) -> None:
        self._worker, self._part, self.again = worker, part, again
        self.hidden: list[Tensor] | None = None

    def second(self, hidden: list[Tensor]) -> None:
        if self.again:
            self.hidden = hidden

    def ran(self, block_rows: int, head_rows: int) -> None:
        self._worker.ran(full_blocks=block_rows, full_heads=head_rows)

    def see(self, chunk: Chunk, target: Target) -> None:
        if self._part is not None:
            self._part.see(chunk, target)


def _text(request: Request) -> tuple[Any, ...]:
    """Returns what an engine, its chunks and its targets hang on."""
    return request.source, request.text_key, request.arithmetic, request.layout


def _sums(wanted: Sequence[Any], leaves: Sequence[Leaf], places: Sequence[int], n_sums: int) -> Any:
    """Returns what leaves tell of some sequences, (sums x wanted x places)."""
    found = {leaf.plan: leaf for leaf in leaves}
    sums = np.zeros((n_sums, len(wanted), len(places)))
    for k, plan in enumerate(wanted):
        leaf = found[plan]
        of_leaf = (leaf.nll_nats, leaf.kl_nats, leaf.flips)
        for row, values in zip(sums, of_leaf, strict=False):
            assert values is not None, "nobody counted flips"
            row[k] = values[places]
    return sums


def _as_sent(error: Exception) -> Exception:
    """Returns an error that can be sent: itself, or a plain one where a library's cannot."""
    try:
        unpacked(packed(error))
    except Exception:  # whatever a library's own class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
