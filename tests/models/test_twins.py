from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import assert_untouched, build, shared, state

from bitgap.models.decoder import Decoder
from bitgap.models.load import LoadedModel, fingerprint, load_model
from bitgap.models.twins import loaded_with, random_twin, shuffled_twin


@pytest.fixture(scope="module")
def reference() -> LoadedModel:
    return load_model(None)


@pytest.mark.parametrize("case", ["gpt2", "llama-tied", "gemma2", "falcon-new", "apertus"])
def test_a_random_twin_is_fresh_and_can_be_split(case: str) -> None:
    model = build(case)
    before, random_state = fingerprint(model), torch.get_rng_state()
    twins = [random_twin(model, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert fingerprint(model) == before
    prints = [fingerprint(twin) for twin in twins]
    assert prints[0] == prints[1] != prints[2]
    assert before not in prints
    twin = Decoder.from_model(twins[0])
    assert type(twin.model) is type(model)
    assert state(twin.model).keys() == state(model).keys()
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in twin.model.parameters())


def test_a_random_twin_attends_by_the_same_kernel() -> None:
    model = build("gpt2")
    model.set_attn_implementation("eager")
    assert random_twin(model).config._attn_implementation == "eager"


def test_a_random_twin_has_the_spread_that_its_config_names() -> None:
    twin = Decoder(random_twin(build("llama")))
    std = float(twin.block_linears(0)["mlp.up_proj"].get().std())
    assert std == pytest.approx(twin.model.config.initializer_range, rel=0.1)


def test_a_shuffled_twin_permutes_each_block_linear_and_nothing_else() -> None:
    decoder = shared("gpt2")
    before, modules = state(decoder.model), list(decoder.model.modules())
    twin = Decoder(shuffled_twin(decoder.model, 4))
    assert_untouched(decoder.model, before, modules)
    assert fingerprint(shuffled_twin(decoder, 4)) == fingerprint(twin.model)
    assert fingerprint(shuffled_twin(decoder, 5)) != fingerprint(twin.model)
    linears = {
        f"transformer.h.{i}.{name}.weight" for i in range(3) for name in decoder.block_linears(i)
    }
    for name, value in state(twin.model).items():
        assert torch.equal(value, before[name]) == (name not in linears)
        assert torch.equal(value.flatten().sort()[0], before[name].flatten().sort()[0])


def test_a_changed_model_is_described_by_its_own_name_and_fingerprint(
    reference: LoadedModel,
) -> None:
    changed = loaded_with(reference, shuffled_twin(reference.model), "shuffled")
    assert changed.info.name == "reference+shuffled"
    assert changed.info.fingerprint == fingerprint(changed.model) != reference.info.fingerprint
    assert changed.tokenizer is reference.tokenizer
    assert changed.info.n_parameters == reference.info.n_parameters
    assert fingerprint(copy.deepcopy(reference.model)) == reference.info.fingerprint
