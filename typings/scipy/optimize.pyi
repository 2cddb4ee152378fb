from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, NDArray

class OptimizeResult:
    x: NDArray[Any]
    cost: float
    success: bool

def brentq(f: Callable[[float], Any], a: float, b: float) -> float: ...
def least_squares(
    fun: Callable[[NDArray[Any]], NDArray[Any]],
    x0: ArrayLike,
    *,
    bounds: tuple[ArrayLike, ArrayLike],
    xtol: float,
    ftol: float,
) -> OptimizeResult: ...
