"""Controls on weights: twins whose weights were changed in a known way, measured and judged.

=========  =================================================  ================================
regauged   norms divided, matrices multiplied by powers of 2  damage and error must stay
shuffled   entries permuted within each matrix                per-tensor error must stay
gaussian   each matrix redrawn with its variance              variance must not predict error
random     fresh weights as the class draws them              neither link may show
fragile    one o-column per group times 64, v-row over 64     that block must be hit hardest (P1)
=========  =================================================  ================================

Source of P1 and of the need for it: method, sections 2 and 6.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import ModelError, UnsupportedArchitecture
from bitgap.experiments.controls import (
    PLANTED_LANGUAGES,
    absent,
    clear,
    detection,
    not_run,
)
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Control, Floats, Observations
from bitgap.stats.profiles import correlate_profiles
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab
    from bitgap.models.decoder import Decoder


SEED_SCHEME = "rtn4-tensor"
"""The origin's rounding, as far as one block's linears go."""
GAUGE = "gauge intervention"
_WHOLE_ROW = 1 << 30
_SAME = 1e-3
"""Change of damage, relative, that is still rounding; 0 to the bit where gains are plain."""


def only(scheme: str, n_blocks: int, block: int) -> Plan:
    """Returns the plan that rounds one block and nothing else, ends included."""
    return Plan(tuple(scheme if i == block else "fp" for i in range(n_blocks)))


def noise_plans(n_blocks: int, sizes: Sequence[float], n_draws: int, seed: int) -> list[Plan]:
    """Returns the L·T·S plans that add noise to one block: block, size, draw.

    One list for all experiments, so that a store shares their scores.
    """
    draws = [f"noise{t}-s{seed + s}" for t in sizes for s in range(n_draws)]
    return [only(draw, n_blocks, j) for j in range(n_blocks) for draw in draws]


# -- measurement ----------------------------------------------------------------------------------


def measure(
    lab: Lab, scheme: str, *, n_sentences: int, n_plantings: int, factor: float
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Returns what the twins show on a few sentences, and why one is absent.

    Args:
        lab: Model and text.
        scheme: How blocks are rounded.
        n_sentences: How many sentences.
        n_plantings: How often a block is made fragile, each time another one at random.
        factor: What its o-columns are multiplied by.

    Returns:
        Arrays: ``plain_kl`` and ``random_kl`` (L+1 x A x N; each block alone, then all),
        ``regauged_kl`` and ``shuffled_kl`` (1 x A x N; all blocks); on the first three languages
        ``fragile_kl`` (S x A' x N; the planted block alone), ``fragile_plain`` (L x A' x N; each
        block of the model itself), ``fragile_block`` (S); weights of twins, (L), as
        ``<twin>_t2``, ``<twin>_tensor``, ``<twin>_log_variance_raw`` or ``_fixed``. Facts:
        ``no_<twin>`` for each that could not be made.
    """
    few = lab.first(n_sentences)
    n = lab.n_blocks
    each, whole = [only(scheme, n, i) for i in range(n)], Plan.uniform(scheme, n)
    # All blocks alone first: batched as on the regauged twin, so that damage can agree to the bit.
    _kl(few, [whole])
    arrays: dict[str, Any] = {"plain_kl": _kl(few, [*each, whole])}
    facts: dict[str, Any] = {}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "regauged": lambda: _regauged(few, whole, scheme),
        "shuffled": lambda: _shuffled(few, whole),
        "gaussian": lambda: _gaussian(few, scheme),
        "random": lambda: _random(few, [*each, whole], scheme),
        "fragile": lambda: _fragile(
            few.on(languages=few.languages[:PLANTED_LANGUAGES]), each, scheme, n_plantings, factor
        ),
    }
    for name, run in measures.items():
        try:
            arrays |= {f"{name}_{key}": value for key, value in run().items()}
        except (UnsupportedArchitecture, ModelError) as error:
            facts[f"no_{name}"] = str(error)
    return arrays, facts


def _kl(lab: Lab, plans: list[Plan]) -> Floats:
    return lab.score(plans, "controls").select(plans=[plan.text for plan in plans]).kl_nats


def _twin(lab: Lab, model: Any, name: str) -> Lab:
    from bitgap.models.gauge import loaded_with

    return lab.twin(loaded_with(lab.loaded, model, name))


def _regauged(few: Lab, whole: Plan, scheme: str) -> dict[str, Floats]:
    from bitgap.models.gauge import raw_log_variance, rescale_norms

    # Powers of two, so exact; at most 1, so that gains grow: a gain of 1 + weight loses bits below
    # 1/2 (Gemma).
    powers = np.random.default_rng(few.settings.seed).integers(-3, 1, size=few.n_blocks)
    factors = [2.0 ** int(power) for power in powers]
    twin = _twin(few, rescale_norms(few.decoder, factors), "regauged")
    return {
        "kl": _kl(twin, [whole]),
        "log_variance_raw": raw_log_variance(twin.decoder),
        **_error_and_variance(twin.decoder, scheme),
    }


def _shuffled(few: Lab, whole: Plan) -> dict[str, Floats]:
    from bitgap.lab.weights import relative_errors
    from bitgap.models.gauge import shuffled_twin

    twin = _twin(few, shuffled_twin(few.decoder, few.settings.seed), "shuffled")
    return {
        "kl": _kl(twin, [whole]),
        "tensor": relative_errors(twin.decoder, SEED_SCHEME, pooled=True),
    }


def _gaussian(few: Lab, scheme: str) -> dict[str, Floats]:
    return _error_and_variance(redrawn(few.decoder, few.settings.seed), scheme)


def _random(few: Lab, plans: list[Plan], scheme: str) -> dict[str, Floats]:
    from bitgap.models.gauge import random_twin

    twin = _twin(few, random_twin(few.loaded.model, few.settings.seed), "random")
    return {"kl": _kl(twin, plans), **_error_and_variance(twin.decoder, scheme)}


def _fragile(
    few: Lab, each: list[Plan], scheme: str, n_plantings: int, factor: float
) -> dict[str, Any]:
    group = getattr(parse_scheme(scheme), "group", None)
    # Where a row or more shares a scale, one column makes all of it coarse.
    width = group if isinstance(group, int) else _WHOLE_ROW
    seeds = range(few.settings.seed, few.settings.seed + n_plantings)
    blocks = [int(np.random.default_rng(seed).integers(few.n_blocks)) for seed in seeds]
    kl = np.zeros((n_plantings, *few.text.counts.tokens.shape))
    for i, (block, seed) in enumerate(zip(blocks, seeds, strict=True)):
        variant = plant_fragile_rounding(few, scheme, block, width=width, factor=factor, seed=seed)
        # No other block's damage moves, since in full precision the function is the same.
        kl[i] = _kl(few, [only(variant, few.n_blocks, block)])[0]
        few.bank.drop(variant)
    return {
        "kl": kl,
        "plain": _kl(few, each),
        "block": np.array(blocks, dtype=np.int64),
    }


def plant_fragile_rounding(
    lab: Lab, scheme: str, block: int, *, width: int, factor: float, seed: int
) -> str:
    """Adds to the lab's bank a rounded block whose weights were made fragile before (P1).

    In full precision the changed weights are the same function, to the bit for powers of two, so
    that reference and all other blocks are the model's own.

    Args:
        lab: Its bank holds the variant until it is dropped.
        scheme: How the block is rounded.
        block: Which.
        width: Columns of a group.
        factor: What one column a group is multiplied by.
        seed: Chooses the columns.

    Returns:
        The variant's name.

    Raises:
        UnsupportedArchitecture: If values and output are not found or not linearly related.
    """
    from bitgap.models.gauge import fragile_parameters
    from bitgap.quant.rounding import round_weight

    changed = fragile_parameters(lab.decoder, block, group=width, factor=factor, seed=seed)
    rounded = dict(lab.bank.rounded_linears(block, scheme))
    for name, view in lab.decoder.block_linears(block).items():
        stored = changed.pop(f"{name}.weight", None)
        if stored is not None:
            matrix = stored.T if view.transposed else stored
            rounded[name] = round_weight(
                matrix.contiguous(), parse_scheme(scheme), stream=f"{block}.{name}"
            )
    return lab.bank.add("fragile", {block: rounded}, {block: changed})


def _error_and_variance(decoder: Decoder, scheme: str) -> dict[str, Floats]:
    from bitgap.lab.weights import relative_errors
    from bitgap.models.gauge import gauge_fixed_log_variance

    return {
        "t2": relative_errors(decoder, scheme),
        "log_variance_fixed": gauge_fixed_log_variance(decoder),
    }


def redrawn(decoder: Decoder, seed: int) -> Decoder:
    """Returns a copy whose block linears are Gaussian, of each matrix's own mean square.

    Args:
        decoder: The split model; not written to.
        seed: Of the draw.
    """
    import torch

    from bitgap.models.decoder import Decoder

    copied = Decoder.from_model(copy.deepcopy(decoder.model))
    generator = torch.Generator().manual_seed(seed)
    for i in range(copied.n_blocks):
        for view in copied.block_linears(i).values():
            weight = view.module.get_parameter("weight")
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            scale = weight.detach().double().square().mean().sqrt().item()
            weight.data.copy_(drawn * scale)
    return copied


# -- judgement ------------------------------------------------------------------------------------


def controls(observations: Observations, sesoi: float, thresholds: Thresholds) -> list[Control]:
    """Returns the controls that these twins make.

    Args:
        observations: With the arrays of :func:`measure`, and ``re_tensor`` of the model itself.
        sesoi: Smallest correlation of interest.
        thresholds: What was declared.
    """
    return [
        _gauge(observations),
        _shuffle(observations),
        _redraw(observations, sesoi, thresholds),
        _untrained(observations, sesoi, thresholds),
        _planted(observations, thresholds),
    ]


def _gauge(observations: Observations) -> Control:
    arrays, name = observations.arrays, GAUGE
    if "regauged_kl" not in arrays:
        return not_run(name, "invariance", absent(observations.facts, "regauged"))
    moved = np.abs(arrays["regauged_log_variance_raw"] - arrays["log_variance_raw"]).max()
    damage = _change(arrays["plain_kl"][-1], arrays["regauged_kl"][0])
    error = _change(arrays["t2"], arrays["regauged_t2"])
    told = [f"by {c:.1g} of the largest" if c else "not at all" for c in (damage, error)]
    return Control(
        name=name,
        kind="invariance",
        passed=max(damage, error) <= _SAME,
        detail=f"norms divided and matrices multiplied by powers of two: raw log variance moved by "
        f"up to {moved:.2f}; what should stay: damage moved {told[0]}, error {told[1]}",
    )


def _change(before: Floats, after: Floats) -> float:
    return float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-300))


def _shuffle(observations: Observations) -> Control:
    arrays, name = observations.arrays, "weights shuffled within matrices"
    if "shuffled_kl" not in arrays:
        return not_run(name, "invariance", absent(observations.facts, "shuffled"))
    same = bool(np.allclose(arrays["shuffled_tensor"], arrays["re_tensor"], rtol=1e-5))
    plain, shuffled = arrays["plain_kl"][-1].sum(), arrays["shuffled_kl"][0].sum()
    return Control(
        name=name,
        kind="invariance",
        passed=same,
        detail=f"per-tensor error should stay while damage may change: error "
        f"{'stayed' if same else 'moved'}, damage went from {plain:.3g} to {shuffled:.3g} nats",
    )


def _redraw(observations: Observations, sesoi: float, thresholds: Thresholds) -> Control:
    arrays, name = observations.arrays, "Gaussian weights of the same variance"
    if "gaussian_t2" not in arrays:
        return not_run(name, "negative", absent(observations.facts, "gaussian"))
    link = correlate_profiles(
        arrays["gaussian_log_variance_fixed"], -np.log(arrays["gaussian_t2"]), thresholds.level
    )
    return Control(
        name=name,
        kind="negative",
        passed=not clear(link.estimate, sesoi),
        detail="with the shape of the weights gone, variance should not predict error",
        estimate=link.estimate,
    )


def _untrained(observations: Observations, sesoi: float, thresholds: Thresholds) -> Control:
    arrays, name = observations.arrays, "random-init twin"
    if "random_kl" not in arrays:
        return not_run(name, "negative", absent(observations.facts, "random"))
    log_t2 = np.log(arrays["random_t2"])
    damage = arrays["random_kl"][:-1].sum((1, 2))
    log_k = np.log(np.where(damage > 0, damage, np.nan))
    links = [
        correlate_profiles(x, y, thresholds.level)
        for x, y in ((arrays["random_log_variance_fixed"], -log_t2), (log_t2, log_k))
    ]
    return Control(
        name=name,
        kind="negative",
        passed=not all(clear(link.estimate, sesoi) for link in links),
        detail="an untrained twin should not show both links",
        estimate=links[0].estimate,
    )


def _planted(observations: Observations, thresholds: Thresholds) -> Control:
    arrays, name = observations.arrays, "P1: one block made fragile, function unchanged"
    if "fragile_kl" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "fragile"))
    plain = arrays["fragile_plain"].sum((1, 2))
    found = [
        bool(damage > np.delete(plain, block).max(initial=0.0))
        for damage, block in zip(
            arrays["fragile_kl"].sum((1, 2)), arrays["fragile_block"], strict=True
        )
    ]
    return detection(name, found, "the planted block should be hit hardest", thresholds)
