"""What the command line writes: results to stdout, messages and a progress bar to stderr.

A message that cannot be written never stops a measurement; a result that cannot is an error. Rich
is imported when something is first drawn, as it would be a third of the time to start up.
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bitgap.errors import plain_text
from bitgap.show.words import duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WIDTH = 80
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys instead of showing it, but for line ends."""
# Where no terminal is: how long a phase may be silent at first, and between two lines.
_QUIET_S, _EVERY_S = 10.0, 30.0


def show(what: Any) -> None:
    """Prints a result to stdout, at most 80 columns wide, in colour only on a terminal.

    Raises:
        BrokenPipeError: If nobody reads it.
        OSError: If it cannot be written.
    """
    write("\n".join(line.rstrip() for line in _rendered(what).splitlines()))


def _rendered(what: Any, width: int | None = None, stderr: bool = False) -> str:
    from rich.console import Console
    from rich.segment import Segment

    class Harmless(Console):
        """Escapes what of the data a terminal would obey; names are of those who made files."""

        def render(self, *given: Any, **named: Any) -> Iterator[Segment]:
            for one in super().render(*given, **named):
                safe = one.control or not _CONTROLS.search(one.text)
                yield one if safe else Segment(_CONTROLS.sub(_escaped, one.text), one.style)

    # Aside, since rich ends the program itself where a pipe is closed.
    screen, text = Console(stderr=stderr), io.StringIO()
    width = width or min(screen.width, _WIDTH)
    Harmless(file=text, highlight=False, width=width, force_terminal=screen.is_terminal).print(what)
    return text.getvalue()


def _escaped(match: re.Match[str]) -> str:
    return plain_text(match[0])


def write(text: str) -> None:
    """Writes text and a line end to stdout, and sees to it that they have arrived.

    Characters that the terminal's encoding lacks become question marks.

    Raises:
        BrokenPipeError: If nobody reads it.
        OSError: If it cannot be written.
    """
    out = sys.stdout
    if out is None:  # closed by the caller, as by ``>&-``
        raise BrokenPipeError(errno.EPIPE, "standard output is closed")
    encoding = out.encoding or "utf-8"
    try:
        out.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def is_ascii_only() -> bool:
    """Returns whether stdout cannot take every character."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return not encoding.lower().startswith("utf")


def tell(text: str) -> None:
    """Prints why a command failed to stderr, on a line of its own."""
    if sys.stderr is not None:
        text = _CONTROLS.sub(_escaped, text)
        with contextlib.suppress(OSError, ValueError):
            print(("\n" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Prints a line to stderr, in grey on a terminal."""
    if sys.stderr is not None:
        from rich.text import Text

        text = plain_text(text)
        with contextlib.suppress(OSError, ValueError):
            line = _rendered(Text(text, style="dim", end=""), len(text) + 1, stderr=True)
            print(line.strip("\n"), file=sys.stderr, flush=True)


class Bar:
    """How far a command is, on stderr.

    On a terminal a bar with the time left, which follows what the work takes, or a spinner where
    that is not known. Elsewhere nothing for ten seconds, then a line every half minute, so that a
    log tells that a long job is alive and quick ones leave none.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._label, self._total_s, self._done_s = "", 0.0, 0.0
        self._began = self._said = time.monotonic()

    def start(self, label: str, total_s: float) -> None:
        """Begins a phase of about so many predicted seconds; 0 where nobody can say."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.stop()
        self._label, self._total_s, self._done_s = label, total_s, 0.0
        self._began = time.monotonic()
        screen = Console(stderr=True)
        if sys.stderr is None or not screen.is_terminal:
            if self._began - self._said >= _QUIET_S:
                self._tell()
            return
        known = (
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            *(known if total_s > 0 else (SpinnerColumn(), TimeElapsedColumn())),
            console=screen,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            plain_text(label), total=total_s if total_s > 0 else None
        )

    def advance(self, seconds: float) -> None:
        """Moves it by predicted seconds."""
        self._done_s += seconds
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, seconds)
            return
        quiet_s = _QUIET_S if self._said < self._began else _EVERY_S
        if time.monotonic() - max(self._said, self._began) >= quiet_s:
            self._tell()

    def stop(self) -> None:
        """Takes it away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _tell(self) -> None:
        self._said = time.monotonic()
        if self._total_s <= 0 or not self._done_s:
            say(f"{self._label} ...")
            return
        share = min(1.0, self._done_s / self._total_s)
        # What is left at the pace so far, not at the one that was predicted.
        left_s = (self._said - self._began) * (1 - share) / share
        say(f"{self._label}: {share:.0%}, {duration(left_s)} left")
