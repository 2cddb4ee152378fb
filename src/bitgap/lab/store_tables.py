"""The tables of a store, what seals a row, and how a store of before becomes one of today.

A row is sealed by the SHA-256 of all its columns (a blob's own stands beside it and is one), so
that a flipped bit in a plan's text or in a run's JSON is found as one in a blob is.
Rows that were written before there were seals have none, and are vouched for by their blob's alone.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from bitgap.errors import StoreError

SCHEMA = 2
"""Raised whenever the meaning of a table changes; 2 has seals (ADR 0056)."""
OLDEST = 1
"""Of the schemas that can be read, and are brought up to date when they are written to."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "texts": ("key", "facts", "blob", "sha256"),
    "scores": ("key", "text_key", "plan", "blob", "sha256"),
    "observations": ("key", "experiment", "facts", "blob", "sha256"),
    "runs": ("id", "command", "provenance", "summary"),
    "findings": ("run", "experiment", "observations", "finding"),
    "learned": ("key", "value"),
}
"""What a row of each table holds beside its seal."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, facts TEXT NOT NULL,
        blob BLOB NOT NULL, sha256 TEXT NOT NULL, seal TEXT)""",
    """CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, text_key TEXT NOT NULL,
        plan TEXT NOT NULL, blob BLOB NOT NULL, sha256 TEXT NOT NULL, seal TEXT)""",
    "CREATE INDEX IF NOT EXISTS scores_by_text ON scores (text_key)",
    """CREATE TABLE IF NOT EXISTS observations (key TEXT PRIMARY KEY, experiment TEXT NOT NULL,
        facts TEXT NOT NULL, blob BLOB NOT NULL, sha256 TEXT NOT NULL, seal TEXT)""",
    """CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, command TEXT NOT NULL,
        provenance TEXT NOT NULL, summary TEXT NOT NULL, seal TEXT)""",
    """CREATE TABLE IF NOT EXISTS findings (run INTEGER NOT NULL REFERENCES runs (id),
        experiment TEXT NOT NULL, observations TEXT, finding TEXT NOT NULL, seal TEXT,
        PRIMARY KEY (run, experiment))""",
    "CREATE TABLE IF NOT EXISTS learned (key TEXT PRIMARY KEY, value TEXT NOT NULL, seal TEXT)",
)


def digest(blob: Any) -> str:
    """Returns the SHA-256 (hex) of bytes; of what a damaged page has in their place, nothing."""
    return hashlib.sha256(blob).hexdigest() if isinstance(blob, bytes) else ""


def seal_of(table: str, values: Mapping[str, Any]) -> str:
    """Returns what seals a row.

    Args:
        table: Where it stands.
        values: All its columns but the seal, by name; the blob may be left out.
    """
    held = [values[name] for name in COLUMNS[table] if name != "blob"]
    # What JSON does not know can only be what a damaged page makes of a column.
    text = json.dumps([table, *held], ensure_ascii=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def is_whole(table: str, values: Mapping[str, Any], seal: str | None) -> bool:
    """Returns whether a row is what was written, as far as its checksums tell.

    Args:
        table: Where it stands.
        values: All its columns but the seal; where the blob is left out, it is not checked.
        seal: None of a row that has none.
    """
    if "blob" in values and digest(values["blob"]) != values["sha256"]:
        return False
    return seal is None or seal_of(table, values) == seal


def schema_of(db: sqlite3.Connection, path: str) -> int | None:
    """Returns the schema of a store, or None of a file that has no tables yet.

    Raises:
        StoreError: If it is somebody else's database, or of a schema that cannot be read.
    """
    try:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError(f"malformed names of its tables ({error.reason})") from None
    except MemoryError:  # SQLite asks for as much as a damaged page says; names are short
        raise sqlite3.DatabaseError("malformed names of its tables: they have no end") from None
    if not tables:
        return None
    if "meta" not in tables:
        raise StoreError(f"{path!r} is no bitgap store; name another with --store")
    row = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    told = row[0] if row else None
    if not isinstance(told, str) or told not in map(str, range(OLDEST, SCHEMA + 1)):
        raise StoreError(
            f"{path!r} has schema {told}, this bitgap reads {OLDEST} to {SCHEMA}; name another "
            f"file with --store"
        )
    return int(told)


def make_tables(db: sqlite3.Connection) -> None:
    """Makes the tables that are not there, and brings those of before up to date, in one step."""
    # Another process may be doing the same; who comes second finds it done.
    db.execute("BEGIN IMMEDIATE")
    try:
        for table in _TABLES:
            db.execute(table)
        for name in COLUMNS:
            there = {column for _, column, *_ in db.execute(f"PRAGMA table_info({name})")}
            if "seal" not in there:
                db.execute(f"ALTER TABLE {name} ADD COLUMN seal TEXT")
        db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
