from collections.abc import Callable, Mapping, Sequence
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

class LinearConstraint:
    A: Any
    ub: Any
    def __init__(self, A: Any, lb: ArrayLike = ..., ub: ArrayLike = ...) -> None: ...

class Bounds:
    def __init__(self, lb: ArrayLike = ..., ub: ArrayLike = ...) -> None: ...

class MilpResult:
    x: NDArray[Any] | None
    fun: float
    status: int
    message: str
    mip_dual_bound: float | None
    mip_node_count: int | None

class _Bounded:
    marginals: NDArray[Any]

class LinprogResult:
    x: NDArray[Any] | None
    fun: float
    status: int
    message: str
    lower: _Bounded

def linprog(
    c: ArrayLike,
    *,
    A_ub: Any = None,
    b_ub: ArrayLike | None = None,
    A_eq: Any = None,
    b_eq: ArrayLike | None = None,
    bounds: Any = None,
    method: str = ...,
) -> LinprogResult: ...
def milp(
    c: ArrayLike,
    *,
    integrality: ArrayLike | None = None,
    bounds: Bounds | None = None,
    constraints: Sequence[LinearConstraint] | None = None,
    options: Mapping[str, Any] | None = None,
) -> MilpResult: ...
