"""A finding to try things on: an effect of one bit, supported at p = 0.03 on one model."""

from __future__ import annotations

from bitgap.records import Estimate, Finding, Verdict
from bitgap.stats.verdicts import THIS_MODEL

FINDING = Finding(
    experiment="T-004",
    hypothesis="H2.1",
    title="Residual propagation",
    primary="contrast",
    estimates={"contrast": Estimate(value=1.0, low=0.5, high=1.5, unit="bits", n=8)},
    original_measure={},
    controls=(),
    verdict=Verdict(label="supported", scope=THIS_MODEL, reason="p = 0.03", p=0.03),
    sentence="Errors of the first block travel farther than others'.",
)
"""What examples in docstrings of verdicts and jobs are shown on."""
