"""Workers without processes: they run where the test does, and end when they are told to."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab_samples import Letters, load_tiny, write_corpus

from bitgap.corpora.parallel import ParallelCorpus
from bitgap.errors import StoreError
from bitgap.lab.crew import worker as worker_module
from bitgap.lab.crew.crew import Crew
from bitgap.lab.crew.messages import Gone, ModelSource, Request, Try, Unit
from bitgap.lab.crew.worker import Worker, facts
from bitgap.lab.engine.scoring import Engine, Layout
from bitgap.lab.engine.text import make_chunks
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store
from bitgap.models.load import LoadedModel


@dataclass(eq=False)
class Here:
    """A worker that runs when somebody waits for it."""

    name: str
    todo: list[bytes] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        self.worker = Worker(lambda m: self.said.append(pickle.loads(pickle.dumps(m))), alone=False)
        self.worker.ready()

    def send(self, message: Request | Unit | Try) -> None:
        self.todo.append(pickle.dumps(message))

    def end(self) -> None:
        self.ended = True


@dataclass
class Around:
    """A carrier of such workers.

    Attributes:
        places: How many there are.
        dies: Whether a worker ends while it is at a unit, given the unit and which try it is.
        taken: How often each unit was begun.
    """

    places: int = 2
    lasts: bool = True
    dies: Callable[[Unit, int], bool] = lambda unit, n: False
    taken: Counter[int] = field(default_factory=Counter)
    hired: list[Here] = field(default_factory=list)

    def hire(self) -> Here:
        self.hired.append(Here(f"worker {len(self.hired) + 1}"))
        return self.hired[-1]

    def wait(self, timeout_s: float) -> list[tuple[Here, Any]]:
        found: list[tuple[Here, Any]] = []
        for hand in self.hired:
            if hand.ended:
                continue
            while hand.todo:
                message = pickle.loads(hand.todo.pop(0))
                if isinstance(message, Unit):
                    self.taken[message.number] += 1
                    if self.dies(message, self.taken[message.number]):
                        hand.said.append(Gone("the process was ended by SIGKILL"))
                        break
                hand.worker.take(message)
            found += [(hand, message) for message in hand.said]
            hand.said.clear()
        return found

    def close(self) -> None:
        for hand in self.hired:
            hand.end()


def crew_of(around: Around) -> Crew:
    said: list[str] = []
    made = Crew(around, facts(), said.append)
    made.said = said  # type: ignore[attr-defined]
    return made


def make_lab(
    layout: Layout | None = None,
    crew: Crew | None = None,
    *,
    corpus: ParallelCorpus | None = None,
    store: Store | None = None,
    loaded: LoadedModel | None = None,
) -> Lab:
    """A lab of the tiny model whose work is cut as a layout says, with workers if there are any."""
    made = Lab.of(loaded or load_tiny(), corpus or write_corpus(8), store=store)
    made.source, made.crew = ModelSource("tiny"), crew
    if layout is not None:
        chunks = make_chunks(made.text, layout.chunk_rows)
        n = made.text.counts.tokens.size
        made.engine = Engine(made.decoder, made.bank, chunks, n, "exact", layout)
    return made


def rows_of(store: Store) -> list[tuple[Any, ...]]:
    """All that a store keeps of texts, scores and observations, in the order it was put there."""
    tables = ("texts", "scores", "observations")
    return [
        (table, *row)
        for table in tables
        for row in store._db.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid")
    ]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is shared however little it is, in small units; workers load the tiny model."""
    from bitgap.lab.crew import crew as crew_module
    from bitgap.lab.crew import cut

    monkeypatch.setattr(Crew, "pays", lambda self, seconds: True)
    monkeypatch.setattr(crew_module, "_UNIT_S", (1e-6, 1e-6))
    monkeypatch.setattr(cut, "_MOST_REPEATED", 1.0)
    monkeypatch.setattr(worker_module, "read_model", lambda name, **trust: load_tiny())


__all__ = ["Around", "Here", "Letters", "crew_of", "eager", "make_lab", "rows_of"]


def n_scores(path: Path) -> int:
    """How many plans a store holds that another process writes."""
    if not path.is_file():
        return 0
    try:
        with Store(path, read_only=True) as store:
            return len(store._rows("SELECT 1 FROM scores"))
    except StoreError:  # it is being made
        return 0
