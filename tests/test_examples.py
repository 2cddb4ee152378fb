"""Examples in docstrings: each public function of five rooms has one, and each one is true."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest

from bitgap.disparity.example import DESIGN, SCORES
from bitgap.jobs.example import STORE
from bitgap.protect.example import PROBLEM, TABLE
from bitgap.stats.example import FINDING

ROOMS = ("bitgap.quant", "bitgap.disparity", "bitgap.stats", "bitgap.protect", "bitgap.jobs")


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
    given = {
        **{"np": np, "SCORES": SCORES, "DESIGN": DESIGN, "FINDING": FINDING, "STORE": STORE},
        **{"TABLE": TABLE, "PROBLEM": PROBLEM},
    }
    report = doctest.testmod(import_module(module), extraglobs=given)
    assert report.failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_has_an_example(module: str) -> None:
    assert without_example(module) == []
