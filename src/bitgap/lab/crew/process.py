"""The main program of a worker: ``python -m bitgap.lab.crew.process SOCKET THREADS``.

It speaks over a socket that it was given, and ends when that is closed, whatever it does then: so
none is left behind by a command that was killed. Libraries are imported when that is watched over.
"""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from bitgap.lab.crew.wire import packed, unpacked

ALIVE_EVERY_S = 5.0


def main() -> None:
    """Does what comes over the socket until that is closed."""
    line = Connection(int(sys.argv[1]))
    inbox: SimpleQueue[Any] = SimpleQueue()
    lock = threading.Lock()

    def tell(message: Any) -> None:
        data = packed(message)
        try:
            with lock:
                line.send_bytes(data)
        except OSError:  # nobody is there any more
            os._exit(0)

    def listen() -> None:
        while True:
            try:
                inbox.put(line.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    from bitgap.lab.crew.messages import Alive
    from bitgap.lab.crew.worker import Worker

    worker = Worker(tell, threads=int(sys.argv[2]))

    def say_alive() -> None:
        over = threading.Event()
        while not over.wait(ALIVE_EVERY_S):
            tell(Alive())

    threading.Thread(target=say_alive, daemon=True).start()
    worker.ready()
    while True:
        worker.take(unpacked(inbox.get()))


if __name__ == "__main__":
    main()
