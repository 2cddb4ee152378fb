"""Inner products of errors: by hand, in closed form, to third order, blind to what moves no p."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import (
    Letters,
    log_probabilities,
    make_bench,
    make_lab,
    quantized_copy,
    write_corpus,
)

from bitgap.errors import UsageError
from bitgap.experiments.t006_error_cancellation.fisher import fisher_grams
from bitgap.lab.engine.text import make_chunks, tokenize
from bitgap.lab.settings import Ledger, Settings
from bitgap.models.tail import Tail
from bitgap.quant.plan import Plan
from bitgap.records import Floats

VOCABULARY = 97


def singles(scheme: str, n: int) -> list[Plan]:
    return [Plan(tuple(scheme if i == j else "fp" for i in range(n))) for j in range(n)]


# -- by hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["llama", "gpt2", "opt-projected", "gemma2"])
def test_products_are_those_of_brute_force(case):
    lab = make_lab(case)
    plans = singles("rtn4-g32", lab.n_blocks)
    found = fisher_grams(lab, plans, flattened=(0, 1))
    bench = make_bench(lab.decoder)
    copies = [quantized_copy(lab.decoder, plan) for plan in plans]
    gram = np.zeros_like(found["gram"]).reshape(-1, len(plans), len(plans))
    flat: list[Any] = []
    for place, ids in enumerate(i for language in bench.text.ids for i in language):
        full = log_probabilities(lab.decoder.model, ids)
        errors = torch.stack([log_probabilities(copied, ids) - full for copied in copies])
        p = full.exp()
        centred = errors - (p * errors).sum(-1, keepdim=True)
        gram[place] = torch.einsum("tv,itv,jtv->ij", p, centred, centred).numpy()
        raw = [raw_logits(model, ids) for model in (lab.decoder.model, *copies[:2])]
        flat.append(torch.stack([raw[1] - raw[0], raw[2] - raw[0]]).flatten(1))
    scale = np.abs(gram).max()
    np.testing.assert_allclose(
        found["gram"].reshape(gram.shape), gram, rtol=1e-3, atol=1e-4 * scale
    )
    together = torch.cat(flat, 1).numpy()
    assert pearson(found["moments"]) == pytest.approx(np.corrcoef(together)[0, 1], abs=1e-3)
    assert found["moments"][0, 0] == together.shape[1]


def raw_logits(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].double()


def pearson(moments: Floats) -> float:
    mean = moments[0, 1:] / moments[0, 0]
    spread = moments[1:, 1:] / moments[0, 0] - np.outer(mean, mean)
    return float(spread[0, 1] / np.sqrt(spread[0, 0] * spread[1, 1]))


def test_diagonal_is_twice_the_damage_in_nats_where_errors_are_small():
    lab = make_lab("gpt2", corpus=write_corpus(6))
    plans = singles("rtn8-g32", lab.n_blocks)
    gram = fisher_grams(lab, plans)["gram"]
    kl = lab.score(plans).kl_nats.sum((1, 2))
    np.testing.assert_allclose(np.diagonal(gram.sum((0, 1))), 2 * kl, rtol=0.02)


def test_the_same_error_twice_is_wholly_correlated_and_none_has_no_power():
    lab = make_lab("llama")
    n = lab.n_blocks
    one = singles("rtn4-g32", n)[1]
    gram = fisher_grams(lab, [one, Plan.uniform("fp", n), one])["gram"].sum((0, 1))
    assert gram[0, 2] == pytest.approx(gram[0, 0], rel=1e-6)
    np.testing.assert_allclose(gram[1], 0, atol=1e-12)


def test_a_few_tokens_at_a_time_gives_the_same(monkeypatch):
    lab = make_lab("llama", corpus=write_corpus(4))
    plans = singles("rtn4-g32", lab.n_blocks)
    whole = fisher_grams(lab, plans)
    monkeypatch.setattr("bitgap.experiments.t006_error_cancellation.fisher._CACHED_BYTES", 1)
    single = fisher_grams(lab, plans)
    for name, values in whole.items():
        np.testing.assert_allclose(single[name], values, rtol=1e-4, atol=1e-6)


def test_fast_products_change_little():
    exact, fast = (
        fisher_grams(
            make_lab("gpt2", corpus=write_corpus(6), settings=Settings(arithmetic=arithmetic)),
            singles("rtn3-g32", 3),
        )["gram"].sum((0, 1))
        for arithmetic in ("exact", "fast")
    )
    power = np.sqrt(np.diagonal(exact))
    np.testing.assert_allclose(fast / np.outer(power, power), exact / np.outer(power, power),
                               atol=0.1)  # fmt: skip


@pytest.mark.parametrize("plans", [[], [Plan(("fp",) * 3, head="rtn4-g32")]])
def test_no_plan_or_a_rounded_head_is_refused(plans):
    with pytest.raises(UsageError, match="full-precision head"):
        fisher_grams(make_lab("llama"), plans)


# -- a softmax of a sum, where errors of blocks simply add ------------------------------------


class AdditiveNet:
    """A stand-in for a lab whose blocks add what they are told to, whatever they are given."""

    def __init__(self, errors: list[Floats], weight: Floats) -> None:
        self.n_blocks, self.vocabulary = len(errors), len(weight)
        self.errors = [torch.from_numpy(error).float() for error in errors]
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(VOCABULARY, weight.shape[1], generator=generator)
        self.settings = SimpleNamespace(device="cpu", arithmetic="exact", seed=0)
        self.text = tokenize(write_corpus(4), Letters(), context=None, vocabulary=VOCABULARY)
        self.chunks = make_chunks(self.text, 96)
        self.decoder = self.bank = self
        self.engine = SimpleNamespace(rounds=False)
        self.ledger = Ledger()
        self.tail = Tail((), torch.from_numpy(weight).float(), None, 1.0, None)
        self.blocks = [None] * self.n_blocks

    def check(self, plan: Plan) -> None:
        assert len(plan.blocks) == self.n_blocks

    def embedding(self, scheme: str) -> dict[str, Any]:
        return {}

    def embed_with(self, ids: torch.Tensor, replaced: dict[str, Any]) -> torch.Tensor:
        return self.table[ids]

    def context_for(self, rows: int, length: int) -> None:
        return None

    def residual(self, state: torch.Tensor) -> torch.Tensor:
        return state

    def block(self, index: int, scheme: str) -> int:
        return index

    def run_block(self, i: int, state: Any, context: None, module: int | None) -> torch.Tensor:
        return state if module is None else state + self.errors[i]


def exact_kl(net: AdditiveNet, moved: torch.Tensor) -> float:
    """KL over all scored tokens where every state moves by one vector, float64."""
    total = 0.0
    for chunk in net.chunks:
        state = net.table[chunk.input_ids].flatten(0, 1)[chunk.positions].double()
        weight = net.tail.weight.double()
        full = torch.log_softmax(state @ weight.T, -1)
        mine = torch.log_softmax((state + moved.double()) @ weight.T, -1)
        total += float((full.exp() * (full - mine)).sum())
    return total


def additive(t: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    errors = [t * rng.normal(size=5) for _ in range(4)]
    return AdditiveNet(errors, rng.normal(size=(23, 5)))


def test_what_the_quadratic_form_leaves_of_a_softmax_is_of_third_order():
    def remainder(t: float) -> float:
        net = additive(t)
        quadratic = 0.5 * fisher_grams(net, singles("rtn4-g32", 4))["gram"].sum()
        return abs(exact_kl(net, torch.stack(net.errors).sum(0)) - quadratic) / t**3

    # Halving t leaves the remainder over t³ as it was, up to a share of t.
    large, small = remainder(0.1), remainder(0.05)
    assert small == pytest.approx(large, rel=0.2)


def test_opposite_errors_cancel():
    net = additive(0.05)
    net.errors[3] = -net.errors[0]
    gram = fisher_grams(net, singles("rtn4-g32", 4))["gram"].sum((0, 1))
    assert gram[0, 3] / np.sqrt(gram[0, 0] * gram[3, 3]) == pytest.approx(-1, abs=1e-5)


def test_a_shift_of_all_logits_is_no_error():
    net = additive(0.05)
    # The last coordinate of a state adds the same to every logit.
    net.tail.weight[:, -1] = 1.0
    net.errors[0] = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    gram = fisher_grams(net, singles("rtn4-g32", 4))["gram"].sum((0, 1))
    assert abs(gram[0, 0]) < 1e-6 * gram[1, 1]


def test_sentences_hold_their_own_tokens_only():
    net = additive(0.05)
    gram = fisher_grams(net, singles("rtn4-g32", 4))["gram"][..., 0, 0]
    tokens = net.text.counts.tokens
    assert gram.shape == tokens.shape
    # An error that is the same for all tokens has about the same power in each.
    per_token = gram / tokens
    assert per_token.std() < 0.5 * per_token.mean()
