"""A model larger than its device: blocks visit it one at a time, and numbers are the same.

Where there is no such device the processor stands in for it, and what is at home is of a kind that
cannot be computed with, so that whatever is run without having been brought fails.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import load_tiny, make_lab, write_corpus
from tiny_models import assert_close, build, draw, own_logits
from torch import Tensor, nn

from bitgap.errors import UsageError
from bitgap.lab import bench as bench_module
from bitgap.lab.lab import Lab
from bitgap.lab.screen import screen
from bitgap.lab.settings import Settings
from bitgap.models import visits as visits_module
from bitgap.models.decoder import Decoder
from bitgap.models.twins import loaded_with
from bitgap.models.visits import Visits
from bitgap.quant.plan import Plan, mask_plans
from validation.families.tiny import tiny_model

PLANS = [*mask_plans("rtn4-channel", 3, (0, 1, 2, 5)), Plan.parse("rtn3-g32 protect 0", 3)]
CASES = ("llama", "llama-tied", "gpt2", "gemma2", "bloom", "opt", "falcon", "cohere")


@pytest.fixture
def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no device room for a model."""
    monkeypatch.setattr(bench_module, "has_room", lambda *_: False)


@pytest.fixture
def away(without_room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same; and what lies at home has shapes and no numbers."""
    own, kept = Visits._sent, dict[int, Tensor]()

    def empty_at_home(self: Visits, blocks: Any, device: Any) -> None:
        init(self, blocks, device)
        for block in blocks:
            for held, name, tensor in list(visits_module._slots(block)):
                if id(tensor) in kept:  # already without numbers: shared between blocks
                    continue
                bare: Any = tensor.detach().to("meta")
                bare = nn.Parameter(bare, False) if isinstance(tensor, nn.Parameter) else bare
                kept[id(bare)] = tensor
                held[name] = bare

    def sent(self: Visits, tensor: Tensor, pinned: Tensor | None) -> Tensor:
        return own(self, kept[id(tensor)], pinned)

    init = Visits.__init__
    monkeypatch.setattr(Visits, "__init__", empty_at_home)
    monkeypatch.setattr(Visits, "_sent", sent)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_a_model_that_has_room(
    case: str, request: pytest.FixtureRequest
) -> None:
    corpus = write_corpus(8)
    whole = make_lab(case, corpus=corpus).score(PLANS)
    request.getfixturevalue("away")
    lab = make_lab(case, corpus=corpus)
    assert lab.decoder.visits is not None and lab.engine.layout.streams
    found = lab.score(PLANS)
    for name in ("kl_nats", "nll_nats"):
        off = np.abs(getattr(found, name) - getattr(whole, name)) / lab.text.counts.tokens
        assert off.max() < 1e-5, name
    assert lab.preflight([Plan.uniform("rtn2-channel", 3)]).disk_bytes > 0


@pytest.mark.parametrize("name", ["Gemma3nForCausalLM", "ZambaForCausalLM", "JambaForCausalLM"])
def test_states_of_several_tensors_and_shared_blocks(name: str, away: None) -> None:
    model: Any = tiny_model(name)
    ids = draw(2, 11)
    own = own_logits(copy.deepcopy(model), ids)
    decoder = Decoder.from_model(model)
    decoder.let_blocks_visit("cpu")
    with torch.no_grad():
        assert_close(decoder.logits(ids), own, 1e-4)


def test_what_looks_into_blocks_finds_their_numbers(request: pytest.FixtureRequest) -> None:
    corpus, found = write_corpus(8), []
    for _ in range(2):
        lab = make_lab("llama", corpus=corpus)
        screened = screen(lab, ("rtn3-g32", "rtn4-g32"))
        rounded = lab.bank.rounded_linears(1, "rtn4-g32")
        found.append((screened, rounded))
        if lab.decoder.visits is None:
            request.getfixturevalue("away")
    assert np.allclose(found[0][0].by_token, found[1][0].by_token, rtol=1e-4)
    assert found[0][1].keys() == found[1][1].keys()
    for name, matrix in found[0][1].items():
        assert torch.equal(matrix, found[1][1][name])


def test_a_changed_copy_is_split_anew(request: pytest.FixtureRequest) -> None:
    corpus, found = write_corpus(8), []
    for _ in range(2):
        lab = make_lab("llama", corpus=corpus)
        if lab.decoder.visits is not None:
            lab.decoder.bring(1)  # one block is away while it is copied
        changed: Any = copy.deepcopy(lab.loaded.model)
        changed.model.norm.weight.mul_(1.5)
        twin = lab.twin(loaded_with(lab.loaded, changed, "louder"))
        assert twin.decoder.model is changed
        found.append(twin.score(PLANS).nll_nats)
        if lab.decoder.visits is None:
            request.getfixturevalue("without_room")
    assert np.allclose(found[0], found[1], rtol=1e-4)


@pytest.mark.parametrize(("free_bytes", "fits"), [(0, False), (2**20, False), (2**30, True)])
def test_room_is_the_device_s_free_memory(
    free_bytes: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 2**40))
    settings = Settings(memory_bytes=2**20)
    object.__setattr__(settings, "device", "cuda:1")  # which there is none of here
    assert bench_module.has_room(build("llama"), settings) is fits
    assert bench_module.has_room(build("llama"), Settings(memory_bytes=2**20))


def test_what_needs_all_of_the_model_says_so(away: None) -> None:
    lab = make_lab("llama", corpus=write_corpus(8))
    with pytest.raises(UsageError, match=r"--generate needs the whole model.*--device cpu"):
        lab.decoder.whole_model("--generate")
    assert lab.random_twin().decoder.visits is not None


def test_at_most_one_block_is_away_from_home() -> None:
    decoder = Decoder.from_model(build("llama"))
    home = [[id(p) for p in block.parameters()] for block in decoder.blocks]

    def away_now() -> list[int]:
        now = [[id(p) for p in block.parameters()] for block in decoder.blocks]
        return [i for i, (a, b) in enumerate(zip(now, home, strict=True)) if a != b]

    decoder.let_blocks_visit("cpu")
    assert away_now() == []
    for i in (0, 2, 2, 1):
        decoder.bring(i)
        assert away_now() == [i]
    assert decoder.visits is not None
    decoder.visits.leave()
    assert away_now() == []


def test_a_block_that_finds_no_room_stays_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder.from_model(build("llama"))
    home = [id(p) for p in decoder.blocks[1].parameters()]
    decoder.let_blocks_visit("cpu")
    own, calls = Visits._sent, []

    def full(self: Visits, tensor: Tensor, pinned: Tensor | None) -> Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise torch.OutOfMemoryError("no room")
        return own(self, tensor, pinned)

    monkeypatch.setattr(Visits, "_sent", full)
    with pytest.raises(torch.OutOfMemoryError):
        decoder.bring(1)
    assert [id(p) for p in decoder.blocks[1].parameters()] == home


def test_ends_that_are_tied_stay_tied_and_a_model_is_split_once(
    away: None, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_tiny("llama-tied")
    labs = [Lab.of(loaded, write_corpus(8)) for _ in range(2)]
    assert labs[0].decoder is labs[1].decoder
    assert caplog.text.count("its blocks visit it one at a time") == 1
    model: Any = loaded.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert labs[0].decoder.tail.weight.is_set_to(model.get_input_embeddings().weight)
