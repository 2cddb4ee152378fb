"""One plan on a new text, scored on full precision's own visit of the vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lab_samples import make_lab, write_corpus
from test_head import D, T, V, direct, draw

from bitgap.lab.engine.beside import can_score_beside, score_two
from bitgap.lab.engine.head import Tile, make_target
from bitgap.lab.engine.rates import Rates
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan

PLAN = Plan.uniform("rtn4-channel", 3)
OTHER = Plan.uniform("rtn3-channel", 3)


@pytest.mark.parametrize("name", ["fp", "rtn4-channel"])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(8, V), (64, V), (7, 10), (64, 32), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nll_and_kl_are_those_of_the_distributions(
    name: str, softcap: float | None, bias: bool, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    heads, hidden, tokens = draw(bias, softcap, 0.5)
    heads = {name: replace(h, weight=h.weight.to(dtype)) for name, h in heads.items()}
    moved = hidden + 0.3 * torch.randn(T, D, generator=torch.Generator().manual_seed(4))
    some, scratch = torch.tensor([2, 5, 6]), torch.empty(*shape)
    target, nll, kl = score_two(heads, name, hidden, moved, tokens, scratch, mean_of=some)
    full = direct(heads["fp"].weight, heads["fp"], hidden)
    mine = direct(heads[name].weight, heads[name], moved)
    wanted = -mine.gather(-1, tokens[:, None])[:, 0]
    assert torch.allclose(nll, wanted, atol=1e-5, rtol=0)
    assert torch.allclose(kl, (full.exp() * (full - mine)).sum(-1), atol=1e-5, rtol=0)
    # What it says of full precision is what it says where many plans are compared with it.
    usual = make_target(heads, hidden, tokens, scratch)
    assert torch.allclose(target.nll, usual.nll, atol=1e-6, rtol=0)
    assert torch.allclose(target.lse, usual.lse, atol=1e-6, rtol=0)
    assert torch.equal(target.chosen_row["fp"], usual.chosen_row["fp"])
    assert target.mean_row.keys() == ({"fp"} if softcap is None else set())
    for made in target.mean_row.values():
        assert torch.allclose(made[some], usual.mean_row["fp"][some], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["fp", "rtn4-channel"])
@pytest.mark.parametrize("width", [V, 10])
def test_logits_beyond_the_range_of_exp_are_scored_all_the_same(name: str, width: int) -> None:
    heads, hidden, tokens = draw(True, None, 200.0)
    z = heads["fp"].logits(hidden, torch.empty(T, V))
    assert torch.isinf(z.exp().sum(-1)).any(), "the case must overflow"
    moved, none = hidden + 0.01, torch.tensor([], dtype=torch.long)
    scratch = torch.empty(8, width)
    _, nll, kl = score_two(heads, name, hidden, moved, tokens, scratch, mean_of=none)
    full = direct(heads["fp"].weight, heads["fp"], hidden)
    mine = direct(heads[name].weight, heads[name], moved)
    scale = float(z.abs().max())
    wanted = -mine.gather(-1, tokens[:, None])[:, 0]
    assert torch.allclose(nll, wanted, atol=2e-6 * scale, rtol=0)
    wanted = (full.exp() * (full - mine)).sum(-1)
    assert torch.allclose(kl, wanted, atol=2e-6 * scale, rtol=0)


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("memory", [2**30, 700_000])
def test_a_plan_alone_has_the_scores_it_has_among_others(case: str, memory: int) -> None:
    corpus, settings = write_corpus(24), Settings(memory_bytes=memory)
    one, both = (make_lab(case, corpus=corpus, settings=settings) for _ in range(2))
    n_blocks = one.n_blocks
    plan, other = (Plan.uniform(scheme, n_blocks) for scheme in ("rtn4-channel", "rtn3-channel"))
    assert (len(one.engine.segments) > 1) == (memory < 2**20)
    alone, among = one.score([plan]), both.score([plan, other])
    tokens = alone.counts.tokens
    assert (abs(alone.kl_nats - among.kl_nats[:1]) / tokens).max() < 1e-6
    assert (abs(alone.nll_nats - among.nll_nats[:1]) / tokens).max() < 1e-6
    assert (abs(alone.nll_fp_nats - among.nll_fp_nats) / tokens).max() < 1e-6
    assert 0 < alone.floor_nats < 1e-5
    # Full precision is not run again for what is asked next.
    after = one.score([plan, other])
    assert (abs(after.kl_nats - among.kl_nats) / tokens).max() < 1e-6


def _visits(lab: Lab, plans: list[Plan], monkeypatch: pytest.MonkeyPatch) -> int:
    rows, logits = 0, Tile.logits

    def counted(self: Tile, entered: Any, scratch: Any) -> Any:
        nonlocal rows
        rows += len(entered) * len(self.weight)
        return logits(self, entered, scratch)

    with monkeypatch.context() as patch:
        patch.setattr(Tile, "logits", counted)
        lab.score(plans)
    return rows


def test_the_vocabulary_is_visited_once_for_each_of_the_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = make_lab(corpus=write_corpus(24))
    lab.rates.append(Rates(1.0, 1.0))
    lab.floor_nats = 1e-7  # known, so that nothing is evaluated twice
    blocks: list[int] = []
    run_block = lab.decoder.run_block

    def counted(i: int, hidden: Any, *args: Any) -> Any:
        blocks.append(hidden.shape[0] * hidden.shape[1])
        return run_block(i, hidden, *args)

    vars(lab.decoder)["run_block"] = counted
    vocabulary, scored = lab.info.vocabulary, int(lab.text.counts.tokens.sum())
    assert _visits(lab, [PLAN], monkeypatch) == 2 * scored * vocabulary
    assert sum(blocks) == 2 * lab.n_blocks * lab.n_rows
    # The next plan needs targets; states of full precision are there.
    assert _visits(lab, [OTHER], monkeypatch) == 2 * scored * vocabulary
    assert sum(blocks) == 3 * lab.n_blocks * lab.n_rows


def test_a_forecast_knows_of_it() -> None:
    one, two = make_lab(corpus=write_corpus(24)), make_lab(corpus=write_corpus(24))
    for lab in (one, two):
        lab.rates.append(Rates(0.0, 1.0))
        lab.floor_nats = 1e-7
    n_rows = one.n_rows
    assert one.preflight([PLAN]).time_s == pytest.approx(2 * n_rows)
    assert two.preflight([PLAN, OTHER]).time_s == pytest.approx(4 * n_rows)


def test_who_asks_for_flips_or_rounds_products_is_scored_the_usual_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_lab().engine
    assert can_score_beside(engine, [PLAN]) and not can_score_beside(engine, [PLAN, OTHER])
    monkeypatch.setattr(engine, "tops", True)
    assert not can_score_beside(engine, [PLAN])
    monkeypatch.setattr(engine, "tops", False)
    monkeypatch.setattr(engine, "rounds", True)
    assert not can_score_beside(engine, [PLAN])
