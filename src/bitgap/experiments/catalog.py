"""The ordered table of contents of all experiments, and the only registry.

To add one: copy the shortest folder beside this file and add its name here, with its tests.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib import import_module
from typing import Any

from bitgap.errors import UsageError
from bitgap.experiments.protocol.experiment import PHASES, Experiment
from bitgap.stats.verdicts import load_thresholds

_PACKAGES = (
    "t001_information_content",
    "t002_quantization_robustness",
    "t003_language_distribution",
    "t004_residual_propagation",
    "t005_gateway_structure",
    "t006_error_cancellation",
    "t007_bottleneck",
    "t008_morphology",
    "t009_convergence",
    "t010_rate_distortion",
    "synergy",
    "depth",
)

CATALOG: tuple[Experiment, ...] = tuple(
    import_module(f"bitgap.experiments.{name}").EXPERIMENT for name in _PACKAGES
)

NEED_DISPARITY = frozenset(e.hypothesis.id for e in CATALOG if e.hypothesis.needs_disparity)
"""Hypotheses that are not testable on a model without a gap between languages."""


def find(id_: str) -> Experiment:
    """Returns the experiment with this id, however it is spelled (``t004``, ``4``, ``Synergy``).

    Raises:
        UsageError: If there is none.
    """
    digits = "".join(c for c in id_ if c.isdecimal())
    wanted = f"T-{int(digits):03d}" if digits else id_
    for experiment in CATALOG:
        if experiment.id.casefold() == wanted.casefold():
            return experiment
    raise UsageError(f"no experiment {id_!r}; there are {', '.join(e.id for e in CATALOG)}")


def describe(experiment: Experiment, n_blocks: int, *, full: bool = False) -> dict[str, Any]:
    """Returns one experiment as JSON.

    Args:
        experiment: Which.
        n_blocks: L of the model whose costs to show.
        full: Whether to add method, parameters and declared thresholds.
    """
    cost = experiment.cost
    row: dict[str, Any] = {
        "id": experiment.id,
        "hypothesis": experiment.hypothesis.id,
        "title": experiment.title,
        "question": experiment.question,
        "phase": experiment.phase,
        "value": experiment.value,
        "block_evaluations": cost.block_evaluations(n_blocks),
        "head_evaluations": cost.head_evaluations(n_blocks),
    }
    if not full:
        return row
    thresholds = load_thresholds()
    return row | {
        "phase_name": PHASES[experiment.phase],
        "method": method(experiment),
        "parameters": asdict(experiment.params),
        "declared": dict(thresholds.of(experiment.hypothesis.id)),
        "thresholds_hash": thresholds.hash,
    }


def method(experiment: Experiment) -> str:
    """Returns how an experiment measures and judges, as its package begins."""
    return sys.modules[experiment.package].__doc__ or ""
