"""Sums at the linears' inputs: by hand, in closed form, and hooks that leave no trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import make_lab, write_corpus

from bitgap.errors import UnsupportedArchitecture
from bitgap.lab.activations import stream
from bitgap.lab.lab import Lab
from bitgap.lab.linear_inputs import linear_inputs, watching
from bitgap.lab.settings import Settings
from bitgap.models.weights import linear_views
from bitgap.quant.plan import Plan


def rounded(lab: Lab, scheme: str = "rtn4-g32") -> Plan:
    return Plan.uniform(scheme, lab.n_blocks)


def hooks(lab: Lab) -> int:
    return sum(
        len(module._forward_pre_hooks) for block in lab.decoder.blocks for module in block.modules()
    )


# -- by hand ----------------------------------------------------------------------------------


def by_hand(lab: Lab, plan: Plan, block: int, name: str) -> dict[str, Any]:
    """The same sums, one sentence at a time through the whole model, in float64."""
    view = lab.decoder.block_linears(block)[name]
    seen: list[torch.Tensor] = []
    weight = view.get().double()
    change = lab.bank.rounded_linears(block, plan.blocks[block])[name].double() - weight
    fewest = lab.text.counts.tokens.min(0)
    sums: dict[str, list[float]] = {
        n: [] for n in ("total", "square", "output", "error", "few_error")
    }
    handle = view.module.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    for language in lab.text.ids:
        for sentence, ids in enumerate(language):
            seen.clear()
            with torch.no_grad():
                lab.decoder.model(input_ids=torch.tensor([ids]), use_cache=False)
            x = seen[0].reshape(len(ids), -1)[1:].double()
            sums["total"].append(float(x.sum()))
            sums["square"].append(float(x.square().sum()))
            sums["output"].append(float((x @ weight.T).square().sum()))
            errors = (x @ change.T).square().sum(1)
            sums["error"].append(float(errors.sum()))
            sums["few_error"].append(float(errors[: fewest[sentence]].sum()))
    handle.remove()
    shape = lab.text.counts.tokens.shape
    return {name: np.array(values).reshape(shape) for name, values in sums.items()}


@pytest.mark.parametrize("case", ["llama", "gpt2", "opt"])
def test_sums_are_those_made_by_hand(case):
    lab = make_lab(case, corpus=write_corpus(3))
    plan = rounded(lab)
    found = linear_inputs(lab, plan)
    names = [(b, n) for b in range(lab.n_blocks) for n in lab.decoder.block_linears(b)]
    assert found["block"].tolist() == [block for block, _ in names]
    for at in (0, len(names) // 2, len(names) - 1):
        for what, wanted in by_hand(lab, plan, *names[at]).items():
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(found[what][at], wanted, rtol=1e-4, atol=1e-5 * scale)
        # None of these random models has sinks: every token but the first counts.
        np.testing.assert_array_equal(found["tokens"][at], lab.text.counts.tokens)
        view = lab.decoder.block_linears(names[at][0])[names[at][1]]
        assert found["width"][at] == view.get().shape[1]


def test_a_protected_block_has_no_error_and_some_blocks_can_be_asked_for():
    lab = make_lab("llama")
    plan = Plan.uniform("rtn4-g32", 3, protect=(1,))
    whole, part = linear_inputs(lab, plan), linear_inputs(lab, plan, blocks=(1, 2))
    assert (whole["error"][whole["block"] == 1] == 0).all()
    assert (whole["error"][whole["block"] != 1] > 0).all()
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][whole["block"] > 0], rtol=1e-6)


def test_sinks_are_left_out_as_the_state_that_enters_says():
    lab = make_lab("llama", corpus=write_corpus(3))
    # One letter's embedding outgrows all others: wherever it stands it is a sink.
    loud = lab.text.ids[0][0][2]
    table: Any = lab.decoder.model.get_input_embeddings().weight
    table.data[loud] *= 1000
    found = linear_inputs(lab, rounded(lab))
    ids = [[list(row[1:]).count(loud) for row in language] for language in lab.text.ids]
    np.testing.assert_array_equal(found["tokens"][0], lab.text.counts.tokens - np.array(ids))


def test_blocks_that_do_not_fit_together_give_the_same_sums():
    lab = make_lab("llama")
    whole = linear_inputs(lab, rounded(lab))
    lab.engine.layout = replace(lab.engine.layout, bank_bytes=1)
    apart = linear_inputs(lab, rounded(lab))
    for name, values in whole.items():
        np.testing.assert_array_equal(apart[name], values)


# -- hooks ------------------------------------------------------------------------------------


def test_hooks_are_taken_off():
    lab = make_lab("llama")
    before = hooks(lab)
    linear_inputs(lab, rounded(lab))
    assert hooks(lab) == before


def test_hooks_are_taken_off_after_an_exception():
    lab = make_lab("llama")
    before = hooks(lab)

    def fail(block: int, name: str, inputs: torch.Tensor) -> None:
        raise RuntimeError("seen")

    with pytest.raises(RuntimeError, match="seen"), watching(lab.decoder, range(3), fail):
        for _ in stream(lab, [Plan.uniform("fp", 3)]):
            pass
    assert hooks(lab) == before


def test_a_linear_that_sees_some_tokens_only_is_refused_and_hooks_are_taken_off(monkeypatch):
    lab = make_lab("llama")
    before = hooks(lab)
    linear: Any = lab.decoder.block_linears(1)["mlp.down_proj"].module
    # As an expert does: it is given one row of the batch and the rest is left alone.
    block: Any = lab.decoder.blocks[1].get_submodule("mlp")
    monkeypatch.setattr(block, "forward", lambda x: 0 * x + linear(torch.zeros(1, 48)))
    with pytest.raises(UnsupportedArchitecture, match=r"mlp\.down_proj.*block 1"):
        linear_inputs(lab, rounded(lab))
    assert hooks(lab) == before


def test_hooks_see_full_precision_also_where_fast_blocks_are_copies():
    labs = [
        make_lab("gpt2", corpus=write_corpus(4), settings=Settings(arithmetic=arithmetic))
        for arithmetic in ("exact", "fast")
    ]
    for block in range(labs[1].n_blocks):
        # Copies are made before, as scoring would; the hooks sit on the model's own.
        copied = labs[1].bank.block(block, "fp")
        assert linear_views(copied) is not None
    exact, fast = (linear_inputs(lab, rounded(lab)) for lab in labs)
    for name in ("square", "output", "error"):
        np.testing.assert_allclose(fast[name], exact[name], rtol=0.05)
    assert (fast["tokens"] > 0).all()
