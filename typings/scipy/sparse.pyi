from collections.abc import Sequence
from typing import Any

class csr_array:
    def __init__(self, entries: Any, *, shape: tuple[int, int] | None = None) -> None: ...

def vstack(blocks: Sequence[csr_array]) -> csr_array: ...
