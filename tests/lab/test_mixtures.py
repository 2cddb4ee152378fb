"""Mixtures, hybrids and packed states through a lab: what is told, and what is not testable."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import Letters, write_corpus
from tiny_models import own_logits

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.catalog import find
from bitgap.jobs.investigate import run
from bitgap.lab.activations import stream
from bitgap.lab.lab import Lab
from bitgap.lab.mixtures import caveats_of_model, reached_experts
from bitgap.models.load import LoadedModel, fingerprint
from bitgap.quant.plan import Plan
from bitgap.records import ModelInfo
from validation.families.tiny import tiny_model


def loaded(name: str, change: Any = None) -> LoadedModel:
    model: Any = tiny_model(name)
    if change:
        change(model)
    info = ModelInfo(
        name=name,
        family=model.config.model_type,
        class_name=name,
        n_blocks=4,
        width=32,
        vocabulary=97,
        context=40,
        n_parameters=sum(p.numel() for p in model.parameters()),
        tied=False,
        fingerprint=fingerprint(model),
    )
    return LoadedModel(model, Letters(), info)


def make(name: str, change: Any = None) -> Lab:
    return Lab.of(loaded(name, change), write_corpus(4, ("en", "he", "de"), seed=2))


def to_the_same_two_experts(model: Any) -> None:
    # All experts score alike for every token, so the same two are taken each time.
    model.get_submodule("model.layers.2.mlp.gate").weight.zero_()


FAMILIES = ["MixtralForCausalLM", "Gemma3nForCausalLM", "Gemma4ForCausalLM", "JambaForCausalLM"]


@pytest.mark.parametrize("name", [*FAMILIES, "RwkvForCausalLM"])
def test_scores_are_those_of_the_changed_model(name: str) -> None:
    lab = make(name)
    plan = Plan.parse("rtn3-channel protect 0", 4)
    scores = lab.score([plan])
    # The slow way: the rounded matrices in a model of its own, one sentence at a time.
    changed: Any = tiny_model(name)
    for i, block in enumerate(lab.decoder.family.blocks_of(changed)):
        for key, weight in lab.bank.rounded_linears(i, plan.blocks[i]).items():
            lab.decoder.block_linears(i)[key].of(block).copy_(weight)
    for row, language in enumerate(lab.text.ids):
        for column, ids in enumerate(language):
            logits = own_logits(changed, torch.tensor([ids]))[0, :-1].log_softmax(-1)
            nll = -logits.gather(1, torch.tensor(ids[1:])[:, None]).sum()
            assert abs(float(nll) - scores.nll_nats[0, row, column]) < 1e-3


def test_routers_kept_and_experts_that_no_token_reached_are_told() -> None:
    lab = make("MixtralForCausalLM", to_the_same_two_experts)
    reached = reached_experts(lab)
    assert set(reached) == {(i, "mlp.experts") for i in range(4)}
    tokens = sum(len(ids) for language in lab.text.ids for ids in language)
    for counts in reached.values():
        assert counts.sum() == 2 * tokens  # two experts a token, and no pad is counted
    never = np.flatnonzero(reached[2, "mlp.experts"] == 0)
    assert len(never) == 3
    left, unreached = caveats_of_model(lab)
    assert left == "Left whole, as they are no linears or choose experts: 4 routers."
    assert "were reached by no token of this text" in unreached
    assert ", ".join(f"L2 expert {expert}" for expert in never) in unreached
    assert set(caveats_of_model(lab)) <= set(lab.audit("rtn4-channel").caveats)
    assert not any(m._forward_pre_hooks for m in lab.decoder.model.modules())


def test_a_dense_model_has_nothing_to_tell() -> None:
    assert caveats_of_model(make("OlmoForCausalLM")) == ()


def test_instruments_see_the_residual_stream_where_there_is_one() -> None:
    lab = make("Gemma4ForCausalLM")
    for part in stream(lab, [Plan.uniform("fp", 4)]):
        assert part.states[0].shape[-1] == 32
    with pytest.raises(UnsupportedArchitecture, match="no one residual stream"):
        list(stream(make("Gemma3nForCausalLM"), [Plan.uniform("fp", 4)]))


@pytest.mark.parametrize(
    ("name", "experiment", "reason"),
    [
        ("MixtralForCausalLM", "T-003", "experts .* given some tokens and not others"),
        ("Gemma3nForCausalLM", "T-004", "no one residual stream"),
        ("Gemma3nForCausalLM", "T-007", "no one residual stream"),
    ],
)
def test_what_a_model_lacks_makes_an_experiment_not_testable(
    name: str, experiment: str, reason: str
) -> None:
    lab = make(name)
    finding = run(experiment, lab, scheme="rtn4-channel", tier="smoke")
    assert finding.verdict.label == "not testable"
    assert re.search(reason, str(finding.verdict.reason)) and re.search(reason, finding.sentence)
    # Stored, so that it is not tried again, and drawn without numbers.
    again = run(experiment, lab, scheme="rtn4-channel", tier="smoke")
    assert again == finding
    spec = find(experiment).figure(finding)
    assert spec["data"]["values"] == [{"told": finding.sentence}]
    assert list(find(experiment).further_figures(finding)) == []
