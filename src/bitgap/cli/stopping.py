"""How a command is stopped: Ctrl-C, SIGTERM as from a scheduler, a closed terminal, a time limit.

Until something is worth winding up, a stop ends the process where it is: nothing is half done, and
an exception raised while libraries are imported would come out as a traceback of theirs. From then
on it is raised, so that what is finished is committed and files half written are taken away. What
does not end by itself within :data:`GRACE_S`, as a solver in C, is ended all the same; the store is
written in transactions, so that no more is lost than by a kill.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

GRACE_S = 0.75
"""What winding up may take after a signal; what is promised is a second."""
GRACE_OF_LIMIT_S = 30.0
"""What it may take where the time is up and nobody waits at the keyboard."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is unknown to some systems
# What wakes the main thread when the time is up: nobody else sends it.
_OF_LIMIT = getattr(signal, "SIGALRM", signal.SIGINT)


class Stop(KeyboardInterrupt):
    """The command is to end now, whatever it does."""

    exit_code = 130
    how = "stopped"


class TimeIsUp(Stop):
    """It has run for as long as it may."""

    exit_code = 124  # as timeout(1) has it
    how = "the time limit is up"


def _stop_of(number: int) -> Stop:
    stop = Stop()
    stop.exit_code = 128 + number  # as shells tell of a process that a signal ended
    if number != signal.SIGINT:
        stop.how = f"stopped by {signal.Signals(number).name}"
    return stop


class Watch:
    """Watches over one command in the main thread; a context manager.

    Elsewhere, as where somebody calls :func:`bitgap.cli.main.main` in a thread, it does nothing, as
    signals are the main thread's.
    """

    def __init__(self, why: Callable[[Stop], str], *, alone: bool = False) -> None:
        """Begins nothing yet.

        Args:
            why: Returns what to tell of a stop; asked in another thread where the command does not
                end by itself.
            alone: Whether the process is there for the command alone and may be ended. Where it is
                somebody's, such as a notebook's, a stop is raised and no more.
        """
        self._why = why
        self._alone = alone
        self._asked: Stop | None = None
        self._winds_up = False
        self._limit_s: float | None = None
        self._over = threading.Event()
        self._before: dict[int, Any] = {}
        self._hooks: tuple[Any, Any] | None = None
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        self._old_wakeup = -1
        self._thread: threading.Thread | None = None

    @property
    def asked(self) -> Stop | None:
        """The stop that was asked for, or None."""
        return self._asked

    def __enter__(self) -> Watch:
        if threading.current_thread() is not threading.main_thread():
            return self
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._wakeup = ours, theirs
        self._old_wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            # Who starts it with nohup, or in a shell's background, has asked for it to be ignored.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._caught)
        self._thread = threading.Thread(target=self._watch, name="bitgap-stopping", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._wakeup is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        self._over.set()
        self._poke()
        if self._thread is not None:
            self._thread.join()
        for end in self._wakeup:
            end.close()
        if self._hooks is not None:
            sys.unraisablehook, threading.excepthook = self._hooks

    def limit(self, seconds: float | None) -> None:
        """Ends the command after so many seconds from now; of None, never."""
        if seconds is None or self._wakeup is None:
            return
        if _OF_LIMIT not in self._before:
            self._before[_OF_LIMIT] = signal.signal(_OF_LIMIT, self._caught)
        self._limit_s = time.monotonic() + seconds
        self._poke()

    def winds_up(self) -> None:
        """Notes that from here on a stop is raised and not only ends the process."""
        self._winds_up = True

    def ends(self) -> None:
        """Notes that the command is over but for its last words, which nothing may interrupt."""
        self._winds_up = False

    def _poke(self) -> None:
        if self._wakeup is not None:
            self._wakeup[1].send(b"\0")

    def _caught(self, number: int, _: FrameType | None) -> None:
        of_limit = number == _OF_LIMIT and isinstance(self._asked, TimeIsUp)
        again = self._asked is not None and not of_limit
        stop = self._asked = self._asked or _stop_of(number)
        # Somebody is impatient, or there is nothing to wind up.
        if self._alone and (again or not self._winds_up):
            self._end(stop)
        # A stop that is raised in a destructor or a callback cannot be passed on; Python would show
        # it as a traceback, and the watching thread ends what it did not.
        self._hooks = self._hooks or (sys.unraisablehook, threading.excepthook)
        sys.unraisablehook = threading.excepthook = lambda _: None
        raise stop

    def _watch(self) -> None:
        assert self._wakeup is not None
        ours = self._wakeup[0]
        while not self._over.is_set():
            left_s = None if self._limit_s is None else max(0.0, self._limit_s - time.monotonic())
            number = self._signal(ours, left_s)
            if self._over.is_set():
                break
            if number:
                self._give(GRACE_S, ours, _stop_of(number))
            elif self._limit_s is not None and time.monotonic() >= self._limit_s:
                self._limit_s, self._asked = None, TimeIsUp()
                _wake_main_thread()
                self._give(GRACE_OF_LIMIT_S, ours, self._asked)

    def _signal(self, ours: socket.socket, wait_s: float | None) -> int:
        """Waits for what a signal leaves in the socket; returns the number of one of ours, or 0."""
        if not select.select([ours], [], [], wait_s)[0]:
            return 0
        return next((n for n in ours.recv(64) if n in self._before and n != _OF_LIMIT), 0)

    def _give(self, grace_s: float, ours: socket.socket, stop: Stop) -> None:
        """Gives the command so long to end by itself, less if it is asked again, and ends it."""
        until = time.monotonic() + grace_s
        while not self._over.wait(0.02) and time.monotonic() < until:
            if grace_s > GRACE_S and self._signal(ours, 0):
                until = min(until, time.monotonic() + GRACE_S)
        if self._alone and not self._over.is_set():
            self._end(stop)

    def _end(self, stop: Stop) -> NoReturn:
        """Ends the process at once, and says why."""
        leave(self._why(stop), stop.exit_code)


def _wake_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        # To that thread itself, as only then a call that it waits in returns.
        signal.pthread_kill(threading.main_thread().ident or 0, _OF_LIMIT)
    else:
        signal.raise_signal(_OF_LIMIT)


def leave(message: str, code: int) -> NoReturn:
    """Ends the process without another line of Python; what is told goes straight to stderr."""
    with suppress(OSError):
        # A bar that is drawn hides the cursor.
        shown = "\x1b[?25h\n" if os.isatty(2) else ""
        os.write(2, f"{shown}{message}\n".encode(errors="replace"))
    os._exit(code)
