"""One reader and many inputs: counted, timed, and held to little memory."""

from __future__ import annotations

import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bitgap.errors import BitgapError
from validation.fuzz.harms import damaged, harms

LONGEST_S = 2.0
SPARE_BYTES = 64 << 20
# Inputs of one seed: few enough that time that is up is noticed, as hypothesis makes them all.
_A_TURN = 100


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


@dataclass(slots=True)
class Outcome:
    """What became of one reader's inputs."""

    target: str
    seed: int
    tried: int = 0
    refused: int = 0
    longest_s: float = 0.0
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
    old = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
        resource.setrlimit(resource.RLIMIT_AS, before)


def fuzz(target: Target, *, seconds: float, most: int, first: int = 0) -> Outcome:
    """Gives a reader damaged inputs for some time.

    Args:
        target: The reader.
        seconds: Of this machine's clock, about.
        most: Inputs at most.
        first: Hypothesis' seed; the next ones follow where time is left.

    Returns:
        What became of them. A place that fails is told once, by the smallest input that was found.
    """
    found = Outcome(target.name, first)
    until = time.monotonic() + seconds
    turn = first
    while time.monotonic() < until and found.tried < most:
        _turn(target, found, turn, min(_A_TURN, most - found.tried), until)
        turn += 1
    return found


def _turn(target: Target, found: Outcome, number: int, most: int, until: float) -> None:
    with tempfile.TemporaryDirectory(prefix="bitgap-fuzz-") as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        path = folder / target.file
        path.parent.mkdir(parents=True, exist_ok=True)
        target.beside(folder)

        @seed(number)
        @settings(
            max_examples=most,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        )
        @given(st.sampled_from(list(target.seeds)), harms)
        def one(good: bytes, todo: list[Any]) -> None:
            if time.monotonic() < until:
                _try(target, found, path, damaged(good, todo, target.head))

        one()


def _try(target: Target, found: Outcome, path: Path, data: bytes) -> None:
    if target.file != "text":
        path.unlink(missing_ok=True)  # a new file, as an old one may still be mapped
        path.write_bytes(data)
    asked: Any = data.decode(errors="surrogateescape") if target.file == "text" else path
    found.tried += 1
    began = time.process_time()
    try:
        with _bounded(len(data)):
            target.read(asked)
    except BitgapError as error:
        found.refused += 1
        if "\n" in str(error) or not str(error) or "llocate" in str(error):
            found.faults.setdefault(f"message {str(error)[:60]!r}", data[:200].hex())
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
        found.faults.setdefault(f"{key} ({str(error)[:80]})", data[:200].hex())
    found.longest_s = max(found.longest_s, time.process_time() - began)
