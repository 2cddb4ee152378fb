from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

# Tiny models and small texts stand beside the tests of models and lab.
TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), str(TESTS / "lab"), str(TESTS / "models")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are no faster on several threads, and many times slower on a busy machine."""
    with threadpool_limits(1):
        yield
