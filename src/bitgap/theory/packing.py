"""Evidence as named arrays and facts, which is what stores and files keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bitgap.codec import from_json, to_json
from bitgap.records import Finding, Floats, Observations
from bitgap.theory.evidence import Evidence

VERSION = 5
"""Raised whenever the record changes meaning, or what its findings hold."""

_ARRAYS = (
    *("t2", "log_variance", "log_dimension", "log_error_ratio", "sensitivity", "single"),
    *("tokens", "mask_sensitivity", "mask_single", "mask_tokens", "masks", "sampled", "damage"),
    "original_disparity",
)
_OPTIONAL = ("mask_sensitivity", "mask_single", "mask_tokens", "sampled")
_GROUPS = ("shapley", "original_predictors")


def pack(evidence: Evidence) -> Observations:
    """Returns evidence as what a store keeps."""
    arrays = {name: values for name in _ARRAYS if (values := getattr(evidence, name)) is not None}
    for group in _GROUPS:
        named: Mapping[str, Floats] = getattr(evidence, group)
        arrays |= {f"{group}.{name}": values for name, values in named.items()}
    plain = {f.name for f in fields(Evidence)} - set(_ARRAYS) - set(_GROUPS) - {"findings"}
    facts: dict[str, Any] = {name: getattr(evidence, name) for name in sorted(plain)}
    facts["findings"] = to_json(evidence.findings)
    return Observations(experiment="evidence", version=VERSION, arrays=arrays, facts=facts)


def unpack(kept: Observations) -> Evidence:
    """Returns evidence from what a store kept."""
    facts: dict[str, Any] = dict(kept.facts)
    groups: dict[str, Any] = {
        group: {
            name.removeprefix(f"{group}."): values
            for name, values in kept.arrays.items()
            if name.startswith(f"{group}.")
        }
        for group in _GROUPS
    }
    findings = {h: from_json(Finding, f) for h, f in facts.pop("findings").items()}
    facts["languages"] = tuple(facts["languages"])
    arrays: dict[str, Any] = {
        name: kept.arrays[name] for name in _ARRAYS if name in kept.arrays or name not in _OPTIONAL
    }
    return Evidence(**facts, **groups, **arrays, findings=findings)
