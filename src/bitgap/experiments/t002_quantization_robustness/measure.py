"""What T-002 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict

from bitgap.errors import UsageError
from bitgap.experiments.protocol.scores import (
    facts_of,
    keep,
)
from bitgap.experiments.t002_quantization_robustness import EXPERIMENT, ID, Params
from bitgap.experiments.t002_quantization_robustness.controls import SEED_SCHEME
from bitgap.experiments.t002_quantization_robustness.plans import _plans
from bitgap.experiments.t002_quantization_robustness.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import crest_factors, kurtoses, relative_errors
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights, single-block damage and sensitivity to noise.

    Arrays: kept scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``single``
    (L plans, only block l rounded), ``protect`` (L+1, nothing protected and then only block l) and
    ``noise`` (L·T·S: block, size, draw); by block, (L): ``t2`` relative error, ``re_tensor`` (the
    origin's: 4 bits per tensor, pooled), ``re_channel``, ``re_clipped``, ``crest`` C²,
    ``kurtosis``, ``log_variance_raw`` and ``log_variance_fixed``; and those of
    :func:`.twins.measure_controls`.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    bits, parts = _bits(scheme), _plans(lab.n_blocks, scheme, params, lab.settings.seed)
    scores = lab.score([plan for plans in parts.values() for plan in plans], ID)
    twins, absent = measure_controls(
        lab,
        scheme,
        n_sentences=params.control_sentences,
        n_plantings=params.planted_seeds,
        factor=params.planted_factor,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**keep(scores, parts), **_weights(lab, scheme, bits), **twins},
        facts={
            "scheme": scheme,
            "bits": bits,
            "n_blocks": lab.n_blocks,
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
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
        "re_tensor": relative_errors(lab.decoder, SEED_SCHEME, pooled=True),
        "re_channel": relative_errors(lab.decoder, f"rtn{bits}-channel"),
        "re_clipped": relative_errors(lab.decoder, f"rtn{bits}-{grain}-mse"),
        "crest": crest_factors(lab.decoder, scheme),
        "kurtosis": kurtoses(lab.decoder),
        "log_variance_raw": raw_log_variance(lab.decoder),
        "log_variance_fixed": gauge_fixed_log_variance(lab.decoder),
    }
