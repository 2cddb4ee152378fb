from typing import Any

from numpy.typing import ArrayLike, NDArray

def cdist(xa: ArrayLike, xb: ArrayLike) -> NDArray[Any]: ...
