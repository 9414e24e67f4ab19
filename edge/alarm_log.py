"""The gateway's alarm log: every transition, the state of every rule, every SMS. Survives a power cut.

SQLite, because it is small, and because a transition, the state after it and its place in the outbox must be written in one
piece; `synchronous=FULL`, because alarms are rare and must not be lost (sqlite.org/pragma.html#pragma_synchronous).

An alarm that a full disk cannot record is one that nobody is told of. So the file owns free pages beforehand, and its rollback
journal stays on the disk as it is (`journal_mode=PERSIST`): opening and writing then need no new space. A write-ahead log would.

When the card fails under it (read-only, input/output errors) the log goes on in memory with what could be read: alarms still go
out, and a restart then forgets what came since.
"""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from edge.errors import EdgeError
from wire import alarm
from wire.alarm import AlarmEvent
from wire.station import Active

log = logging.getLogger(__name__)

SCHEMA_VERSION = 3
_PAGE_BYTES = 4096
_FREE_PAGES = 128
"""Kept in the file: room for some hundred transitions."""
_JOURNAL_PAGES = 32
"""Kept in the rollback journal: more than a transaction changes."""

_FAILED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""What a card that fails makes of a write (sqlite.org/rescode.html, primary codes). A full one is not among them."""

_PRUNE_EVENTS = 200
"""Looked at in one step of a pruning."""

SmsResult = Literal["waiting", "sent", "failed", "unknown"]
"""`waiting`: it was not sent, and is tried again."""
SmsFate = Literal["delivered", "failed", "unknown"]


class AlarmLogUnwritable(EdgeError):
    """The disk takes no more; what was to be recorded is not."""


class Progress(NamedTuple):
    """Readings up to number `judged` are in the rules' states, as of that boot and wall time (seconds)."""

    judged: int
    boot_id: str
    boot_s: float
    wall_s: float


class Announcement(NamedTuple):
    """A raise or escalate that someone may have to be told of, with central's word on it. `returned` (RFC 3339): it is over since."""

    event: AlarmEvent
    boot_id: str
    boot_s: float
    received: bool
    notifying: str | None
    returned: str | None


class Settled(NamedTuple):
    """The network's last word on an SMS about an event, tried `at` (RFC 3339)."""

    event: AlarmEvent
    recipient: str
    at: str
    fate: SmsFate


class AlarmLog:
    """The log in one SQLite file. Safe to use from several threads; `open()` before anything else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._waiting: dict[str, bytes] = {}
        self._next_seq = 1
        self._in_memory = False

    def open(self) -> dict[str, str]:
        """Open or create the file; a damaged one is kept beside and a new one begun. Gives the saved rule states (JSON).

        Raises AlarmLogUnwritable when the disk does not let it be opened.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.OperationalError as e:
            raise AlarmLogUnwritable(f"{self._path}: {e}") from e
        except sqlite3.DatabaseError as e:
            damaged = self._path.with_suffix(".damaged")
            log.error("alarm log %s: %s; kept as %s, a new one begins", self._path, e, damaged.name)
            for suffix in ("-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._path.rename(damaged)
            self._connect()
        db = self._connection()
        self._next_seq = 1 + db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0]
        rows = db.execute("SELECT id, payload FROM event WHERE received = 0 ORDER BY seq")
        self._waiting = {event_id: payload.encode() for event_id, payload in rows}
        try:
            self._reserve(db)
        except sqlite3.OperationalError as e:
            log.warning("alarm log %s: no space kept for a full disk: %s", self._path, e)
        # A process that died between asking the modem and hearing from it: nobody knows, and it is not repeated.
        with self._writing() as db:
            db.execute("UPDATE sms SET result = 'unknown' WHERE result = 'trying'")
        return self.states()

    def states(self) -> dict[str, str]:
        """The saved rule states (JSON), by rule."""
        with self._lock:
            return dict(self._connection().execute("SELECT rule, state FROM rule_state"))

    def close(self) -> None:
        with self._lock:
            if self._db:
                self._db.close()
                self._db = None

    def _go_on_in_memory(self, card: sqlite3.Connection) -> None:
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            card.backup(memory)
        except sqlite3.Error as e:
            log.error("alarm log %s cannot be read any more: %s", self._path, e)
            memory.close()
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _migrate(memory)
        self._db = memory
        self._in_memory = True
        card.close()
        log.error("alarm log %s: the card fails; alarms go on in memory, until a restart", self._path)

    def _connect(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = PERSIST")
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            db.close()
            raise sqlite3.DatabaseError("quick_check failed")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise AlarmLogUnwritable(f"{self._path}: schema {version} is newer than this program's {SCHEMA_VERSION}")
        _migrate(db)
        self._db = db

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise AlarmLogUnwritable(f"{self._path}: not open")
        return self._db

    def _reserve(self, db: sqlite3.Connection) -> None:
        """Make the file and its rollback journal larger than they need to be, unless they are."""
        journal = self._path.with_name(self._path.name + "-journal")
        free = db.execute("PRAGMA freelist_count").fetchone()[0]
        if free >= _FREE_PAGES // 2 and journal.exists() and journal.stat().st_size > _JOURNAL_PAGES * _PAGE_BYTES:
            return
        db.execute("DROP TABLE IF EXISTS reserve")  # of a process that was killed right here
        db.execute(f"CREATE TABLE reserve AS SELECT zeroblob({_FREE_PAGES * _PAGE_BYTES}) AS space")
        db.execute("UPDATE reserve SET space = randomblob(length(space))")  # what changes goes through the journal
        db.execute("DROP TABLE reserve")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, under the lock. SQLite's errors become AlarmLogUnwritable, and what was begun is undone."""
        with self._lock:
            db = self._connection()
            try:
                yield db
            except sqlite3.Error as e:
                if db.in_transaction:
                    with suppress(sqlite3.Error):  # SQLite has undone it itself after some errors
                        db.execute("ROLLBACK")
                if isinstance(e, sqlite3.IntegrityError):  # another process wrote here: its numbers are taken
                    with suppress(sqlite3.Error):
                        self._next_seq = 1 + db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0]
                # The caller's next attempt is the first one there.
                if not self._in_memory and getattr(e, "sqlite_errorcode", 0) & 0xFF in _FAILED:
                    self._go_on_in_memory(db)
                raise AlarmLogUnwritable(f"{self._path}: {e}") from e

    # ------------------------------------------------------------------ transitions

    @property
    def next_seq(self) -> int:
        """The sequence number that the next event must carry."""
        return self._next_seq

    def commit(self, events: Sequence[AlarmEvent], states: Mapping[str, str], progress: Progress) -> None:
        """Record events (their `seq` continuing from `next_seq`), rule states (JSON) and progress, all or nothing.

        Raises AlarmLogUnwritable. When another process took their numbers, `next_seq` is beyond those after it.
        """
        with self._writing() as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO event (seq, id, occurrence, rule, payload, boot_id, boot_s) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (e.seq, e.id, e.occurrence, e.rule, alarm.dump(e).decode(), progress.boot_id, progress.boot_s)
                    for e in events
                ],
            )
            db.executemany(
                "INSERT INTO rule_state (rule, state) VALUES (?, ?) ON CONFLICT (rule) DO UPDATE SET state = excluded.state",
                list(states.items()),
            )
            db.execute("INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?, ?)", progress)
            db.execute("COMMIT")
            if events:
                with suppress(sqlite3.OperationalError):  # the disk is full: what is left will do
                    if not self._in_memory:
                        self._reserve(db)
            for event in events:
                self._waiting[event.id] = alarm.dump(event)
            self._next_seq += len(events)

    def progress(self) -> Progress | None:
        row = self._connection().execute("SELECT judged, boot_id, boot_s, wall_s FROM progress").fetchone()
        return Progress(*row) if row else None

    # ------------------------------------------------------------------ towards central

    def unreceipted(self) -> list[tuple[str, bytes]]:
        """Events that central has not received, oldest first: id and payload."""
        with self._lock:
            return list(self._waiting.items())

    def receipt(self, event_id: str, notifying: str | None) -> None:
        """Central received an event; `notifying` is its second word on it. Unknown ids are ignored.

        Raises AlarmLogUnwritable; then the event still waits, and central will be asked again.
        """
        with self._writing() as db:
            db.execute(
                "UPDATE event SET received = 1, notifying = coalesce(?, notifying) WHERE id = ?", (notifying, event_id)
            )
            self._waiting.pop(event_id, None)

    def active(self) -> Active:
        """The last event of every occurrence that is not NORMAL."""
        with self._writing() as db:
            rows = db.execute(
                "SELECT payload FROM event WHERE seq IN"
                " (SELECT (SELECT max(seq) FROM event WHERE event.occurrence = standing.occurrence) FROM standing) ORDER BY seq"
            ).fetchall()
        return Active(active=tuple(alarm.parse(payload.encode()) for (payload,) in rows))

    def answers(self) -> list[AlarmEvent]:
        """What people have done with the occurrences that are not NORMAL: acknowledged, shelved; oldest first."""
        with self._writing() as db:
            rows = db.execute(
                "SELECT payload FROM event WHERE occurrence IN (SELECT occurrence FROM standing)"
                " AND json_extract(payload, '$.transition') IN ('ack', 'shelve') ORDER BY seq"
            ).fetchall()
        return [alarm.parse(payload.encode()) for (payload,) in rows]

    def prune(self, before_s: float) -> int:
        """Delete the occurrences that ended before `before_s` (Unix s) and of which central has every event; how many events.

        The newest event stays: it says which number is next. Each step is short, since alarms wait for it.
        """
        gone, seq = 0, 0
        while True:
            with self._writing() as db:
                chunk = db.execute(
                    "SELECT seq, occurrence FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (seq, _PRUNE_EVENTS)
                ).fetchall()
                if not chunk:
                    return gone
                seq = chunk[-1][0]
                db.execute("BEGIN IMMEDIATE")
                for occurrence in dict.fromkeys(occurrence for _, occurrence in chunk):
                    ended = db.execute(
                        "SELECT max(CAST(strftime('%s', json_extract(payload, '$.time')) AS REAL)) < ? AND min(received)"
                        " AND max(seq) < (SELECT max(seq) FROM event)"
                        " AND NOT EXISTS (SELECT 1 FROM standing WHERE occurrence = ?) FROM event WHERE occurrence = ?",
                        (before_s, occurrence, occurrence),
                    ).fetchone()[0]
                    if ended:
                        db.execute(
                            "DELETE FROM sms WHERE event IN (SELECT id FROM event WHERE occurrence = ?)", (occurrence,)
                        )
                        gone += db.execute("DELETE FROM event WHERE occurrence = ?", (occurrence,)).rowcount
                db.execute("COMMIT")

    # ------------------------------------------------------------------ own messages

    def announcements(self) -> list[Announcement]:
        """The last raise or escalate of every occurrence that nobody has acknowledged: what an SMS may have to tell. So is the
        end of what withheld an alarm that stands; one that is withheld has nothing to tell.

        Those of an earlier boot come too, with their own `boot_id`.
        """
        with self._writing() as db:
            rows = db.execute(
                "SELECT payload, boot_id, boot_s, received, notifying, (SELECT json_extract(back.payload, '$.time')"
                "   FROM event AS back WHERE back.occurrence = event.occurrence AND back.seq > event.seq"
                "   AND json_extract(back.payload, '$.transition') = 'clear' ORDER BY back.seq LIMIT 1)"
                " FROM event WHERE seq IN (SELECT"
                " (SELECT max(seq) FROM event WHERE event.occurrence = standing.occurrence"
                "   AND (json_extract(payload, '$.transition') IN ('raise', 'escalate')"
                "   OR (json_extract(payload, '$.transition') IN ('unshelve', 'unsuppress', 'in_service')"
                "       AND json_extract(payload, '$.level') > 0)))"
                " FROM standing WHERE (SELECT json_extract(payload, '$.state') IN ('UNACK', 'RTN_UNACK')"
                "   AND json_extract(payload, '$.withheld') IS NULL FROM event WHERE event.occurrence = standing.occurrence"
                "   AND json_extract(payload, '$.transition') <> 'notify' ORDER BY seq DESC LIMIT 1)) ORDER BY seq"
            ).fetchall()
        return [
            Announcement(alarm.parse(payload.encode()), boot, at, bool(received), notifying, returned)
            for payload, boot, at, received, notifying, returned in rows
        ]

    def sms_tried(self, event_id: str) -> set[str]:
        """The recipients whom no SMS about this event may be sent any more: one was tried, and did not certainly fail."""
        with self._writing() as db:
            rows = db.execute(
                "SELECT recipient FROM sms WHERE event = ? AND result <> 'waiting'", (event_id,)
            ).fetchall()
            return {recipient for (recipient,) in rows}

    def sms_told(self, recipient: str, occurrence: str) -> int | None:
        """The level that a recipient was last told of an occurrence; None when no SMS about it can have reached them."""
        with self._writing() as db:
            row = db.execute(
                "SELECT json_extract(payload, '$.level') FROM sms JOIN event ON sms.event = event.id"
                " WHERE recipient = ? AND occurrence = ? AND result IN ('sent', 'unknown') ORDER BY seq DESC LIMIT 1",
                (recipient, occurrence),
            ).fetchone()
            return row[0] if row else None

    def sms_open(self, event_id: str, recipient: str) -> bool:
        """Whether an SMS about it may be sent: none was begun before, or it waits."""
        with self._writing() as db:
            row = db.execute(
                "SELECT result FROM sms WHERE event = ? AND recipient = ?", (event_id, recipient)
            ).fetchone()
        return row is None or row[0] == "waiting"

    def sms_begin(self, event_id: str, recipient: str, at: str) -> bool:
        """Note that an SMS is about to be sent. False when one was begun before and does not wait: then it must not be."""
        with self._writing() as db:
            cursor = db.execute(
                "INSERT INTO sms (event, recipient, result, at) VALUES (?, ?, 'trying', ?) ON CONFLICT DO UPDATE"
                " SET result = 'trying', at = excluded.at WHERE result = 'waiting'",
                (event_id, recipient, at),
            )
            return cursor.rowcount == 1

    def sms_wait(self, event_id: str, recipient: str, at: str) -> None:
        """Nothing was sent, and it is to be tried again."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO sms (event, recipient, result, at) VALUES (?, ?, 'waiting', ?) ON CONFLICT DO UPDATE"
                " SET result = 'waiting'",
                (event_id, recipient, at),
            )

    def sms_end(self, event_id: str, recipient: str, result: SmsResult, references: Sequence[int] = ()) -> None:
        """What came of it; `references` are those of the parts that the network will report of."""
        unreported = json.dumps(references) if references else None
        with self._writing() as db:
            db.execute(
                "UPDATE sms SET result = ?, unreported = ? WHERE event = ? AND recipient = ?",
                (result, unreported, event_id, recipient),
            )

    def sms_report(self, recipient: str, reference: int, fate: SmsFate, since: str) -> list[Settled] | None:
        """A final report of one part, of the newest SMS since then (RFC 3339) that lacks it. Gives what it settles: an SMS is
        delivered with its last part, failed or unknown with any. One may tell of several events. None when no SMS lacks it.
        """
        with self._writing() as db:
            waiting = db.execute(
                "SELECT at, unreported FROM sms WHERE recipient = ? AND at >= ? AND unreported IS NOT NULL ORDER BY at DESC",
                (recipient, since),
            ).fetchall()
            found = next((row for row in waiting if reference in json.loads(row[1])), None)
            if found is None:
                return None
            this = "recipient = ? AND at = ? AND unreported = ?"
            left = [r for r in json.loads(found[1]) if r != reference]
            if fate == "delivered" and left:
                db.execute(f"UPDATE sms SET unreported = ? WHERE {this}", (json.dumps(left), recipient, *found))  # noqa: S608
                return []
            settled = self._settled(db, this, (recipient, *found), fate)
            db.execute(
                "UPDATE sms SET unreported = NULL, report = ?,"  # noqa: S608
                f" result = CASE ? WHEN 'failed' THEN 'failed' ELSE result END WHERE {this}",
                (fate, fate, recipient, *found),
            )
            return settled

    def sms_overdue(self, before: str) -> list[Settled]:
        """SMS tried before then (RFC 3339) that no report settled: unknown from now on, until one comes after all."""
        with self._writing() as db:
            where = "at < ? AND unreported IS NOT NULL AND report IS NULL"
            found = self._settled(db, where, (before,), "unknown")
            if found:
                db.execute(f"UPDATE sms SET report = 'unknown' WHERE {where}", (before,))  # noqa: S608
            return found

    @staticmethod
    def _settled(db: sqlite3.Connection, where: str, values: tuple[str, ...], fate: SmsFate) -> list[Settled]:
        rows = db.execute(
            f"SELECT payload, recipient, at FROM sms JOIN event ON sms.event = event.id WHERE {where} ORDER BY seq",  # noqa: S608
            values,
        ).fetchall()
        return [Settled(alarm.parse(payload.encode()), recipient, at, fate) for payload, recipient, at in rows]


def _migrate(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for number in range(version + 1, SCHEMA_VERSION + 1):
        script = resources.files("edge").joinpath(f"schema/schema_v{number}.sql").read_text(encoding="utf-8")
        db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
