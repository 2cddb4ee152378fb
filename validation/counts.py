"""Counts of how often something happened, with exact binomial intervals, held against a limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from scipy import stats

LEVEL = 0.95

Standing = Literal["met", "not shown", "NOT MET"]


@dataclass(frozen=True, slots=True)
class Count:
    """k of n."""

    k: int
    n: int

    def __add__(self, other: Count) -> Count:
        return Count(self.k + other.k, self.n + other.n)

    @property
    def rate(self) -> float:
        """k/n; 0 of none."""
        return self.k / self.n if self.n else 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """Clopper & Pearson's interval (1934)."""
        tail = (1 - LEVEL) / 2
        low = float(stats.beta.ppf(tail, self.k, self.n - self.k + 1)) if self.k else 0.0
        high = float(stats.beta.isf(tail, self.k + 1, self.n - self.k)) if self.k < self.n else 1.0
        return low, high

    def at_most(self, limit: float) -> Standing:
        """Returns whether the rate is at most this: with its whole interval, or not at all."""
        low, high = self.ends
        return "met" if high <= limit else "NOT MET" if low > limit else "not shown"

    def at_least(self, limit: float) -> Standing:
        """Returns whether the rate is at least this, likewise."""
        low, high = self.ends
        return "met" if low >= limit else "NOT MET" if high < limit else "not shown"

    def __str__(self) -> str:
        if not self.n:
            return "none"
        low, high = self.ends
        return f"{self.rate:.3f} [{low:.3f}, {high:.3f}]"


def total(counts: Iterable[Count]) -> Count:
    """Returns all counts together."""
    return sum(counts, Count(0, 0))


def highest(counts: Iterable[Count]) -> Count:
    """Returns the count of the highest rate, of those the one with most behind it."""
    return max(counts, key=lambda count: (count.rate, count.n), default=Count(0, 0))


def lowest(counts: Iterable[Count]) -> Count:
    """Returns the count of the lowest rate, of those the one with most behind it."""
    return min(counts, key=lambda count: (count.rate, -count.n), default=Count(0, 0))
