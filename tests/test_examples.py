"""Examples in docstrings: each public function of four rooms has one, and each one is true."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest

from bitgap.disparity.example import SCORES

ROOMS = ("bitgap.quant", "bitgap.disparity", "bitgap.stats", "bitgap.jobs")
WITHOUT = {
    "bitgap.jobs.investigate",
    "bitgap.jobs.profile_links",
    "bitgap.jobs.records",
    "bitgap.jobs.results",
    "bitgap.stats.across",
    "bitgap.stats.families",
    "bitgap.stats.probes",
    "bitgap.stats.rate_models",
    "bitgap.stats.verdicts",
}
"""Modules whose public functions do not all have an example yet. It may only shrink."""


def modules() -> Iterator[str]:
    for room in ROOMS:
        yield from (f"{room}.{found.name}" for found in iter_modules(import_module(room).__path__))


MODULES = tuple(modules())


def public_functions(module: str) -> dict[str, Any]:
    """Returns the functions that a module defines for others, by name."""
    names = vars(import_module(module)).items()
    return {
        name: value
        for name, value in names
        if inspect.isfunction(inspect.unwrap(value) if callable(value) else value)
        and value.__module__ == module
        and not name.startswith("_")
    }


def without_example(module: str) -> list[str]:
    """Returns the public functions of a module that have no example."""
    return [name for name, f in public_functions(module).items() if ">>>" not in (f.__doc__ or "")]


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_true(module: str) -> None:
    report = doctest.testmod(import_module(module), extraglobs={"np": np, "SCORES": SCORES})
    assert report.failed == 0


@pytest.mark.parametrize("module", sorted(set(MODULES) - WITHOUT))
def test_every_public_function_has_an_example(module: str) -> None:
    assert without_example(module) == []


def test_what_is_listed_as_without_an_example_still_is() -> None:
    assert set(MODULES) >= WITHOUT
    assert [module for module in sorted(WITHOUT) if not without_example(module)] == []
