"""What experiments and their controls do is counted as it is, and no fault of one costs another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus

from bitgap.experiments import t009_convergence as t009
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import Experiment
from bitgap.records import Control, Estimate, Finding, Observations, Verdict
from harness import QUICK
from toy_experiments import with_parts
from validation.detection import Detection, Setting, merged, outcomes, parts
from validation.page import detection as section

SETTING = Setting(
    languages=("en", "he"),
    sentences=6,
    seeds=(0, 1),
    twin_seeds=(5,),
    scheme="rtn4-g128",
    overrides={"planted_seeds": 3, "of_another": 1},
    twin_overrides={"planted_seeds": 1},
)


@dataclass(frozen=True, slots=True)
class Params:
    planted_seeds: int = 20


def fake(**how: Any) -> Experiment:
    """An experiment whose positive control fails on odd seeds, and that believes random twins."""

    def measure(lab: Any, scheme: str, params: Params) -> Observations:
        facts = {
            "model": lab.info.name,
            "seed": lab.settings.seed,
            "sentences": list(lab.corpus.text("en")),
            "planted": params.planted_seeds,
        }
        seen.append(facts)
        return Observations(experiment="T-000", version=1, arrays={}, facts=facts)

    def judge(observations: Observations, thresholds: Any) -> Finding:
        facts = observations.facts
        twin = facts["model"].endswith("+random")
        planted = Control(
            name="planted", kind="positive", passed=facts["seed"] % 2 == 0, detail="in 3 of 3"
        )
        absent = Control(name="absent", kind="negative", passed=None, detail="there is | none")
        return Finding(
            experiment="T-000",
            hypothesis="H0.0",
            title="",
            primary="x",
            estimates={"x": Estimate(value=1.0, unit="", reason="made up")},
            original_measure={},
            controls=(absent, planted),
            verdict=Verdict(
                label="supported" if twin else "refuted", scope="this model", reason=""
            ),
            sentence="",
        )

    seen: list[dict[str, Any]] = []
    declared = replace(
        CATALOG[0],
        id="T-000",
        hypothesis=replace(CATALOG[0].hypothesis, id="H0.0"),
        params=Params(),
        **how,
    )
    made = with_parts(declared, measure=measure, judge=judge)
    SEEN[made.id] = seen
    return made


def detect(lab: Any, catalog: list[Experiment], setting: Setting) -> list[Detection]:
    found = [o for part in parts(setting) for o in outcomes(lab, part, catalog, setting, QUICK)]
    return merged(catalog, found)


SEEN: dict[str, list[dict[str, Any]]] = {}


@pytest.fixture(scope="module")
def lab() -> Any:
    return make_lab(corpus=write_corpus(12))


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("nothing by nothing")


def test_verdicts_and_controls_are_counted_over_seeds(lab):
    (one,) = detect(lab, [fake()], SETTING)
    assert one.verdicts == Counter(refuted=2)
    assert one.twins == Counter(supported=1)
    planted, absent = one.controls["planted"], one.controls["absent"]
    assert (planted.passed, planted.failed, planted.not_run) == (1, 1, 0)
    assert (absent.passed, absent.failed, absent.not_run) == (0, 0, 2)


def test_every_seed_has_sentences_of_its_own_and_parameters_go_where_they_belong(lab):
    list(detect(lab, [fake()], SETTING))
    first, second, twin = SEEN["T-000"]
    assert first["sentences"] != second["sentences"]
    assert len(first["sentences"]) == 6
    assert [s["seed"] for s in (first, second, twin)] == [0, 1, 5]
    assert [s["planted"] for s in (first, second, twin)] == [3, 3, 1]
    assert twin["model"].endswith("+random")
    assert lab.settings.seed == 0


def test_parameters_of_one_experiment_win_over_those_of_all_and_twins_over_both(lab):
    own = {"T-000": {"planted_seeds": 7}, "T-001": {"planted_seeds": 9}}
    list(detect(lab, [fake()], replace(SETTING, own_overrides=own)))
    assert [s["planted"] for s in SEEN["T-000"]] == [7, 7, 1]


def test_a_fault_of_one_experiment_costs_no_other(lab):
    faulty = with_parts(replace(fake(), id="T-001"), measure=broken)
    judged = with_parts(replace(fake(), id="T-002"), judge=broken)
    one, two, three = detect(lab, [faulty, judged, fake()], SETTING)
    for found in (one, two):
        assert not found.verdicts
        assert found.failures[0] == "on the model, seed 0: ZeroDivisionError: nothing by nothing"
        assert found.failures[-1].startswith("on a random-init twin")
    assert three.verdicts.total() == 2


def test_the_section_tells_all_of_it(lab):
    faulty = with_parts(replace(fake(), id="T-001"), measure=broken)
    text = section(list(detect(lab, [fake(), faulty], SETTING)), SETTING, "tiny")
    assert "over all experiments: 1.000 [0.025, 1.000]" in text
    assert "| T-000 | planted | positive | 1 | 1 | 0 | in 3 of 3 |" in text
    assert "there is \\| none" in text
    assert text.index("planted | positive") < text.index("absent | negative")
    assert "No positive control was detected in: T-001." in text
    assert "- T-001 on the model, seed 0: ZeroDivisionError" in text


def test_a_real_experiment_runs(lab):
    setting = replace(SETTING, seeds=(0,), sentences=12)
    (found,) = detect(lab, [t009.EXPERIMENT], setting)
    assert not found.failures
    assert found.verdicts.total() == found.twins.total() == 1
    assert any(c.kind == "positive" for c in found.controls.values())
    assert np.isfinite(found.wall_s)
