"""The ordered table of contents of all experiments, and the only registry.

To add one: copy the shortest file beside this one, add a line here, and a test.
"""

from __future__ import annotations

from typing import Any

from bitgap.errors import UsageError
from bitgap.experiments import (
    t002_quantization_robustness,
    t004_residual_propagation,
    t009_convergence,
)
from bitgap.experiments.experiment import PHASES, Experiment
from bitgap.stats.verdicts import load_thresholds


def _planned(
    id_: str, hypothesis: str, title: str, question: str, phase: int, value: Any
) -> Experiment:
    return Experiment(
        id=id_, hypothesis=hypothesis, title=title, question=question, phase=phase, value=value
    )


CATALOG: tuple[Experiment, ...] = (
    _planned("T-001", "H1.1", "Information content",
             "Do blocks of high weight variance carry more usable information?", 1, "medium"),
    t002_quantization_robustness.EXPERIMENT,
    _planned("T-003", "H1.3", "Language distribution",
             "Do critical layers differ more across languages?", 1, "high"),
    t004_residual_propagation.EXPERIMENT,
    _planned("T-005", "H2.2", "Gateway structure",
             "Are the first and last blocks structurally distinct?", 1, "high"),
    _planned("T-006", "H2.3", "Error cancellation",
             "Do errors of the first and last blocks cancel?", 2, "high"),
    _planned("T-007", "H3.1", "Bottleneck",
             "Is dimensionality lowest near three quarters of the depth?", 1, "high"),
    _planned("T-008", "H3.2", "Morphological consolidation",
             "Does morphology peak, and matter, near three quarters of the depth?", 2, "medium"),
    t009_convergence.EXPERIMENT,
    _planned("T-010", "H4.1", "Rate and distortion",
             "Does disparity follow a rate-distortion law in bits?", 3, "high"),
)  # fmt: skip


def find(id_: str) -> Experiment:
    """Returns the experiment with this id, however it is spelled (``T-004``, ``t004``, ``4``).

    Raises:
        UsageError: If there is none.
    """
    digits = "".join(c for c in id_ if c.isdecimal())
    wanted = f"T-{int(digits):03d}" if digits else id_.upper()
    for experiment in CATALOG:
        if experiment.id == wanted:
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
        "hypothesis": experiment.hypothesis,
        "title": experiment.title,
        "question": experiment.question,
        "phase": experiment.phase,
        "value": experiment.value,
        "built": experiment.built,
        "block_evaluations": cost.block_evaluations(n_blocks) if cost else None,
        "head_evaluations": cost.head_evaluations(n_blocks) if cost else None,
    }
    if not full:
        return row
    thresholds = load_thresholds()
    return row | {
        "phase_name": PHASES[experiment.phase],
        "method": _method(experiment),
        "parameters": _parameters(experiment),
        "declared": dict(thresholds.of(experiment.hypothesis)),
        "thresholds_hash": thresholds.hash,
    }


def _method(experiment: Experiment) -> str | None:
    import sys

    if experiment.measure is None:
        return None
    return sys.modules[experiment.measure.__module__].__doc__


def _parameters(experiment: Experiment) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(experiment.params) if experiment.params is not None else {}
