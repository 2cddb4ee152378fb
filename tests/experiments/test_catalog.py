"""The catalog: complete, in order, declared before data, and honest about what things cost."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass, replace
from inspect import getdoc, getsource, signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_samples import counted_blocks, make_lab, write_corpus

import bitgap.experiments
from bitgap.errors import UsageError
from bitgap.experiments.catalog import CATALOG, describe, find
from bitgap.experiments.protocol.experiment import COST_SCHEME, PHASES, Experiment
from bitgap.experiments.protocol.hypothesis import GAPS, PILLARS
from bitgap.jobs.tiers import TIERS
from bitgap.quant.plan import Plan, noise_plans
from bitgap.stats.mask_design import make_design
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.hypotheses import HYPOTHESES
from harness import check_docstring

FOLDER = Path(bitgap.experiments.__file__).parent


def named(experiment: Experiment) -> str:
    return experiment.id


def module_of(experiment: Experiment) -> Any:
    return sys.modules[experiment.package]


# -- what is there --------------------------------------------------------------------------------


def test_every_package_is_in_the_catalog_and_no_id_or_hypothesis_twice():
    apart = {"protocol", "plants"}
    packages = {path.parent.name for path in FOLDER.glob("*/__init__.py")} - apart
    assert packages == {experiment.package.rsplit(".", 1)[1] for experiment in CATALOG}
    for values in ([e.id for e in CATALOG], [e.hypothesis.id for e in CATALOG]):
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_every_hypothesis_was_declared_for_its_experiment(experiment):
    declared = load_thresholds().of(experiment.hypothesis.id)
    assert declared["experiment"] == experiment.id
    assert declared["sesoi"] > 0
    assert experiment.phase in PHASES
    assert experiment.question.endswith("?")
    assert experiment.figure_reading.endswith(".")
    assert experiment.value in ("high", "medium", "low")


@pytest.mark.parametrize("hypothesis", HYPOTHESES.values(), ids=lambda h: h.id)
def test_all_that_is_told_of_a_hypothesis_is_in_its_record(hypothesis):
    assert all(value != "" for value in asdict(hypothesis).values())
    assert hypothesis.gap in GAPS
    assert hypothesis.pillar in (None, *PILLARS)
    for clause in (hypothesis.prediction, hypothesis.if_supported, hypothesis.if_refuted):
        assert len(clause.split()) > 3
        assert clause[:1].islower() and clause[-1] not in ".?!", "it goes on within a sentence"


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_what_a_tier_changes_is_a_parameter_of_its_experiment(experiment):
    assert set(experiment.tiers) <= set(TIERS)
    for changed in experiment.tiers.values():
        assert replace(experiment.params, **changed) != experiment.params


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_a_hypothesis_judged_over_families_has_a_rule_and_declared_effects(experiment):
    declared = load_thresholds()
    exploratory = experiment.hypothesis.id in declared.exploratory
    assert experiment.hypothesis.across_families is not exploratory
    if not exploratory:
        for statistic in experiment.rule.statistics:
            assert declared.of(experiment.hypothesis.id)[statistic.sesoi] > 0


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_docstring_has_a_question_its_headings_a_formula_and_a_citation(experiment):
    text = module_of(experiment).__doc__
    check_docstring(text)
    assert text.startswith(f"{experiment.id} · {experiment.hypothesis.id}:")


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_parameters_are_frozen_and_each_says_its_reason(experiment):
    params = experiment.params
    assert is_dataclass(params)
    with pytest.raises(AttributeError):
        setattr(params, fields(params)[0].name, 0)
    source = getsource(type(params))
    for field in fields(params):
        told = re.search(rf'    {field.name}: .*\n    """(.+?)"""', source, re.S)
        assert told, f"{field.name} has no docstring"
        assert len(told[1].split()) >= 5


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_measure_and_judge_have_the_declared_shape(experiment):
    assert list(signature(experiment.measure).parameters) == ["lab", "scheme", "params"]
    assert list(signature(experiment.judge).parameters) == ["observations", "thresholds"]
    assert list(signature(experiment.figure).parameters) == ["finding"]
    for function in (experiment.measure, experiment.judge, experiment.figure):
        assert getdoc(function)


def test_judging_imports_no_torch():
    code = "import bitgap.experiments.catalog, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


# -- finding and describing -----------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["T-004", "t004", "4", "T-4", "t4"])
def test_an_experiment_is_found_however_it_is_spelled(spelling):
    assert find(spelling).id == "T-004"


@pytest.mark.parametrize("spelling", ["synergy", "SYNERGY", "Synergy"])
def test_one_without_a_number_is_found_in_any_case(spelling):
    assert find(spelling).id == "synergy"


@pytest.mark.parametrize("spelling", ["", "T-011", "H2.1", "synergie", "²"])
def test_what_is_not_there_is_refused_with_what_is(spelling):
    with pytest.raises(UsageError, match="T-001, T-002"):
        find(spelling)


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_description_says_what_is_known(experiment):
    short, full = describe(experiment, 12), describe(experiment, 12, full=True)
    assert short.items() <= full.items()
    assert full["declared"] == dict(load_thresholds().of(experiment.hypothesis.id))
    assert full["thresholds_hash"] == load_thresholds().hash
    assert full["method"] == module_of(experiment).__doc__
    assert full["parameters"] == asdict(experiment.params)
    assert full["block_evaluations"] > 0 or experiment.id == "T-005"


# -- cost -----------------------------------------------------------------------------------------


NOT_COUNTED = {
    # Controls come on top of the cost, and gauges are proved on a few tokens.
    "measure_controls": ({}, {}),
    "measure_twin": {},
    "gauge_fixed_log_variance": np.zeros(4),
    # How many first blocks T-010's plans share hangs on what a model's blocks are worth.
    "shapley_values": -np.arange(4.0),
}
"""Names in a ``measure`` module that the cost line leaves out, and what they return meanwhile."""


def of_other_experiments(experiment: Experiment, seed: int) -> list[Plan]:
    """Plans that are counted where they are scored first: the layer map's, T-002's noise."""
    shared = []
    if experiment.id == "T-010":
        shared += make_design(4).plans("rtn4-g32")
        shared += noise_plans(4, experiment.params.noise, experiment.params.noise_seeds, seed)
    return shared


# T-008 runs texts of its own, which its own test counts; T-005 reads weights and runs no text.
@pytest.mark.parametrize(
    "experiment", [e for e in CATALOG if e.id not in ("T-005", "T-008")], ids=named
)
def test_cost_is_what_a_measurement_runs(experiment, monkeypatch):
    """Counts sequences through blocks against the cost line, controls left out of both."""
    lab = make_lab("gpt2", blocks=4, corpus=write_corpus(4))
    # What full precision says of the text is measured once and shared by all experiments.
    lab.score([Plan.uniform("rtn8-g32", 4), *of_other_experiments(experiment, lab.settings.seed)])
    part = sys.modules[experiment.measure.__module__]
    for name, value in NOT_COUNTED.items():
        if hasattr(part, name):
            # T-010's controls are arrays alone: none of them can be absent.
            none = {} if experiment.id == "T-010" and name == "measure_controls" else value
            monkeypatch.setattr(part, name, lambda *_, value=none: value)
    blocks = counted_blocks(lab, monkeypatch)
    experiment.measure(lab, "rtn4-g32", experiment.params)
    assert blocks() == experiment.cost.block_evaluations(4) * lab.text.counts.tokens.size


# T-010's sets of blocks hang on what blocks are worth, which is not known before.
@pytest.mark.parametrize(
    "experiment", [e for e in CATALOG if e.id not in ("T-005", "T-008", "T-010")], ids=named
)
def test_what_is_asked_is_all_that_others_can_share(experiment, monkeypatch):
    """Scores what an experiment says it asks; all that it runs then is its own."""
    lab = make_lab("gpt2", blocks=5, corpus=write_corpus(4))
    lab.score([Plan.uniform("rtn8-g32", 5)])
    few = {"map_sentences": 4, "pairs": False, "sampled_pairs": 2}
    named_here = {f.name for f in fields(experiment.params)}
    params = replace(experiment.params, **{k: v for k, v in few.items() if k in named_here})
    for asked in experiment.asked(5, params, seed=lab.settings.seed):
        assert asked.sentences in (None, 4) and not asked.exact
        lab.score(asked.plans)
    part = sys.modules[experiment.measure.__module__]
    for name in ("measure_controls", "measure_twin"):
        if hasattr(part, name):
            none = {} if name == "measure_twin" else ({}, {})
            monkeypatch.setattr(part, name, lambda *_, value=none: value)
    blocks = counted_blocks(lab, monkeypatch)
    if hasattr(part, "gauge_fixed_log_variance"):
        monkeypatch.setattr(part, "gauge_fixed_log_variance", lambda *_: np.zeros(5))
    experiment.measure(lab, COST_SCHEME, params)
    assert blocks() == experiment.cost.own_blocks(5) * lab.text.counts.tokens.size


@pytest.mark.parametrize("experiment", CATALOG, ids=named)
def test_cost_grows_with_depth(experiment):
    counts = [experiment.cost.block_evaluations(n) for n in (2, 4, 12, 32)]
    assert counts == sorted(counts)
    assert counts[0] > 0 or experiment.id == "T-005"
