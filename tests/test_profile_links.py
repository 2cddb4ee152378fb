"""Links between what stands out at a block and what protecting it is worth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitgap.experiments.catalog import CATALOG
from bitgap.jobs import profile_links as module
from bitgap.jobs.profile_links import GAMES, profile_links
from toy_experiments import with_parts

L = 16
RNG = np.random.default_rng(0)
WORTH = RNG.normal(size=L)


def layer_map(worth: Any = WORTH) -> Any:
    rows = [
        SimpleNamespace(
            shapley={"damage": SimpleNamespace(value=v)}, spread_fall=SimpleNamespace(value=v)
        )
        for v in worth
    ]
    return SimpleNamespace(blocks=rows)


def asked(monkeypatch: pytest.MonkeyPatch, profile: Any) -> Any:
    """A finding whose experiment has this profile."""
    experiment = with_parts(CATALOG[1], profile=profile)
    monkeypatch.setattr(module, "find", lambda _: experiment)
    return SimpleNamespace(experiment="T-002", title="Title", tables={"profile": ()})


def test_a_profile_that_goes_with_worth_is_linked_and_a_trend_is_not(monkeypatch):
    r = np.linspace(0, 1, L)
    noisy = WORTH + 0.2 * RNG.normal(size=L) + 9 * r**2
    rows = profile_links([asked(monkeypatch, lambda f: list(noisy))], layer_map(), 0.95)
    assert [row.game for row in rows] == list(GAMES)
    assert all(row.r.value > 0.8 and row.r.low > 0.3 for row in rows)
    (row, _) = profile_links([asked(monkeypatch, lambda f: list(9 * r**2))], layer_map(), 0.95)
    assert row.r.value is None and "its own trend" in row.r.reason


def test_unrelated_profiles_are_linked_no_oftener_than_chance(monkeypatch):
    rng, above = np.random.default_rng(1), 0
    for _ in range(200):
        noise = rng.normal(size=L)
        (row, _) = profile_links(
            [asked(monkeypatch, lambda f, n=noise: list(n))], layer_map(), 0.95
        )
        above += row.r.low > 0
    assert above <= 14  # 2.5 % expected; more has a chance of 1e-3


def test_an_undefined_block_leaves_no_link_and_says_so(monkeypatch):
    profile = [None, *map(float, WORTH[1:])]
    (row, _) = profile_links([asked(monkeypatch, lambda f: profile)], layer_map(), 0.95)
    assert row.r.value is None and "undefined" in row.r.reason


def test_an_experiment_without_a_profile_has_no_link(monkeypatch):
    assert profile_links([asked(monkeypatch, None)], layer_map(), 0.95) == ()
