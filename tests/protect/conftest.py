from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are no faster on several threads, and many times slower on a busy machine."""
    with threadpool_limits(1):
        yield
