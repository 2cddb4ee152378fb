"""What a store holds, read back: verdicts judged again, runs, and tables that lose nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitgap.errors import MissingExtra, StoreError
from bitgap.jobs import results
from bitgap.lab.store import Store
from bitgap.records import Estimate, Finding, Observations, Provenance, Verdict
from bitgap.stats.verdicts import load_thresholds

VERSION = 3
LANGUAGES, SENTENCES = ("en", "de"), 4


def provenance(**changed: Any) -> Provenance:
    made = Provenance(
        bitgap="0.1.0", python="3.11", torch="2", transformers="5", numpy="2", device="cpu",
        threads=1, arithmetic="exact", seed=0, started="2026-01-01T00:00:00+00:00", wall_s=1.25,
        thresholds_hash=load_thresholds().hash,
    )  # fmt: skip
    return replace(made, **changed)


def finding(experiment: str, p: float | None, label: Any = "supported", **others: Any) -> Finding:
    effect = Estimate(value=0.5, low=0.4, high=0.7, unit="bits", n=9, method="BCa")
    return Finding(
        experiment=experiment,
        hypothesis="H1.1",
        title="Something",
        primary="effect",
        estimates={"effect": effect, "none": Estimate(value=None, unit="dB", reason="too few")},
        original_measure={},
        controls=(),
        verdict=Verdict(label=label, scope="this model", reason="it was so", p=p),
        sentence="It is so.",
        **others,
    )


def judge(observations: Observations, _: Any) -> Finding:
    """Today's judge: believes what was observed."""
    return finding(observations.experiment, float(observations.arrays["p"]))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    experiment = SimpleNamespace(version=VERSION, judge=judge)
    monkeypatch.setattr(results, "find", lambda _: experiment)
    with Store(tmp_path / "bitgap.db") as opened:
        yield opened


def observe(store: Store, key: str, p: float, version: int = VERSION) -> None:
    seen = Observations(experiment=key, version=version, arrays={"p": np.array(p)}, facts={})
    store.put_observations(key, seen)


def put_run(store: Store, *found: Finding, command: str = "investigate", **changed: Any) -> int:
    summary = {"model": "tiny", "corpus": "text", "plan": "rtn4-g128"}
    return store.put_run(
        command, provenance(**changed), summary, [(f, f.experiment) for f in found]
    )


def put_scores(store: Store, key: str, n_plans: int, seed: int = 0) -> dict[str, Any]:
    """Stores scores of some plans on one text; returns all that was put in."""
    rng = np.random.default_rng(seed)
    shape = (len(LANGUAGES), SENTENCES)
    arrays = {
        "nll_fp_nats": rng.gamma(9, 1, shape),
        "unigram_nats": rng.gamma(9, 2, shape),
        **{name: rng.integers(1, 99, shape) for name in ("tokens", "bytes", "characters")},
    }
    facts = {"model": "tiny", "corpus": f"corpus {key}", "arithmetic": "exact",
             "languages": list(LANGUAGES), "reference": "en", "floor_nats": 1e-9}  # fmt: skip
    scores = {f"rtn4-g128 protect {i}": rng.gamma(2, 1, (2, *shape)) for i in range(n_plans)}
    store.put_text(key, facts, arrays)
    store.put_scores(key, [(f"{key}/{plan}", plan, both) for plan, both in scores.items()])
    return {**arrays, **facts, "scores": scores}


# ------------------------------------------------------------------------------------ judged again


def test_findings_are_judged_from_what_was_observed_not_from_what_was_said(store: Store) -> None:
    observe(store, "T-001", 0.001)
    run = put_run(store, finding("T-001", 0.9, "inconclusive"))
    (again,) = results.judged_again(store, run)
    assert (again.verdict.p, again.verdict.label) == (0.001, "supported")


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_observations_of_another_version_leave_the_finding_as_it_was(
    store: Store, version: int
) -> None:
    observe(store, "T-001", 0.001, version)
    tested = finding("T-002", 0.7, "refuted")
    tested = replace(tested, verdict=replace(tested.verdict, p_equivalence=0.001))
    kept = put_run(store, finding("T-001", 0.9, "inconclusive"), tested)
    first, second = results.judged_again(store, kept)
    assert (first.verdict.p, first.verdict.label) == (0.9, "inconclusive")
    assert (second.verdict.p, second.verdict.label) == (0.7, "refuted"), "it was never observed"


def test_a_refutation_that_no_test_of_equivalence_was_made_for_is_none(store: Store) -> None:
    # As version 2 of the thresholds had them: an interval under the SESOI was enough.
    (found,) = results.judged_again(store, put_run(store, finding("T-002", 0.7, "refuted")))
    assert found.verdict.label == "inconclusive"
    assert "the p of equivalence after Holm is none" in found.verdict.reason


def test_what_was_looked_at_stands_in_scope_and_sentence(store: Store) -> None:
    (found,) = results.judged_again(store, put_run(store, finding("T-002", 0.7)))
    assert found.verdict.scope.startswith("this model: ")
    assert found.sentence.startswith(f"In this model ({found.verdict.scope[12:]}): ")
    (again,) = results.judged_together([found], None, {"model": "another"})
    assert again.sentence.count("In this model") <= 2  # another scope is told, the same is not
    assert results.judged_together([found], None) == [replace(found, verdict=again.verdict)]


def test_findings_of_one_run_are_one_family(store: Store) -> None:
    for key, p in (("T-001", 0.02), ("T-002", 0.04), ("T-003", 0.9)):
        observe(store, key, p)
    run = put_run(store, *(finding(f"T-00{i}", None) for i in (1, 2, 3)))
    alone = put_run(store, finding("T-002", None))
    together = [f.verdict for f in results.judged_again(store, run)]
    # Holm: 3 · 0.02, then 2 · 0.04, then 1 · 0.9, none below the one before.
    assert [v.p_holm for v in together] == pytest.approx([0.06, 0.08, 0.9])
    assert [v.label for v in together] == ["inconclusive"] * 3
    (only,) = results.judged_again(store, alone)
    assert (only.verdict.p_holm, only.verdict.label) == (0.04, "supported")


# ----------------------------------------------------------------------------------------- summary


def test_the_summary_names_every_run_and_text_and_is_json(store: Store) -> None:
    observe(store, "T-001", 0.001)
    put_run(store, command="audit", thresholds_hash="of long ago")
    put_run(store, finding("T-001", None))
    put_scores(store, "a", 3)
    put_scores(store, "b", 2)
    read = json.loads(json.dumps(results.summary(store), allow_nan=False))
    assert read["store"] == store.path
    assert [(r["run"], r["command"], r["model"]) for r in read["runs"]] == [
        (1, "audit", "tiny"),
        (2, "investigate", "tiny"),
    ]
    assert [r["thresholds_changed"] for r in read["runs"]] == [True, False]
    assert [[f["experiment"] for f in r["findings"]] for r in read["runs"]] == [[], ["T-001"]]
    assert [(t["text"], t["corpus"], t["plans"]) for t in read["texts"]] == [
        ("a", "corpus a", 3),
        ("b", "corpus b", 2),
    ]


def test_an_empty_store_has_an_empty_summary(store: Store) -> None:
    assert results.summary(store) == {"store": store.path, "runs": [], "texts": []}


@pytest.mark.skipif(not hasattr(os, "access"), reason="this system has no rights to ask for")
def test_a_store_where_nothing_can_be_written_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "bitgap.db") as store:
        put_run(store, command="audit")
    monkeypatch.setattr(os, "access", lambda *_: False)
    beside = set(tmp_path.iterdir())
    with Store(tmp_path / "bitgap.db", read_only=True) as store:
        assert len(results.summary(store)["runs"]) == 1
        assert set(tmp_path.iterdir()) == beside, "reading must make no file there"


# ------------------------------------------------------------------------------------------ tables


def read(path: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(path)


@pytest.mark.parametrize("rows", [1, 20, 10**6])
def test_the_table_of_scores_is_the_store_row_by_row_however_it_is_cut(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    put = {
        key: put_scores(store, key, n, seed) for seed, (key, n) in enumerate((("a", 5), ("b", 2)))
    }
    monkeypatch.setattr(results, "_BATCH_ROWS", rows)
    results.write_parquet(store, tmp_path / "tables")
    found = read(tmp_path / "tables" / "scores.parquet").to_pylist()
    assert len(found) == (5 + 2) * len(LANGUAGES) * SENTENCES
    places = set()
    for row in found:
        text = put[row["text"]]
        at = LANGUAGES.index(row["language"]), row["sentence"]
        nll, kl = text["scores"][row["plan"]][:, *at]
        assert (row["nll_nats"], row["kl_nats"]) == (nll, kl)
        for name in ("nll_fp_nats", "tokens", "bytes", "characters"):
            assert row[name] == text[name][at]
        assert row["corpus"] == text["corpus"] and row["model"] == "tiny"
        places.add((row["text"], row["plan"], *at))
    assert len(places) == len(found), "a row stands twice"


def test_findings_and_runs_have_a_row_an_estimate_and_a_run(store: Store, tmp_path: Path) -> None:
    observe(store, "T-001", 0.001)
    put_run(store, command="audit", seed=7)
    put_run(store, finding("T-001", None))
    paths = results.write_parquet(store, tmp_path / "deep" / "tables")
    assert [path.name for path in paths] == ["scores.parquet", "findings.parquet", "runs.parquet"]
    rows = read(paths[1]).to_pylist()
    assert [(r["run"], r["estimate"], r["value"], r["reason"]) for r in rows] == [
        (2, "effect", 0.5, None),
        (2, "none", None, "too few"),
    ]
    assert {r["verdict"] for r in rows} == {"supported"} and rows[0]["p"] == 0.001
    runs = read(paths[2]).to_pylist()
    assert [(r["run"], r["command"], r["seed"], r["wall_s"]) for r in runs] == [
        (1, "audit", 7, 1.25),
        (2, "investigate", 0, 1.25),
    ]
    assert set(runs[0]) == {"run", "command", *(f.name for f in fields(Provenance))}


def test_tables_without_rows_have_their_columns_and_types(store: Store, tmp_path: Path) -> None:
    empty = [read(path).schema for path in results.write_parquet(store, tmp_path / "empty")]
    observe(store, "T-001", 0.001)
    put_run(store, finding("T-001", None))
    put_scores(store, "a", 1)
    full = [read(path).schema for path in results.write_parquet(store, tmp_path / "full")]
    assert empty == full
    assert all(len(schema) > 10 for schema in full)


def test_a_damaged_row_is_told_and_leaves_the_older_table_whole(
    store: Store, tmp_path: Path
) -> None:
    put_scores(store, "a", 3)
    (path, *_) = results.write_parquet(store, tmp_path)
    whole = path.read_bytes()
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE scores SET blob = zeroblob(length(blob)) WHERE plan LIKE '% 2'")
    db.close()
    with Store(store.path, read_only=True) as reading, pytest.raises(StoreError, match="checksum"):
        results.write_parquet(reading, tmp_path)
    assert path.read_bytes() == whole
    assert not list(tmp_path.glob(".*")), "half a table was left behind"


def test_without_pyarrow_it_says_how_to_get_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"bitgap\[parquet\]"):
        results.write_parquet(store, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()
