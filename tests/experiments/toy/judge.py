"""How the toy is judged."""

from __future__ import annotations

from bitgap.experiments.toy import EXPERIMENT, ID

from bitgap.records import Control, Estimate, Finding, Observations
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as verdict_of


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H5.1 in this model."""
    damage = observations.arrays["damage"][0]
    theta = Estimate(
        value=float(damage.mean()),
        low=float(damage.min()),
        high=float(damage.max()),
        unit="bits per English character",
        n=len(damage),
        method="range over languages",
    )
    part = Part(
        name="mean damage", estimate=theta, sesoi=thresholds.of("H5.1")["sesoi"], p=0.5,
        p_minimum=0.5,
    )  # fmt: skip
    checks = (Control(name="nothing rounded", kind="negative", passed=True, detail="K is 0"),)
    return Finding(
        experiment=ID,
        hypothesis=EXPERIMENT.hypothesis.id,
        title=EXPERIMENT.title,
        primary="damage",
        estimates={"damage": theta},
        original_measure={},
        controls=checks,
        verdict=verdict_of([part], checks, alpha=thresholds.alpha),
        sentence=f"Rounding moves predictions by {theta.value:.3g} bits per English character.",
        tables={
            "damage": [
                {"language": code, "damage": float(k), "part": f"{observations.facts['repeats']}"}
                for code, k in zip(observations.facts["languages"], damage, strict=True)
            ]
        },
        thresholds_hash=thresholds.hash,
    )
