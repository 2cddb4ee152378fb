from typing import Any

from numpy.typing import ArrayLike, NDArray

def randomized_svd(
    M: ArrayLike, n_components: int, *, random_state: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
