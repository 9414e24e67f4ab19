"""The alarm log: every event of every gateway, kept as it came, and what the occurrences come to.

An event is known by its id: a redelivered one changes nothing. The order is the source's own `seq`, not that of arrival.
Each transition is checked again (ANSI/ISA-18.2 states); one that cannot be is kept and flagged, never dropped. A
transition across numbers that have not arrived is not judged until they have.
"""

import logging
import sqlite3
from dataclasses import dataclass
from typing import Literal

from central.db import Database
from common.clock import from_rfc3339
from common.texts import reference
from wire.alarm import AlarmEvent, State, Transition
from wire.station import Active

log = logging.getLogger(__name__)

BUTTON = "bouton "
"""So begins the `by` of an acknowledgement at a gateway's button (docs/wire.md)."""

_SAME: dict[State, frozenset[State]] = {s: frozenset({s}) for s in ("NORMAL", "UNACK", "ACK", "RTN_UNACK")}
_ANY: frozenset[State] = frozenset({"NORMAL", "UNACK", "ACK", "RTN_UNACK"})
_BACK = dict.fromkeys(_ANY, _ANY)
RETURNING: frozenset[Transition] = frozenset({"unshelve", "unsuppress", "in_service"})
"""The end of what withheld an alarm."""

# Transition -> state before -> states after. A latched alarm stays RTN_UNACK until it is reset. What leaves shelf,
# suppression or maintenance is evaluated afresh, so it may come back in any state.
_ALLOWED: dict[Transition, dict[State, frozenset[State]]] = {
    "raise": {"RTN_UNACK": frozenset({"UNACK"})},
    "escalate": {s: frozenset({"UNACK"}) for s in ("UNACK", "ACK", "RTN_UNACK")},
    "deescalate": {"UNACK": frozenset({"UNACK"}), "ACK": frozenset({"ACK"})},
    "clear": {"UNACK": frozenset({"RTN_UNACK"}), "ACK": frozenset({"NORMAL", "RTN_UNACK"})},
    "ack": {"UNACK": frozenset({"ACK"}), "RTN_UNACK": frozenset({"NORMAL", "RTN_UNACK"})},
    "reset": {"RTN_UNACK": frozenset({"NORMAL"})},
    "notify": _SAME,
    "shelve": _SAME,
    "suppress": _SAME,
    "out_of_service": _SAME,
    "unshelve": _BACK,
    "unsuppress": _BACK,
    "in_service": _BACK,
}


def impossible(before: tuple[State, int] | None, event: AlarmEvent) -> str | None:
    """Why `event` cannot follow a state and level (None: no event before it), or None when it can."""
    if before is None:
        if event.transition == "raise":
            return None if event.state == "UNACK" else f"raise to {event.state}, expected UNACK"
        return f"{event.transition} as the first event of its occurrence, expected raise"
    state, level = before
    after = _ALLOWED[event.transition].get(state)
    if after is None:
        return f"{event.transition} in state {state}"
    if event.state not in after:
        return f"{event.transition} from {state} to {event.state}, expected {' or '.join(sorted(after))}"
    if event.transition == "escalate" and event.level <= level:
        return f"escalate from level {level} to {event.level}"
    if event.transition == "deescalate" and event.level >= level:
        return f"deescalate from level {level} to {event.level}"
    return None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an event. `needs_notification`: new, and its occurrence is active or unacknowledged now."""

    new: bool
    impossible: str | None
    needs_notification: bool


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An occurrence as it stands. Times are Unix seconds. `acked_by` includes who acknowledged here, not yet confirmed by
    the gateway (`state` says what the gateway knows). `reconciled_s`: closed because the gateway no longer listed it."""

    occurrence: str
    source: Literal["gateway", "central"]
    gateway: str
    station: str | None
    rule: str
    kind: str
    status: str
    state: State
    level: int
    raised_s: float
    changed_s: float
    last_event: str
    last_seq: int
    acked_by: str | None
    acked_s: float | None
    reconciled_s: float | None

    @property
    def answered_by(self) -> str | None:
        """The person who acknowledged, by name; None while it was nobody, or who pressed a gateway's button: that is no name."""
        unnamed = self.acked_by == self.gateway or (self.acked_by or "").startswith(BUTTON)
        return None if unnamed else self.acked_by


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Occurrences that `active` closed, opened again, or made known."""

    closed: tuple[str, ...]
    reopened: tuple[str, ...]
    recorded: tuple[str, ...]


class AlarmLog:
    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, event: AlarmEvent, received_wall_s: float) -> Recorded:
        """Keep an event; on the disk when this returns."""
        with self._db.transaction() as tx:
            try:
                tx.execute(
                    "INSERT INTO alarm_event (id, source, gateway, seq, occurrence, time_s, received_s, json)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        event.id, event.source, event.gateway, event.seq, event.occurrence,
                        from_rfc3339(event.time), received_wall_s, event.model_dump_json(),
                    ),
                )  # fmt: skip
            except sqlite3.IntegrityError:
                return Recorded(new=False, impossible=self._flag(event.id), needs_notification=False)
            self._judge(tx, event)
            self._apply(tx, event)
            state = tx.execute(
                "SELECT state FROM alarm_occurrence WHERE occurrence = ?", (event.occurrence,)
            ).fetchone()[0]
        reason = self._flag(event.id)
        if reason:
            log.warning("event %s of %s (seq %d) cannot be: %s", event.id, event.gateway, event.seq, reason)
        return Recorded(new=True, impossible=reason, needs_notification=state in ("UNACK", "RTN_UNACK"))

    def reconcile(self, gateway: str, active: Active, received_wall_s: float) -> Reconciled:
        """Bring the log in line with what a gateway lists as not NORMAL.

        An occurrence that it no longer lists is closed with the time; one closed so and listed again is open again; an
        event that the log lacks is recorded.
        """
        listed = {e.occurrence: e for e in active.active if e.gateway == gateway and e.source == "gateway"}
        with self._db.transaction() as tx:
            recorded = tuple(e.occurrence for e in listed.values() if self.record(e, received_wall_s).new)
            known = self._db.rows(
                "SELECT occurrence, state, reconciled_s FROM alarm_occurrence"
                " WHERE gateway = ? AND source = 'gateway' AND (state <> 'NORMAL' OR reconciled_s IS NOT NULL)",
                gateway,
            )
            closed = tuple(r["occurrence"] for r in known if r["state"] != "NORMAL" and r["occurrence"] not in listed)
            reopened = tuple(r["occurrence"] for r in known if r["reconciled_s"] and r["occurrence"] in listed)
            for occurrence in closed:
                tx.execute(
                    "UPDATE alarm_occurrence SET state = 'NORMAL', changed_s = ?, reconciled_s = ? WHERE occurrence = ?",
                    (received_wall_s, received_wall_s, occurrence),
                )
            for occurrence in reopened:
                event = listed[occurrence]
                tx.execute(
                    "UPDATE alarm_occurrence SET state = ?, level = ?, changed_s = ?, reconciled_s = NULL WHERE occurrence = ?",
                    (event.state, event.level, received_wall_s, occurrence),
                )
        if closed:
            log.warning("%s no longer lists %s: closed as reconciled", gateway, ", ".join(closed))
        return Reconciled(closed, reopened, recorded)

    def acknowledge(self, occurrence: str, by: str, at_s: float) -> None:
        """Note that a person acknowledged here; the gateway's own event confirms it later."""
        with self._db.transaction() as tx:
            tx.execute(
                "UPDATE alarm_occurrence SET acked_by = ?, acked_s = ? WHERE occurrence = ?", (by, at_s, occurrence)
            )

    def unconfirmed_acks(self) -> list[Occurrence]:
        """Acknowledged here, but not yet by the gateway that owns it: it is asked until it confirms."""
        here = self._occurrences("source = 'gateway' AND acked_by IS NOT NULL AND state IN ('UNACK', 'RTN_UNACK')")
        return [o for o in here if not self.ack_confirmed(o.occurrence)]

    def waits_for_reset(self, occurrence: Occurrence) -> bool:
        """A latched alarm that has returned and was acknowledged where it was raised."""
        return (
            occurrence.state == "RTN_UNACK"
            and occurrence.acked_by is not None
            and self.ack_confirmed(occurrence.occurrence)
        )

    def ack_confirmed(self, occurrence: str) -> bool:
        """Whether its owner's own acknowledgement stands: a latched alarm waits for its reset after it."""
        confirmed = False
        for event in self.events(occurrence):
            if event.transition == "ack":
                confirmed = True
            elif event.state == "UNACK" and event.transition not in ("deescalate", "notify"):
                confirmed = False
        return confirmed

    def open_occurrences(self) -> list[Occurrence]:
        """Every occurrence that is not NORMAL, highest level first."""
        return self._occurrences("state <> 'NORMAL'")

    def occurrence(self, occurrence: str) -> Occurrence | None:
        found = self._occurrences("occurrence = ?", occurrence)
        return found[0] if found else None

    def newest(self, limit: int) -> list[Occurrence]:
        """The occurrences that were raised last, the newest first."""
        rows = self._db.rows("SELECT * FROM alarm_occurrence ORDER BY raised_s DESC, occurrence DESC LIMIT ?", limit)
        return [Occurrence(**dict(r)) for r in rows]

    def find(self, prefix: str) -> list[Occurrence]:
        """Occurrences whose id starts with `prefix` or whose short reference it is, the newest first."""
        text = prefix.strip().lower()
        if not text or not set(text) <= set("0123456789abcdef-"):
            return []
        found = self._occurrences("occurrence LIKE ? OR occurrence LIKE ?", text + "%", "%" + text)
        found = [o for o in found if o.occurrence.startswith(text) or reference(o.occurrence).lower() == text]
        return sorted(found, key=lambda o: o.raised_s, reverse=True)

    def events(self, occurrence: str) -> list[AlarmEvent]:
        """The events of an occurrence in the order in which they happened."""
        rows = self._db.rows("SELECT json FROM alarm_event WHERE occurrence = ? ORDER BY seq, position", occurrence)
        return [AlarmEvent.model_validate_json(r["json"]) for r in rows]

    def events_after(self, occurrence: str, position: int) -> list[AlarmEvent]:
        """Its events that arrived after `position` of the log."""
        rows = self._db.rows(
            "SELECT json FROM alarm_event WHERE occurrence = ? AND position > ? ORDER BY position", occurrence, position
        )
        return [AlarmEvent.model_validate_json(r["json"]) for r in rows]

    def event(self, event_id: str) -> AlarmEvent | None:
        row = self._db.row("SELECT json FROM alarm_event WHERE id = ?", event_id)
        return AlarmEvent.model_validate_json(row["json"]) if row else None

    def impossible_events(self) -> dict[str, str]:
        """Event id -> why it cannot be."""
        return {r["event"]: r["reason"] for r in self._db.rows("SELECT event, reason FROM alarm_impossible")}

    def gaps(self, gateway: str, source: Literal["gateway", "central"] = "gateway") -> list[tuple[int, int]]:
        """Runs of numbers that never arrived, between the first and the last that did."""
        rows = self._db.rows(
            "SELECT seq + 1 AS first, following - 1 AS last FROM"
            " (SELECT seq, LEAD(seq) OVER (ORDER BY seq) AS following FROM alarm_event WHERE source = ? AND gateway = ?)"
            " WHERE following > seq + 1",
            source,
            gateway,
        )
        return [(r["first"], r["last"]) for r in rows]

    def next_seq(self, gateway: str) -> int:
        """The number of central's own next event about a gateway."""
        row = self._db.row("SELECT MAX(seq) AS last FROM alarm_event WHERE source = 'central' AND gateway = ?", gateway)
        return (row["last"] or 0) + 1 if row else 1

    def _occurrences(self, where: str, *parameters: str) -> list[Occurrence]:
        sql = f"SELECT * FROM alarm_occurrence WHERE {where} ORDER BY level DESC, raised_s"  # noqa: S608 - our own text
        return [Occurrence(**dict(r)) for r in self._db.rows(sql, *parameters)]

    def _flag(self, event_id: str) -> str | None:
        row = self._db.row("SELECT reason FROM alarm_impossible WHERE event = ?", event_id)
        return row["reason"] if row else None

    def _judge(self, tx: sqlite3.Connection, event: AlarmEvent) -> None:
        """Judge the event and, since it may have come late, the one after it in its occurrence."""
        chain = self.events(event.occurrence)
        at = next(i for i, e in enumerate(chain) if e.id == event.id)
        for i in range(at, min(at + 2, len(chain))):
            before = chain[i - 1] if i else None
            tx.execute("DELETE FROM alarm_impossible WHERE event = ?", (chain[i].id,))
            reason = self._reason(tx, before, chain[i])
            if reason:
                tx.execute("INSERT INTO alarm_impossible VALUES (?, ?)", (chain[i].id, reason))

    def _reason(self, tx: sqlite3.Connection, before: AlarmEvent | None, event: AlarmEvent) -> str | None:
        twin = tx.execute(
            "SELECT 1 FROM alarm_event WHERE source = ? AND gateway = ? AND seq = ? AND id <> ?",
            (event.source, event.gateway, event.seq, event.id),
        ).fetchone()
        if twin:
            return f"seq {event.seq} was used by another event"
        reason = impossible((before.state, before.level) if before else None, event)
        if reason is None:
            return None
        start = before.seq if before else 0
        arrived = tx.execute(
            "SELECT COUNT(DISTINCT seq) FROM alarm_event WHERE source = ? AND gateway = ? AND seq > ? AND seq <= ?",
            (event.source, event.gateway, start, event.seq),
        ).fetchone()[0]
        return reason if arrived == event.seq - start else None

    def _apply(self, tx: sqlite3.Connection, event: AlarmEvent) -> None:
        time_s = from_rfc3339(event.time)
        tx.execute(
            "INSERT INTO alarm_occurrence (occurrence, source, gateway, station, rule, kind, status, state, level, raised_s,"
            " changed_s, last_event, last_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (occurrence) DO UPDATE SET raised_s = MIN(raised_s, excluded.raised_s)",
            (
                event.occurrence, event.source, event.gateway, event.station, event.rule, event.kind, event.status,
                event.state, event.level, time_s, time_s, event.id, event.seq,
            ),
        )  # fmt: skip
        tx.execute(
            "UPDATE alarm_occurrence SET state = ?, level = ?, changed_s = ?, last_event = ?, last_seq = ?, reconciled_s = NULL"
            " WHERE occurrence = ? AND last_seq <= ?",
            (event.state, event.level, time_s, event.id, event.seq, event.occurrence, event.seq),
        )
        if event.transition == "ack":
            tx.execute(
                "UPDATE alarm_occurrence SET acked_by = COALESCE(?, acked_by, gateway), acked_s = ?"
                " WHERE occurrence = ? AND last_event = ?",
                (event.by, time_s, event.occurrence, event.id),
            )
        elif event.transition in ("raise", "escalate") or (event.transition in RETURNING and event.state == "UNACK"):
            # Withdraws an acknowledgement: it was given for less, or before it was shelved.
            tx.execute(
                "UPDATE alarm_occurrence SET acked_by = NULL, acked_s = NULL WHERE occurrence = ? AND last_event = ?",
                (event.occurrence, event.id),
            )
