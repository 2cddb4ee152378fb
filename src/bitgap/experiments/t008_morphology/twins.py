"""What T-008 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import PLANTED_LANGUAGES
from bitgap.experiments.t008_morphology.controls import States
from bitgap.experiments.t008_morphology.tagged_words import TaggedWords, word_states
from bitgap.lab.lab import Lab
from bitgap.records import Floats, Integers
from bitgap.stats.probes import Task, principal_scores, probe_sites, written


def site_scores(states: States, task: Task, n_components: int) -> dict[int, list[Floats]]:
    """Returns principal scores of a task's words at every site, language by language.

    Args:
        states: Of the task's words alone, (S x n x d).
        task: Whose words they are.
        n_components: At most.
    """
    found: dict[int, list[Floats]] = {}
    for code in np.unique(task.languages):
        mine = task.only([int(code)])
        found[int(code)] = [
            principal_scores(site[mine].astype(np.float64), n_components) for site in states
        ]
    return found


def part_of(task: Task, rows: Integers) -> Task:
    """Returns a task on some of its words."""
    units = np.unique(task.units[rows], return_inverse=True)[1].astype(np.int64)
    return Task(task.rows[rows], task.labels[rows], task.control[rows], task.languages[rows],
                units, task.folds[rows])  # fmt: skip


def measure_controls(
    twin: Lab, words: TaggedWords, states: States, task: Task, params: Any, seed: int
) -> dict[str, Any]:
    """Returns what the controls show on the words of the first three languages, (n').

    Args:
        twin: The random-init twin.
        words: The sample.
        states: Of all its words, (S x n x d).
        task: The primary feature's.
        params: Of T-008.
        seed: Of the shuffle.

    Returns:
        ``few``, which of the task's words they are; ``shuffled_labels``, ``shuffled_hits`` (S x
        n'); ``random_hits`` and ``random_control_hits`` (S x n'); ``written_hits`` and
        ``written_control_hits`` (L x n'); empty where there are no words.
    """
    if not len(task.rows):
        return {}
    few = task.only([int(code) for code in np.unique(task.languages)[:PLANTED_LANGUAGES]])
    small = part_of(task, few)
    rng = np.random.default_rng(seed)
    shuffled = small.labels.copy()
    for code in np.unique(small.languages):
        mine = small.only([int(code)])
        shuffled[mine] = rng.permutation(shuffled[mine])
    k, penalty = params.components, params.penalty
    own, both = states[:, small.rows], [small.labels, small.control]
    trained = probe_sites(site_scores(own, small, k), small, [shuffled], penalty)
    of_twin = word_states(twin, words.select(small.rows))
    random = probe_sites(site_scores(of_twin, small, k), small, both, penalty)
    marked = np.stack(
        [
            written(site.astype(np.float64), small.labels, params.planted_label, block)
            for block, site in enumerate(own[1:])
        ]
    )
    found = probe_sites(site_scores(marked, small, k), small, both, penalty)
    return {
        "few": few,
        "shuffled_labels": shuffled,
        "shuffled_hits": trained[0],
        "random_hits": random[0],
        "random_control_hits": random[1],
        "written_hits": found[0],
        "written_control_hits": found[1],
    }
