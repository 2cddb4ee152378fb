"""Matrices of blocks: kinds split right, gains folded, twins and plantings what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lab_samples import load_tiny
from tiny_models import planted, shared

from bitgap.experiments.t005_gateway_structure.spectra import MEASURES, BlockMatrices
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import rescale_norms
from bitgap.models.roles import matrix_parts

SCHEME = "rtn4-g32"
ATTENTION = ["q", "k", "v", "o"]


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        ("gpt2", [*ATTENTION, "up", "down"]),
        ("gpt-neox", [*ATTENTION, "up", "down"]),
        ("falcon", [*ATTENTION, "up", "down"]),
        ("falcon-new", [*ATTENTION, "up", "down"]),
        ("mpt", [*ATTENTION, "up", "down"]),
        ("opt", [*ATTENTION, "up", "down"]),
        ("llama", [*ATTENTION, "gate", "up", "down"]),
        ("phi3", [*ATTENTION, "gate", "up", "down"]),
        ("qwen3", [*ATTENTION, "gate", "up", "down"]),
    ],
)
def test_every_row_of_every_linear_is_one_kind(case, kinds):
    decoder = shared(case)
    parts = matrix_parts(decoder, 0)
    assert sorted(parts) == sorted(kinds)
    for name, view in decoder.block_linears(0).items():
        rows = np.concatenate([mine for linear, mine in parts.values() if linear == name])
        assert sorted(rows) == list(range(view.get().shape[0]))


@pytest.mark.parametrize("case", ["gpt2", "gpt-neox", "llama", "phi3"])
def test_queries_do_not_reach_the_output_where_values_are_nought(case):
    # What is called v is what the output projection reads: without it attention writes nothing,
    # whatever queries and keys are.
    decoder = shared(case)
    parts = matrix_parts(decoder, 0)
    hidden, context = decoder.embed(torch.arange(6).view(1, 6)), decoder.context_for(1, 6)

    def without(*kinds: str) -> torch.Tensor:
        linears = {n: v.get().clone() for n, v in decoder.block_linears(0).items()}
        biases = dict[str, torch.Tensor]()
        for kind in kinds:
            name, rows = parts[kind]
            linears[name][torch.from_numpy(rows)] = 0
            bias = decoder.block_linears(0)[name].module.bias
            if isinstance(bias, torch.Tensor):
                biases[f"{name}.bias"] = biases.get(f"{name}.bias", bias.detach().clone())
                biases[f"{name}.bias"][torch.from_numpy(rows)] = 0
        clone = decoder.clone_block(0, biases, linears=linears)
        with torch.no_grad():
            return decoder.run_block(0, hidden, context, clone)

    torch.testing.assert_close(without("v"), without("v", "q", "k"))
    assert not torch.allclose(without("q"), without("q", "v"), atol=1e-6)


@pytest.mark.parametrize("case", ["gpt2", "llama", "gemma"])
def test_folded_matrices_do_not_move_with_the_gauge_of_norms(case):
    decoder = shared(case)
    moved = Decoder.from_model(
        rescale_norms(decoder, [2.0 ** (i + 1) for i in range(decoder.n_blocks)])
    )
    for block in range(decoder.n_blocks):
        one, two = (BlockMatrices(d, SCHEME).of(block) for d in (decoder, moved))
        for kind in one:
            # Where the gain is 1 + weight, a small one loses bits.
            torch.testing.assert_close(one[kind], two[kind], rtol=1e-5, atol=1e-6)


def test_measures_do_not_move_with_scale_and_see_an_outlier():
    matrices = BlockMatrices(shared("gpt2"), SCHEME)
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(96, 64, generator=draw, dtype=torch.float64)
    spiked = noise.clone()
    spiked[:, 3] *= 64
    one, scaled, spike = (
        matrices.measures({"q": m}, 10, 0)[0] for m in (noise, 7.0 * noise, spiked)
    )
    np.testing.assert_allclose(one, scaled, rtol=1e-6)
    found = dict(zip(MEASURES, one, strict=True))
    # Σσ²/σ₁² of noise and three for a Gaussian's kurtosis.
    assert np.exp(found["stable_rank"]) == pytest.approx(
        96 * 64 / (np.sqrt(96) + np.sqrt(64)) ** 2, rel=0.1
    )
    assert np.exp(found["kurtosis"]) == pytest.approx(3, rel=0.1)
    spikes = dict(zip(MEASURES, spike, strict=True))
    assert spikes["stable_rank"] < 0.1
    for name in ("kurtosis", "crest", "noise_distance"):
        assert spikes[name] > found[name] + 1


def test_few_eigenvalues_have_no_tail_exponent():
    measures = BlockMatrices(shared("gpt2"), SCHEME)
    tiny = measures.measures(measures.of(0), 5, 0)
    assert np.isnan(tiny[:, MEASURES.index("tail_exponent")]).all()
    assert np.isfinite(np.delete(tiny, MEASURES.index("tail_exponent"), axis=1)).all()


def test_shuffled_matrices_hold_the_same_entries_before_folding():
    decoder = shared("llama")
    matrices = BlockMatrices(decoder, SCHEME)
    plain, mixed = matrices.of(1)["o"], matrices.shuffled(1, 0)["o"]
    # No norm comes before the output projection, so nothing is folded into it.
    assert not torch.equal(plain, mixed)
    torch.testing.assert_close(plain.flatten().sort()[0], mixed.flatten().sort()[0])
    assert torch.equal(mixed, matrices.shuffled(1, 0)["o"])
    assert not torch.equal(mixed, matrices.shuffled(1, 1)["o"])


def test_random_twins_are_of_the_same_shapes_and_differ_by_seed():
    matrices = BlockMatrices(shared("gpt2"), SCHEME)
    one, two = (list(matrices.random(seed)) for seed in (0, 1))
    assert len(one) == shared("gpt2").n_blocks
    for kind, matrix in matrices.of(0).items():
        assert one[0][kind].shape == matrix.shape
        assert not torch.equal(one[0][kind], two[0][kind])


@pytest.mark.parametrize("case", ["gpt2", "llama"])
def test_planted_matrices_are_those_of_a_planted_model(case):
    loaded = load_tiny(case)
    decoder = Decoder.from_model(loaded.model, loaded.info)
    fragile = Decoder.from_model(planted(decoder, 1, group=16, seed=3))
    wanted = BlockMatrices(fragile, SCHEME).of(1)
    matrices = BlockMatrices(decoder, SCHEME)
    found = matrices.planted(1, matrices.of(1), factor=64.0, width=16, seed=3)
    assert found is not None
    for kind in ("v", "o"):
        torch.testing.assert_close(found[kind], wanted[kind])
    # Nothing of the model was written to.
    assert not torch.equal(matrices.of(1)["o"], found["o"])
