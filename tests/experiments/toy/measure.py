"""What is measured of the toy."""

from __future__ import annotations

from bitgap.experiments.toy import ID, Params

from bitgap.disparity.formulas import damage_bits
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage by language, (repeats x A)."""
    damage = damage_bits(lab.score([Plan.uniform(scheme, lab.n_blocks)], "toy"))
    return Observations(
        experiment=ID,
        version=1,
        arrays={"damage": damage.repeat(params.repeats, axis=0)},
        facts={"languages": list(lab.languages), "repeats": params.repeats},
    )
