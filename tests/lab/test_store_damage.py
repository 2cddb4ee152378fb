"""Stores that are old, shared, copied while written, cut or bit-flipped: never misread, and what
is whole is kept."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitgap.errors import StoreError
from bitgap.lab.store import Store, _explain
from bitgap.lab.store_repair import repair
from bitgap.records import Observations
from record_samples import FINDING, PROVENANCE

SHAPE = (2, 40)
N = 60


OBSERVED = Observations(experiment="T", version=1, arrays={"x": np.ones(3)}, facts={"n": 2})


def values(i: int) -> np.ndarray:
    return np.random.default_rng(i).normal(size=(2, *SHAPE))


def filled(path: Path) -> Path:
    with Store(path) as store:
        store.put_text("t", {"model": "é", "languages": ["en", "he"]}, {"x": values(0)})
        for i in range(N):
            store.put_scores("t", [(f"k{i}", f"plan {i}", values(i))])
        store.put_observations("o", OBSERVED)
        store.put_run("audit", PROVENANCE, {"model": "שלום"})
        store.put_run("investigate", PROVENANCE, {"n": 1}, [(replace(FINDING), "o")])
        store.learn("speed", {"rate": 1.5})
    return path


def read_all(path: Path, *, read_only: bool) -> tuple[dict[str, bytes], list[object]]:
    """Returns everything that can be read; what cannot ends in a StoreError or it is a failure."""
    scores: dict[str, bytes] = {}
    others: list[object] = []
    try:
        with Store(path, read_only=read_only) as store:
            for call in (
                lambda: [(f["languages"], f["model"]) for _, f, _ in store.scored_texts()],
                lambda: observed(store),
                lambda: [(n, c, s) for n, c, _, s in store.runs()],
                lambda: store.findings(2),
                lambda: store.learned("speed"),
            ):
                try:
                    others.append(call())
                except StoreError as error:
                    assert "\n" not in str(error)
            plans: list[tuple[str, str]] = []
            try:
                plans = store.scored_plans("t")
            except StoreError:
                pass
            for plan, key in plans:
                assert plan == f"plan {key[1:]}", "a plan's text was misread"
            for i in range(N):
                try:
                    scores[f"k{i}"] = store.get_scores(f"k{i}", SHAPE).tobytes()
                except StoreError:
                    pass
    except StoreError:
        pass
    return scores, others


def observed(store: Store) -> object:
    found = store.get_observations("o")
    return found and (found.experiment, found.version, found.facts, found.arrays["x"].tolist())


def right(scores: dict[str, bytes]) -> None:
    for key, held in scores.items():
        assert held == values(int(key[1:])).tobytes(), f"{key} was misread"


# ------------------------------------------------------------------------------------- bit flips


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = filled(tmp_path_factory.mktemp("stores") / "whole.db")
    assert not path.with_name("whole.db-wal").exists()
    return path


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_never_misread_and_a_repair_keeps_the_rest(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    draw, path = random.Random(seed), tmp_path / "s.db"
    data = bytearray(whole.read_bytes())
    for _ in range(draw.choice((1, 1, 3, 40))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    _, wanted = read_all(whole, read_only=True)
    scores, others = read_all(path, read_only=True)
    right(scores)
    for one in others:
        assert one in wanted or not one, "something was misread"
    try:
        found = repair(path)
    except StoreError as error:
        assert (
            "can be read" in str(error) or "no bitgap store" in str(error) or "schema" in str(error)
        )
        return
    scores, _ = read_all(path, read_only=False)
    right(scores)
    assert len(scores) == found.kept["scores"]
    assert found.whole or Path(found.damaged or "").read_bytes() == bytes(data)
    if draw.random() < 2:  # a store that was repaired is whole
        assert repair(path).whole


def test_most_rows_survive_a_flip_in_a_page(whole: Path, tmp_path: Path) -> None:
    kept = []
    for seed in range(12):
        path = tmp_path / f"{seed}.db"
        data = bytearray(whole.read_bytes())
        page = random.Random(seed).randrange(20, len(data) // 4096)
        data[4096 * page : 4096 * page + 8] = b"\xff" * 8  # the head of a page of the tree
        path.write_bytes(data)
        kept.append(repair(path).kept["scores"])
    assert np.mean(kept) > 0.8 * N, kept


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.95])
def test_a_cut_store(whole: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    right(read_all(path, read_only=True)[0])
    try:
        found = repair(path)
    except StoreError:
        assert share < 0.1
        return
    scores = read_all(path, read_only=False)[0]
    right(scores)
    assert len(scores) == found.kept["scores"]
    # The first pages of a small store are the roots of its tables.
    assert share < 0.5 or len(scores) > (share - 0.25) * N, "what is before the cut is kept"


def test_a_header_that_is_gone_is_written_again(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    data = whole.read_bytes()
    path.write_bytes(bytes(24) + data[24:])
    with pytest.raises(StoreError, match=r"no bitgap store; .* or, if it was one, .*--repair"):
        Store(path)
    assert repair(path).kept["scores"] == N
    right(read_all(path, read_only=False)[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            b"findings (run INTEGER",
            b"findings (`un INTEGER",
        ),  # SQLite quotes the rest
        (b"\x07\x17\x15\x15\x01", b"\xff\xff\xff\xff\xff\xff\xff\x7f"),  # a length: memory runs out
    ],
)
def test_damaged_names_of_tables_are_told_in_a_line_and_the_rest_is_kept(
    whole: Path, tmp_path: Path, old: bytes, new: bytes
) -> None:
    data = whole.read_bytes()
    at = data.index(old)
    # A record's length stands before the header of its columns.
    start = at if old.startswith(b"findings") else at - 3
    path = tmp_path / "damaged.db"
    path.write_bytes(data[:start] + new + data[start + len(new) :])
    for read_only in (True, False):
        with pytest.raises(StoreError, match="results --repair") as caught:
            Store(path, read_only=read_only)
        assert "\n" not in str(caught.value)
    try:
        repair(path)
    except StoreError as error:
        assert "nothing of" in str(error) and "\n" not in str(error)
    else:
        right(read_all(path, read_only=True)[0])


def test_a_store_copied_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.put_text("t", {"model": "m", "languages": []}, {"x": values(0)})
        for i in range(N):
            store.put_scores("t", [(f"k{i}", f"plan {i}", values(i))])
            if i % 7 == 0:
                # With its log, without it, and with that of another moment.
                for name, logs in (("both", "-wal"), ("alone", ""), ("torn", "-wal")):
                    copy = tmp_path / f"{name}{i}.db"
                    if logs:
                        shutil.copy(f"{path}-wal", f"{copy}-wal")
                    if name == "torn":
                        store._db.execute("PRAGMA wal_checkpoint(RESTART)")
                    shutil.copy(path, copy)
                    right(read_all(copy, read_only=False)[0])
                    if copy.stat().st_size > 4096:
                        try:
                            repair(copy)
                        except StoreError:
                            continue
                        right(read_all(copy, read_only=True)[0])


def test_a_whole_store_is_left_as_it_is(whole: Path, tmp_path: Path) -> None:
    path = shutil.copy(whole, tmp_path / "s.db")
    found = repair(path)
    assert found.whole and found.damaged is None
    assert found.kept == {
        "texts": 1, "scores": N, "observations": 1, "runs": 2, "findings": 1, "learned": 1,
    }  # fmt: skip
    assert path.read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["s.db"]


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("scores", "plan = 'plan 7' WHERE key = 'k8'"),
        ("scores", "text_key = 'u' WHERE key = 'k8'"),
        ("texts", "facts = '{}'"),
        ("observations", "experiment = 'U'"),
        ("runs", "summary = '{\"n\": 2}' WHERE id = 2"),
        ("runs", "command = 'map' WHERE id = 1"),
        ("findings", "observations = 'p'"),
    ],
)
def test_every_column_is_sealed(whole: Path, tmp_path: Path, table: str, change: str) -> None:
    path = shutil.copy(whole, tmp_path / "s.db")
    with sqlite3.connect(path) as db:
        assert db.execute(f"UPDATE {table} SET {change}").rowcount > 0
    db.close()
    found = repair(path)
    assert found.dropped[table] >= 1 and not found.whole


def test_a_run_that_is_damaged_is_told_and_not_dropped(whole: Path, tmp_path: Path) -> None:
    path = shutil.copy(whole, tmp_path / "s.db")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET summary = '{}' WHERE id = 2")
    db.close()
    with Store(path) as store:
        with pytest.raises(StoreError, match=r"a row of runs failed its checksum; .*--repair"):
            store.run(2)
        assert store.run(1)[3] == {"model": "שלום"}
    found = repair(path)
    assert found.kept["runs"] == 1 and found.dropped["findings"] == 1, "nobody's findings go too"


# ----------------------------------------------------------------------------- older, shared, full


def older(path: Path) -> Path:
    """Makes a store as schema 1 had it, without seals."""
    with sqlite3.connect(path) as db:
        for table in ("texts", "scores", "observations", "runs", "findings", "learned"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN seal")
        db.execute("UPDATE meta SET value = '1'")
    db.close()
    return path


def test_a_store_of_schema_1_is_read_as_it_is_and_brought_up_to_date_when_written(
    tmp_path: Path,
) -> None:
    path = older(filled(tmp_path / "s.db"))
    before = path.read_bytes()
    scores, others = read_all(path, read_only=True)
    assert len(scores) == N and path.read_bytes() == before
    now = read_all(path, read_only=False)
    assert now == (scores, others)
    right(scores)
    with Store(path) as store:
        store.put_scores("t", [("new", "plan x", values(99))])
        assert len(store.known_scores("t")) == N + 1
        assert store.put_run("map", PROVENANCE, {}) == 3
    assert repair(path).whole


@pytest.mark.parametrize("told", ["'3'", "'0'", "'one'", "NULL", "x'01'"])
def test_a_schema_that_nobody_knows_is_refused_and_left_alone(tmp_path: Path, told: str) -> None:
    path = filled(tmp_path / "s.db")
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE m2 (name TEXT, value)")
        db.execute("DROP TABLE meta")
        db.execute("ALTER TABLE m2 RENAME TO meta")
        db.execute(f"INSERT INTO meta VALUES ('schema', {told})")
    db.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(StoreError, match="this bitgap reads 1 to 2; name another"):
            Store(path, read_only=read_only)
    with pytest.raises(StoreError, match="this bitgap reads 1 to 2"):
        repair(path)
    assert path.read_bytes() == before


MANY = """
import sys, numpy as np
from bitgap.lab.store import Store
who = int(sys.argv[2])
for turn in range(3):
    with Store(sys.argv[1]) as store:
        for i in range(10):
            # Half of them are what the others write too.
            key = f"k{i}" if i % 2 else f"k{i}-{who}"
            values = np.random.default_rng(i).normal(size=(2, 2, 3))
            store.put_scores("t", [(key, f"plan {i}", values)])
            store.learn("speed", {"who": who})
"""


@pytest.mark.parametrize("made", [False, True], ids=["new", "schema 1"])
def test_several_commands_on_one_store_at_once(tmp_path: Path, made: bool) -> None:
    path = tmp_path / "s.db"
    if made:
        older(filled(path))
    many = [
        subprocess.Popen([sys.executable, "-c", MANY, str(path), str(who)],
                         stderr=subprocess.PIPE, text=True)
        for who in range(4)
    ]  # fmt: skip
    for one in many:
        assert one.communicate()[1] == "" and one.returncode == 0
    with Store(path, read_only=True) as store:
        known = store.known_scores("t")
        assert {f"k{i}-{who}" for i in range(0, 10, 2) for who in range(4)} <= known
    assert repair(path).whole


def test_a_repair_waits_for_nobody(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db")
    with Store(path) as store:
        store._db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process is writing"):
            repair(path)
        store._db.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("SQLITE_PROTOCOL", "locking protocol", "SQLite's locking does not work there"),
        ("SQLITE_IOERR_LOCK", "disk I/O error", "on some network drives"),
        ("SQLITE_IOERR_SHMMAP", "disk I/O error", "SQLite's locking does not work there"),
        ("SQLITE_BUSY", "database is locked", "network drive SQLite's locking"),
        ("SQLITE_IOERR_WRITE", "disk I/O error", "make room"),
        ("SQLITE_CORRUPT", "database disk image is malformed", "results --repair"),
        ("SQLITE_READONLY", "attempt to write a readonly database", "can be written"),
    ],
)
def test_what_sqlite_says_of_a_place_is_explained(name: str, text: str, words: str) -> None:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    assert words in _explain("/mnt/x.db", "open", error)
