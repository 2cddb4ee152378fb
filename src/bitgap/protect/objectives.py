"""What a plan is chosen by: one number out of its damage by language.

Each objective weights the languages and takes the mean of the largest k, in fractions where k is no
whole number: the conditional value at risk of a uniform draw of a language, which is linear in a
program (Rockafellar & Uryasev 2000, theorem 10).

=================  ===================================================  ========
name               what is weighted                                     k
=================  ===================================================  ========
``worst-quarter``  each language's share of its damage under uniform    A/4
``worst``          the same                                             1
``mean``           damage in bits: the mean over languages, which no    A
                   permutation of labels changes: *language-blind*
``reference``      the reference's damage, and no other's               1
=================  ===================================================  ========

All are shares of what the uniform plan of the same bytes has, so that they are near 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from bitgap.errors import UsageError
from bitgap.records import Floats

Name = Literal["worst-quarter", "worst", "mean", "reference"]
LINEAR = ("mean", "reference")
"""Those in which no language is the worst: they take no limits beside the language-blind plan."""
QUARTER = 0.25


@dataclass(frozen=True, slots=True)
class Objective:
    """Weights of the languages, and of how many of them the mean is taken."""

    name: str
    weights: Floats
    """What each language's damage in bits is multiplied by, (A)."""
    k: float
    """How many languages count, the largest first; from 1 to A."""

    @property
    def linear(self) -> bool:
        """Whether it is a weighted sum, so that no language is the worst."""
        return self.k >= len(self.weights) or np.count_nonzero(self.weights) == 1


def objective(name: str, uniform_bits: Floats, reference: int) -> Objective:
    """Returns an objective by name.

    Args:
        name: One of the table above.
        uniform_bits: Damage of the uniform plan of the same bytes, (A).
        reference: Row of the reference language.

    Raises:
        UsageError: If there is none of that name.

    Example:
        >>> objective("worst-quarter", np.array([1.0, 2.0, 4.0, 4.0]), 0).weights
        array([1.  , 0.5 , 0.25, 0.25])
        >>> objective("mean", np.array([1.0, 3.0]), 0).weights
        array([0.5, 0.5])
    """
    if name not in _MADE:
        raise UsageError(f"objective {name!r} is not known; there are {', '.join(get_args(Name))}")
    return _MADE[name](uniform_bits, reference)


def value_of(goal: Objective, damage_bits: Floats) -> Floats:
    """Returns the objective of each plan, (...).

    Args:
        goal: From :func:`objective`.
        damage_bits: (... x A).

    Example:
        >>> goal = objective("worst-quarter", np.ones(6), 0)
        >>> value_of(goal, np.array([1.0, 2.0, 6.0, 3.0, 1.0, 1.0]))  # 1.5 languages: 6 and half 3
        array(5.)
    """
    weighted = damage_bits * goal.weights
    if goal.linear:
        return np.asarray(weighted.sum(-1) / min(goal.k, np.count_nonzero(goal.weights)))
    return tail_mean(weighted, goal.k)


def tail_mean(values: Floats, k: float) -> Floats:
    """Returns the mean of the k largest, of the last of them the fraction that k leaves.

    Args:
        values: (... x A).
        k: From 1 to A.

    Example:
        >>> tail_mean(np.array([3.0, 1.0, 2.0]), 2.0), tail_mean(np.array([3.0, 1.0, 2.0]), 1.5)
        (array(2.5), array(2.66666667))
    """
    falling: Floats = -np.sort(-values, axis=-1)
    counted: Floats = np.clip(k - np.arange(falling.shape[-1], dtype=np.float64), 0.0, 1.0)
    return np.asarray((falling * counted).sum(-1) / k)


def _worst_quarter(uniform: Floats, reference: int) -> Objective:
    return Objective("worst-quarter", 1 / uniform, max(1.0, QUARTER * len(uniform)))


def _worst(uniform: Floats, reference: int) -> Objective:
    return Objective("worst", 1 / uniform, 1.0)


def _mean(uniform: Floats, reference: int) -> Objective:
    return Objective("mean", np.full(len(uniform), 1 / uniform.mean()), float(len(uniform)))


def _reference(uniform: Floats, reference: int) -> Objective:
    weights = np.where(np.arange(len(uniform)) == reference, 1 / uniform, 0.0)
    return Objective("reference", weights, 1.0)


_MADE: Mapping[str, Callable[[Floats, int], Objective]] = {
    "worst-quarter": _worst_quarter,
    "worst": _worst,
    "mean": _mean,
    "reference": _reference,
}
