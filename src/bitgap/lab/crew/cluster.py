"""Workers that are processes of a Ray cluster.

Each is an actor that holds a :class:`bitgap.lab.crew.worker.Worker` in a thread of its own and two
boxes of messages; who runs the command puts messages into one and empties the other by a call that
waits a second for some. So what is said is what processes of one machine are told, and a worker is
heard of every second. Ray ends actors with the command that made them.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from bitgap.errors import UserError, first_line, import_extra
from bitgap.lab.crew.messages import Alive, Gone, Hand, Request, Try, Unit
from bitgap.lab.crew.wire import packed, unpacked

_CONNECT_S = 10.0
"""How long a cluster may take to answer at all."""
_TAKE_S = 1.0
"""How long a call waits for messages."""
_LOOK_EVERY_S = 10.0
"""How often it is looked whether processors have joined the cluster."""
_WHY_CHARACTERS = 400


class Post:
    """What runs in the cluster: a worker in a thread, and its boxes."""

    def __init__(self, threads: int) -> None:
        """Begins the worker.

        Args:
            threads: Of its products.
        """
        self._inbox: SimpleQueue[bytes] = SimpleQueue()
        self._outbox: SimpleQueue[bytes] = SimpleQueue()
        self._early: dict[int, bytes] = {}
        self._next, self._lock = 0, threading.Lock()
        threading.Thread(target=self._work, args=[threads], daemon=True).start()

    def put(self, number: int, data: bytes) -> None:
        """Takes a message.

        Args:
            number: Of the message; calls of an actor with several threads may pass each other.
            data: The message.
        """
        with self._lock:
            self._early[number] = data
            while self._next in self._early:
                self._inbox.put(self._early.pop(self._next))
                self._next += 1

    def take(self) -> list[bytes]:
        """Returns messages, waiting a little for the first."""
        found: list[bytes] = []
        with suppress(Empty):
            found.append(self._outbox.get(timeout=_TAKE_S))
            while True:
                found.append(self._outbox.get_nowait())
        return found

    def _work(self, threads: int) -> None:
        try:
            # Here, so that who calls is answered while libraries are imported.
            from bitgap.lab.crew.worker import Worker

            worker = Worker(lambda m: self._outbox.put(packed(m)), threads=threads)
            worker.ready()
            while True:
                worker.take(unpacked(self._inbox.get()))
        except BaseException as error:
            self._outbox.put(packed(Gone(f"{type(error).__name__}: {first_line(error)}")))
            raise


class Cluster:
    """Workers of a Ray cluster; a :class:`bitgap.lab.crew.messages.Carrier`."""

    lasts = False

    def __init__(self, address: str, workers: int | None = None, threads: int = 1) -> None:
        """Joins the cluster; begins no worker yet.

        Args:
            address: ``auto``, ``host:port``, or ``ray://host:port``.
            workers: How many; as many as the cluster has processors for when None.
            threads: Of each.

        Raises:
            MissingExtra: If ray is not installed.
            UserError: If there is no cluster.
        """
        self._ray = import_extra("ray", "cluster", "--cluster")
        self._workers, self._threads = workers, threads
        self._all: dict[Any, Member] = {}
        self._hired = 0
        self._looked_s, self._places = float("-inf"), 1
        self._joined = not self._ray.is_initialized()
        if self._joined:
            self._join(address)
        how = self._ray.remote(num_cpus=threads, max_concurrency=3, max_restarts=0)
        self._post = how(Post)

    def _join(self, address: str) -> None:
        try:
            _knock(address)  # Ray itself would try for minutes
            with _same_signals():
                self._ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray raises what its parts do
            raise UserError(
                f"--cluster {address}: no Ray cluster answers there ({first_line(error)}); begin "
                "one with `ray start --head`, or give the address that this printed"
            ) from error

    @property
    def places(self) -> int:
        """How many workers there can be: those asked for, or one for each processor."""
        if self._workers is not None:
            return self._workers
        if time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            # It never falls: a worker for whom there is no room any more waits.
            n = int(self._ray.cluster_resources().get("CPU", 0)) // self._threads
            self._places = max(self._places, n)
        return self._places

    def hire(self) -> Member:
        """Begins another worker; where the cluster has no room yet, it waits for some."""
        self._hired += 1
        made = Member(f"cluster worker {self._hired}", self._ray, self._post.remote(self._threads))
        self._all[made.call] = made
        return made

    def wait(self, timeout_s: float) -> list[tuple[Hand, Any]]:
        """Returns messages that came, each with its worker; none where none came in time."""
        self._all = {call: one for call, one in self._all.items() if not one.ended}
        calls = list(self._all)
        if not calls:
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        found: list[tuple[Hand, Any]] = []
        for call in ready:
            member = self._all.pop(call)
            try:
                told = self._ray.get(call, timeout=_TAKE_S)
            except Exception as error:  # of an actor or its node that is no more
                found.append((member, Gone(_why(error))))
                continue
            # An empty answer tells that it is there.
            found += [(member, unpacked(data)) for data in told] or [(member, Alive())]
            member.ask()
            self._all[member.call] = member
        return found

    def close(self) -> None:
        """Ends all workers, and leaves the cluster if it was joined here."""
        for one in self._all.values():
            one.end()
        self._all.clear()
        if self._joined:
            with _same_signals():
                self._ray.shutdown()


class Member:
    """One worker of the cluster."""

    def __init__(self, name: str, ray: Any, post: Any) -> None:
        """Takes an actor that begins.

        Args:
            name: What messages call it.
            ray: The library.
            post: The actor, of :class:`Post`.
        """
        self.name, self.ended = name, False
        self._ray, self._post, self._sent = ray, post, 0
        self.ask()

    def ask(self) -> None:
        """Calls for its next messages."""
        self.call = self._post.take.remote()

    def send(self, message: Request | Unit | Try) -> None:
        """Sends a message, and does not wait until it has arrived."""
        self._post.put.remote(self._sent, packed(message))
        self._sent += 1

    def end(self) -> None:
        """Ends it at once."""
        self.ended = True
        with suppress(Exception):  # it may be gone, and its node too
            self._ray.kill(self._post, no_restart=True)


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nothing listens at an address."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("an address is HOST:PORT")
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


def _why(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ... ".join(dict.fromkeys(lines[:1] + lines[-1:])) or type(error).__name__
    return told[:_WHY_CHARACTERS]


@contextmanager
def _same_signals() -> Iterator[None]:
    """Has the body leave signals as they are: how a command is stopped is the command's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
