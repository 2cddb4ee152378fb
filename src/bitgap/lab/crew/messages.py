"""What is said between a command and its workers, and who carries it.

A command sends :class:`Request` once to every worker that takes part, then units of it one at a
time; a worker sends back :class:`Ran` while it works and :class:`Done` or :class:`Failed` when it
has ended. Weights are never sent: a request names the model, and each worker reads its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from bitgap.lab.engine.floor import Part
from bitgap.lab.engine.scoring import Layout
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.quant.plan import Plan
from bitgap.records import Arithmetic, Floats


@dataclass(frozen=True, slots=True)
class ModelSource:
    """How a model is found again by another process.

    Attributes:
        model: Folder, hub id or GGUF file; None for the bundled model.
        allow_pickle: Whether pickled weights may be read.
        trust_remote_code: Whether code that comes with the model may be run.
        random_seed: Of the untrained twin that is meant; the model itself where None.
    """

    model: str | None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    random_seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Plans to score, and all that their scores hang on.

    Attributes:
        number: Of the request, counted by the command.
        source: The model.
        fingerprint: What the model is; a worker that reads another one refuses.
        text_key: Of model and text in the store.
        rows: Token ids of every sequence, in the order of a flat (A x N) array.
        first: Place of the first token that is scored.
        arithmetic: Of products.
        rounds: Whether products round where the command runs.
        layout: How the work is cut; the same for all, whatever memory a worker's machine has.
        plans: In the order of their tree.
        tops: Whether leaves tell where the most likely next token changed.
        sampled: Places of the sequences that full precision is evaluated on twice; empty where the
            floor is known.
    """

    number: int
    source: ModelSource
    fingerprint: str
    text_key: str
    rows: tuple[tuple[int, ...], ...]
    first: int
    arithmetic: Arithmetic
    rounds: bool
    layout: Layout
    plans: tuple[Plan, ...]
    tops: bool
    sampled: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a worker does in one go: some plans on some of the text's chunks.

    Attributes:
        number: Place in the order in which units are begun.
        group: Which part of the plans.
        share: Which part of the text.
        span: The plans among which groups are formed, as one process would; first and one past the
            last.
        wanted: The plans to score, by their numbers.
        chunks: Numbers of the chunks.
        watches: Whether it is to tell what full precision says of these chunks.
        again: Whether it is to evaluate the sample a second time.
        folder: Where states of a streamed walk lie, so that whoever repeats it goes on; None for
            nowhere that lasts.
        seconds: It is thought to take so long.
    """

    number: int
    group: int
    share: int
    span: tuple[int, int]
    wanted: tuple[int, ...]
    chunks: tuple[int, ...]
    watches: bool = False
    again: bool = False
    folder: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Try:
    """A moment of work, by which workers are compared with threads; of the request sent before.

    Attributes:
        number: Of the try.
        rows: Token rows of a step.
        seconds: For blocks, and again for the head.
    """

    number: int
    rows: int
    seconds: float


# -- from a worker --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has come up.

    Attributes:
        where: Host and process, as a message should name it.
        versions: Of what bits hang on, by name.
    """

    where: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Alive:
    """A worker is there, whatever it does."""


@dataclass(frozen=True, slots=True)
class Ran:
    """Work that was done since the last message, in token rows.

    Attributes:
        blocks: Of plans, through a block.
        heads: Of plans, through the head.
        full_blocks: Of full precision, through a block.
        full_heads: Of full precision, through the head.
    """

    blocks: int = 0
    heads: int = 0
    full_blocks: int = 0
    full_heads: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """A unit that is finished.

    Attributes:
        unit: Its number.
        request: Of which request.
        sums: NLL, KL and, where asked for, flips by wanted plan and sequence of its chunks.
        places: Of those sequences in a flat (A x N) array.
        part: What full precision says of the chunks, where that was asked.
        hidden: The second evaluation of the sample, likewise.
        watch: What it took.
        took_s: Seconds from its beginning, loading included.
    """

    unit: int
    request: int
    sums: Floats
    places: tuple[int, ...]
    part: Part | None
    hidden: list[Tensor] | None
    watch: Stopwatch
    took_s: float


@dataclass(frozen=True, slots=True)
class Tried:
    """What a try gave.

    Attributes:
        number: Of the try.
        pace: Token rows a second through a block, and through the head.
    """

    number: int
    pace: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """A unit that cannot be done.

    Attributes:
        error: Why.
        trace: The worker's own traceback.
    """

    error: Exception
    trace: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker that is no more; said by who carries messages.

    Attributes:
        why: In one line.
    """

    why: str


# -- who carries messages -------------------------------------------------------------------------


class Hand(Protocol):
    """A worker, as a command sees it.

    Attributes:
        name: What messages call it.
    """

    name: str

    def send(self, message: Request | Unit | Try) -> None:
        """Sends a message, and does not wait until it has arrived."""

    def end(self) -> None:
        """Ends the worker at once; one that is gone already is no error."""


class Carrier(Protocol):
    """Begins workers and carries what is said."""

    @property
    def places(self) -> int:
        """How many workers there can be now; may grow."""
        ...

    @property
    def lasts(self) -> bool:
        """Whether a folder of the command's is there for whoever repeats a unit."""
        ...

    def hire(self) -> Hand:
        """Begins another worker, and does not wait for it."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[Hand, Any]]:
        """Returns messages that came, each with its worker; none where none came in time."""
        ...

    def close(self) -> None:
        """Ends all workers at once."""
