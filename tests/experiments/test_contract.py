"""What every experiment keeps to, whatever it asks.

Each test module of an experiment makes observations whose truth it knows by its ``observe``; what
else the contract has to know of them stands in :data:`SAMPLES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitgap import Lab
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import Experiment
from bitgap.experiments.t010_rate_distortion import fits as rate_fits
from bitgap.records import Observations
from harness import QUICK, assert_presentable, assert_pure

WHY = "it was left out on purpose"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An experiment's observations, and what is known of them.

    Attributes:
        refuted: Arguments of ``observe`` with which the judge refutes.
        missed: Arguments with which planted effects are missed besides.
        absent: Twins and plantings that may be missing: arrays ``<name>…``, fact ``no_<name>``.
        positive: Which of them is the positive control, if its arrays may be missing.
        languages: Axis of languages in each array of damage or error; sentences are the next.
        collapse: Argument of ``observe`` that takes the rows of collapsed languages; a ``text``
            argument holds it where it is ``text``.
        label_free: Estimates that no permutation of labels within a sentence may move.
        measured: Parameters with which the bundled model is measured in a few seconds.
    """

    refuted: Mapping[str, Any]
    missed: Mapping[str, Any]
    absent: tuple[str, ...] = ()
    positive: str | None = None
    languages: Mapping[str, int] = field(default_factory=dict[str, int])
    collapse: str | None = None
    label_free: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict[str, Any])


def packed(*parts: str) -> dict[str, int]:
    """The axes of languages in the packed scores of some parts."""
    return {f"{part}_{what}": -2 for part in parts for what in ("kl", "nll")}


SAMPLES: dict[str, Sample] = {
    "T-001": Sample(
        refuted={"slope": -0.3, "seed": 1},
        missed={"planted": 8},
        measured={"n_types": 16, "n_components": 16, "planted_seeds": 1},
    ),
    "T-002": Sample(
        refuted={"variance_link": -0.8},
        missed={"found": 0},
        absent=("regauged", "shuffled", "gaussian", "random", "fragile"),
        positive="fragile",
        languages=packed("tensor", "single", "noise"),
        collapse="collapsed",
        label_free=("error_and_damage",),
        measured={
            "noise": (0.1,),
            "noise_seeds": 1,
            "planted_seeds": 1,
            "control_sentences": 2,
        },
    ),
    "T-003": Sample(
        refuted={"link": -1.0},
        missed={"found": 0},
        absent=("planted",),
        positive="planted",
        languages={"linear_error": -2, "protect_kl": -2},
        collapse="text",
        measured={"control_sentences": 2, "planted_seeds": 1},
    ),
    "T-004": Sample(
        refuted={"cancelled": 0.0},
        missed={"found": 0},
        absent=("matched", "random", "travelling", "cancelling"),
        positive="cancelling",
        languages=packed("masks") | {"state_error": -2, "state_cosine": -2, "state_closer": -2},
        collapse="collapsed",
        label_free=("snr_gain", "interaction"),
        measured={"planted_seeds": 1, "control_sentences": 2},
    ),
    "T-005": Sample(
        refuted={"raised": (), "plain": True},
        missed={"missed": 20},
        absent=("random", "shuffled", "planted"),
        positive="planted",
        measured={"twins": 1, "planted_seeds": 1, "tail_draws": 5},
    ),
    "T-006": Sample(
        refuted={"rho": 0.0},
        missed={"found": 0, "found_clipped": 0},
        absent=("random", "cancelling"),
        positive="cancelling",
        languages=packed("scored") | {"gram": 0, "other_gram": 0},
        collapse="text",
        label_free=("minus_rho",),
        measured={"planted_seeds": 1, "control_sentences": 2, "null_draws": 3},
    ),
    "T-007": Sample(
        refuted={"place": 2},
        missed={"missed": 6},
        absent=("random", "shuffled", "massive", "planted"),
        positive="planted",
        measured={"planted_seeds": 2},
    ),
    "T-008": Sample(
        refuted={"place": 2, "words": 1500},
        missed={"found": 4},
        absent=("broken",),
        measured={
            "languages": 1,
            "words": 60,
            "features": ("Number",),
            "items": 6,
            "folds": 2,
            "control_items": 6,
            "broken_items": 6,
            "pushes": 2,
        },
    ),
    "T-009": Sample(refuted={"place": 2}, missed={"found": 4}),
    "T-010": Sample(
        refuted={"slope": 0.0},
        missed={"plantings": 0},
        absent=("random", "frontier"),
        languages=packed("cells"),
        collapse="collapsed",
        measured={
            "map_sentences": 2,
            "complete": False,
            "shares": (0.5,),
            "random_orders": 1,
            "noise": (0.1,),
            "noise_seeds": 1,
            "control_sentences": 2,
            "planted_seeds": 1,
            "frontier_rows": 4,
        },
    ),
    "synergy": Sample(
        refuted={"together": 0.0},
        missed={"found": 0},
        absent=("random", "cancelling"),
        positive="cancelling",
        languages=packed("map", "cells", "far"),
        collapse="collapsed",
        label_free=("banzhaf",),
        measured={
            "map_sentences": 2,
            "complete": False,
            "control_sentences": 2,
            "planted_seeds": 1,
        },
    ),
    "depth": Sample(
        refuted={"worth": 0.3},
        # Of one language there is no spread, so nothing can be planted in it.
        missed={"collapsed": [1, 2]},
        absent=("random",),
        languages=packed("triples", "base", "singles"),
        collapse="collapsed",
        label_free=("beats_damage",),
        measured={"map_sentences": 2, "complete": False, "most_triples": 0},
    ),
}

every = pytest.mark.parametrize("experiment", CATALOG, ids=lambda e: e.id)


def those(attribute: str) -> pytest.MarkDecorator:
    """Parametrises a test by the experiments whose sample has something for it."""
    chosen = [e for e in CATALOG if getattr(SAMPLES[e.id], attribute)]
    return pytest.mark.parametrize("experiment", chosen, ids=lambda e: e.id)


def module_of(experiment: Experiment) -> ModuleType:
    return importlib.import_module(f"test_{experiment.id.replace('-', '').lower()}")


def observe(experiment: Experiment, **arguments: Any) -> Observations:
    made: Callable[..., Observations] = module_of(experiment).observe
    return made(**arguments)


def with_collapsed(experiment: Experiment, rows: list[int]) -> Observations:
    name = SAMPLES[experiment.id].collapse
    return observe(experiment, **{"text": {"collapsed": rows}} if name == "text" else {name: rows})


def without(observations: Observations, name: str) -> Observations:
    """Observations without one twin, which says why it is not there."""
    arrays = {key: v for key, v in observations.arrays.items() if not key.startswith(name)}
    assert len(arrays) < len(observations.arrays), f"nothing is called {name}"
    return replace(observations, arrays=arrays, facts={**observations.facts, f"no_{name}": WHY})


def by_language(experiment: Experiment, made: Observations) -> dict[str, NDArray[Any]]:
    """What a language's damage and error are in, as views (A x N x ...)."""
    axes = SAMPLES[experiment.id].languages  # that of sentences follows
    return {
        name: np.moveaxis(made.arrays[name], (axis, axis + 1), (0, 1))
        for name, axis in axes.items()
    }


def test_every_experiment_has_a_sample():
    assert SAMPLES.keys() == {experiment.id for experiment in CATALOG}


@pytest.fixture(autouse=True)
def few_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """T-010's further models cost most of its judge's time and no verdict rests on them."""
    monkeypatch.setattr(rate_fits, "MODELS", ("M0", "M1"))


# -- the judge ------------------------------------------------------------------------------------


@every
def test_judge_is_pure_and_what_it_says_can_be_shown(experiment):
    made = observe(experiment)
    assert_pure(experiment.judge, made)
    assert_presentable(experiment, experiment.judge(made, QUICK))


@every
def test_no_refutation_where_planted_effects_are_missed(experiment):
    sample = SAMPLES[experiment.id]
    refuting = experiment.judge(observe(experiment, **sample.refuted), QUICK)
    assert refuting.verdict.label == "refuted", refuting.verdict.reason
    blind = experiment.judge(observe(experiment, **sample.refuted, **sample.missed), QUICK)
    assert blind.verdict.label == "inconclusive"
    positive = [check.passed for check in blind.controls if check.kind == "positive"]
    assert not all(positive)


@those("positive")
def test_no_refutation_where_nothing_could_be_planted(experiment):
    sample = SAMPLES[experiment.id]
    made = without(observe(experiment, **sample.refuted), sample.positive)
    assert experiment.judge(made, QUICK).verdict.label == "inconclusive"


@those("absent")
def test_controls_that_were_not_run_say_so_and_keep_support_back(experiment):
    for name in SAMPLES[experiment.id].absent:
        finding = experiment.judge(without(observe(experiment), name), QUICK)
        unknown = [check for check in finding.controls if check.passed is None]
        assert WHY in [check.detail for check in unknown], name
        decisive = any(check.kind != "invariance" for check in unknown)
        assert not decisive or finding.verdict.label != "supported", name


# -- languages ------------------------------------------------------------------------------------


@those("collapse")
def test_nothing_is_testable_where_every_language_collapsed(experiment):
    languages = len(observe(experiment).facts["languages"])
    finding = experiment.judge(with_collapsed(experiment, [*range(languages)]), QUICK)
    assert finding.verdict.label == "not testable"
    assert "collapsed" in finding.verdict.reason
    assert finding.verdict.p is None
    assert_presentable(experiment, finding)


@those("collapse")
def test_a_collapsed_language_moves_nothing_and_is_named(experiment):
    rng, last = np.random.default_rng(1), len(observe(experiment).facts["languages"]) - 1
    made = with_collapsed(experiment, [last])
    before = experiment.judge(made, QUICK)
    for array in by_language(experiment, made).values():
        array[last] *= rng.uniform(1, 9)
    after = experiment.judge(made, QUICK)
    assert after.estimates == before.estimates
    assert after.verdict.label == before.verdict.label
    code = made.facts["languages"][last]
    assert f"{code} (collapsed" in after.sentence
    assert after.tables["left_out"][code].startswith("collapsed")


@those("label_free")
def test_language_labels_move_nothing(experiment):
    given, permuted, rng = observe(experiment), observe(experiment), np.random.default_rng(0)
    arrays = by_language(experiment, permuted).values()
    for s in range(next(iter(arrays)).shape[1]):
        order = rng.permutation(len(given.facts["languages"]))
        for array in arrays:
            array[:, s] = array[order, s]
    for name in SAMPLES[experiment.id].label_free:
        a, b = (experiment.judge(o, QUICK).estimates[name].value for o in (given, permuted))
        assert a == pytest.approx(b, abs=1e-6), name


# -- the bundled model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> Lab:
    return Lab.from_pretrained(languages=["en", "he"]).on(sentences=range(3))


@every
def test_the_bundled_model_is_measured_stored_judged_and_shown(experiment, reference):
    params = replace(experiment.params, **SAMPLES[experiment.id].measured)
    measured = experiment.measure(reference, "rtn3-g128", params)
    reference.store.put_observations(experiment.id, measured)
    stored = reference.store.get_observations(experiment.id)
    assert stored is not None
    finding = experiment.judge(stored, QUICK)
    assert finding == experiment.judge(measured, QUICK)
    assert_presentable(experiment, finding)
    invariant = [c for c in finding.controls if c.kind == "invariance" and c.passed is not None]
    assert all(check.passed for check in invariant)
    # Three sentences are too few to support or, for the peak, even to locate anything; weights
    # alone say what they say on any text, before Holm.
    assert finding.verdict.label != "supported" or experiment.id == "T-005"
    assert finding.verdict.scope == "this model"
