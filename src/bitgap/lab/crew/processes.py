"""Workers that are processes of this machine."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any

from bitgap.formats.process import why_it_ended
from bitgap.lab.crew.messages import Gone, Hand, Request, Try, Unit
from bitgap.lab.crew.wire import packed, unpacked

_END_S = 5.0
"""How long a process that was killed may take to be gone."""
_TAIL_BYTES = 4096


class Processes:
    """So many workers on this machine; a :class:`bitgap.lab.crew.messages.Carrier`."""

    lasts = True

    def __init__(self, n: int, threads: int = 1) -> None:
        """Begins none yet.

        Args:
            n: Workers.
            threads: Of each.
        """
        self.places, self._threads = n, threads
        self._inbox: queue.Queue[tuple[Hand, Any]] = queue.Queue()
        self._all: list[Process] = []
        self._hired = 0

    def hire(self) -> Process:
        """Begins another worker, and does not wait for it."""
        self._hired += 1
        made = Process(f"worker {self._hired}", self._threads, self._inbox)
        self._all = [one for one in self._all if one.is_there] + [made]
        return made

    def wait(self, timeout_s: float) -> list[tuple[Hand, Any]]:
        """Returns messages that came; none where none came in time."""
        found: list[tuple[Hand, Any]] = []
        with suppress(queue.Empty):
            found.append(self._inbox.get(timeout=timeout_s))
            while True:
                found.append(self._inbox.get_nowait())
        return found

    def close(self) -> None:
        """Ends all workers at once."""
        for one in self._all:
            one.end()
        for one in self._all:
            one.wait()
        self._all.clear()


class Process:
    """One worker, its socket, and the threads that read and write there.

    They are threads so that a process that hangs in the middle of a message holds up nobody.
    """

    def __init__(self, name: str, threads: int, inbox: queue.Queue[tuple[Hand, Any]]) -> None:
        """Begins it.

        Args:
            name: What messages call it.
            threads: Of its products.
            inbox: Where its messages go.
        """
        self.name = name
        self._inbox = inbox
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._said = tempfile.TemporaryFile()
        few = {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._line, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "bitgap.lab.crew.process",
                    str(theirs.fileno()),
                    str(threads),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env=os.environ | few | {"TOKENIZERS_PARALLELISM": "false"},
                # What is typed at the keyboard is the command's; it ends its workers itself.
                start_new_session=True,
            )
        for task in (self._read, self._write):
            threading.Thread(target=task, name=f"bitgap-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def is_there(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def send(self, message: Request | Unit | Try) -> None:
        """Sends a message, and does not wait until it has arrived."""
        self._outbox.put(packed(message))

    def end(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._outbox.put(None)

    def wait(self) -> None:
        """Waits a little until it is gone, so that what it took counts as the command's."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)

    def _read(self) -> None:
        while True:
            try:
                message = unpacked(self._line.recv_bytes())
            except (EOFError, OSError):
                break
            self._inbox.put((self, message))
        self._inbox.put((self, Gone(self._why())))

    def _write(self) -> None:
        with suppress(OSError):  # who reads tells that it is gone
            while (data := self._outbox.get()) is not None:
                self._line.send_bytes(data)

    def _why(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "it closed its socket"
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _TAIL_BYTES))
        said = self._said.read().decode(errors="replace")
        self._said.close()
        return why_it_ended(code, said) if said.strip() or code < 0 else f"it exited with {code}"
