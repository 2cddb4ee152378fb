"""What the command line writes: results to stdout, messages and a progress bar to stderr.

A message that cannot be written never stops a measurement; a result that cannot is an error. Rich
is imported when something is first drawn, as it would be a third of the time to start up.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WIDTH = 80


def show(what: Any) -> None:
    """Prints a result to stdout, at most 80 columns wide, in colour only on a terminal.

    Raises:
        BrokenPipeError: If nobody reads it.
        OSError: If it cannot be written.
    """
    write("\n".join(line.rstrip() for line in _rendered(what).splitlines()))


def _rendered(what: Any, width: int | None = None, stderr: bool = False) -> str:
    from rich.console import Console

    # Aside, since rich ends the program itself where a pipe is closed.
    screen, text = Console(stderr=stderr), io.StringIO()
    width = width or min(screen.width, _WIDTH)
    Console(file=text, highlight=False, width=width, force_terminal=screen.is_terminal).print(what)
    return text.getvalue()


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
        with contextlib.suppress(OSError, ValueError):
            print(("\n" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Prints a line to stderr, in grey on a terminal."""
    if sys.stderr is not None:
        from rich.text import Text

        with contextlib.suppress(OSError, ValueError):
            line = _rendered(Text(text, style="dim", end=""), len(text) + 1, stderr=True)
            print(line.strip("\n"), file=sys.stderr, flush=True)


class Bar:
    """A progress bar on stderr with the time left; silent when stderr is no terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total_s: float) -> None:
        """Shows the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        screen = Console(stderr=True)
        if sys.stderr is None or not screen.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=screen,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(label, total=max(total_s, 1e-9))

    def advance(self, seconds: float) -> None:
        """Moves it by predicted seconds."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, seconds)

    def stop(self) -> None:
        """Takes it away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
