"""What T-002 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bitgap.errors import ModelError, UnsupportedArchitecture
from bitgap.experiments.plants.fragile import plant_fragile_rounding
from bitgap.experiments.protocol.twins import in_few_languages, kl_of
from bitgap.experiments.t002_quantization_robustness import Params
from bitgap.experiments.t002_quantization_robustness.plans import TENSOR
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import relative_errors
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance, rescale_norms
from bitgap.models.twins import loaded_with, shuffled_twin
from bitgap.quant.plan import Plan
from bitgap.records import Floats

_WHOLE_ROW = 1 << 30
"""Columns of a group where one column makes a whole tensor coarse."""


def measure_controls(lab: Lab, params: Params) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the twins show on a few sentences, and why one is absent.

    All rounding is with one scale a tensor, as the verdict's.

    Returns:
        Arrays: ``plain_kl`` and ``random_kl`` (L+1 x A x N'; each block alone, then all),
        ``regauged_kl`` and ``shuffled_kl`` (1 x A x N'; all blocks); on the first three languages
        ``fragile_kl`` (S x A' x N'; the planted block alone), ``fragile_plain`` (L x A' x N'; each
        block of the model itself), ``fragile_block`` (S); ``few_documents`` (N'), where known;
        weights of twins, (L), as ``<twin>_t2``, ``<twin>_log_variance_raw`` or ``_fixed``. Facts:
        ``no_<twin>`` for each that could not be made.
    """
    few = lab.spread(params.control_sentences)
    n = lab.n_blocks
    each, whole = [Plan.only(TENSOR, n, i) for i in range(n)], Plan.uniform(TENSOR, n)
    # All blocks alone first: batched as on the regauged twin, so that damage can agree to the bit.
    documents = few.score([whole], "controls").documents
    arrays: dict[str, Any] = {} if documents is None else {"few_documents": documents}
    arrays["plain_kl"] = kl_of(few, [*each, whole])
    missing: dict[str, str] = {}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "regauged": lambda: _regauged(few, whole),
        "shuffled": lambda: _shuffled(few, whole),
        "gaussian": lambda: _error_and_variance(redrawn(few.decoder, few.settings.seed)),
        "random": lambda: _random(few, [*each, whole]),
        "fragile": lambda: _fragile(in_few_languages(few), each, params),
    }
    for name, run in measures.items():
        try:
            arrays |= {f"{name}_{key}": value for key, value in run().items()}
        except (UnsupportedArchitecture, ModelError) as error:
            missing[f"no_{name}"] = str(error)
    return arrays, missing


def _twin(lab: Lab, model: Any, name: str) -> Lab:
    return lab.twin(loaded_with(lab.loaded, model, name))


def _regauged(few: Lab, whole: Plan) -> dict[str, Floats]:
    # Powers of two, so exact; at most 1, so that gains grow: a gain of 1 + weight loses bits below
    # 1/2 (Gemma).
    powers = np.random.default_rng(few.settings.seed).integers(-3, 1, size=few.n_blocks)
    factors = [2.0 ** int(power) for power in powers]
    twin = _twin(few, rescale_norms(few.decoder, factors), "regauged")
    return {
        "kl": kl_of(twin, [whole]),
        "log_variance_raw": raw_log_variance(twin.decoder),
        **_error_and_variance(twin.decoder),
    }


def _shuffled(few: Lab, whole: Plan) -> dict[str, Floats]:
    twin = _twin(few, shuffled_twin(few.decoder, few.settings.seed), "shuffled")
    return {
        "kl": kl_of(twin, [whole]),
        "t2": relative_errors(twin.decoder, TENSOR),
    }


def _random(few: Lab, plans: list[Plan]) -> dict[str, Floats]:
    twin = few.random_twin()
    return {"kl": kl_of(twin, plans), **_error_and_variance(twin.decoder)}


def _fragile(few: Lab, each: list[Plan], params: Params) -> dict[str, Any]:
    seeds = range(few.settings.seed, few.settings.seed + params.planted_seeds)
    blocks = [int(np.random.default_rng(seed).integers(few.n_blocks)) for seed in seeds]
    kl = np.zeros((len(blocks), *few.text.counts.tokens.shape))
    for i, (block, seed) in enumerate(zip(blocks, seeds, strict=True)):
        variant = plant_fragile_rounding(
            few, TENSOR, block, width=_WHOLE_ROW, factor=params.planted_factor, seed=seed
        )
        # No other block's damage moves, since in full precision the function is the same.
        kl[i] = kl_of(few, [Plan.only(variant, few.n_blocks, block)])[0]
        few.bank.drop(variant)
    return {
        "kl": kl,
        "plain": kl_of(few, each),
        "block": np.array(blocks, dtype=np.int64),
    }


def _error_and_variance(decoder: Decoder) -> dict[str, Floats]:
    return {
        "t2": relative_errors(decoder, TENSOR),
        "log_variance_fixed": gauge_fixed_log_variance(decoder),
    }


def redrawn(decoder: Decoder, seed: int) -> Decoder:
    """Returns a copy whose block linears are Gaussian, of each matrix's own mean square.

    Args:
        decoder: The split model; not written to.
        seed: Of the draw.
    """
    model = copy.deepcopy(decoder.model)
    copied = Decoder.from_model(model if decoder.visits is None else model.to("cpu"))
    generator = torch.Generator().manual_seed(seed)
    for i in range(copied.n_blocks):
        for view in copied.block_linears(i).values():
            weight = view.get().T if view.transposed else view.get()  # as stored
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            scale = weight.double().square().mean().sqrt().item()
            weight.copy_(drawn * scale)
    return copied
