"""Runs stored before 2026-11-29: their records are rebuilt, and say what their JSON said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bitgap.codec import from_json
from bitgap.errors import StoreError
from bitgap.lab.store import Store
from bitgap.records import Provenance
from bitgap.report.old_runs import records_of
from bitgap.report.run import read_run, to_store

OLD: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("old_runs.json").read_text(encoding="utf-8")
)
"""What stores of that time held of a run of each verb, shortened."""
PROVENANCE = from_json(Provenance, OLD["audit"]["provenance"])


RENAMED = {
    "D_seed": "D_original", "D_seed_ci": "D_original_ci", "D_seed_reason": "D_original_reason",
    "layers": "blocks", "layer": "block", "origin_set": "original_set",
    "seed_measure": "original_measure", "seed_regression": "original_regression",
}  # fmt: skip
"""Keys that have another name today, as CHANGELOG.md lists them."""


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {RENAMED.get(name, name): renamed(item) for name, item in value.items()}
    return [renamed(item) for item in value] if isinstance(value, list) else value


def lost(said: Any, now: Any, where: str = "") -> list[str]:
    """Returns where something said then is not said any more; what is new is no loss."""
    if isinstance(said, dict):
        gone = [f"{where}.{key}" for key in said if key not in now]
        return gone + [w for k in said if k in now for w in lost(said[k], now[k], f"{where}.{k}")]
    if isinstance(said, list) and isinstance(now, list) and len(said) == len(now):
        pairs = zip(said, now, strict=True)
        return [w for i, (a, b) in enumerate(pairs) for w in lost(a, b, f"{where}[{i}]")]
    return [] if said == now else [f"{where}: {said!r} became {now!r}"]


@pytest.mark.parametrize("verb", OLD)
def test_a_run_of_before_says_what_it_said_and_can_be_kept_anew(verb: str, tmp_path: Path) -> None:
    with Store(tmp_path / "old.db") as store:
        store.put_run(verb, PROVENANCE, OLD[verb])
    old = read_run("1", str(tmp_path / "old.db"))
    said = renamed(OLD[verb])
    assert lost(said, plain(old.result) | {"provenance": said["provenance"]}) == []
    assert old.texts == {} and old.masks is None, "its scores are not in this store"
    with Store(tmp_path / "new.db") as store:
        store.put_run(verb, PROVENANCE, to_store(old))
    new = read_run("1", str(tmp_path / "new.db"))
    for name in ("report", "layer_map", "investigation", "theory", "ledger"):
        assert getattr(new, name) == getattr(old, name), name
    assert plain(new.result) == plain(old.result)


def test_units_and_methods_are_those_of_the_run() -> None:
    report = records_of("audit", OLD["audit"], 0)["report"]
    assert [one.language for one in report.languages] == ["en", "de"], "the reference first"
    assert report.disparity.unit == "log2 ratio"
    assert report.language("de").token_premium.unit == "tokens per reference token"
    assert report.gap.method == OLD["audit"]["method"] and report.gap.n == report.n_sentences
    rank = records_of("map", OLD["map"], 0)["layer_map"].origin.rank_damage
    assert "rank" in rank.unit and (rank.low, rank.high) == (1.0, 2.0)


def test_what_was_not_formed_then_is_missing_with_a_reason() -> None:
    report = records_of("audit", OLD["audit"], 0)["report"]
    found = records_of("map", OLD["map"], 0)["layer_map"]
    for one in (report.spread, found.blocks[0].spread_fall, found.origin.beats_spread):
        assert one.value is None and "run it again" in one.reason


@pytest.mark.parametrize(
    ("verb", "changed"),
    [
        ("audit", {"units": None}),
        ("map", {"layers": [{}]}),
        ("map", {"masks": 17}),
        ("theory", {"pillars": [{"pillar": 1}]}),
        ("replicate", {"rows": None}),
    ],
)
def test_what_no_such_run_held_is_refused(verb: str, changed: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="stored"):
        records_of(verb, OLD[verb] | changed, 0)
