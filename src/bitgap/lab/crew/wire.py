"""Messages as bytes, between a command and the workers that it began; the one place of pickles.

Reading a pickle may run code. What is read here was written by a process of the same user and the
same command, over a pipe of its own or a cluster's own channels, which carry pickles anyway; never
a file, and nothing that a stranger hands over (``tests/test_security.py`` holds that to this file).
"""

from __future__ import annotations

import pickle
from typing import Any


def packed(message: object) -> bytes:
    """Returns a message as it is sent."""
    return pickle.dumps(message)


def unpacked(data: bytes) -> Any:
    """Returns the message that a worker, or the command, sent."""
    return pickle.loads(data)
