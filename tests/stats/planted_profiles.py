"""Block profiles whose relation is known: none, or a planted slope."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bitgap.records import Floats

KINDS = ("iid", "ar", "walk", "trend")


def autoregression(rng: np.random.Generator, n: int, rho: float) -> Floats:
    """Returns a stationary AR(1) series of unit innovations."""
    series = rng.normal(size=n)
    series[0] /= np.sqrt(1 - rho**2)
    for i in range(1, n):
        series[i] += rho * series[i - 1]
    return series


def profile(kind: str, rng: np.random.Generator, n: int) -> Floats:
    """Returns one profile over n blocks: noise, AR(1), a random walk, or noise on a steep bend."""
    if kind == "ar":
        return autoregression(rng, n, 0.7)
    noise = rng.normal(size=n)
    if kind == "walk":
        return noise.cumsum()
    if kind == "trend":
        r = np.arange(n) / (n - 1)
        return rng.normal(0, 5) * r + rng.normal(0, 5) * r**2 + noise
    return noise


def pairs(
    kind: str, n: int, *, slope: float = 0.0, times: int, seed: int = 0
) -> Iterator[tuple[Floats, Floats]]:
    """Yields pairs of profiles of equal spread that correlate by ``slope``; unrelated at 0."""
    rng = np.random.default_rng(seed)
    for _ in range(times):
        x, own = profile(kind, rng, n), profile(kind, rng, n)
        yield x, slope * x + np.sqrt(1 - slope**2) * own
