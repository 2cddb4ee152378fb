"""Pillars and what follows from verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from finding_samples import effect, evidence, finding

from bitgap.experiments.protocol.hypothesis import PILLARS
from bitgap.records import Finding
from bitgap.show.withdrawn import caveat_of
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.hypotheses import HYPOTHESES
from bitgap.theory.outcomes import outcomes, pillars, suggestions

MEMBERS = [h for h, e in load_thresholds().hypotheses.items() if e.get("family", True)]


def findings(**labels: Any) -> list[Finding]:
    named = {name.replace("_", "."): label for name, label in labels.items()}
    return [
        finding("T", h, {"x": effect(0.1)}, label=named.get(h, "inconclusive")) for h in MEMBERS
    ]


def states(found: list[Finding]) -> list[str]:
    return [row["state"] for row in pillars(found)]


def test_pillars_rest_on_members_of_the_family() -> None:
    resting = {h.id: h.pillar for h in HYPOTHESES.values() if h.pillar is not None}
    assert set(resting) <= set(MEMBERS)
    assert set(resting.values()) == set(PILLARS)


def test_all_pillars_are_open_where_nothing_was_decided() -> None:
    assert states(findings()) == ["open"] * 4


def test_one_supported_hypothesis_holds_a_pillar_and_all_must_be_refuted_to_fell_it() -> None:
    assert states(findings(H3_3="supported", H3_1="refuted"))[1] == "held"
    assert states(findings(H3_1="refuted", H3_2="refuted"))[1] == "open"
    assert states(findings(H3_1="refuted", H3_2="refuted", H3_3="refuted"))[1] == "fallen"


def test_every_hypothesis_is_told_once() -> None:
    said = outcomes(findings(H1_1="supported", H2_3="refuted", H4_1="not testable"), [])
    assert [row["hypothesis"] for row in said["established"]] == ["H1.1"]
    assert [row["hypothesis"] for row in said["ruled_out"]] == ["H2.3"]
    assert len(said["open"]) == len(MEMBERS) - 2


def test_suggestions_are_what_was_built_in() -> None:
    n, rng = 12, np.random.default_rng(0)
    found = []
    for family in ("a", "b", "c"):
        k = np.ones((n, 2))
        k[-3:] = 3.0  # r of 9/11, 10/11 and 1 is above .75; so is no other
        alpha = k * np.exp(0.001 * rng.normal(size=(n, 1)))
        found.append(replace(evidence(family), single=k, sensitivity=alpha))
    rows = {row["hypothesis"]: row for row in suggestions(found)}
    late = rows["damage is concentrated in the last quarter of the depth"]
    assert late["value"] == pytest.approx(9 / 18)
    assert late["null"] == pytest.approx(3 / 12)
    assert "the first block takes less than its share of damage" in rows
    explained = next(row for name, row in rows.items() if "how much a block matters" in name)
    assert explained["value"] == pytest.approx(1, abs=0.01)
    assert caveat_of(explained) and not caveat_of(late)


def test_one_family_suggests_nothing() -> None:
    assert suggestions([evidence("a"), evidence("a")]) == []


def test_what_follows_says_of_which_models_it_is() -> None:
    found = findings(H2_2="refuted", H1_1="supported", H2_1="small")
    said = outcomes(found, [])
    for key in ("established", "ruled_out", "open"):
        for row in said[key]:
            finding = next(f for f in found if f.hypothesis == row["hypothesis"])
            assert row["because"].startswith(f"in {finding.verdict.scope}: "), row
