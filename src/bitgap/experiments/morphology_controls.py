"""The controls that could make the probe of T-008 worthless.

================  ======================================================  ==========================
control task      a random label for every word type                      named no oftener than by
                                                                          its commonest label
shuffled labels   labels permuted among the words of a language           likewise
random            fresh weights as the class draws them                   must add less to its
                                                                          embedding
labels written    a direction for each label, added at one block (P6)     that block must be the
                                                                          peak
================  ======================================================  ==========================

The embedding's baseline is subtracted everywhere. Controls are run on the words of the first three
languages that are probed. Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitgap.damage import Bools
from bitgap.experiments.alignment_controls import percentile_ends
from bitgap.experiments.controls import PLANTED_LANGUAGES, detection, not_run
from bitgap.records import Control, Estimate, Floats, Integers, Observations
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.probes import Task, principal_scores, probe_sites, selectivity, written
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab
    from bitgap.lab.probes import TaggedWords

States = NDArray[np.floating[Any]]
PRIMARY = "Number"
"""The feature that the verdict is on: marked in the most languages."""


# -- measurement ----------------------------------------------------------------------------------
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
    from bitgap.lab.probes import word_states

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


# -- judgement ------------------------------------------------------------------------------------
def probe_controls(
    observations: Observations, weights: Floats, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the probe part.

    Args:
        observations: Of T-008.
        weights: How often each word type is drawn, (B x U).
        thresholds: What was declared.
    """
    arrays = observations.arrays
    if "few" not in arrays:
        why = "no language has enough tagged words"
        return [not_run("control task", "negative", why), not_run("P6", "positive", why)]
    few = arrays["few"]
    units = np.unique(arrays[f"{PRIMARY}_units"][few], return_inverse=True)[1]
    languages = arrays[f"{PRIMARY}_languages"][few]
    drawn = bootstrap_weights(int(units.max()) + 1, thresholds.draws, 0)
    return [
        _no_better(
            "control task", arrays[f"{PRIMARY}_control_hits"], arrays[f"{PRIMARY}_control"],
            arrays[f"{PRIMARY}_units"], arrays[f"{PRIMARY}_languages"], weights, thresholds,
        ),
        _no_better(
            "shuffled labels", arrays["shuffled_hits"], arrays["shuffled_labels"], units,
            languages, drawn, thresholds,
        ),
        _untrained(arrays, few, units, languages),
        _labels_written(arrays, few, units, languages, drawn, thresholds),
    ]  # fmt: skip


def _no_better(
    name: str,
    hits: Bools,
    labels: Integers,
    units: Integers,
    languages: Integers,
    weights: Floats,
    thresholds: Thresholds,
) -> Control:
    """Returns whether labels without meaning are named no better than by always the commonest."""
    common = np.zeros(len(labels), dtype=bool)
    for code in np.unique(languages):
        mine = languages == code
        common[mine] = labels[mine] == np.bincount(labels[mine]).argmax()
    always = np.broadcast_to(common, hits.shape)
    statistic, n = selectivity(hits, always, units, languages)
    low, high = percentile_ends(statistic(weights)[:, 1:].mean(1), thresholds)
    found = Estimate(
        value=float(statistic(np.ones((1, n)))[0, 1:].mean()), low=float(low), high=float(high),
        unit="accuracy", level=thresholds.level, n=n,
        method=f"percentile bootstrap over word types, {len(weights)} draws",
    )  # fmt: skip
    return Control(
        name=name,
        kind="negative",
        passed=bool(low <= 0),
        detail="labels that no state can know should be named no oftener than by always saying the "
        "commonest",
        estimate=found,
    )


def _risen(hits: Bools, control: Bools, units: Integers, languages: Integers) -> float:
    statistic, n = selectivity(hits, control, units, languages)
    profile = statistic(np.ones((1, n)))[0]
    return float(profile[1:].max() - profile[0])


def _untrained(
    arrays: Mapping[str, Any], few: Integers, units: Integers, languages: Integers
) -> Control:
    trained = _risen(
        arrays[f"{PRIMARY}_hits"][:, few], arrays[f"{PRIMARY}_control_hits"][:, few], units,
        languages,
    )  # fmt: skip
    twin = _risen(arrays["random_hits"], arrays["random_control_hits"], units, languages)
    return Control(
        name="random-init twin",
        kind="negative",
        passed=twin < trained,
        detail=f"an untrained twin's best block should add less to its embedding's selectivity: "
        f"{twin:+.3f} against {trained:+.3f}",
    )


def _labels_written(
    arrays: Mapping[str, Any],
    few: Integers,
    units: Integers,
    languages: Integers,
    weights: Floats,
    thresholds: Thresholds,
) -> Control:
    own = selectivity(
        arrays[f"{PRIMARY}_hits"][1:, few], arrays[f"{PRIMARY}_control_hits"][1:, few], units,
        languages,
    )  # fmt: skip
    marked = selectivity(arrays["written_hits"], arrays["written_control_hits"], units, languages)
    one = np.ones((1, own[1]))
    draws, profile = own[0](weights), own[0](one)[0]
    planted_draws, planted = marked[0](weights), marked[0](one)[0]
    found = []
    for block in range(len(profile)):
        mine, point = draws.copy(), profile.copy()
        mine[:, block], point[block] = planted_draws[:, block], planted[block]
        found.append(locate_peak(mine, point, thresholds.level).layer == block)
    name = "P6: labels written into the states of one block"
    return detection(name, found, "the peak should be at the planted block", thresholds)
