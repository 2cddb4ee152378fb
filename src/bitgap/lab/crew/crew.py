"""Who hands out units to workers, takes what they found, and gives it on in order.

A worker that is gone is replaced, and what it had in hand is done again by another; a unit that
ends two workers ends the command, and says so. Every wait has a limit: a worker has to come up, to
be heard of, and to finish a step within a time, or it counts as gone.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bitgap.errors import BitgapError, WorkersError
from bitgap.lab.crew.choice import Gain
from bitgap.lab.crew.cut import cut_plans, cut_text
from bitgap.lab.crew.messages import (
    Alive,
    Carrier,
    Done,
    Failed,
    Gone,
    Hand,
    Ran,
    Ready,
    Request,
    Tried,
    Try,
    Unit,
)
from bitgap.lab.engine.floor import Part, Reference
from bitgap.lab.engine.scoring import PLANS_PER_BATCH, Emit, Leaf
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.records import Floats

UP_LIMIT_S = 600.0
"""How long a worker may take to come up: to import its libraries on a busy machine."""
SILENT_LIMIT_S = 120.0
"""How long nothing may be heard of one that is up; it says every few seconds that it is there."""
STEP_LIMIT_S = 3600.0
"""How long one may do without a step done, where the step is not thought to take longer."""
_TIMES_FORESEEN = 20
"""How many times as long as foreseen a unit may do without a step done."""
_TRIES = 2
"""Workers that one unit may end, or that may end before they are up where none is."""
_MOST_FALLEN = 3
"""Times its workers that may end in a row before they are up, where others are."""
_WAIT_S = 0.5
_UP_S = 8.0
"""What a worker takes to come up, until one has."""
_SHARES_EACH = 3
"""Shares of text for each worker where making each block's variants again costs nothing."""
_AHEAD = 2
"""Parts of the plans that a worker may be ahead of the slowest before it takes another's share."""
_UNITS_EACH, _UNIT_S = 16, (5.0, 60.0)
"""Units wanted for each worker, and how long one should take at least and at most."""


@dataclass(slots=True)
class Told:
    """What one worker did, for who wants to know.

    Attributes:
        units: That it finished.
        rows: Token rows that it put through blocks.
        busy_s: Seconds that its units took.
    """

    units: int = 0
    rows: int = 0
    busy_s: float = 0.0


@dataclass(slots=True)
class _At:
    """A worker, and how it stands with it."""

    hand: Hand
    since_s: float
    """When it was begun, or took up its unit or last did a step."""
    heard_s: float
    up: bool = False
    where: str = ""
    request: int = 0
    unit: Unit | None = None
    ran: list[Ran] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.hand.name} ({self.where})" if self.where else self.hand.name


@dataclass(frozen=True, slots=True)
class Work:
    """What a crew is given to do beside the request.

    Attributes:
        known: Whether the scores of each plan exist already.
        rows: Padded token rows of every chunk.
        seconds: It is thought to take one process so long.
        roomy: Whether the variants of all blocks fit the bank, so that each is made once.
        reference: Who keeps what full precision says of the text; None where that is known.
        complete: Called when the reference is, before any leaf is emitted.
        emit: Called with finished leaves, in the order of plans.
        ran: Told of work as it is done, and by how much less where it has to be done again.
        finished: Told of the work of each unit that is finished.
        watch: What units took is added to it.
        folder: Where states of streamed walks lie; None for nowhere that lasts.
    """

    known: Sequence[bool]
    rows: Sequence[int]
    seconds: float
    roomy: bool
    reference: Reference | None
    complete: Callable[[], None]
    emit: Emit
    ran: Callable[[Ran, int], None]
    finished: Callable[[Ran], None]
    watch: Stopwatch
    folder: Path | None


class Crew:
    """Workers that stay from one request to the next; a context manager that ends them."""

    def __init__(
        self,
        carrier: Carrier,
        facts: dict[str, str],
        say: Callable[[str], None],
        *,
        chooses: bool = False,
    ) -> None:
        """Begins no worker yet.

        Args:
            carrier: Begins them and carries what is said.
            facts: What bits hang on where the command runs, as a worker tells it.
            say: Told of what a user should know, such as a worker that was replaced.
            chooses: Whether they take work only where they are faster than as many threads; see
                :mod:`bitgap.lab.crew.choice`.
        """
        self._carrier, self._facts, self._say = carrier, facts, say
        self.chooses = chooses
        self.gains: dict[str, Gain] = {}
        """What processes were measured to gain over threads, by the key under which it is kept."""
        self.gain: Gain | None = None
        """That of the processes that are used now."""
        self._used: int | None = None
        self._said_once: set[str] = set()
        self._tries = 0
        self._all: dict[Hand, _At] = {}
        self._requests = 0
        self._fell = 0
        self._warned = False
        self._up_s: float | None = None
        self.told: dict[str, Told] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers at once; what they had in hand is lost."""
        self._all.clear()
        self._carrier.close()

    @property
    def n(self) -> int:
        """How many workers there can be now, and may be."""
        places = self._carrier.places
        return places if self._used is None else min(places, self._used)

    @property
    def places(self) -> int:
        """How many workers there can be now, whether or not they may be used."""
        return self._carrier.places

    def use(self, n: int) -> None:
        """Has no more than so many workers take part from now on; others that are there end."""
        self._used = n
        for at in list(self._all.values())[n:]:
            at.hand.end()
            del self._all[at.hand]

    def say_once(self, line: str, about: str) -> None:
        """Tells a user something once.

        Args:
            line: What.
            about: What it is about, of which nothing is said again.
        """
        if about not in self._said_once:
            self._said_once.add(about)
            self._say(line)

    def pays(self, seconds: float) -> bool:
        """Returns whether sharing work saves more than it takes until workers are up.

        Args:
            seconds: The work is thought to take one process.
        """
        return seconds * (1 - 1 / max(self.n, 2)) > self.up_s

    @property
    def up_s(self) -> float:
        """Seconds until workers are up; 0 where some are."""
        return 0.0 if any(at.up for at in self._all.values()) else self._up_s or _UP_S

    def lines(self) -> list[str]:
        """Returns what each worker did so far, in one line each."""
        return [
            f"{name}: {told.units} units in {told.busy_s:.0f} s, "
            f"{told.rows / told.busy_s:,.0f} token rows through a block a second"
            for name, told in sorted(self.told.items())
        ]

    def number(self) -> int:
        """Returns the number of the next request."""
        self._requests += 1
        return self._requests

    def score(self, request: Request, work: Work) -> None:
        """Scores the plans of a request that are not known yet, as an engine does.

        Args:
            request: What to score.
            work: What is known of it, and who is told.

        Raises:
            WorkersError: If workers end again and again, or never come up.
            BitgapError: What a worker refused, such as another version of the model.
        """
        units = make_units(request, work, self.n, self._carrier.lasts)
        if not units:
            return
        run = _Run(request, work, units)
        try:
            while not run.is_over:
                self._hire()
                self._hand_out(run)
                for hand, message in self._carrier.wait(_WAIT_S):
                    at = self._all.get(hand)
                    if at is not None:
                        at.heard_s = time.monotonic()
                        self._heard(run, at, message)
                self._look_after(run)
        finally:
            for at in self._all.values():
                if at.unit is not None:  # what is not waited for any more
                    at.hand.end()
            self._all = {hand: at for hand, at in self._all.items() if at.unit is None}

    def paces(
        self, request: Request, rows: int, seconds: float, between: Callable[[], None]
    ) -> list[tuple[float, float]] | None:
        """Returns how fast workers are when all are at work, in token rows a second; begins them.

        Args:
            request: Names the model and how work is cut; its plans are not scored.
            rows: Token rows of a step.
            seconds: For blocks, and again for the head.
            between: Called when all are up and have read the model, and none is at work.

        Returns:
            Rows a second of each through a block and through the head; None where one of them ended
            before it was tried.

        Raises:
            BitgapError: What a worker refused, such as another version of the model.
        """
        self._hire()
        if self._tried(request, rows, 0.0) is None:
            return None
        between()
        return self._tried(None, rows, seconds)

    def _tried(
        self, request: Request | None, rows: int, seconds: float
    ) -> list[tuple[float, float]] | None:
        """Has every worker try, all at the same time once they are up."""
        self._tries += 1
        number, until = self._tries, time.monotonic() + UP_LIMIT_S
        asked: set[Hand] = set()
        found: dict[Hand, tuple[float, float]] = {}
        while len(found) < len(self._all):
            up = [at for at in self._all.values() if at.up and at.hand not in asked]
            # The first try is of loading, and has nobody wait; in the second all begin at once.
            for at in up if request is not None or len(up) == len(self._all) else ():
                if request is not None:
                    at.hand.send(request)
                    at.request = request.number
                at.hand.send(Try(number, rows, seconds))
                asked.add(at.hand)
            for hand, message in self._carrier.wait(_WAIT_S):
                at = self._all.get(hand)
                if at is None:
                    continue
                at.heard_s = time.monotonic()
                if isinstance(message, Gone):
                    self._say(f"worker {at.name} is gone ({message.why}) before it was tried")
                    self.use(0)
                    return None
                if isinstance(message, Tried) and message.number == number:
                    found[hand] = message.pace
                elif isinstance(message, Ready):
                    self._come_up(at, message)
                elif isinstance(message, Failed):
                    self._raise(at, message)
            if time.monotonic() > until:
                self._say(f"workers were not up and tried within {UP_LIMIT_S:.0f} s")
                self.use(0)
                return None
        return list(found.values())

    # -- workers --------------------------------------------------------------------------------

    def _hire(self) -> None:
        while len(self._all) < self.n:
            hand, now = self._carrier.hire(), time.monotonic()
            self._all[hand] = _At(hand, now, now)

    def _hand_out(self, run: _Run) -> None:
        for at in self._all.values():
            if at.up and at.unit is None:
                unit = run.next_for(at.hand)
                if unit is None:
                    continue
                if at.request != run.request.number:
                    at.hand.send(run.request)
                    at.request = run.request.number
                at.unit, at.since_s, at.ran = unit, time.monotonic(), []
                at.hand.send(unit)

    def _heard(self, run: _Run, at: _At, message: object) -> None:
        if isinstance(message, Alive):
            return
        if isinstance(message, Gone):
            self._lose(run, at, message.why)
        elif isinstance(message, Ready):
            self._come_up(at, message)
        elif isinstance(message, Ran):
            at.since_s = time.monotonic()
            at.ran.append(message)
            run.work.ran(message, 1)
        elif isinstance(message, Failed):
            self._raise(at, message)
        elif isinstance(message, Done) and message.request == run.request.number:
            told = self.told.setdefault(at.name, Told())
            told.units += 1
            told.rows += message.watch.block_rows
            told.busy_s += message.took_s
            at.unit = None
            run.take(message, at.ran)

    def _come_up(self, at: _At, message: Ready) -> None:
        self._fell = 0
        now = time.monotonic()
        self._up_s = now - at.since_s
        at.up, at.where, at.since_s = True, message.where, now
        self._compare(at, message.versions)

    def _raise(self, at: _At, message: Failed) -> None:
        name, at.unit = at.name, None
        error = message.error
        if not isinstance(error, BitgapError):
            error.add_note(f"In worker {name}:\n{message.trace}")
        raise error

    def _compare(self, at: _At, versions: dict[str, str]) -> None:
        for name in ("bitgap", "torch", "numpy"):
            if versions.get(name) != self._facts[name]:
                raise WorkersError(
                    f"worker {at.name} has {name} {versions.get(name)}, and the command "
                    f"{self._facts[name]}; scores would not be the same bits; install the same "
                    "versions for all"
                )
        if versions.get("processor") != self._facts["processor"] and not self._warned:
            self._warned = True
            self._say(
                f"worker {at.name} has another kind of processor ({versions.get('processor')}; "
                f"here {self._facts['processor']}): last bits of scores may differ from those of "
                "one machine, below the numerical floor"
            )

    def _look_after(self, run: _Run) -> None:
        now = time.monotonic()
        for at in list(self._all.values()):
            if not at.up:
                if now - at.since_s > UP_LIMIT_S and not any(a.up for a in self._all.values()):
                    raise WorkersError(
                        f"no worker has come up within {UP_LIMIT_S:.0f} s; last waited for "
                        f"{at.hand.name}. What was finished is kept; see whether this machine or "
                        "the cluster has room for them"
                    )
            elif now - at.heard_s > SILENT_LIMIT_S:
                self._lose(run, at, f"nothing was heard of it for {SILENT_LIMIT_S:.0f} s")
            elif at.unit is not None:
                limit_s = max(STEP_LIMIT_S, _TIMES_FORESEEN * at.unit.seconds)
                if now - at.since_s > limit_s:
                    self._lose(run, at, f"it did no step within {limit_s:.0f} s")

    def _lose(self, run: _Run, at: _At, why: str) -> None:
        at.hand.end()
        del self._all[at.hand]
        if at.unit is not None:
            for ran in at.ran:
                run.work.ran(ran, -1)
            run.put_back(at.unit, at.hand)
            if run.tries(at.unit) >= _TRIES:
                raise WorkersError(
                    f"two workers ended while they did the same work, {run.words(at.unit)}: the "
                    f"last was {at.name}, {why}. Where memory ran out, give less --memory (each "
                    "worker may use that much) or fewer workers. What was finished is kept"
                )
            self._say(f"worker {at.name} is gone ({why}); its work is done again")
            return
        if not at.up:
            self._fell += 1
        none_up = not any(other.up for other in self._all.values())
        if (self._fell >= _TRIES and none_up) or self._fell > _MOST_FALLEN * self._carrier.places:
            raise WorkersError(
                f"workers end before they do anything: the last was {at.name}, {why}. What was "
                "finished is kept; run without --workers and --cluster, or mend that"
            )
        self._say(f"worker {at.name} is gone ({why}); another takes its place")


class _Run:
    """One request on its way: what is to do, in hand and done."""

    def __init__(self, request: Request, work: Work, units: Sequence[Unit]) -> None:
        self.request, self.work = request, work
        self._units = {unit.number: unit for unit in units}
        self._todo = list(units)
        self._tries: dict[int, int] = {}
        self._owner: dict[int, Hand] = {}
        self._done: set[int] = set()
        self._groups = sorted({unit.group for unit in units})
        self._sums: dict[int, Floats] = {}
        self._left = {g: sum(u.group == g for u in units) for g in self._groups}
        # What full precision says of a text is kept before any score.
        self._parts: list[Part] = []
        self._waits = {u.number for u in units if u.watches or u.again}

    @property
    def is_over(self) -> bool:
        return len(self._done) == len(self._units)

    def tries(self, unit: Unit) -> int:
        return self._tries.get(unit.number, 0)

    def words(self, unit: Unit) -> str:
        """Returns what a unit is, for a message."""
        plans = f"{len(unit.wanted)} plans" if unit.wanted else "full precision"
        first = f" from {self.request.plans[unit.wanted[0]].text!r}" if unit.wanted else ""
        return f"{plans}{first} on {len(unit.chunks)} of {len(self.work.rows)} batches of text"

    def next_for(self, hand: Hand) -> Unit | None:
        """Returns what a worker is to do next, so that early plans are finished early.

        A worker keeps to its shares of the text, as it has full precision of them in hand, and goes
        a little ahead of the others rather than take a share that is another's.
        """
        if not self._todo:
            return None
        first = min(unit.group for unit in self._todo)
        left = Counter(unit.share for unit in self._todo)

        def worth(unit: Unit) -> tuple[int, int, int, int]:
            owner, ahead = self._owner.get(unit.share), unit.group - first
            if owner is hand and ahead <= _AHEAD:
                return 2 if ahead else 0, ahead, 0, unit.number
            # Of another's shares the one of which most is left.
            return 1 if owner is None else 3, ahead, -left[unit.share], unit.number

        unit = min(self._todo, key=worth)
        self._todo.remove(unit)
        self._owner[unit.share] = hand
        return unit

    def put_back(self, unit: Unit, hand: Hand) -> None:
        """Takes a unit back that a worker did not finish, and the shares that were its own."""
        self._tries[unit.number] = self.tries(unit) + 1
        self._owner = {share: who for share, who in self._owner.items() if who is not hand}
        self._todo.append(unit)

    def take(self, done: Done, ran: Sequence[Ran]) -> None:
        unit = self._units[done.unit]
        self._done.add(unit.number)
        self.work.finished(_total(ran))
        self.work.watch.add(done.watch)
        if unit.wanted:
            n_sums, n_plans, _ = done.sums.shape
            whole = self._sums.get(unit.group)
            if whole is None:
                whole = np.zeros((n_sums, n_plans, len(self.request.rows)))
                self._sums[unit.group] = whole
            whole[:, :, list(done.places)] = done.sums
        reference = self.work.reference
        if reference is not None:
            if done.hidden is not None:
                reference.second(done.hidden)
            if done.part is not None:
                self._parts.append(done.part)
        self._waits.discard(unit.number)
        self._left[unit.group] -= 1
        if self._waits:
            return
        if reference is not None and not reference.is_complete:
            for part in self._parts:
                reference.take(part)
            if reference.is_complete:
                self.work.complete()
        self._give_on()

    def _give_on(self) -> None:
        while self._groups and not self._left[self._groups[0]]:
            group = self._groups.pop(0)
            sums = self._sums.pop(group, None)
            if sums is not None:
                wanted = next(u.wanted for u in self._units.values() if u.group == group)
                rows = zip(wanted, *sums, strict=True)
                self.work.emit([Leaf(self.request.plans[i], *of_plan) for i, *of_plan in rows])


def make_units(request: Request, work: Work, n: int, lasts: bool) -> list[Unit]:
    """Returns the units of a request, in the order in which they are begun.

    Args:
        request: What is scored.
        work: What is known of it.
        n: Workers.
        lasts: Whether folders of the command are there for whoever repeats a unit.
    """
    layout = request.layout
    todo = [i for i, known in enumerate(work.known) if not known]
    if not todo and work.reference is None:
        return []
    each = _SHARES_EACH if work.roomy and not layout.streams else 1
    shares = cut_text(work.rows, n * each)
    units: list[Unit] = []
    groups = list(_groups(request, work, n, len(shares))) if todo else [((0, 0), ())]
    for group, (span, wanted) in enumerate(groups):
        for share, chunks in enumerate(shares):
            part = sum(work.rows[i] for i in chunks) / sum(work.rows)
            folder = work.folder / f"{n}-{share}" if work.folder and lasts else None
            unit = Unit(
                number=len(units),
                group=group,
                share=share,
                span=span,
                wanted=wanted,
                chunks=chunks,
                watches=work.reference is not None and group == 0,
                # Of a streamed walk the sample is one more path.
                again=layout.streams and bool(request.sampled) and group == share == 0,
                folder=str(folder) if folder and layout.streams else None,
                seconds=work.seconds * part * len(wanted) / max(1, len(todo)),
            )
            units.append(unit)
    if request.sampled and work.reference is not None and not layout.streams:
        units.append(Unit(len(units), 0, len(shares), (0, 0), (), (), again=True))
    return units


def _groups(
    request: Request, work: Work, n: int, n_shares: int
) -> Iterator[tuple[tuple[int, int], tuple[int, ...]]]:
    """Yields the plans among which one process would form groups, and those of a unit."""
    n_plans, layout = len(request.plans), request.layout
    if layout.streams:
        spans = [((0, n_plans), [(0, n_plans)])]
    elif sum(work.rows) > layout.segment_rows:
        starts = range(0, n_plans, PLANS_PER_BATCH)
        whole = [(first, min(first + PLANS_PER_BATCH, n_plans)) for first in starts]
        spans = [(span, [span]) for span in whole]
    else:
        least, most = _UNIT_S
        unit_s = min(max(work.seconds / (n * _UNITS_EACH), least), most)
        parts = math.ceil(work.seconds / n_shares / unit_s)
        spans = [((0, n_plans), cut_plans(request.plans, layout.nodes, parts))]
    for span, parts_of_it in spans:
        for lo, hi in parts_of_it:
            wanted = tuple(i for i in range(lo, hi) if not work.known[i])
            if wanted:
                yield span, wanted


def _total(ran: Sequence[Ran]) -> Ran:
    return Ran(
        blocks=sum(one.blocks for one in ran),
        heads=sum(one.heads for one in ran),
        full_blocks=sum(one.full_blocks for one in ran),
        full_heads=sum(one.full_heads for one in ran),
    )
