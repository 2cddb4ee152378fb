"""One SQLite file that remembers everything measured, so that nothing is computed twice.

Scores and observations are blobs, findings and runs are JSON; every row has a checksum and is read
back only if that holds. The file is in WAL mode and every batch is one transaction: a process that
is killed loses the batch in flight and nothing else. Torch is not needed to read it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bitgap.codec import decode, encode, is_object
from bitgap.errors import NoSuchStore, StoreError, one_line
from bitgap.files import unpack_arrays
from bitgap.lab.files import NewFiles, read_files
from bitgap.lab.store_tables import (
    COLUMNS,
    SCHEMA,
    digest,
    is_whole,
    make_tables,
    schema_of,
    seal_of,
)
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

Row = dict[str, Any]
"""A row of a table by column."""
_REPAIR = "`bitgap results --repair` keeps what is whole"
_BEGAN = "began:"


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
        self._begun = set[str]()
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
        schema = schema_of(self._db, self.path)
        if schema is None and read_only:
            raise StoreError(f"{self.path!r} is no bitgap store; name another with --store")
        if not read_only:
            (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            # Where there is no such log, as on some network drives, a commit waits for the disk.
            full = mode not in ("wal", "memory")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            if schema != SCHEMA:
                make_tables(self._db)
                schema = SCHEMA
        # A store of before that is only read stays as it is.
        self._seal = "seal" if schema == SCHEMA else "NULL"

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(_explain(self.path, doing, error)) from error

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._explained("read"):
            return self._db.execute(query, values).fetchall()

    def _read(self, table: str, where: str, *values: Any, blob: bool = True) -> list[Row]:
        """Returns rows by column, each checked; one that is damaged is dropped if it can be.

        Raises:
            StoreError: If one is damaged.
        """
        names = [name for name in COLUMNS[table] if blob or name != "blob"]
        query = f"SELECT {', '.join(names)}, {self._seal} FROM {table} {where}"
        found = list[Row]()
        for *held, seal in self._rows(query, *values):
            row = dict(zip(names, held, strict=True))
            if not is_whole(table, row, seal):
                self._drop(table, row)
            found.append(row)
        return found

    def _read_one(self, table: str, key: str) -> Row | None:
        rows = self._read(table, "WHERE key = ?", key)
        return rows[0] if rows else None

    def _write(self, table: str, row: Row, how: str = "INSERT OR REPLACE") -> None:
        values = [row[name] for name in COLUMNS[table]]
        marks = ", ".join("?" * (len(values) + 1))
        self._db.execute(f"{how} INTO {table} VALUES ({marks})", (*values, seal_of(table, row)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained("write"):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # -- scores -------------------------------------------------------------------------------

    def put_text(self, key: str, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Remembers what full precision said of one text: its counts, NLL and floor."""
        row = {"key": key, "facts": _dumps(facts)} | _blob(pack(arrays))
        with self._transaction():
            self._write("texts", row)

    def get_text(self, key: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Returns (facts, arrays) of a text, or None."""
        row = self._read_one("texts", key)
        return None if row is None else (self._json(row["facts"]), self._arrays(row["blob"]))

    def put_scores(self, text_key: str, rows: Iterable[tuple[str, str, Floats]]) -> None:
        """Commits finished plans in one transaction.

        Args:
            text_key: The text they were scored on.
            rows: (key, plan text, array (2 x A x N) of NLL and KL in nats) for each plan.
        """
        values = list[Row]()
        for key, plan, array in rows:
            blob = np.ascontiguousarray(array, dtype="<f8").tobytes()
            values.append({"key": key, "text_key": text_key, "plan": plan} | _blob(blob))
        with self._transaction():
            for row in values:
                self._write("scores", row, "INSERT OR IGNORE")

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
        row = self._read_one("scores", key)
        if row is None:
            raise StoreError(f"{self.path!r} holds no scores for key {key}; run the command again")
        values = np.frombuffer(row["blob"], dtype="<f8")
        if values.size != 2 * math.prod(shape):
            raise StoreError(f"{self.path!r}: scores of key {key} are not of its text; {_REPAIR}")
        return values.reshape(2, *shape)

    # -- what was learned of this machine -----------------------------------------------------

    def learn(self, key: str, value: Mapping[str, Any]) -> None:
        """Remembers what was learned of a machine, such as its speed; the last word counts.

        Args:
            key: Of all it hangs on.
            value: JSON-serialisable.
        """
        with self._transaction():
            self._write("learned", {"key": key, "value": _dumps(value)})

    def learned(self, key: str) -> dict[str, Any] | None:
        """Returns what was last learned under a key, or None."""
        # A store of before, opened to be read only, has no such table.
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'learned'"):
            return None
        try:
            row = self._read_one("learned", key)
        except StoreError:  # it is learned again
            return None
        return None if row is None else self._json(row["value"])

    # -- when a model was first measured ---------------------------------------------------------

    def begin(self, fingerprint: str, model: str) -> None:
        """Notes that a model begins to be measured now, once.

        A run is dated when it is done, scores are not dated at all; this is what dates those of a
        run that was stopped. Not noted of a model whose scores are there already, undated.

        Args:
            fingerprint: Of the weights.
            model: Its name.
        """
        if fingerprint in self._begun:
            return
        self._begun.add(fingerprint)
        if self.began(fingerprint) is None and not self.has_scores_of(model):
            self.learn(_BEGAN + fingerprint, {"at": datetime.now(UTC).isoformat()})

    def began(self, fingerprint: str) -> datetime | None:
        """Returns when the first scores of a model began to be measured; None if nothing says."""
        noted = self.learned(_BEGAN + fingerprint)
        return None if noted is None else datetime.fromisoformat(str(noted["at"]))

    def has_scores_of(self, model: str) -> bool:
        """Returns whether anything was scored of a model, by its name."""
        texts = [key for key, facts, _ in self.scored_texts() if facts.get("model") == model]
        return any(self.scored_plans(key) for key in texts)

    # -- observations, findings, runs -----------------------------------------------------------

    def put_observations(self, key: str, observations: Observations) -> None:
        """Remembers what an experiment measured."""
        facts = _dumps({"version": observations.version, "facts": dict(observations.facts)})
        row = {"key": key, "experiment": observations.experiment, "facts": facts}
        with self._transaction():
            self._write("observations", row | _blob(pack(observations.arrays)))

    def has_observations(self, key: str) -> bool:
        """Returns whether an experiment's observations are kept under this key; reads no array."""
        return bool(self._read("observations", "WHERE key = ?", key, blob=False))

    def get_observations(self, key: str) -> Observations | None:
        """Returns what an experiment measured under this key, or None."""
        row = self._read_one("observations", key)
        if row is None:
            return None
        told = self._json(row["facts"])
        if not isinstance(told.get("version"), int) or not isinstance(told.get("facts"), dict):
            raise StoreError(f"{self.path!r}: observations of key {key} are damaged; {_REPAIR}")
        return Observations(
            experiment=row["experiment"],
            version=told["version"],
            arrays=self._arrays(row["blob"]),
            facts=told["facts"],
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
            (run,) = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM runs").fetchone()
            told = {"command": command, "provenance": encode(provenance)}
            self._write("runs", {"id": run, **told, "summary": encode(summary)}, "INSERT")
            for finding, key in findings:
                row = {"run": run, "experiment": finding.experiment, "observations": key}
                self._write("findings", row | {"finding": encode(finding)}, "INSERT")
        return run

    def runs(self) -> list[tuple[int, str, Provenance, dict[str, Any]]]:
        """Returns (number, command, provenance, summary) of every run, oldest first."""
        return [self._as_run(row) for row in self._read("runs", "ORDER BY id")]

    def _as_run(self, row: Row) -> tuple[int, str, Provenance, dict[str, Any]]:
        provenance = decode(Provenance, row["provenance"])
        return row["id"], row["command"], provenance, self._json(row["summary"])

    def run_numbers(self) -> list[int]:
        """Returns the number of every run, oldest first."""
        return [number for (number,) in self._rows("SELECT id FROM runs ORDER BY id")]

    def run(self, number: int) -> tuple[int, str, Provenance, dict[str, Any]]:
        """Returns (number, command, provenance, summary) of one run.

        Raises:
            StoreError: If there is no such run.
        """
        rows = self._read("runs", "WHERE id = ?", number)
        if not rows:
            raise StoreError(f"{self.path!r} holds no run {number}; `bitgap results` lists them")
        return self._as_run(rows[0])

    def findings(self, run: int) -> list[tuple[Finding, str]]:
        """Returns (finding, key of its observations) of one run, by experiment id."""
        rows = self._read("findings", "WHERE run = ? ORDER BY experiment", run)
        return [(decode(Finding, row["finding"]), row["observations"]) for row in rows]

    def scored_texts(self) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Returns (key, facts, arrays) of every text that was scored."""
        keys = [key for (key,) in self._rows("SELECT key FROM texts ORDER BY rowid")]
        found = ((key, self.get_text(key)) for key in keys)
        return [(key, *text) for key, text in found if text is not None]

    def scored_plans(self, text_key: str) -> list[tuple[str, str]]:
        """Returns (plan text, key) of every plan scored on a text, in order of plan text."""
        rows = self._read("scores", "WHERE text_key = ? ORDER BY plan", text_key, blob=False)
        return [(row["plan"], row["key"]) for row in rows]

    def _json(self, text: Any) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            value = None
        if not is_object(value):
            raise StoreError(f"{self.path!r}: the JSON of a row is damaged; {_REPAIR}")
        return value

    def _arrays(self, blob: bytes) -> dict[str, Any]:
        try:
            return unpack(blob)
        except ValueError as error:
            raise StoreError(
                f"{self.path!r}: the arrays of a row are damaged ({error}); {_REPAIR}"
            ) from error

    def _drop(self, table: str, row: Row) -> NoReturn:
        """Says that a row is damaged, after it is dropped where it will be measured anew."""
        what = f"{self.path!r}: a row of {table} failed its checksum"
        if table in ("runs", "findings"):
            raise StoreError(f"{what}; {_REPAIR}")
        if self._read_only:
            raise StoreError(f"{what}; run the command that measured it again, or {_REPAIR}")
        with self._transaction():
            self._db.execute(f"DELETE FROM {table} WHERE key = ?", (row["key"],))
        raise StoreError(f"{what} and was dropped; run the command again to measure it anew")


def _explain(path: str, doing: str, error: sqlite3.Error) -> str:
    text = one_line(error)  # it may quote the damaged text of a table
    name = getattr(error, "sqlite_errorname", None) or ""
    if ("IOERR" in name and ("LOCK" in name or "SHM" in name)) or name == "SQLITE_PROTOCOL":
        advice = (
            "SQLite's locking does not work there, as on some network drives; keep the store on a "
            "disk of this machine"
        )
    elif "full" in text or "disk I/O" in text:
        advice = "the disk is full or failing; make room and run the same command again"
    elif "readonly" in text or "unable to open" in text:
        advice = "name a file in a folder that can be written with --store"
    elif "locked" in text:
        advice = (
            "another process is writing to it; wait for it or name another with --store. On a "
            "network drive SQLite's locking may not work at all; keep the store on a disk of this "
            "machine"
        )
    elif "not a database" in text:
        advice = (
            f"this file is no bitgap store; name another with --store, or, if it was one, {_REPAIR}"
        )
    elif "malformed" in text or "decode" in text or "no such" in text or "CORRUPT" in name:
        advice = f"the file is damaged, or was copied while it was written; {_REPAIR}"
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


def _blob(blob: bytes) -> Row:
    return {"blob": blob, "sha256": digest(blob)}


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Returns named arrays as the bytes of a compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
    return buffer.getvalue()


def unpack(blob: bytes) -> dict[str, Any]:
    """Returns the arrays that :func:`pack` wrote.

    Raises:
        ValueError: If it wrote nothing of the kind.
    """
    return unpack_arrays(io.BytesIO(blob))


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
