"""One reader and many inputs: counted, timed, and held to little memory."""

from __future__ import annotations

import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bitgap.errors import BitgapError
from validation.fuzz.harms import damaged, harms, relatives

LONGEST_S = 2.0
WAITS_S = 60.0
"""By the clock, after which what uses no processor is a hang, however busy the machine is."""
SPARE_BYTES = 64 << 20
RELATIVES = 15
"""Inputs that are made of each one of hypothesis'; see :func:`validation.fuzz.harms.relatives`."""
# Inputs that hypothesis makes of one seed: few enough that time that is up is noticed.
_A_TURN = 100
_SOON_S = 0.001
# Where files are written that live for a moment: in memory, if the system has such a place.
_MEMORY = Path("/dev/shm")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader and what it is given."""

    name: str
    file: str
    """What the input is called, as readers go by names; ``x.conllu``, or ``corpus/he.txt``."""
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    """Given the file's place; or the text, where it is called ``text``."""
    beside: Callable[[Path], None] = lambda folder: None
    """Writes what stands beside the file."""
    head: int = 1 << 12
    sound: bool = True
    """Whether it reads its seeds; not one that is made to fail."""


@dataclass(slots=True)
class Outcome:
    """What became of one reader's inputs."""

    target: str
    seed: int
    """The first; the next ones up to ``last`` follow."""
    last: int = 0
    tried: int = 0
    refused: int = 0
    took_s: float = 0.0
    """By the clock."""
    longest_s: float = 0.0
    """Of processors, for one input."""
    grew_bytes: int = 0
    """The most that the process held for one input beyond what it held before."""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    """By where it was raised: what, with the input in hex up to 200 bytes."""


class Slow(Exception):
    """It took longer than it may."""


@contextmanager
def _bounded(n_bytes: int) -> Iterator[None]:
    """Lets the process grow by little, and stops what takes long."""

    def late(*_: object) -> None:
        raise Slow

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = held + int(1.5 * n_bytes) + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    old = signal.signal(signal.SIGPROF, late), signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    # Added to a limit that a test runner may have set for the whole.
    outer_s, _ = signal.setitimer(signal.ITIMER_REAL, WAITS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        left_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, old[0])
        signal.signal(signal.SIGALRM, old[1])
        if outer_s:
            signal.setitimer(signal.ITIMER_REAL, max(outer_s - (WAITS_S - left_s), _SOON_S))
        resource.setrlimit(resource.RLIMIT_AS, before)


def _peak_bytes() -> int:
    """Returns the most memory that was held since it was last asked; 0 where no system tells."""
    try:
        peak = int(_STATUS.read_text().partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024
        _RESET.write_text("5")
    except (OSError, IndexError):
        return 0
    return peak


def _held_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def fuzz(
    target: Target, *, seconds: float, most: int, first: int = 0, n_relatives: int = RELATIVES
) -> Outcome:
    """Gives a reader damaged inputs for some time.

    Args:
        target: The reader.
        seconds: Of this machine's clock, about.
        most: Inputs at most.
        first: Hypothesis' seed; the next ones follow where time is left.
        n_relatives: Inputs made of each of hypothesis'.

    Returns:
        What became of them. A place that fails is told once, by the first input that was found.
    """
    found = Outcome(target.name, first)
    began = time.monotonic()
    until = began + seconds
    turn = first
    while time.monotonic() < until and found.tried < most:
        _turn(target, found, turn, most, n_relatives, until)
        found.last = turn
        turn += 1
    found.took_s = time.monotonic() - began
    return found


def _turn(
    target: Target, found: Outcome, number: int, most: int, n_relatives: int, until: float
) -> None:
    where = _MEMORY if _MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="bitgap-fuzz-", dir=where) as place,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        folder = Path(place)
        path = folder / target.file
        path.parent.mkdir(parents=True, exist_ok=True)
        target.beside(folder)
        if target.sound and number == found.seed:
            _warm(target, path)
        draw = random.Random(number)

        @seed(number)
        @settings(
            max_examples=min(_A_TURN, most - found.tried),
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        )
        @given(st.sampled_from(list(target.seeds)), harms)
        def one(good: bytes, todo: list[Any]) -> None:
            for its in (todo, *relatives(todo, draw, n_relatives)):
                if time.monotonic() < until and found.tried < most:
                    _try(target, found, path, damaged(good, its, target.head))

        one()


def _warm(target: Target, path: Path) -> None:
    """Reads what is good, so that what a library loads or starts once is not the first input's.

    Threads that cannot be started for want of memory end the process in some of them.
    """
    for good in target.seeds:
        with suppress(BitgapError):
            target.read(_given(target, path, good))


def _given(target: Target, path: Path, data: bytes) -> Any:
    """Returns what a reader is given: the text, or the place of a file that holds it."""
    if target.file == "text":
        return data.decode(errors="surrogateescape")
    path.unlink(missing_ok=True)  # a new file, as an old one may still be mapped
    path.write_bytes(data)
    return path


def _try(target: Target, found: Outcome, path: Path, data: bytes) -> None:
    asked = _given(target, path, data)
    found.tried += 1
    _peak_bytes()
    held, began, stopped = _held_bytes(), time.process_time(), False
    try:
        with _bounded(len(data)):
            target.read(asked)
    except BitgapError as error:
        found.refused += 1
        if "\n" in str(error) or not str(error) or "llocate" in str(error):
            found.faults.setdefault(f"message {str(error)[:60]!r}", data[:200].hex())
    except Exception as error:
        stopped = isinstance(error, Slow)
        where = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
        found.faults.setdefault(f"{key} ({str(error)[:80]})", data[:200].hex())
    took_s = time.process_time() - began
    if took_s > LONGEST_S and not stopped:  # in a library that notices no signal
        found.faults.setdefault(f"took more than {LONGEST_S:.0f} s of CPU", data[:200].hex())
    found.longest_s = max(found.longest_s, took_s)
    found.grew_bytes = max(found.grew_bytes, _peak_bytes() - held)
