"""A plan that is searched for a toolchain can be written for it, whatever the plan and the model.

``bitgap protect --for`` and ``bitgap export --to`` ask the same writer what it stores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_samples import saved

from bitgap.errors import ModelError, PlanError
from bitgap.formats.source import Source
from bitgap.formats.targets import TARGETS, find_target
from bitgap.lab.lab import Lab
from bitgap.protect.toolchains import TOOLCHAINS
from cli_samples import write_longer_corpus

SHAPES = ("llama", "qwen3", "gemma3", "gpt2")
BITS = 8.4
"""A budget that every target can keep, those too that leave embedding and head whole."""
# Their libraries pass over Conv1D.
NOT_GPT2 = ("compressed-tensors", "vllm", "torchao")


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Lab, Source]]:
    home = tmp_path_factory.mktemp("for")
    corpus = write_longer_corpus(home / "corpus")
    found: dict[str, tuple[Lab, Source]] = {}
    for shape in SHAPES:
        source = saved(home / shape, shape)
        lab = Lab.from_pretrained(home / shape, corpus, languages="en,de", store=home / "x.db")
        found[shape] = lab, source
    return found


@pytest.mark.parametrize("name", TOOLCHAINS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_plan_for_a_target_can_be_expressed_there(
    name: str, shape: str, labs: dict[str, tuple[Lab, Source]]
) -> None:
    lab, source = labs[shape]
    target = find_target(name)
    if shape == "gpt2" and name in NOT_GPT2:
        with pytest.raises(PlanError, match=r"Conv1D.*another target"):
            lab.prepare_recipe(budget=BITS, target=name, instrument="screen")
        return
    work = lab.prepare_recipe(budget=BITS, target=name, instrument="screen")
    problem = work.guess
    units = {unit.name: unit for unit in work.units.units}
    rng = np.random.default_rng(16)
    # Drawn among all that is allowed, so that no fused matrices part and nothing else is refused.
    drawn = [
        tuple(int(rng.choice(np.flatnonzero(row))) for row in problem.allowed) for _ in range(20)
    ]
    for picks in (problem.cheapest, problem.dearest, problem.uniform, *drawn):
        schemes = {
            source.place(matrix.name).name: scheme
            for unit, scheme in problem.by_unit(picks).items()
            for matrix in units[unit].matrices
        }
        assert schemes.keys() == source.places.keys()
        assert not target.refusals(source.places, schemes), picks
        assert any(scheme != "fp" for scheme in schemes.values())


def test_a_table_that_a_target_cannot_round_stays_whole(
    labs: dict[str, tuple[Lab, Source]],
) -> None:
    # torchao rounds a table of its own, and none that is the head too.
    for shape, whole in (("llama", False), ("qwen3", True)):
        work = labs[shape][0].prepare_recipe(budget=BITS, target="torchao", instrument="screen")
        schemes = work.guess.by_unit(work.guess.cheapest)
        assert (schemes["embedding"] == "fp") == whole


def test_what_a_target_has_no_place_for_is_told_with_the_reason(
    labs: dict[str, tuple[Lab, Source]],
) -> None:
    with pytest.raises(
        PlanError, match=r"no choice that gptq can load among rtn5-g32, fp \(it has kernels"
    ):
        labs["llama"][0].prepare_recipe(budget=BITS, target="gptq", schemes=("rtn5-g32",))


def test_targets_of_a_search_are_targets_of_an_export() -> None:
    from bitgap.cli.protect import TARGETS as ASKED

    assert {*ASKED} == TOOLCHAINS.keys() <= TARGETS.keys()
    # bitsandbytes has one kind of rounding for the whole model: nothing is to be searched.
    assert TARGETS.keys() - TOOLCHAINS.keys() == {"bitsandbytes"}


def test_a_model_that_a_target_has_no_place_for_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    saved(tmp_path / "m", "gpt2", activation_function="relu")
    corpus = write_longer_corpus(tmp_path / "corpus")
    lab = Lab.from_pretrained(tmp_path / "m", corpus, languages="en,de", store=tmp_path / "x.db")
    with pytest.raises(ModelError, match=r"usual settings \(other here: activation_function\)"):
        lab.prepare_recipe(budget=BITS, target="mlx", instrument="screen")
