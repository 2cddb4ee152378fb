"""What T-002 measures: the only part that sees a model."""

from __future__ import annotations

from bitgap.errors import UsageError
from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.t002_quantization_robustness import EXPERIMENT, ID, Params
from bitgap.experiments.t002_quantization_robustness.plans import plans, together
from bitgap.experiments.t002_quantization_robustness.twins import ORIGINAL_SCHEME, measure_controls
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import crest_factors, kurtoses, relative_errors
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights, single-block damage and sensitivity to noise.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``single``
    (L plans, only block l rounded), ``protect`` (L+1, nothing protected and then only block l) and
    ``noise`` (L·T·S: block, size, draw); by block, (L): ``t2`` relative error, ``re_tensor`` (the
    origin's: 4 bits per tensor, pooled), ``re_channel``, ``re_clipped``, ``crest`` C²,
    ``kurtosis``, ``log_variance_raw`` and ``log_variance_fixed``; and those of
    :func:`.twins.measure_controls`.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    bits, parts = _bits(scheme), plans(lab.n_blocks, scheme, params, lab.settings.seed)
    scores = lab.score(together(parts), ID)
    twins, missing = measure_controls(lab, scheme, params)
    arrays = {**pack_scores(scores, parts), **_weights(lab, scheme, bits), **twins}
    return EXPERIMENT.observed(
        lab, scheme, params, arrays, {"bits": bits, **facts_of(scores), **missing}
    )


def _bits(scheme: str) -> int:
    bits = getattr(parse_scheme(scheme), "bits", None)
    if bits is None:
        raise UsageError(
            f"{ID} compares rounding errors, and {scheme!r} does not round to a number of bits; "
            f"give a scheme such as rtn4-g128"
        )
    return int(bits)


def _weights(lab: Lab, scheme: str, bits: int) -> dict[str, Floats]:
    grain = getattr(parse_scheme(scheme), "granularity", "tensor")
    return {
        "t2": relative_errors(lab.decoder, scheme),
        "re_tensor": relative_errors(lab.decoder, ORIGINAL_SCHEME, pooled=True),
        "re_channel": relative_errors(lab.decoder, f"rtn{bits}-channel"),
        "re_clipped": relative_errors(lab.decoder, f"rtn{bits}-{grain}-mse"),
        "crest": crest_factors(lab.decoder, scheme),
        "kurtosis": kurtoses(lab.decoder),
        "log_variance_raw": raw_log_variance(lab.decoder),
        "log_variance_fixed": gauge_fixed_log_variance(lab.decoder),
    }
