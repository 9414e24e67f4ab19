"""central.db: one SQLite file for what central must not forget: alarm log, outbox. WAL, synchronous FULL, schemas that only grow."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any


class Database:
    """One connection, shared by threads under a lock. A transaction that returned is on the disk.

    `open()` creates or migrates the file; it raises sqlite3.DatabaseError when it is no database or of a newer version.
    `open_read_only()` is for a look into it from beside a running central: it creates, migrates and locks nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def open_read_only(self) -> None:
        """As `open`, of an existing file. Raises sqlite3.DatabaseError when it is none of this program's version."""
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            version, expected = connection.execute("PRAGMA user_version").fetchone()[0], max(_schemas())
            if version != expected:
                raise sqlite3.DatabaseError(f"version {version}, this program's is {expected}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the disk when the block has ended. Joins the transaction that this thread has already begun."""
        with self._lock:
            connection = self._open_connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it
                    connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._open_connection().execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with self._lock:
            row: sqlite3.Row | None = self._open_connection().execute(sql, parameters).fetchone()
            return row

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError(f"{self._path} is not open")
        return self._connection


def _schemas() -> dict[int, Traversable]:
    folder = resources.files("central") / "schema"
    return {
        int(f.name.removeprefix("schema_v").removesuffix(".sql")): f
        for f in folder.iterdir()
        if f.name.startswith("schema_v") and f.name.endswith(".sql")
    }


def _migrate(connection: sqlite3.Connection) -> None:
    schemas = _schemas()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > max(schemas):
        raise sqlite3.DatabaseError(f"version {version} is newer than this program's {max(schemas)}")
    for number in sorted(n for n in schemas if n > version):
        script = schemas[number].read_text(encoding="utf-8")
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
