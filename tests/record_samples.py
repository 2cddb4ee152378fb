"""One record of each kind that stores and the codec are tried with."""

from __future__ import annotations

from bitgap.records import Control, Estimate, Finding, Provenance, Verdict

ESTIMATE = Estimate(value=1 / 3, unit="bits", low=0.1, high=0.7, n=12, method="BCa")
FINDING = Finding(
    experiment="T-004",
    hypothesis="H4",
    title="Errors travel — ε",
    primary="slope",
    estimates={"slope": ESTIMATE, "none": Estimate(value=None, unit="", reason="too few")},
    original_measure={},
    controls=(
        Control(name="null", kind="negative", passed=True, detail="as expected", estimate=ESTIMATE),
        Control(name="gauge", kind="invariance", passed=None, detail="not run"),
    ),
    verdict=Verdict(label="supported", scope="this model", reason="clause 2", sesoi=0.1),
    sentence="It travels.",
    tables={"layers": [0, 1.5, None], "nested": {"a": [True]}},
)
PROVENANCE = Provenance(
    bitgap="0.1.0", python="3.11", torch="2", transformers="5", numpy="2", device="cpu", threads=1,
    arithmetic="exact", seed=0, started="2025-01-01T00:00:00+00:00", wall_s=1.25,
    thresholds_hash="ab",
)  # fmt: skip
