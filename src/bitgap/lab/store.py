"""One SQLite file that remembers everything measured, so that nothing is computed twice.

Scores and observations are blobs with a checksum, read back only if it holds; findings and runs are
JSON rows. The file is in WAL mode and every batch is one transaction: a process that is killed
loses the batch in flight and nothing else. Torch is not needed to read it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bitgap.codec import decode, encode
from bitgap.errors import NoSuchStore, StoreError
from bitgap.lab.files import NewFiles, read_files
from bitgap.quant.plan import Plan
from bitgap.records import (
    Arithmetic,
    Finding,
    Floats,
    Observations,
    Provenance,
    Scores,
    TextCounts,
)

SCHEMA = 1
"""Raised whenever the meaning of a table changes."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, facts TEXT NOT NULL,
    blob BLOB NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, text_key TEXT NOT NULL, plan TEXT NOT NULL,
    blob BLOB NOT NULL, sha256 TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS scores_by_text ON scores (text_key);
CREATE TABLE IF NOT EXISTS observations (key TEXT PRIMARY KEY, experiment TEXT NOT NULL,
    facts TEXT NOT NULL, blob BLOB NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, command TEXT NOT NULL,
    provenance TEXT NOT NULL, summary TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS findings (run INTEGER NOT NULL REFERENCES runs (id),
    experiment TEXT NOT NULL, observations TEXT, finding TEXT NOT NULL,
    PRIMARY KEY (run, experiment));
CREATE TABLE IF NOT EXISTS learned (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def content_key(*parts: Any) -> str:
    """Returns the SHA-256 (hex) of JSON-serialisable parts, the same in every process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """The project's memory; a context manager that closes the file."""

    def __init__(self, path: str | PathLike[str], *, read_only: bool = False) -> None:
        """Opens the store, and makes it where it is not there and may be written.

        Args:
            path: The SQLite file, or ``:memory:``.
            read_only: Refuse to write or to make the file.

        Raises:
            StoreError: If the file cannot be opened, is not a store, or has another schema.
        """
        self.path, self._read_only = str(path), read_only
        self._temporary: Path | None = None
        if read_only and not Path(self.path).is_file():
            raise NoSuchStore(
                f"there is no store {self.path!r}; run `bitgap audit` or name another"
            )
        with self._explained("open"):
            if not read_only and self.path != ":memory:":
                with suppress(OSError):  # SQLite says what is wrong with the place
                    Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            target = _read_only_uri(self.path) if read_only else self.path
            self._db = sqlite3.connect(target, timeout=30, uri=read_only, isolation_level=None)
            try:
                self._prepare(read_only)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what was committed stays."""
        self._db.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _prepare(self, read_only: bool) -> None:
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        if tables and "meta" not in tables:
            raise StoreError(f"{self.path!r} is no bitgap store; name another with --store")
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        row = self._db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if row is None or row[0] != str(SCHEMA):
            raise StoreError(
                f"{self.path!r} has schema {row and row[0]}, this bitgap reads {SCHEMA}; "
                f"name another file with --store"
            )

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(_explain(self.path, doing, error)) from error

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._explained("read"):
            return self._db.execute(query, values).fetchall()

    def _row(self, query: str, key: Any) -> Any:
        """Returns the row of a key, or None."""
        rows = self._rows(query, key)
        return rows[0] if rows else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained("write"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # -- scores -------------------------------------------------------------------------------

    def put_text(self, key: str, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Remembers what full precision said of one text: its counts, NLL and floor."""
        blob = pack(arrays)
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)",
                (key, _dumps(facts), blob, _digest(blob)),
            )

    def get_text(self, key: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Returns (facts, arrays) of a text, or None."""
        row = self._row("SELECT facts, blob, sha256 FROM texts WHERE key = ?", key)
        if row is None:
            return None
        arrays = self._checked(row[1], row[2], "texts", key)
        return None if arrays is None else (json.loads(row[0]), arrays)

    def put_scores(self, text_key: str, rows: Iterable[tuple[str, str, Floats]]) -> None:
        """Commits finished plans in one transaction.

        Args:
            text_key: The text they were scored on.
            rows: (key, plan text, array (2 x A x N) of NLL and KL in nats) for each plan.
        """
        values = []
        for key, plan, array in rows:
            blob = np.ascontiguousarray(array, dtype="<f8").tobytes()
            values.append((key, text_key, plan, blob, _digest(blob)))
        with self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?, ?)", values)

    def known_scores(self, text_key: str) -> set[str]:
        """Returns the keys of all plans scored on a text."""
        rows = self._rows("SELECT key FROM scores WHERE text_key = ?", text_key)
        return {key for (key,) in rows}

    def get_scores(self, key: str, shape: tuple[int, int]) -> Floats:
        """Returns NLL and KL in nats of one plan, (2 x A x N).

        Raises:
            StoreError: If the plan is not there or its blob is damaged; a damaged row is dropped,
                so that the next run computes it anew.
        """
        row = self._row("SELECT blob, sha256 FROM scores WHERE key = ?", key)
        if row is None:
            raise StoreError(f"{self.path!r} holds no scores for key {key}; run the command again")
        if _digest(row[0]) != row[1]:
            self._drop("scores", key)
        return np.frombuffer(row[0], dtype="<f8").reshape(2, *shape)

    # -- what was learned of this machine -----------------------------------------------------

    def learn(self, key: str, value: Mapping[str, Any]) -> None:
        """Remembers what was learned of a machine, such as its speed; the last word counts.

        Args:
            key: Of all it hangs on.
            value: JSON-serialisable.
        """
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO learned VALUES (?, ?)", (key, _dumps(value)))

    def learned(self, key: str) -> dict[str, Any] | None:
        """Returns what was last learned under a key, or None."""
        # A store of before, opened to be read only, has no such table.
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'learned'"):
            return None
        row = self._row("SELECT value FROM learned WHERE key = ?", key)
        return None if row is None else json.loads(row[0])

    # -- observations, findings, runs -----------------------------------------------------------

    def put_observations(self, key: str, observations: Observations) -> None:
        """Remembers what an experiment measured."""
        blob = pack(observations.arrays)
        facts = _dumps({"version": observations.version, "facts": dict(observations.facts)})
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO observations VALUES (?, ?, ?, ?, ?)",
                (key, observations.experiment, facts, blob, _digest(blob)),
            )

    def get_observations(self, key: str) -> Observations | None:
        """Returns what an experiment measured under this key, or None."""
        row = self._row(
            "SELECT experiment, facts, blob, sha256 FROM observations WHERE key = ?", key
        )
        if row is None:
            return None
        arrays = self._checked(row[2], row[3], "observations", key)
        if arrays is None:
            return None
        facts = json.loads(row[1])
        return Observations(
            experiment=row[0], version=facts["version"], arrays=arrays, facts=facts["facts"]
        )

    def observations_of(self, experiment: str) -> list[Observations]:
        """Returns all that was measured for one experiment, in the order it was first kept."""
        found = self._rows(
            "SELECT key FROM observations WHERE experiment = ? ORDER BY rowid", experiment
        )
        kept = (self.get_observations(key) for (key,) in found)
        return [one for one in kept if one is not None]

    def new_files(self, key: str) -> NewFiles:
        """Returns a folder for the large arrays that belong to some observations.

        It lies in ``<store>.files``; of a store in memory, in a temporary folder.
        """
        with self._explained_os("write"):
            return NewFiles(self._folder / key[:16])

    def mapped(self, key: str, about: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns such arrays, mapped and not loaded, or None where they are gone or damaged.

        Args:
            key: Of the observations.
            about: What was remembered of the files.
        """
        with self._explained_os("read"):
            return read_files(self._folder / key[:16], about)

    def walk_folder(self, key: str) -> Path | None:
        """Returns where states of a walk that may be killed can lie; None of a store in memory.

        Args:
            key: Of the text that is walked.
        """
        return None if self.path == ":memory:" else self._folder / f"walk-{key[:16]}"

    @property
    def _folder(self) -> Path:
        if self.path != ":memory:":
            return Path(f"{self.path}.files")
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="bitgap-"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return self._temporary

    @contextmanager
    def _explained_os(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot {doing} {error.filename or self._folder}: {error.strerror or error}; make "
                f"room, or name a store in another folder. What was committed is kept."
            ) from error

    def put_run(
        self,
        command: str,
        provenance: Provenance,
        summary: Mapping[str, Any],
        findings: Iterable[tuple[Finding, str]] = (),
    ) -> int:
        """Remembers a run and its findings.

        Args:
            command: The verb, such as ``investigate``.
            provenance: Where the numbers came from.
            summary: What is to be kept of the verb's result, JSON-serialisable.
            findings: (finding, key of its observations) for each experiment.

        Returns:
            The run's number.
        """
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO runs (command, provenance, summary) VALUES (?, ?, ?)",
                (command, encode(provenance), encode(summary)),
            )
            run = int(cursor.lastrowid or 0)
            self._db.executemany(
                "INSERT INTO findings VALUES (?, ?, ?, ?)",
                [(run, f.experiment, key, encode(f)) for f, key in findings],
            )
        return run

    def runs(self) -> list[tuple[int, str, Provenance, dict[str, Any]]]:
        """Returns (number, command, provenance, summary) of every run, oldest first."""
        rows = self._rows("SELECT id, command, provenance, summary FROM runs ORDER BY id")
        return [(i, c, decode(Provenance, p), json.loads(s)) for i, c, p, s in rows]

    def run_numbers(self) -> list[int]:
        """Returns the number of every run, oldest first."""
        return [number for (number,) in self._rows("SELECT id FROM runs ORDER BY id")]

    def run(self, number: int) -> tuple[int, str, Provenance, dict[str, Any]]:
        """Returns (number, command, provenance, summary) of one run.

        Raises:
            StoreError: If there is no such run.
        """
        row = self._row("SELECT id, command, provenance, summary FROM runs WHERE id = ?", number)
        if row is None:
            raise StoreError(f"{self.path!r} holds no run {number}; `bitgap results` lists them")
        return row[0], row[1], decode(Provenance, row[2]), json.loads(row[3])

    def findings(self, run: int) -> list[tuple[Finding, str]]:
        """Returns (finding, key of its observations) of one run, by experiment id."""
        query = "SELECT finding, observations FROM findings WHERE run = ? ORDER BY experiment"
        rows = self._rows(query, run)
        return [(decode(Finding, text), key) for text, key in rows]

    def scored_texts(self) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Returns (key, facts, arrays) of every text that was scored."""
        keys = [key for (key,) in self._rows("SELECT key FROM texts ORDER BY rowid")]
        found = ((key, self.get_text(key)) for key in keys)
        return [(key, *text) for key, text in found if text is not None]

    def scored_plans(self, text_key: str) -> list[tuple[str, str]]:
        """Returns (plan text, key) of every plan scored on a text, in order of plan text."""
        return self._rows("SELECT plan, key FROM scores WHERE text_key = ? ORDER BY plan", text_key)

    def _checked(self, blob: bytes, digest: str, table: str, key: str) -> dict[str, Any] | None:
        if _digest(blob) != digest:
            self._drop(table, key)
        return unpack(blob)

    def _drop(self, table: str, key: str) -> None:
        if self._read_only:
            raise StoreError(
                f"{self.path!r}: a row of {table} failed its checksum; run the command that "
                f"measured it again"
            )
        with self._transaction():
            self._db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
        raise StoreError(
            f"{self.path!r}: a row of {table} failed its checksum and was dropped; "
            f"run the command again to measure it anew"
        )


def _explain(path: str, doing: str, error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        advice = "the disk is full or failing; make room and run the same command again"
    elif "readonly" in text or "unable to open" in text:
        advice = "name a file in a folder that can be written with --store"
    elif "locked" in text:
        advice = "another process is writing to it; wait for it or name another with --store"
    elif "not a database" in text or "malformed" in text:
        advice = "this file is no bitgap store; name another with --store"
    else:
        advice = "name another file with --store"
    return f"cannot {doing} the store {path!r}: {text}; {advice}. What was committed is kept."


def _read_only_uri(path: str) -> str:
    uri = f"file:{_quoted(path)}?mode=ro"
    # SQLite shares memory through a file beside the store, even to read. Where none can be made,
    # nobody writes either; but commits that are still in the log alone could not be seen.
    alone = not Path(f"{path}-wal").exists()
    return f"{uri}&immutable=1" if alone and not os.access(Path(path).parent, os.W_OK) else uri


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Returns named arrays as the bytes of a compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
    return buffer.getvalue()


def unpack(blob: bytes) -> dict[str, Any]:
    """Returns the arrays that :func:`pack` wrote."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def assemble(
    store: Store,
    key: Callable[[Plan], str],
    plans: Sequence[Plan],
    facts: Mapping[str, Any],
    arrays: Mapping[str, Any],
    arithmetic: Arithmetic,
) -> Scores:
    """Returns the scores of plans that were all scored.

    Args:
        store: Where their scores are.
        key: Of a plan's scores in it.
        plans: In the order wanted.
        facts: What full precision said of the text, as the store keeps it.
        arrays: Likewise.
        arithmetic: How the scores were computed.

    Raises:
        StoreError: If a plan is not there or its row is damaged.
    """
    shape = arrays["nll_fp_nats"].shape
    both = np.empty((len(plans), 2, *shape))
    for row, plan in zip(both, plans, strict=True):
        if plan.is_full_precision:
            # Nothing is replaced, so this is the reference itself: KL is 0 by identity.
            row[0], row[1] = arrays["nll_fp_nats"], 0.0
        else:
            row[:] = store.get_scores(key(plan), shape)
    return Scores(
        plans=tuple(plan.text for plan in plans),
        languages=tuple(facts["languages"]),
        nll_nats=both[:, 0],
        kl_nats=both[:, 1],
        nll_fp_nats=arrays["nll_fp_nats"],
        unigram_nats=arrays["unigram_nats"],
        counts=TextCounts(
            tokens=arrays["tokens"], bytes=arrays["bytes"], characters=arrays["characters"]
        ),
        floor_nats=facts["floor_nats"],
        arithmetic=arithmetic,
        reference=facts["reference"],
        documents=arrays.get("documents"),
        floors_nats=_floors(plans, facts),
        unigram_tokens=arrays.get("unigram_tokens"),
        vocabulary=facts.get("vocabulary"),
    )


def _floors(plans: Sequence[Plan], facts: Mapping[str, Any]) -> Floats | None:
    """Returns the floor of each plan, (P), where light plans have one of their own."""
    light = facts.get("light_floor_nats")
    if light is None:
        return None
    return np.array([light if plan.is_light else facts["floor_nats"] for plan in plans])
