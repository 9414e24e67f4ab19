"""The alarm log: every event of every gateway, kept as it came, and what the occurrences come to.

An event is known by its id: a redelivered one changes nothing. The order is the source's own `seq`, not that of arrival.
Each transition is checked again (ANSI/ISA-18.2 states); one that cannot be is kept and flagged, never dropped. A
transition across numbers that have not arrived is not judged until they have.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, or_, select, update

from central.db import Database
from central.tables import alarm_event, alarm_impossible, alarm_occurrence
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

# Transition -> state before -> states after. A latched alarm stays RTN_UNACK until it is reset; central's own, of which Grafana has
# lost sight, is reset from ACK. What leaves shelf, suppression or maintenance is evaluated afresh, so it may come back in any state.
_ALLOWED: dict[Transition, dict[State, frozenset[State]]] = {
    "raise": {"RTN_UNACK": frozenset({"UNACK"})},
    "escalate": {s: frozenset({"UNACK"}) for s in ("UNACK", "ACK", "RTN_UNACK")},
    "deescalate": {"UNACK": frozenset({"UNACK"}), "ACK": frozenset({"ACK"})},
    "clear": {"UNACK": frozenset({"RTN_UNACK"}), "ACK": frozenset({"NORMAL", "RTN_UNACK"})},
    "ack": {"UNACK": frozenset({"ACK"}), "RTN_UNACK": frozenset({"NORMAL", "RTN_UNACK"})},
    "reset": {s: frozenset({"NORMAL"}) for s in ("ACK", "RTN_UNACK")},
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
            if self._event(event.id) is not None:
                return Recorded(new=False, impossible=self._flag(event.id), needs_notification=False)
            tx.execute(
                alarm_event.insert(),
                {
                    "id": event.id,
                    "source": event.source,
                    "gateway": event.gateway,
                    "seq": event.seq,
                    "occurrence": event.occurrence,
                    "time_s": from_rfc3339(event.time),
                    "received_s": received_wall_s,
                    "json": event.model_dump_json(),
                },
            )
            self._judge(tx, event)
            self._apply(tx, event)
            state = tx.execute(
                select(alarm_occurrence.c.state).where(alarm_occurrence.c.occurrence == event.occurrence)
            ).scalar_one()
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
            o = alarm_occurrence.c
            known = self._db.rows(
                select(o.occurrence, o.state, o.reconciled_s).where(
                    o.gateway == gateway,
                    o.source == "gateway",
                    or_(o.state != "NORMAL", o.reconciled_s.is_not(None)),
                )
            )
            closed = tuple(r.occurrence for r in known if r.state != "NORMAL" and r.occurrence not in listed)
            reopened = tuple(r.occurrence for r in known if r.reconciled_s and r.occurrence in listed)
            for occurrence in closed:
                tx.execute(
                    update(alarm_occurrence)
                    .where(o.occurrence == occurrence)
                    .values(state="NORMAL", changed_s=received_wall_s, reconciled_s=received_wall_s)
                )
            for occurrence in reopened:
                event = listed[occurrence]
                tx.execute(
                    update(alarm_occurrence)
                    .where(o.occurrence == occurrence)
                    .values(state=event.state, level=event.level, changed_s=received_wall_s, reconciled_s=None)
                )
        if closed:
            log.warning("%s no longer lists %s: closed as reconciled", gateway, ", ".join(closed))
        return Reconciled(closed, reopened, recorded)

    def acknowledge(self, occurrence: str, by: str, at_s: float) -> None:
        """Note that a person acknowledged here; the gateway's own event confirms it later."""
        with self._db.transaction() as tx:
            tx.execute(
                update(alarm_occurrence)
                .where(alarm_occurrence.c.occurrence == occurrence)
                .values(acked_by=by, acked_s=at_s)
            )

    def unconfirmed_acks(self) -> list[Occurrence]:
        """Acknowledged here, but not yet by the gateway that owns it: it is asked until it confirms."""
        o = alarm_occurrence.c
        here = self._occurrences(o.source == "gateway", o.acked_by.is_not(None), o.state.in_(("UNACK", "RTN_UNACK")))
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
        return self._occurrences(alarm_occurrence.c.state != "NORMAL")

    def occurrence(self, occurrence: str) -> Occurrence | None:
        found = self._occurrences(alarm_occurrence.c.occurrence == occurrence)
        return found[0] if found else None

    def newest(self, limit: int) -> list[Occurrence]:
        """The occurrences that were raised last, the newest first."""
        o = alarm_occurrence.c
        newest = select(alarm_occurrence).order_by(o.raised_s.desc(), o.occurrence.desc()).limit(limit)
        return [Occurrence(**r._asdict()) for r in self._db.rows(newest)]

    def of_station(self, station: str, since_s: float) -> list[Occurrence]:
        """The occurrences of a station, of any source, that were open at that moment (Unix) or later."""
        o = alarm_occurrence.c
        return self._occurrences(o.station == station, or_(o.changed_s >= since_s, o.state != "NORMAL"))

    def of_gateway(self, gateway: str, since_s: float) -> list[Occurrence]:
        """The occurrences of a gateway, of any source, that were open at that moment (Unix) or later."""
        o = alarm_occurrence.c
        return self._occurrences(o.gateway == gateway, or_(o.changed_s >= since_s, o.state != "NORMAL"))

    def of_rule(
        self, source: Literal["gateway", "central"], gateway: str, rule: str, station: str | None
    ) -> list[Occurrence]:
        """The occurrences that a rule has raised at a station, or of the gateway as a whole, the newest first."""
        o = alarm_occurrence.c
        found = self._occurrences(o.source == source, o.gateway == gateway, o.rule == rule, o.station == station)
        return sorted(found, key=lambda occurrence: occurrence.last_seq, reverse=True)

    def find(self, prefix: str) -> list[Occurrence]:
        """Occurrences whose id starts with `prefix` or whose short reference it is, the newest first."""
        text = prefix.strip().lower()
        if not text or not set(text) <= set("0123456789abcdef-"):
            return []
        name = alarm_occurrence.c.occurrence
        found = self._occurrences(or_(name.startswith(text), name.endswith(text)))
        found = [o for o in found if o.occurrence.startswith(text) or reference(o.occurrence).lower() == text]
        return sorted(found, key=lambda o: o.raised_s, reverse=True)

    def events(self, occurrence: str) -> list[AlarmEvent]:
        """The events of an occurrence in the order in which they happened."""
        e = alarm_event.c
        rows = self._db.rows(select(e.json).where(e.occurrence == occurrence).order_by(e.seq, e.position))
        return [AlarmEvent.model_validate_json(r.json) for r in rows]

    def events_after(self, occurrence: str, position: int) -> list[AlarmEvent]:
        """Its events that arrived after `position` of the log."""
        e = alarm_event.c
        after = select(e.json).where(e.occurrence == occurrence, e.position > position).order_by(e.position)
        return [AlarmEvent.model_validate_json(r.json) for r in self._db.rows(after)]

    def event(self, event_id: str) -> AlarmEvent | None:
        row = self._event(event_id)
        return AlarmEvent.model_validate_json(row.json) if row else None

    def impossible_events(self) -> dict[str, str]:
        """Event id -> why it cannot be."""
        return {r.event: r.reason for r in self._db.rows(select(alarm_impossible))}

    def gaps(self, gateway: str, source: Literal["gateway", "central"] = "gateway") -> list[tuple[int, int]]:
        """Runs of numbers that never arrived, between the first and the last that did."""
        e = alarm_event.c
        pairs = (
            select(e.seq, func.lead(e.seq).over(order_by=e.seq).label("following"))
            .where(e.source == source, e.gateway == gateway)
            .subquery("pairs")
        )
        rows = self._db.rows(select(pairs).where(pairs.c.following > pairs.c.seq + 1).order_by(pairs.c.seq))
        return [(r.seq + 1, r.following - 1) for r in rows]

    def next_seq(self, gateway: str) -> int:
        """The number of central's own next event about a gateway."""
        e = alarm_event.c
        row = self._db.row(select(func.max(e.seq).label("last")).where(e.source == "central", e.gateway == gateway))
        return (row.last or 0) + 1 if row else 1

    def _event(self, event_id: str) -> Row[Any] | None:
        return self._db.row(select(alarm_event.c.json).where(alarm_event.c.id == event_id))

    def _occurrences(self, *where: ColumnElement[bool]) -> list[Occurrence]:
        o = alarm_occurrence.c
        rows = self._db.rows(select(alarm_occurrence).where(*where).order_by(o.level.desc(), o.raised_s))
        return [Occurrence(**r._asdict()) for r in rows]

    def _flag(self, event_id: str) -> str | None:
        row = self._db.row(select(alarm_impossible.c.reason).where(alarm_impossible.c.event == event_id))
        return row.reason if row else None

    def _judge(self, tx: Connection, event: AlarmEvent) -> None:
        """Judge the event and, since it may have come late, the one after it in its occurrence."""
        chain = self.events(event.occurrence)
        at = next(i for i, e in enumerate(chain) if e.id == event.id)
        for i in range(at, min(at + 2, len(chain))):
            before = chain[i - 1] if i else None
            tx.execute(delete(alarm_impossible).where(alarm_impossible.c.event == chain[i].id))
            reason = self._reason(tx, before, chain[i])
            if reason:
                tx.execute(alarm_impossible.insert(), {"event": chain[i].id, "reason": reason})

    def _reason(self, tx: Connection, before: AlarmEvent | None, event: AlarmEvent) -> str | None:
        e = alarm_event.c
        own = (e.source == event.source, e.gateway == event.gateway)
        if tx.execute(select(e.id).where(*own, e.seq == event.seq, e.id != event.id)).first():
            return f"seq {event.seq} was used by another event"
        reason = impossible((before.state, before.level) if before else None, event)
        if reason is None:
            return None
        start = before.seq if before else 0
        arrived = tx.execute(
            select(func.count(e.seq.distinct())).where(*own, e.seq > start, e.seq <= event.seq)
        ).scalar_one()
        return reason if arrived == event.seq - start else None

    def _apply(self, tx: Connection, event: AlarmEvent) -> None:
        time_s = from_rfc3339(event.time)
        o = alarm_occurrence.c
        first = self._db.insert(alarm_occurrence)
        tx.execute(
            first.on_conflict_do_update(
                index_elements=["occurrence"],
                set_={
                    "raised_s": case((first.excluded.raised_s < o.raised_s, first.excluded.raised_s), else_=o.raised_s)
                },
            ),
            {
                "occurrence": event.occurrence,
                "source": event.source,
                "gateway": event.gateway,
                "station": event.station,
                "rule": event.rule,
                "kind": event.kind,
                "status": event.status,
                "state": event.state,
                "level": event.level,
                "raised_s": time_s,
                "changed_s": time_s,
                "last_event": event.id,
                "last_seq": event.seq,
            },
        )
        tx.execute(
            update(alarm_occurrence)
            .where(o.occurrence == event.occurrence, o.last_seq <= event.seq)
            .values(
                state=event.state,
                level=event.level,
                changed_s=time_s,
                last_event=event.id,
                last_seq=event.seq,
                reconciled_s=None,
            )
        )
        newest = update(alarm_occurrence).where(o.occurrence == event.occurrence, o.last_event == event.id)
        if event.transition == "ack":
            tx.execute(newest.values(acked_by=func.coalesce(event.by, o.acked_by, o.gateway), acked_s=time_s))
        elif event.transition in ("raise", "escalate") or (event.transition in RETURNING and event.state == "UNACK"):
            # Withdraws an acknowledgement: it was given for less, or before it was shelved.
            tx.execute(newest.values(acked_by=None, acked_s=None))
