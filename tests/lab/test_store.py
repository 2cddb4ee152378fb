from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitgap.errors import StoreError
from bitgap.lab.store import Store, content_key, pack, unpack
from bitgap.records import Observations
from record_samples import FINDING, PROVENANCE

SHAPE = (2, 3)
SCORES = np.random.default_rng(0).normal(size=(2, *SHAPE))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bitgap.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


# -- what goes in comes out ------------------------------------------------------------------------


def test_scores_come_back_to_the_bit_from_another_opening(path: Path) -> None:
    extreme = SCORES.copy()
    extreme[0, 0] = [5e-324, -0.0, math.nextafter(1, 2)]
    with Store(path) as store:
        store.put_scores("t", [("a", "rtn4-g128", extreme), ("b", "fp", SCORES)])
    with Store(path, read_only=True) as store:
        assert store.known_scores("t") == {"a", "b"}
        assert store.known_scores("other") == set()
        assert store.get_scores("a", SHAPE).tobytes() == extreme.tobytes()
        assert store.scored_plans("t") == [("fp", "b"), ("rtn4-g128", "a")]


def test_scores_once_stored_are_never_overwritten(store: Store) -> None:
    store.put_scores("t", [("a", "fp", SCORES)])
    store.put_scores("t", [("a", "fp", SCORES + 1)])
    assert (store.get_scores("a", SHAPE) == SCORES).all()


def test_a_text_comes_back_with_its_facts(store: Store) -> None:
    arrays = {"nll": SCORES, "tokens": np.arange(6).reshape(SHAPE)}
    store.put_text("t", {"model": "é", "floor": 1e-7}, arrays)
    facts, found = store.get_text("t") or ({}, {})
    assert facts == {"model": "é", "floor": 1e-7}
    assert all((found[k] == arrays[k]).all() and found[k].dtype == arrays[k].dtype for k in arrays)
    assert store.get_text("u") is None
    assert [key for key, _, _ in store.scored_texts()] == ["t"]


def test_observations_come_back_whole(store: Store) -> None:
    arrays = {"x": SCORES, "mask": np.array([True, False]), "empty": np.zeros((0, 3))}
    given = Observations(experiment="T-001", version=3, arrays=arrays, facts={"n": 2, "l": [1.5]})
    store.put_observations("k", given)
    found = store.get_observations("k")
    assert found is not None
    assert (found.experiment, found.version, found.facts) == ("T-001", 3, {"n": 2, "l": [1.5]})
    assert found.arrays.keys() == arrays.keys()
    assert all((found.arrays[k] == arrays[k]).all() for k in arrays)
    assert store.get_observations("other") is None


def test_runs_and_findings_come_back_equal(store: Store) -> None:
    other = replace(FINDING, experiment="T-001", estimates={}, controls=())
    first = store.put_run("audit", PROVENANCE, {"ok": True})
    second = store.put_run("investigate", PROVENANCE, {}, [(FINDING, "k4"), (other, "k1")])
    assert store.runs() == [
        (first, "audit", PROVENANCE, {"ok": True}),
        (second, "investigate", PROVENANCE, {}),
    ]
    assert store.findings(second) == [(other, "k1"), (FINDING, "k4")]
    assert store.findings(first) == []


def test_a_run_whose_finding_cannot_be_stored_leaves_nothing(store: Store) -> None:
    bad = replace(FINDING, tables={"x": math.nan})
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        store.put_run("audit", PROVENANCE, {}, [(FINDING, "k"), (bad, "k")])
    assert store.runs() == []
    store.put_run("audit", PROVENANCE, {})


def test_packed_arrays_hold_no_pickles() -> None:
    assert unpack(pack({"a": SCORES}))["a"].tobytes() == SCORES.tobytes()
    with pytest.raises(ValueError, match="Object arrays"):
        pack({"a": np.array([object()])})


def test_content_keys_are_the_same_in_every_process_and_tell_parts_apart() -> None:
    parts = ("text", 1, {"b": 2.5, "a": [1, None]}, "é")
    code = f"from bitgap.lab.store import content_key; print(content_key(*{parts!r}))"
    for seed in ("0", "7"):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
        )  # fmt: skip
        assert out.stdout.strip() == content_key(*parts)
    assert content_key("ab", "c") != content_key("a", "bc") != content_key(["a", "bc"])
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        content_key(math.nan)


# -- what is wrong is said -------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["scores", "texts", "observations"])
def test_a_damaged_row_is_said_and_dropped_so_that_it_is_measured_anew(
    store: Store, table: str
) -> None:
    observations = Observations(experiment="T", version=1, arrays={"x": SCORES}, facts={})
    store.put_scores("t", [("k", "fp", SCORES), ("good", "fp", SCORES)])
    store.put_text("k", {}, {"x": SCORES})
    store.put_observations("k", observations)
    read = {
        "scores": lambda: store.get_scores("k", SHAPE),
        "texts": lambda: store.get_text("k"),
        "observations": lambda: store.get_observations("k"),
    }[table]
    read()
    store._db.execute(f"UPDATE {table} SET blob = zeroblob(length(blob)) WHERE key = 'k'")
    with pytest.raises(StoreError, match=rf"{table} failed its checksum and was dropped; run"):
        read()
    if table == "scores":
        assert store.known_scores("t") == {"good"}
        with pytest.raises(StoreError, match="holds no scores for key k; run the command again"):
            read()
    else:
        assert read() is None


def test_a_damaged_row_in_a_store_open_for_reading_is_said_and_kept(path: Path) -> None:
    with Store(path) as store:
        store.put_scores("t", [("k", "fp", SCORES)])
        store._db.execute("UPDATE scores SET sha256 = 'x'")
    with Store(path, read_only=True) as store:
        with pytest.raises(StoreError, match="failed its checksum; run the command"):
            store.get_scores("k", SHAPE)
        assert store.known_scores("t") == {"k"}


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_another_schema_is_refused(path: Path, read_only: bool) -> None:
    with Store(path) as store:
        store._db.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(StoreError, match="has schema 99, this bitgap reads 1 to 2; name another"):
        Store(path, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path, read_only: bool) -> None:
    path.write_bytes(b"a diary, not a database\n" * 400)
    with pytest.raises(StoreError, match="no bitgap store; name another with --store"):
        Store(path, read_only=read_only)
    assert path.read_bytes() == b"a diary, not a database\n" * 400


@pytest.mark.parametrize("read_only", [False, True])
def test_somebody_elses_database_is_refused_and_left_alone(path: Path, read_only: bool) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE diary (entry TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="name another"):
        Store(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_store_that_is_not_there_cannot_be_read_and_is_not_made(path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store.*bitgap audit"):
        Store(path, read_only=True)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "bitgap.db", tmp_path):
        with pytest.raises(StoreError, match=r"cannot open the store.*folder that can be written"):
            Store(place)


def test_a_folder_that_is_not_there_is_made_for_a_store(tmp_path: Path) -> None:
    Store(tmp_path / "runs" / "of-today" / "bitgap.db").close()
    assert (tmp_path / "runs" / "of-today" / "bitgap.db").is_file()


def test_writing_to_a_store_opened_for_reading_is_a_store_error(path: Path) -> None:
    Store(path).close()
    with (
        Store(path, read_only=True) as store,
        pytest.raises(StoreError, match=r"cannot write.*readonly.*--store"),
    ):
        store.put_scores("t", [("k", "fp", SCORES)])


def test_a_path_with_signs_of_its_own_is_only_a_path(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1?.db"
    with Store(path) as store:
        store.put_scores("t", [("k", "fp", SCORES)])
    with Store(path, read_only=True) as store:
        assert store.known_scores("t") == {"k"}


def test_a_store_that_another_process_is_writing_to_says_so(path: Path, store: Store) -> None:
    store.put_scores("t", [("k", "fp", SCORES)])
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        store._db.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(StoreError, match="locked; another process is writing to it; wait"):
            store.put_scores("t", [("l", "fp", SCORES)])
        assert store.known_scores("t") == {"k"}, "reading goes on"
        other.stdin.close()
    store.put_scores("t", [("l", "fp", SCORES)])
    assert store.known_scores("t") == {"k", "l"}


def test_a_full_disk_says_so_and_keeps_what_was_committed(store: Store) -> None:
    store.put_scores("t", [("k", "fp", SCORES)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    big = np.zeros((2, 2, 20_000))
    with pytest.raises(StoreError, match=r"full.*make room.*committed is kept"):
        store.put_scores("t", [("small", "fp", SCORES), ("big", "fp", big)])
    assert store.known_scores("t") == {"k"}, "a batch is all or nothing"
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.put_scores("t", [("big", "fp", big)])
    assert store.known_scores("t") == {"k", "big"}
