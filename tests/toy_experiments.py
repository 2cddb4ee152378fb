"""Experiments made up for a test: real declarations whose parts are loaded by name, as all are."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from types import ModuleType
from typing import Any

from bitgap.experiments.protocol.experiment import Experiment

_NUMBERS = count()


def with_parts(base: Experiment, **parts: Any) -> Experiment:
    """Returns an experiment declared like another, some of whose parts are the ones given.

    Args:
        base: Whose declaration and other parts are taken.
        **parts: ``measure``, ``judge``, ``figure`` or ``profile``.
    """
    package = f"toy_experiment_{next(_NUMBERS)}"
    profile = parts.pop("profile", base.profile)
    for name in ("measure", "judge", "figure"):
        module = ModuleType(f"{package}.{name}")
        setattr(module, name, parts.get(name) or getattr(base, name))
        sys.modules[module.__name__] = module
    if profile is not None:
        setattr(sys.modules[f"{package}.judge"], "profile", profile)  # noqa: B010
    whole = ModuleType(package)
    whole.__doc__ = sys.modules[base.package].__doc__
    sys.modules[package] = whole
    return replace(base, package=package, passes=base.cost)
