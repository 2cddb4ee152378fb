"""Evidence whose truth is planted: damage adds up over blocks, with chosen profiles."""

from __future__ import annotations

import numpy as np

from bitgap.quant.sets import membership
from bitgap.records import Floats
from bitgap.stats.profiles import depths
from bitgap.theory.evidence import Evidence

LANGUAGES = ("en", "de", "he", "fi")


def additive(
    family: str,
    seed: int,
    *,
    n_blocks: int = 8,
    alpha: Floats | None = None,
    slope: float = 1.0,
    spread: float = 0.0,
    profile: Floats | None = None,
) -> Evidence:
    """Returns a model with k_{lλ} = α_l t_l² 2^{s_λ + slope·B_{lλ} + spread·noise}.

    ``profile`` replaces log2 k_{l,ref} altogether. All masks are there.
    """
    rng = np.random.default_rng(seed)
    r = depths(n_blocks)
    if alpha is None:
        alpha = np.exp2(2 * np.cos(2 * np.pi * r))
    t2 = np.exp2(rng.normal(-8, 0.7, n_blocks))
    local = np.column_stack([np.zeros(n_blocks), rng.normal(0, 0.5, (n_blocks, 3))])
    y = np.array([0.0, 0.5, 1.0, 1.5]) + slope * local
    y[:, 1:] += spread * rng.normal(size=(n_blocks, 3))
    reference = np.log2(alpha * t2) if profile is None else profile
    single = np.exp2(reference[:, None] + y)
    masks = np.arange(2**n_blocks)
    return Evidence(
        model=f"{family}-{n_blocks}", family=family, fingerprint=f"{family}{seed}" * 4,
        scheme="rtn4-g128", languages=LANGUAGES, t2=t2, log_variance=np.zeros(n_blocks),
        log_dimension=np.zeros(n_blocks), log_error_ratio=local, sensitivity=single / t2[:, None],
        single=single, tokens=np.arange(4, dtype=np.int64) * 10 + 100, masks=masks,
        damage=(1 - membership(masks, n_blocks)) @ single,
        shapley={}, original_predictors={}, original_disparity=np.full(n_blocks, np.nan),
    )  # fmt: skip
