"""What is whole of a damaged store, kept in a new one.

A store is damaged where a disk failed, a bit was flipped, or it was copied while it was written or
cut. Its rows stand apart from each other and have checksums, so that what is read whole is right;
everything else is measured again by the commands that measured it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitgap.codec import decode
from bitgap.errors import NoSuchStore, StoreError, one_line
from bitgap.lab.store_tables import COLUMNS, SCHEMA, is_whole, make_tables, schema_of, seal_of
from bitgap.records import Finding, Provenance

_UNREADABLE = (sqlite3.DatabaseError, OverflowError, MemoryError)
"""What SQLite and its module raise at a damaged page; it may ask for all the memory there is."""
_MOST_PROBES = 200_000
"""Numbers of rows that are tried one by one where a page between them cannot be read."""
_HEADER = b"SQLite format 3\0" + bytes((0x10, 0, 2, 2, 0, 64, 32, 32))
"""How every store begins: pages of 4,096 bytes and a log beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What a repair found."""

    store: str
    whole: bool
    """Whether nothing was damaged; the file was left as it is then."""
    kept: dict[str, int]
    """Rows by table."""
    dropped: dict[str, int]
    """Rows that could be read and were not whole."""
    unreadable: tuple[str, ...] = ()
    """Tables of which rows may be gone that could not be read at all."""
    damaged: str | None = None
    """Where the damaged file is now."""


def repair(path: str | os.PathLike[str]) -> Repair:
    """Puts a new store with all that is whole in a damaged one's place, and keeps that beside it.

    Args:
        path: The store. Nobody else may be writing to it.

    Raises:
        StoreError: If it is not there, in use, of another kind, or nothing can be read or written.
    """
    file = Path(path)
    if not file.is_file():
        raise NoSuchStore(f"there is no store {os.fspath(path)!r}; name another with --store")
    _refuse_if_in_use(file)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.repair-", dir=file.parent) as place:
            # A copy, as reading a log writes to the file that it belongs to.
            copy, new = Path(place) / "old.db", Path(place) / "new.db"
            shutil.copyfile(file, copy)
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{file}-wal", f"{copy}-wal")
            _mend_header(copy)
            found = _copy_whole(copy, new, os.fspath(path))
            if found.whole:
                return found
            return _swap(file, new, found)
    except OSError as error:
        raise StoreError(
            f"cannot repair {os.fspath(path)!r}: {error.filename or file}: "
            f"{error.strerror or error}; what is whole is written beside it and takes as much room"
        ) from error


def _refuse_if_in_use(file: Path) -> None:
    with suppress(*_UNREADABLE), closing(sqlite3.connect(file, timeout=1)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError(
                    f"another process is writing to {str(file)!r}; wait for it, then repair"
                ) from None


def _mend_header(copy: Path) -> None:
    with copy.open("r+b") as file:
        if file.read(len(_HEADER)) != _HEADER:
            with suppress(*_UNREADABLE), closing(sqlite3.connect(copy)) as db:
                db.execute("SELECT name FROM sqlite_master").fetchall()
                return  # another page size, or no log
            file.seek(0)
            file.write(_HEADER)


def _copy_whole(copy: Path, new: Path, path: str) -> Repair:
    kept, dropped = dict.fromkeys(COLUMNS, 0), dict.fromkeys(COLUMNS, 0)
    unreadable: list[str] = []
    with closing(sqlite3.connect(copy, isolation_level=None)) as old:
        # Else a file that is shorter than its header says is refused as a whole.
        old.execute("PRAGMA writable_schema = ON")
        old.text_factory = lambda data: data.decode(errors="surrogateescape")
        sealed, intact = _is_sealed(old, path), _is_intact(old)
        with closing(sqlite3.connect(new, isolation_level=None)) as into:
            into.execute("PRAGMA journal_mode = WAL")
            make_tables(into)
            into.execute("BEGIN")
            for table in COLUMNS:
                reader = _Rows(old, table, sealed=sealed)
                for row, seal in reader:
                    if _fits(table, row, seal) and _put(into, table, row, seal):
                        kept[table] += 1
                    else:
                        dropped[table] += 1
                if reader.skipped:
                    unreadable.append(table)
            # Findings of a run that is gone would become those of the next of its number.
            gone = "FROM findings WHERE run NOT IN (SELECT id FROM runs)"
            (n_gone,) = into.execute(f"SELECT count(*) {gone}").fetchone()
            into.execute(f"DELETE {gone}")
            kept["findings"] -= n_gone
            dropped["findings"] += n_gone
            into.execute("COMMIT")
            into.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = intact and not unreadable and not any(dropped.values())
    return Repair(store=path, whole=whole, kept=kept, dropped=dropped, unreadable=tuple(unreadable))


def _is_sealed(db: sqlite3.Connection, path: str) -> bool:
    """Returns whether rows have seals, also where the page that says so is the damaged one."""
    try:
        schema = schema_of(db, path)
        if schema is None:
            raise StoreError(f"{path!r} is empty; there is nothing to repair")
        return schema == SCHEMA
    except _UNREADABLE:
        pass
    try:
        columns = {name for _, name, *_ in db.execute("PRAGMA table_info(scores)")}
    except _UNREADABLE as error:
        raise StoreError(
            f"nothing of {path!r} can be read any more: {one_line(error) or 'memory ran out'}"
        ) from error
    if "key" not in columns:
        raise StoreError(f"nothing of {path!r} can be read any more: it has no table of scores")
    return "seal" in columns


def _is_intact(db: sqlite3.Connection) -> bool:
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except _UNREADABLE:
        return False


class _Rows:
    """Rows of a table by column with their seals, around pages that cannot be read."""

    def __init__(self, db: sqlite3.Connection, table: str, *, sealed: bool) -> None:
        self._db, self._table = db, table
        self.skipped = False
        columns = [*COLUMNS[table], *(["seal"] if sealed else [])]
        self._query = f"SELECT rowid, {', '.join(columns)} FROM {table}"
        self._names = COLUMNS[table]

    def __iter__(self) -> Iterator[tuple[dict[str, Any], str | None]]:
        seen: set[int] = set()
        ends: list[int] = []
        for order in ("ASC", "DESC"):
            last = None
            try:
                for row in self._db.execute(f"{self._query} ORDER BY rowid {order}"):
                    last = row[0]
                    if last not in seen:
                        seen.add(last)
                        yield self._as_row(row)
                if order == "ASC":
                    return
            except _UNREADABLE as error:
                if "no such table" in str(error) and self._table == "learned":
                    return  # of a store from before there was one
                self.skipped = True
            if last is not None:
                ends.append(last)
        # Between a page that cannot be read from either side, rows are asked for one by one.
        if len(ends) == 2 and ends[1] - ends[0] <= _MOST_PROBES:
            for number in range(ends[0] + 1, ends[1]):
                with suppress(*_UNREADABLE):
                    for row in self._db.execute(f"{self._query} WHERE rowid = ?", (number,)):
                        if row[0] not in seen:
                            seen.add(row[0])
                            yield self._as_row(row)

    def _as_row(self, row: Any) -> tuple[dict[str, Any], str | None]:
        held = dict(zip(self._names, row[1:], strict=False))
        return held, row[1 + len(self._names)] if len(row) > 1 + len(self._names) else None


def _fits(table: str, row: dict[str, Any], seal: str | None) -> bool:
    """Returns whether a row is what was written, as far as that can be told."""
    try:
        if not is_whole(table, row, seal):
            return False
        if table == "runs":
            decode(Provenance, row["provenance"])
        if table == "findings":
            decode(Finding, row["finding"])
        for value in row.values():
            if isinstance(value, str):
                value.encode()  # fails where bytes were no UTF-8
    except (StoreError, UnicodeEncodeError, TypeError):
        return False
    return True


def _put(into: sqlite3.Connection, table: str, row: dict[str, Any], seal: str | None) -> bool:
    values = [row[name] for name in COLUMNS[table]]
    marks = ", ".join("?" * (len(values) + 1))
    # What had no seal is sealed from here on.
    sealed = seal or seal_of(table, row)
    try:
        put = into.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", (*values, sealed))
    except sqlite3.DatabaseError:
        return False
    return put.rowcount == 1


def _swap(file: Path, new: Path, found: Repair) -> Repair:
    damaged = file.with_name(f"{file.name}.damaged")
    n = 1
    while damaged.exists():
        n += 1
        damaged = file.with_name(f"{file.name}.damaged-{n}")
    os.replace(file, damaged)
    for end in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{file}{end}", f"{damaged}{end}")
    os.replace(new, file)
    return Repair(
        store=found.store,
        whole=False,
        kept=found.kept,
        dropped=found.dropped,
        unreadable=found.unreadable,
        damaged=str(damaged),
    )
