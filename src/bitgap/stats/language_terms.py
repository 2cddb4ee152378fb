"""What a property of a language adds to what is said of all: a term over languages, and its test.

A sweep gives a value for every cell and language, and a property of a language (its entropy) is the
same in all cells. Where every cell has every language, cells and properties are orthogonal, so the
coefficient given the cells is that of languages' mean values on the property, by least squares with
further properties beside it (Frisch & Waugh 1933):

    h = <y − fit of y on the rest, x − fit of x on the rest> / ‖x − fit of x on the rest‖²

Text is resampled for the interval and languages are permuted for p, as the language is the unit
that a claim about languages rests on. Pure numpy.
"""

from __future__ import annotations

import numpy as np

from bitgap.records import Floats

LANGUAGES_MIN = 8
"""Languages below which a term over languages is not tested: of eight, a correlation must already
reach .62 to be told from none at 5 %."""
PERMUTATIONS = 4999


def _beside(values: Floats, rest: Floats | None) -> Floats:
    """Returns what a constant and the rest, (... x A x k), leave of values, (... x A)."""
    ones = np.ones((*values.shape, 1))
    design = ones if rest is None else np.concatenate([ones, rest], axis=-1)
    q, _ = np.linalg.qr(design)
    held = q @ (np.swapaxes(q, -1, -2) @ values[..., None])
    return values - held[..., 0]


def term_coefficient(values: Floats, term: Floats, rest: Floats | None = None) -> Floats:
    """Returns the coefficient of a term over languages, (...), given a constant and the rest.

    NaN where the rest leaves nothing of the term, or a value is undefined.

    Args:
        values: Mean over cells of every language, (... x A).
        term: The property, (... x A).
        rest: k further properties, (... x A x k), or none.

    Example:
        >>> entropy = np.array([3.0, 4.0, 6.0, 9.0])
        >>> float(term_coefficient(1 + 0.5 * entropy, entropy).round(6))
        0.5
        >>> other = np.array([1.0, 0.0, 1.0, 5.0])
        >>> both = 0.5 * entropy - 2 * other
        >>> float(term_coefficient(both, entropy, other[:, None]).round(6))
        0.5
    """
    shape = np.broadcast_shapes(values.shape, term.shape)
    values, term = np.broadcast_to(values, shape), np.broadcast_to(term, shape)
    known = np.logical_and.reduce(np.isfinite(values + term), axis=-1)
    if rest is not None:
        rest = np.broadcast_to(rest, (*shape, rest.shape[-1]))
        known &= np.logical_and.reduce(np.isfinite(rest), axis=(-1, -2))
        rest = np.where(known[..., None, None], rest, 0.0)
    # What is undefined is put aside, as a decomposition would let it spread or refuse.
    y, x = (_beside(np.where(known[..., None], v, 0.0), rest) for v in (values, term))
    power = (x**2).sum(-1)
    tiny = 1e-18 * np.maximum((term**2).sum(-1), 1e-300)
    fine = known & (power > tiny)
    return np.where(fine, (y * x).sum(-1) / np.where(fine, power, 1.0), np.nan)


def permutation_p(
    values: Floats,
    term: Floats,
    rest: Floats | None = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Returns the one-sided p of "the coefficient is above 0", languages permuted.

    What the rest leaves of the values is permuted over languages (Freedman & Lane 1983); without a
    rest that is exact. (1 + permutations that reach it) / (1 + permutations).

    Args:
        values: Mean over cells of every language, (A).
        term: The property, (A).
        rest: k further properties, (A x k), or none.
        permutations: How many are drawn.
        seed: Of them.

    Example:
        >>> entropy = np.arange(8.0)
        >>> permutation_p(2 * entropy, entropy, permutations=999)
        0.001
        >>> permutation_p(-2 * entropy, entropy, permutations=999)
        1.0
    """
    y, x = _beside(values, rest), _beside(term, rest)
    rng, n = np.random.default_rng(seed), len(values)
    orders = rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
    # The rest is orthogonal to x, so what is permuted need not be fitted to it again.
    reached = y[orders] @ x >= y @ x - 1e-12 * np.linalg.norm(x) * np.linalg.norm(y)
    return (1 + int(reached.sum())) / (1 + permutations)
