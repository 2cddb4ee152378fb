from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import (
    CASES,
    assert_close,
    assert_untouched,
    build,
    draw,
    own_logits,
    planted,
    shared,
    state,
)
from torch import Tensor

from bitgap.errors import ModelError, UnsupportedArchitecture, UsageError
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance, rescale_norms
from bitgap.models.load import LoadedModel, fingerprint, load_model
from bitgap.models.roles import up_down_pair, value_output_pair
from bitgap.quant.rounding import crest_factor_sq, round_weight

POST_NORM = ("opt-post-norm", "opt-350m-like", "bloom-untied", "olmo2")
PRE_NORM = tuple(case for case in CASES if case not in POST_NORM)
UNIT_GAIN = tuple(case for case in PRE_NORM if not case.startswith("gemma"))
POWERS = [4.0, 0.125, 2.0]


def rounded_logits(decoder: Decoder, ids: Tensor, scheme: str, blocks: range | None = None) -> Any:
    chosen = range(decoder.n_blocks) if blocks is None else blocks
    with torch.no_grad():
        hidden, context = decoder.embed(ids), decoder.context_for(*ids.shape)
        for i in range(decoder.n_blocks):
            views = decoder.block_linears(i) if i in chosen else {}
            new = {n: round_weight(v.get(), scheme, stream=n) for n, v in views.items()}
            hidden = decoder.run_block(i, hidden, context, decoder.clone_block(i, linears=new))
        return decoder.tail.logits(hidden)


def random_factors(decoder: Decoder, seed: int = 0) -> Any:
    return np.exp(np.random.default_rng(seed).normal(0, 1.5, decoder.n_blocks))


# -- rescaled norms ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["gpt2", "llama"])
@pytest.mark.parametrize("scheme", ["fp", "rtn4-g128", "rtn4-channel"])
def test_powers_of_two_on_norms_leave_every_bit_of_the_logits(case: str, scheme: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    changed = Decoder.from_model(rescale_norms(decoder, POWERS))
    logits = rounded_logits(decoder, ids, scheme)
    assert torch.equal(rounded_logits(changed, ids, scheme), logits)
    if scheme != "fp":
        assert not torch.equal(logits, rounded_logits(decoder, ids, "fp"))


@pytest.mark.parametrize("case", UNIT_GAIN)
def test_powers_of_two_are_exact_in_every_family_with_plain_gains(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    changed = rescale_norms(decoder, POWERS[: decoder.n_blocks])
    assert torch.equal(own_logits(changed, ids), own_logits(decoder.model, ids))


@pytest.mark.parametrize("case", PRE_NORM)
def test_any_factor_on_norms_leaves_the_function(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    before, modules = state(decoder.model), list(decoder.model.modules())
    changed = rescale_norms(decoder, random_factors(decoder))
    assert_close(own_logits(changed, ids), own_logits(decoder.model, ids), 1e-4)
    assert_untouched(decoder.model, before, modules)


def test_a_reader_s_weights_take_the_factor_and_other_matrices_stay() -> None:
    decoder = shared("gpt2")
    changed = Decoder(rescale_norms(decoder.model, POWERS))
    for i, c in enumerate(POWERS):
        old, new = decoder.block_linears(i), changed.block_linears(i)
        assert torch.equal(new["attn.c_attn"].get(), old["attn.c_attn"].get() * c)
        assert torch.equal(new["attn.c_proj"].get(), old["attn.c_proj"].get())
        new_norm, old_norm = (d.blocks[i].get_submodule("ln_1") for d in (changed, decoder))
        assert torch.equal(new_norm.weight * c, old_norm.weight)
        assert torch.equal(new_norm.bias * c, old_norm.bias)


def test_gains_of_one_plus_weight_are_exact_while_they_stay_above_a_half() -> None:
    decoder, ids = shared("gemma"), draw(2, 11)
    grown = rescale_norms(decoder, [0.125] * 3)
    assert torch.equal(own_logits(grown, ids), own_logits(decoder.model, ids))
    shrunk = rescale_norms(decoder, [64.0] * 3)
    assert_close(own_logits(shrunk, ids), own_logits(decoder.model, ids), 1e-4)


@pytest.mark.parametrize("case", POST_NORM)
def test_a_model_without_a_norm_to_rescale_is_refused(case: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match="nothing to rescale"):
        rescale_norms(shared(case), [2.0] * shared(case).n_blocks)


@pytest.mark.parametrize("factors", [[1.0, 2.0], [1.0, 2.0, 0.0], [1.0, np.nan, 1.0], ["a"] * 3])
def test_factors_that_are_not_one_positive_number_per_block_are_refused(factors: Any) -> None:
    with pytest.raises(UsageError, match="factors must be"):
        rescale_norms(shared("gpt2"), factors)


# -- variance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", PRE_NORM)
def test_gauge_fixed_variance_ignores_norm_scales_and_raw_variance_does_not(case: str) -> None:
    decoder = shared(case)
    changed = Decoder(rescale_norms(decoder, random_factors(decoder)))
    fixed = gauge_fixed_log_variance(decoder)
    assert np.ptp(fixed) > 0.1
    np.testing.assert_allclose(gauge_fixed_log_variance(changed), fixed, atol=1e-5)
    assert np.abs(raw_log_variance(changed) - raw_log_variance(decoder)).max() > 0.1


@pytest.mark.parametrize("case", ["gpt2", "phi3", "llama", "falcon-new"])
@pytest.mark.parametrize("find", [value_output_pair, up_down_pair])
def test_gauge_fixed_variance_ignores_the_balance_of_paired_matrices(
    case: str, find: Callable[..., Any]
) -> None:
    decoder = Decoder(build(case))
    pair = find(decoder, 1)
    if pair is None:
        assert (find, case) in ((up_down_pair, "gpt2"), (up_down_pair, "falcon-new"))
        return
    fixed, raw = gauge_fixed_log_variance(decoder), raw_log_variance(decoder)
    views = decoder.block_linears(1)
    for row in pair.rows:
        views[pair.source].get()[row] *= 3.0
    views[pair.target].get().div_(3.0)
    np.testing.assert_allclose(gauge_fixed_log_variance(decoder), fixed, atol=1e-5)
    assert np.abs(raw_log_variance(decoder) - raw).max() > 0.1


def test_gauge_fixed_variance_still_sees_a_real_change_of_scale() -> None:
    decoder = Decoder(build("gpt2"))
    before = gauge_fixed_log_variance(decoder)
    decoder.block_linears(2)["mlp.c_proj"].get().mul_(8.0)
    after = gauge_fixed_log_variance(decoder)
    assert after[2] - after[:2].max() > before[2] - before[:2].max() + 0.1


def test_gauge_fixed_variance_is_the_mean_z_score_of_folded_matrices() -> None:
    decoder = shared("gpt-neo")
    rows = []
    for i in range(2):
        w = {name: view.get().double() for name, view in decoder.block_linears(i).items()}
        ln_1, ln_2 = (decoder.blocks[i].get_submodule(n).weight.double() for n in ("ln_1", "ln_2"))
        for name in w:
            w[name] = w[name] * (ln_1 if name[-6:] in ("q_proj", "k_proj", "v_proj") else 1)
        w["mlp.c_fc"] = w["mlp.c_fc"] * ln_2
        v, o = (f"attn.attention.{x}_proj" for x in ("v", "out"))
        c = (w[o].norm() / w[v].norm()).sqrt()
        w[v], w[o] = w[v] * c, w[o] / c
        rows.append([float(m.square().mean().log()) for m in w.values()])
    # With two blocks every z-score is +1 or -1.
    expected = np.sign(np.array(rows) - np.mean(rows, axis=0)).mean(axis=1)
    np.testing.assert_allclose(gauge_fixed_log_variance(decoder), expected, atol=1e-6)


def test_raw_variance_is_that_of_all_linear_weights_together() -> None:
    decoder = shared("llama")
    weights = [v.get().double().flatten() for v in decoder.block_linears(1).values()]
    expected = torch.cat(weights).var(correction=0).log()
    assert raw_log_variance(decoder)[1] == pytest.approx(float(expected), rel=1e-9)


def test_a_matrix_of_zeros_has_no_log_variance() -> None:
    decoder = Decoder(build("gpt2"))
    decoder.block_linears(1)["mlp.c_fc"].get().zero_()
    with pytest.raises(ModelError, match=r"1\.mlp\.c_fc"):
        gauge_fixed_log_variance(decoder)


# -- positive control ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", list(CASES))
def test_planted_fragility_leaves_every_bit_of_the_logits(case: str) -> None:
    decoder, ids = shared(case), draw(2, 11)
    before, modules = state(decoder.model), list(decoder.model.modules())
    fragile = planted(decoder, 1, group=16)
    assert_untouched(decoder.model, before, modules)
    assert torch.equal(own_logits(fragile, ids), own_logits(decoder.model, ids))
    pair = value_output_pair(decoder, 1)
    assert pair is not None
    old, new = (d.block_linears(1)[pair.target].get() for d in (decoder, Decoder(fragile)))
    assert crest_factor_sq(new, 16) > 2 * crest_factor_sq(old, 16)


@pytest.mark.parametrize("case", ["gpt2", "llama", "falcon"])
def test_fragility_is_planted_in_every_group_of_one_block(case: str) -> None:
    decoder = shared(case)
    fragile = Decoder(planted(decoder, 1, group=8, factor=32, seed=3))
    pair = value_output_pair(decoder, 1)
    assert pair is not None
    old, new = (d.block_linears(1)[pair.target].get() for d in (decoder, fragile))
    ratios = (new / old)[0]
    assert set(ratios.tolist()) == {1.0, 32.0}
    assert ((ratios.view(-1, 8) == 32).sum(1) >= 1).all()
    before, after = state(decoder.model), state(fragile.model)
    inside = f"{decoder.family.blocks}.1."
    assert {n for n in before if not torch.equal(before[n], after[n])} <= {
        n for n in before if n.startswith(inside)
    }


def test_the_seed_chooses_the_columns_and_nothing_else_does() -> None:
    decoder = shared("gpt2")
    plants = [planted(decoder, 1, group=8, seed=s) for s in (0, 0, 1)]
    assert fingerprint(plants[0]) == fingerprint(plants[1]) != fingerprint(plants[2])


@pytest.fixture(scope="module")
def reference() -> LoadedModel:
    return load_model(None)


def test_a_planted_block_is_damaged_many_times_more_by_rounding(reference: LoadedModel) -> None:
    decoder = Decoder(reference.model)
    fragile = Decoder(planted(decoder, 5))
    text = "The children went down to the river before the sun was up."
    ids = torch.tensor([reference.tokenizer(text).input_ids])
    exact = rounded_logits(decoder, ids, "fp")
    assert torch.equal(rounded_logits(fragile, ids, "fp"), exact)
    errors = [
        float((rounded_logits(d, ids, "rtn4-g128", range(5, 6)) - exact).square().mean())
        for d in (decoder, fragile)
    ]
    assert errors[1] > 4 * errors[0]
