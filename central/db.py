"""Central's state, what it must not forget: alarm log, outbox, what it holds. A SQLite file, or PostgreSQL by URL.

Statements are SQLAlchemy Core on `central.tables`, in the modules that own them. The schema is made by the files of `schema/`
(docs/adr/0010-state.md): `schema_vN.sql` where one text does for both, else `schema_vN.sqlite.sql` and
`schema_vN.postgresql.sql`. They only grow.
"""

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    NullPool,
    Row,
    create_engine,
    delete,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.sql.schema import Table

from central.errors import Refused, StateUnavailable
from central.tables import (
    alarm_event,
    message_cursor,
    message_outcome,
    metadata,
    notify_cursor,
    quarantine,
    series_cursor,
)
from common import lock

CONNECT_S = 10
BUSY_S = 30
"""So long a transaction waits for that of another process."""
COPY_ROWS = 1000
_STALLED_S = 30
"""PostgreSQL ends a transaction in which nothing happens for so long: a stopped process must not hold up the others."""
_WRITERS = 0x4D61696C
"""The advisory lock of PostgreSQL that a transaction holds."""
_HELD = _WRITERS + 1
"""Those of `Database.hold`."""
_LOST_S = {"idle": 5, "interval": 2, "count": 3}
"""TCP keepalives: a machine that is gone without a word holds its locks no longer than the sum of this."""

Insert = postgresql.Insert | sqlite.Insert


class Database:
    """One connection, shared by threads under a lock. A transaction that returned is on the disk.

    `where` is the path of a SQLite file or a `postgresql://` URL. A transaction sees and changes the state alone: SQLite has
    one writer, and on PostgreSQL a lock makes it one, so that what holds on the one holds on the other.

    All raise StateUnavailable when the state cannot be read or written now; nothing was changed then, except that on PostgreSQL
    a connection lost during the commit leaves it open whether it was. A statement that is wrong by itself raises what
    SQLAlchemy raises (IntegrityError, DataError, ProgrammingError): to try it again would mend nothing.
    """

    def __init__(self, where: Path | str) -> None:
        self._where = where
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._begun = False
        self._held: dict[str, int] = {}
        self._taken: str | None = None

    @property
    def name(self) -> str:
        """Where it is, for people: without a password."""
        return str(self._where) if isinstance(self._where, Path) else make_url(self._where).render_as_string()

    def open(self) -> None:
        """Open, create or migrate. Raises StateUnavailable, also when what is there is no state or of a newer version."""
        if isinstance(self._where, Path):
            try:
                self._where.parent.mkdir(parents=True, exist_ok=True)
                self._where.touch(mode=0o600)
            except OSError as e:
                raise StateUnavailable(e.strerror or str(e)) from e
        self._engine = self._make_engine(read_only=False)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def open_read_only(self) -> None:
        """For a look beside a running central: creates, migrates and locks nothing. Raises StateUnavailable as `open` does, and
        when there is none of this program's version."""
        self._engine = self._make_engine(read_only=True)
        try:
            with self._connected() as connection:
                version, expected = _version(connection), max(_schemas(connection.dialect.name))
            if version != expected:
                raise StateUnavailable(f"version {version}, this program's is {expected}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._drop_connection()
            self._engine = None
            for descriptor in self._held.values():
                if descriptor >= 0:
                    os.close(descriptor)
            self._held.clear()

    def hold(self, name: str) -> bool:
        """Take the lock `name` of this state, until `close` or the end of this process; False when another process has it.

        On PostgreSQL it hangs on the connection by which all is written: a process that has lost it can write nothing, so none
        does as its holder what it no longer is. With a new connection it is taken again; when another was faster, everything
        raises StateUnavailable from then on, and `lock_lost` says so.
        """
        with self._lock:
            if isinstance(self._where, Path):
                try:
                    self._held[name] = lock.hold(self._where.parent, f"{self._where.name}.{name}")
                except BlockingIOError:
                    return False
                except OSError as e:
                    raise StateUnavailable(f"{self._where.parent}: {e.strerror}") from e
                return True
            with self._connected() as connection:
                got = bool(connection.execute(_HOLD, {"name": name}).scalar_one())
            if got:
                self._held[name] = -1
            return got

    def held(self, names: Collection[str]) -> set[str]:
        """Which of these locks a process holds."""
        with self._lock:
            if not isinstance(self._where, Path):
                with self._connected() as connection:
                    return set(connection.execute(_WHO, {"names": list(names)}).scalars())
            found = set()
            for name in names:
                try:
                    if name not in self._held:
                        os.close(lock.hold(self._where.parent, f"{self._where.name}.{name}"))
                        continue
                except BlockingIOError:
                    pass
                except OSError as e:
                    raise StateUnavailable(f"{self._where.parent}: {e.strerror}") from e
                found.add(name)
            return found

    @property
    def lock_lost(self) -> str | None:
        """The lock that another process took while this one had no connection: it must begin anew."""
        return self._taken

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing, on the disk when the block has ended. Joins the transaction that this thread has already begun."""
        with self._lock, self._connected() as connection:
            if self._begun:
                yield connection
                return
            self._begun = True
            try:
                _begin(connection)
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                if not connection.closed and not connection.invalidated:
                    with suppress(DBAPIError):  # a full disk may have ended it
                        connection.exec_driver_sql("ROLLBACK")
                raise
            finally:
                self._begun = False

    def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        """All rows of a query."""
        with self._lock, self._connected() as connection:
            return connection.execute(statement).all()

    def row(self, statement: Executable) -> Row[Any] | None:
        """The first row of a query, or None."""
        with self._lock, self._connected() as connection:
            return connection.execute(statement).first()

    def copy_from(self, source: "Database") -> int:
        """Take over all that another state of this version holds; gives how many rows. Raises Refused when this one is not
        empty, and then nothing was changed."""
        cursors = (notify_cursor, series_cursor, message_cursor)
        copied = 0
        with self.transaction() as tx:
            for table in metadata.tables.values():
                if table not in cursors and tx.execute(select(table)).first() is not None:
                    raise Refused(f"{self.name}: {table.name} has rows, expected an empty state")
            for cursor in cursors:
                tx.execute(delete(cursor))
            for table in metadata.tables.values():
                rows = [row._asdict() for row in source.rows(select(table))]
                for first in range(0, len(rows), COPY_ROWS):
                    tx.execute(table.insert(), rows[first : first + COPY_ROWS])
                copied += len(rows)
            if tx.dialect.name == "postgresql":  # numbers that were given are not given again
                for table, column in ((alarm_event, "position"), (quarantine, "id"), (message_outcome, "position")):
                    last = tx.execute(select(func.max(table.c[column]))).scalar_one()
                    tx.execute(_SET_SEQUENCE, {"table": table.name, "column": column, "last": last})
        return copied

    def insert(self, table: Table) -> Insert:
        """An INSERT that can say what becomes of a conflict, in the words of this database."""
        return sqlite.insert(table) if isinstance(self._where, Path) else postgresql.insert(table)

    # ------------------------------------------------------------------ the connection

    def _make_engine(self, *, read_only: bool) -> Engine:
        """Transactions are begun and ended by `transaction` alone, so the driver is in autocommit."""
        if isinstance(self._where, Path):
            path = self._where.absolute()

            def connect() -> sqlite3.Connection:
                uri = f"{path.as_uri()}?mode={'ro' if read_only else 'rw'}"
                connection = sqlite3.connect(
                    uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
                )
                if not read_only:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA foreign_keys = ON")
                return connection

            return create_engine("sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        url = make_url(self._where).set(drivername="postgresql+psycopg")
        try:
            engine = create_engine(
                url,
                poolclass=NullPool,
                isolation_level="AUTOCOMMIT",
                connect_args={
                    "connect_timeout": CONNECT_S,
                    "application_name": "maillages-central",
                    **{f"keepalives_{name}": value for name, value in _LOST_S.items()},
                },
            )
        except ModuleNotFoundError as e:
            raise StateUnavailable(f"{e.name} is not installed: pip install 'maillages[central,postgres]'") from e

        @event.listens_for(engine, "connect")
        def _settle(connection: Any, _record: object) -> None:
            connection.execute(
                f"SET lock_timeout = '{BUSY_S}s';"
                f" SET idle_in_transaction_session_timeout = '{_STALLED_S}s';"
                f" SET default_transaction_read_only = {'on' if read_only else 'off'};"
                + "".join(f" SET tcp_keepalives_{name} = {value};" for name, value in _LOST_S.items())
            )

        return engine

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """The connection, made again when the server had ended it; and what the driver raises, sorted by what a caller does."""
        if self._engine is None:
            raise StateUnavailable(f"{self.name} is not open")
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._hold_again(self._connection)
            yield self._connection
        except (DataError, IntegrityError, ProgrammingError):
            raise
        except DBAPIError as e:
            if e.connection_invalidated:
                self._drop_connection()
            raise StateUnavailable(str(e.orig).strip()) from e
        except sqlite3.Error as e:  # of the first PRAGMA: no database at all
            raise StateUnavailable(str(e)) from e

    def _hold_again(self, connection: Connection) -> None:
        for name, descriptor in self._held.items():
            if descriptor < 0 and not connection.execute(_HOLD, {"name": name}).scalar_one():
                self._taken = name
        if self._taken:
            self._drop_connection()
            raise StateUnavailable(f"another process has taken the lock {self._taken}")

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with suppress(DBAPIError):
                self._connection.close()
            self._connection = None

    def _migrate(self) -> None:
        with self.transaction() as tx:
            kind = tx.dialect.name
            schemas, version = _schemas(kind), _version(tx)
            if version > max(schemas):
                raise StateUnavailable(f"version {version} is newer than this program's {max(schemas)}")
            for number in sorted(n for n in schemas if n > version):
                for statement in _statements(schemas[number], kind):
                    tx.exec_driver_sql(statement)
                tx.exec_driver_sql(_SET_VERSION[kind].format(number))


_KEY = "hashtext(current_schema() || '/' || {})"
_HOLD = text(f"SELECT pg_try_advisory_lock({_HELD}, {_KEY.format('CAST(:name AS text)')})")
_WHO = text(f"""
    SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = {_HELD} AND objid = (CAST({_KEY.format("name")} AS bigint) & 4294967295)
    )
""")  # noqa: S608 - our own text
_SET_SEQUENCE = text("SELECT setval(pg_get_serial_sequence(:table, :column), CAST(:last AS bigint))")
_SET_VERSION = {
    "sqlite": "PRAGMA user_version = {}",
    "postgresql": "INSERT INTO schema_version VALUES ({})",
}


def _begin(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS}, hashtext(current_schema()))")


def _version(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if connection.exec_driver_sql("SELECT to_regclass('schema_version')").scalar_one() is None:
        return 0
    return int(connection.exec_driver_sql("SELECT max(version) FROM schema_version").scalar_one())


def _schemas(kind: str) -> dict[int, str]:
    """The text of each version for SQLite or PostgreSQL."""
    found = {}
    for file in (resources.files("central") / "schema").iterdir():
        number, *dialect = file.name.removeprefix("schema_v").removesuffix(".sql").split(".")
        if file.name.endswith(".sql") and dialect in ([], [kind]):
            found[int(number)] = file.read_text(encoding="utf-8")
    return found


def _statements(script: str, kind: str) -> list[str]:
    """PostgreSQL takes a script whole, SQLite one statement at a time: its own driver would commit before a script."""
    if kind == "postgresql":
        return [script.replace("%", "%%")]
    found, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    return found
