"""What T-010 measures for its controls: an untrained twin, and the frontier of quantizers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bitgap.experiments.protocol.twins import in_few_languages
from bitgap.experiments.t010_rate_distortion import Params
from bitgap.experiments.t010_rate_distortion.controls import QUANTIZERS
from bitgap.experiments.t010_rate_distortion.plans import at_bits
from bitgap.lab.lab import Lab
from bitgap.models.decoder import Decoder
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import relative_error, round_weight
from bitgap.quant.schemes import bits_per_weight, parse_scheme
from bitgap.records import Floats, Integers
from bitgap.stats.rate_models import gaussian_distortion


def measure_controls(lab: Lab, scheme: str, params: Params) -> dict[str, Floats | Integers]:
    """Returns what the untrained twin suffers, and what quantizers reach.

    Returns:
        ``random_kl`` (B x A' x N') with nothing protected and ``random_tokens`` (A' x N'), in the
        first three languages on a few sentences; and those of :func:`frontier`.
    """
    twin = in_few_languages(lab.spread(params.control_sentences).exact()).random_twin()
    plans = [Plan.uniform(at_bits(scheme, b), lab.n_blocks) for b in params.bits]
    scores = twin.score(plans, "controls").select(plans=[plan.text for plan in plans])
    reached = frontier(lab.decoder, scheme, params.bits, params.frontier_rows)
    return {"random_kl": scores.kl_nats, "random_tokens": scores.counts.tokens, **reached}


def frontier(decoder: Decoder, scheme: str, bits: Sequence[int], n_rows: int) -> dict[str, Floats]:
    """Returns rate and distortion of rounding with and without clipping, (2 x B) each.

    Returns:
        ``frontier_rate``, bits per weight, scales counted; ``frontier_error``, mean over matrices
        of the relative squared error of the first rows of each; ``frontier_gaussian``, of Gaussian
        matrices of the same shapes; ``frontier_least``, the least ratio of a Gaussian matrix's
        error to D(R) at that matrix's own rate.
    """
    grain = getattr(parse_scheme(scheme), "granularity", "tensor")
    reached = np.empty((4, len(QUANTIZERS), len(bits)))
    matrices = [
        view.get()[:n_rows]
        for i in range(decoder.n_blocks)
        for view in decoder.block_linears(i).values()
    ]
    generator = torch.Generator().manual_seed(0)
    gaussian = [torch.randn(m.shape, generator=generator) for m in matrices]
    with torch.inference_mode():
        for q, clip in enumerate(QUANTIZERS):
            for j, b in enumerate(bits):
                parsed = parse_scheme(f"rtn{b}-{grain}{'' if clip == 'absmax' else '-mse'}")
                rates = np.array([bits_per_weight(parsed, tuple(m.shape)) for m in matrices])
                errors = np.array([
                    [relative_error(m, round_weight(m, parsed, stream="frontier")) for m in each]
                    for each in (matrices, gaussian)
                ])  # fmt: skip
                sizes = np.array([m.numel() for m in matrices])
                least = (errors[1] / gaussian_distortion(rates)).min()
                rate = np.average(rates, weights=sizes)
                reached[:, q, j] = rate, errors[0].mean(), errors[1].mean(), least
    names = ("rate", "error", "gaussian", "least")
    return {f"frontier_{name}": values for name, values in zip(names, reached, strict=True)}
