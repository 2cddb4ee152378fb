"""A store to try things on: one run of one experiment, kept in memory."""

from __future__ import annotations

from bitgap.lab.store import Store
from bitgap.records import Provenance
from bitgap.stats.example import FINDING
from bitgap.stats.verdicts import load_thresholds


def _example() -> Store:
    store = Store(":memory:")
    provenance = Provenance(
        bitgap="0.1.0",
        python="3.11",
        torch="2",
        transformers="5",
        numpy="2",
        device="cpu",
        threads=1,
        arithmetic="exact",
        seed=0,
        started="2026-01-01T00:00:00+00:00",
        wall_s=1.0,
        thresholds_hash=load_thresholds().hash,
    )
    store.put_run("investigate", provenance, {"model": "toy"}, [(FINDING, "not kept")])
    return store


STORE = _example()
"""What examples in docstrings are shown on; its finding is :data:`bitgap.stats.example.FINDING`."""
