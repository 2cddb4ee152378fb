"""What T-002 measures: the only part that sees a model."""

from __future__ import annotations

from bitgap.errors import UsageError
from bitgap.experiments.protocol.scores import facts_of, pack_scores, score_in_turn
from bitgap.experiments.t002_quantization_robustness import EXPERIMENT, ID, Params
from bitgap.experiments.t002_quantization_robustness.plans import BITS, TENSOR, asked, plans
from bitgap.experiments.t002_quantization_robustness.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import crest_factors, kurtoses, relative_errors
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights, single-block damage and sensitivity to noise.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts of
    :func:`.plans.plans`; by block, (L): relative error under the run's scheme, ``t2``; with one
    scale a tensor and 4 bits ``tensor_t2``, ``re_tensor`` (the origin's: pooled over a block's
    matrices), ``re_clipped`` and ``crest`` C²; at 4 bits ``re_channel``; ``kurtosis``,
    ``log_variance_raw`` and ``log_variance_fixed``; and those of :func:`.twins.measure_controls`.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    _refuse_without_bits(scheme)
    parts = plans(lab.n_blocks, scheme, params, lab.settings.seed)
    requests = asked(lab.n_blocks, scheme, params, lab.settings.seed)
    scores = score_in_turn(lab, [request.plans for request in requests], ID)
    twins, missing = measure_controls(lab, params)
    arrays = {**pack_scores(scores, parts), **_weights(lab, scheme), **twins}
    return EXPERIMENT.observed(lab, scheme, params, arrays, {**facts_of(scores), **missing})


def _refuse_without_bits(scheme: str) -> None:
    if getattr(parse_scheme(scheme), "bits", None) is None:
        raise UsageError(
            f"{ID} compares rounding errors, and {scheme!r} does not round to a number of bits; "
            f"give a scheme such as rtn4-g128"
        )


def _weights(lab: Lab, scheme: str) -> dict[str, Floats]:
    return {
        "t2": relative_errors(lab.decoder, scheme),
        "tensor_t2": relative_errors(lab.decoder, TENSOR),
        "re_tensor": relative_errors(lab.decoder, TENSOR, pooled=True),
        "re_channel": relative_errors(lab.decoder, f"rtn{BITS}-channel"),
        "re_clipped": relative_errors(lab.decoder, f"{TENSOR}-mse"),
        "crest": crest_factors(lab.decoder, TENSOR),
        "kurtosis": kurtoses(lab.decoder),
        "log_variance_raw": raw_log_variance(lab.decoder),
        "log_variance_fixed": gauge_fixed_log_variance(lab.decoder),
    }
