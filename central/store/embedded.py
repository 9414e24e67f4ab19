"""The embedded store: SQLite, for a pilot and the demonstration. One writer, any number of readers, one file.

A row's fields are one JSON object, merged on repeat. The commit that confirms a write is on disk (WAL, synchronous FULL).
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from central.errors import NeedsPerson, Unavailable
from central.store.base import Point, Reading, Rejected, Row, Series, Value, WriteResult, check

_VERSION = 1
_SCHEMA = """
CREATE TABLE series (id INTEGER PRIMARY KEY, measurement TEXT NOT NULL, tags TEXT NOT NULL, UNIQUE (measurement, tags));
CREATE TABLE field (measurement TEXT, name TEXT, type TEXT NOT NULL, PRIMARY KEY (measurement, name)) WITHOUT ROWID;
CREATE TABLE point (series INTEGER, time_ms INTEGER, fields TEXT NOT NULL, PRIMARY KEY (series, time_ms)) WITHOUT ROWID;
"""
_INSERT = """
INSERT INTO point VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET fields = json_patch(fields, excluded.fields)
WHERE fields <> excluded.fields
"""
_THIN = """
DELETE FROM point WHERE series = :series AND time_ms IN (
    SELECT time_ms FROM (
        SELECT time_ms,
            row_number() OVER (PARTITION BY part, qc ORDER BY time_ms) AS first,
            row_number() OVER (PARTITION BY part, qc ORDER BY value, time_ms) AS lowest,
            row_number() OVER (PARTITION BY part, qc ORDER BY value DESC, time_ms) AS highest
        FROM (
            SELECT time_ms, time_ms / :interval AS part, fields ->> '$.qc' AS qc, fields ->> '$.value' AS value
            FROM point WHERE series = :series AND time_ms < :before AND fields ->> '$.value' IS NOT NULL
        )
    ) WHERE first > 1 AND lowest > 1 AND highest > 1
)
"""
_BUSY_TIMEOUT_S = 10.0
_PATIENCE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CONSTRAINT,  # another process made the series or field first: it is read again after the rollback
)
_TYPES: dict[type, str] = {float: "float", int: "integer", str: "string"}


class Embedded:
    """A Store in the SQLite file `path`, which `setup` creates; its directory exists."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._series: dict[Series, int] = {}
        self._types: dict[tuple[str, str], str] = {}

    def setup(self) -> None:
        with self._lock, _errors(self._path):
            if self._writer is not None:
                return
            db = self._connect()
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")  # another program may be making it too
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in f"{_SCHEMA.strip()} PRAGMA user_version = {_VERSION}".split(";"):
                        db.execute(statement)
                db.execute("COMMIT")
                if version not in (0, _VERSION):
                    raise NeedsPerson(f"{self._path}: version {version} of the store, expected {_VERSION}")
                self._load(db)
            except BaseException:
                db.close()
                raise
            self._writer = db

    def ping(self) -> bool:
        return self._writer is not None

    def close(self) -> None:
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    # Writing

    def write(self, points: Sequence[Point | Reading]) -> WriteResult:
        """As Store.write, all in one transaction."""
        rejected: list[Rejected] = []
        with self._transaction() as db:
            db.executemany(_INSERT, self._accepted(db, points, rejected))
        return WriteResult(tuple(rejected))

    def prune(self, before_ms: int, measurement: str | None = None) -> int:
        """Delete the rows older than `before_ms`, of one measurement or of all; how many. One transaction a series."""
        with self._transaction() as db:
            ids = [
                row[0]
                for row in db.execute("SELECT id FROM series WHERE ?1 IS NULL OR measurement = ?1", (measurement,))
            ]
        deleted = 0
        for series in ids:
            with self._transaction() as db:
                deleted += db.execute(
                    "DELETE FROM point WHERE series = ? AND time_ms < ?", (series, before_ms)
                ).rowcount
        return deleted

    def thin(self, measurement: str, before_ms: int, interval_ms: int) -> int:
        """Of the readings older than `before_ms` keep, for each series, interval and quality flag, the first, the lowest and the
        highest as they were measured; how many went. Again, it deletes nothing more. Never for sums (rainfall)."""
        with self._transaction() as db:
            ids = [row[0] for row in db.execute("SELECT id FROM series WHERE measurement = ?", (measurement,))]
        deleted = 0
        for series in ids:
            with self._transaction() as db:
                whole = before_ms - before_ms % interval_ms
                deleted += db.execute(_THIN, {"series": series, "before": whole, "interval": interval_ms}).rowcount
        return deleted

    def _accepted(
        self, db: sqlite3.Connection, points: Sequence[Point | Reading], rejected: list[Rejected]
    ) -> Iterator[tuple[int, int, str]]:
        for point in points:
            try:
                check(point)
                self._check_types(db, point)
            except ValueError as e:
                rejected.append(Rejected(point, str(e)))
            else:
                yield self._id(db, point.series), point.time_ms, json.dumps(point.fields, separators=(",", ":"))

    def _check_types(self, db: sqlite3.Connection, point: Point | Reading) -> None:
        """The first write of a field decides its type for ever, as in InfluxDB."""
        measurement = point.series.measurement
        new: dict[tuple[str, str], str] = {}
        for name, value in point.fields.items():
            kind = _TYPES[type(value)]
            known = self._types.get((measurement, name))
            if known is None:
                new[measurement, name] = kind
            elif known != kind:
                raise ValueError(
                    f'field type conflict: "{name}" of "{measurement}" is type {kind}, already exists as type {known}'
                )
        for key, kind in new.items():
            db.execute("INSERT INTO field VALUES (?, ?, ?)", (*key, kind))
        self._types |= new

    def _id(self, db: sqlite3.Connection, series: Series) -> int:
        found = self._series.get(series)
        if found is None:
            row = db.execute(
                "INSERT INTO series (measurement, tags) VALUES (?, ?) RETURNING id",
                (series.measurement, json.dumps(dict(series.tags))),
            ).fetchone()
            found = self._series[series] = int(row[0])
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _errors(self._path):
            db = self._writer
            if db is None:
                raise Unavailable(f"{self._path}: not set up")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                self._load(db)  # what was learnt inside is not true any more
                raise

    def _load(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT measurement, tags, id FROM series")
        self._series = {Series(measurement, json.loads(tags)): id_ for measurement, tags, id_ in rows}
        self._types = {(m, name): kind for m, name, kind in db.execute("SELECT measurement, name, type FROM field")}

    # Reading, each on a connection of its own: readers never wait for the writer

    def series(
        self, measurement: str, tags: Mapping[str, str], field: str, start_ms: int, end_ms: int
    ) -> list[tuple[int, Value]]:
        found: list[tuple[int, Value]] = []
        with self._reading(measurement, tags) as (db, ids):
            for id_ in ids:
                found += db.execute(
                    "SELECT time_ms, fields ->> ?1 FROM point WHERE series = ?2 AND time_ms >= ?3 AND time_ms < ?4 "
                    "AND fields ->> ?1 IS NOT NULL ORDER BY time_ms",
                    (_path(field), id_, start_ms, end_ms),
                )
        return sorted(found, key=lambda row: row[0])

    def last(self, measurement: str, tags: Mapping[str, str], field: str = "value") -> tuple[int, Value] | None:
        found: list[tuple[int, Value]] = []
        with self._reading(measurement, tags) as (db, ids):
            for id_ in ids:
                found += db.execute(
                    "SELECT time_ms, fields ->> ?1 FROM point WHERE series = ?2 AND fields ->> ?1 IS NOT NULL "
                    "ORDER BY time_ms DESC LIMIT 1",
                    (_path(field), id_),
                )
        return max(found, key=lambda row: row[0], default=None)

    def count(self, measurement: str, start_ms: int, end_ms: int, tags: Mapping[str, str], field: str = "value") -> int:
        total = 0
        with self._reading(measurement, tags) as (db, ids):
            for id_ in ids:
                row = db.execute(
                    "SELECT count(fields ->> ?1) FROM point WHERE series = ?2 AND time_ms >= ?3 AND time_ms < ?4",
                    (_path(field), id_, start_ms, end_ms),
                ).fetchone()
                total += row[0]
        return total

    def dump(self, measurement: str, start_ms: int, end_ms: int) -> list[Row]:
        rows: list[Row] = []
        with self._reading(measurement, {}) as (db, ids):
            for id_, tags in ids.items():
                found = db.execute(
                    "SELECT time_ms, fields FROM point WHERE series = ? AND time_ms >= ? AND time_ms < ?",
                    (id_, start_ms, end_ms),
                )
                rows += [Row(tags, time_ms, json.loads(fields)) for time_ms, fields in found]
        return sorted(rows, key=lambda row: (row.time_ms, sorted(row.tags.items())))

    @contextmanager
    def _reading(
        self, measurement: str, tags: Mapping[str, str]
    ) -> Iterator[tuple[sqlite3.Connection, dict[int, dict[str, str]]]]:
        """One snapshot, and the tags of each series of `measurement` that carries `tags`, by its id."""
        if self._writer is None:
            raise Unavailable(f"{self._path}: not set up")
        with _errors(self._path), closing(self._connect()) as db:
            db.execute("PRAGMA query_only = ON")
            db.execute("BEGIN")
            rows = db.execute("SELECT id, tags FROM series WHERE measurement = ?", (measurement,)).fetchall()
            ids = {id_: json.loads(text) for id_, text in rows}
            yield db, {id_: found for id_, found in ids.items() if tags.items() <= found.items()}

    def _connect(self) -> sqlite3.Connection:
        # check_same_thread: the lock keeps the writer to one thread at a time
        return sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _path(field: str) -> str:
    return f'$."{field}"'


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's errors as central's: busy is patience, a full or broken disk a person."""
    try:
        yield
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
        raise (Unavailable if code in _PATIENCE else NeedsPerson)(f"{path}: {e}") from e
