"""Metadata in one SQLite file: what a single server keeps its records in."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from os import PathLike, fspath

from adapters.metadata import rules
from lamplighter.errors import Conflict, Invalid, Unavailable
from lamplighter.ports import ABSENT, ANY, Delete, Key, Page, Put, Record, Write

SCHEMA = 1
"""The version of the tables that this code writes, kept in `PRAGMA user_version`."""

_TABLE = """
CREATE TABLE IF NOT EXISTS record (
    partition TEXT NOT NULL, sort TEXT NOT NULL, version INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (partition, sort)
) WITHOUT ROWID
"""

_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space, then try again",
    sqlite3.SQLITE_BUSY: "another process holds it for long: try again, and look for a backup or a shell that has it open",
    sqlite3.SQLITE_IOERR: "the disk refused a read or a write: look at its health and its free space, then try again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at the folder and its permissions",
    sqlite3.SQLITE_READONLY: "it may not be written: look at its permissions and how its file system is mounted",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop, and restore the latest backup",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: give the path of another file",
}


class SqliteMetadata:
    """The `Metadata` port in the file at `path`, which is made if it is not there; its folder must exist.

    Safe with many threads and with several processes on one machine; never on a network file system. A transaction is on
    the disk, beyond power loss, when `transact` returns. A lock that somebody else holds is waited for up to
    `busy_seconds`. Raises `Invalid` for a file of a newer schema, `Unavailable` for one that cannot be opened.
    """

    def __init__(self, path: str | PathLike[str], *, busy_seconds: float = 10.0) -> None:
        self._path = fspath(path)
        self._busy_seconds = busy_seconds
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        # SQLite has one writer at a time: queueing here is fair, its own waiting is a lottery.
        self._writing = threading.Lock()
        self._closed = False
        with self._connection() as db:
            self._prepare(db)

    def get(self, key: Key) -> Record | None:
        rules.check_key(key)
        with self._connection() as db:
            return _read(db, key)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        for key in keys:
            rules.check_key(key)
        with self._connection() as db:
            found = (_read(db, key) for key in keys)
            return {record.key: record for record in found if record is not None}

    def query(
        self,
        partition: str,
        *,
        prefix: str = "",
        after: str | None = None,
        before: str | None = None,
        newest_first: bool = False,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        rules.check_query(partition, limit)
        resume = None if cursor is None else rules.sort_of(cursor)
        # SQLite seeks by one bound on each side only, so it gets the tightest: paging stays linear.
        floor = max((bound for bound in (after, None if newest_first else resume) if bound is not None), default=None)
        roofs = (rules.first_beyond(prefix), before, resume if newest_first else None)
        roof = min((bound for bound in roofs if bound is not None), default=None)
        from_prefix = floor is None or floor < prefix
        statement = (
            f"SELECT sort, version, value FROM record WHERE partition = ? AND sort {'>=' if from_prefix else '>'} ?"  # noqa: S608
            f"{'' if roof is None else ' AND sort < ?'} ORDER BY sort {'DESC' if newest_first else 'ASC'}"
        )
        values = (partition, prefix if from_prefix else floor, *([] if roof is None else [roof]))
        with self._connection() as db:
            rows = db.execute(statement, values)
            with contextlib.closing(rows):
                return _page(partition, rows, limit)

    def transact(self, writes: Sequence[Write]) -> None:
        texts = rules.encode_transaction(writes)
        with self._writing, self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                for write, text in zip(writes, texts, strict=True):
                    _apply(db, write, text)
            except Conflict:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def check(self) -> list[str]:
        """Reads the whole file and names every damage found; an empty list means it is sound."""
        with self._connection() as db:
            rows = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
            return [] if rows == ["ok"] else rows

    def close(self) -> None:
        """Give the file back. Every later call raises `Unavailable`; closing twice is no error."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for the caller. After any fault but a Conflict it is thrown away, which rolls back."""
        try:
            db = self._borrow()
            try:
                yield db
            except Conflict:
                self._give_back(db)
                raise
            except BaseException:
                db.close()
                raise
            self._give_back(db)
        except sqlite3.Error as error:
            raise _explained(self._path, error) from error

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise Unavailable(f"the metadata in {self._path} is closed: this process is stopping")
            if self._idle:
                return self._idle.pop()
        db = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            db.close()
            raise
        return db

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._guard:
            if not self._closed:
                self._idle.append(db)
                return
        db.close()

    def _prepare(self, db: sqlite3.Connection) -> None:
        _use_write_ahead_log(db, self._busy_seconds)
        db.execute("BEGIN IMMEDIATE")
        found: int = db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA:
            raise Invalid.because(
                f"the metadata in {self._path} has schema {found}, this Lamplighter knows schemas up to {SCHEMA}: "
                "run the newer Lamplighter that wrote it, or restore an older backup"
            )
        db.execute(_TABLE)
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")


def _use_write_ahead_log(db: sqlite3.Connection, seconds: float) -> None:
    """SQLite does not wait for a lock when it changes the journal mode, so that processes starting together need this."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _explained(path: str, error: sqlite3.Error) -> Unavailable:
    code = getattr(error, "sqlite_errorcode", None)
    advice = (
        "look at the file and the log" if code is None else _ADVICE.get(code & 0xFF, "look at the file and the log")
    )
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(f"the metadata in {path} did not answer ({name}: {error}); {advice}")


def _read(db: sqlite3.Connection, key: Key) -> Record | None:
    row = db.execute(
        "SELECT version, value FROM record WHERE partition = ? AND sort = ?", (key.partition, key.sort)
    ).fetchone()
    return None if row is None else Record(key, row[0], rules.decode(row[1]))


def _page(partition: str, rows: sqlite3.Cursor, limit: int) -> Page:
    records: list[Record] = []
    size = 0
    for sort, version, text in rows:
        if len(records) == limit or size > rules.PAGE_BYTES:
            return Page(tuple(records), rules.cursor_after(records[-1].key.sort))
        records.append(Record(Key(partition, sort), version, rules.decode(text)))
        size += len(text)
    return Page(tuple(records), None)


def _apply(db: sqlite3.Connection, write: Write, text: str | None) -> None:
    place = (write.key.partition, write.key.sort)
    row = db.execute("SELECT version FROM record WHERE partition = ? AND sort = ?", place).fetchone()
    version = ABSENT if row is None else row[0]
    if write.expects not in (ANY, version):
        raise Conflict(rules.conflict_message(write.key, write.expects, version))
    if isinstance(write, Put):
        db.execute(
            "REPLACE INTO record (partition, sort, version, value) VALUES (?, ?, ?, ?)", (*place, version + 1, text)
        )
    elif isinstance(write, Delete):
        db.execute("DELETE FROM record WHERE partition = ? AND sort = ?", place)
