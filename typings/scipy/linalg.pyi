from typing import Any

from numpy.typing import ArrayLike, NDArray

def solve(a: ArrayLike, b: ArrayLike, *, assume_a: str | None = None) -> NDArray[Any]: ...
def eigh(
    a: ArrayLike, *, subset_by_index: list[int] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]: ...
