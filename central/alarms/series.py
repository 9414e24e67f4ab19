"""The `alarm` series: every event of the alarm log as one point, for boards and annotations.

The log is the truth and the queue: events are copied in order of arrival, a cursor says how far, and it moves only after the
database confirmed. A database that is away delays the copy and nothing else.
"""

import logging
from collections.abc import Callable

from sqlalchemy import select, update

from central.alarms.log import AlarmLog
from central.db import Database
from central.errors import NeedsPerson, Unavailable
from central.store.base import Point, Series, Store, Value
from central.tables import alarm_event, series_cursor
from common import texts
from common.clock import Clock, from_rfc3339
from common.texts import Place
from common.worker import Worker
from wire.alarm import EXERCISE, AlarmEvent

log = logging.getLogger(__name__)

BATCH = 500
RETRY_S = 5.0


def point(event: AlarmEvent, place: Place | None, shift_ms: int, commune: str | None = None) -> Point:
    """An event as a point. `shift_ms` keeps events of one rule in one millisecond apart."""
    tags = {"station": event.station or "", "rule": event.rule, "kind": event.kind}
    fields: dict[str, Value] = {
        "event": event.id,
        "occurrence": event.occurrence,
        "transition": event.transition,
        "state": event.state,
        "text": texts.log_line(event, place),
        "level": event.level,
    }
    if event.value is not None:
        fields["value"] = float(event.value)
    if event.quantity is not None:
        fields["quantity"] = event.quantity
    if commune is not None:
        fields["commune"] = commune
    series = Series("alarm", {key: value for key, value in tags.items() if value})
    return Point(series, fields, round(from_rfc3339(event.time) * 1000) + shift_ms)


class AlarmSeries:
    """Copies the log, in its `worker`, which is woken when the log has something new. `commune`: the NIS code of what an event
    is about. `exercised`: whether a gateway's exercise alarm is in the series now."""

    def __init__(
        self,
        store: Store,
        db: Database,
        alarms: AlarmLog,
        clock: Clock,
        place: Callable[[AlarmEvent], Place | None],
        commune: Callable[[AlarmEvent], str | None] = lambda _: None,
        exercised: Callable[[AlarmEvent, bool], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._db = db
        self._alarms = alarms
        self._clock = clock
        self._place = place
        self._commune = commune
        self._exercised = exercised
        self._waiting = False
        self.worker = Worker("alarm-series", self._copy_all, clock)

    def copy(self) -> int:
        """Copy the next events; gives how many. Raises Unavailable or NeedsPerson, and then nothing is forgotten."""
        e = alarm_event.c
        rows = self._db.rows(
            select(e.position, e.json, e.time_s)
            .where(e.position > select(series_cursor.c.position).scalar_subquery())
            .order_by(e.position)
            .limit(BATCH)
        )
        if not rows:
            return 0
        points, events = [], [AlarmEvent.model_validate_json(row.json) for row in rows]
        for row, event in zip(rows, events, strict=True):
            twins = self._twins(row.time_s, row.position, event.rule)
            points.append(point(event, self._place(event), twins, self._commune(event)))
        result = self._store.write(points)
        for rejected in result.rejected:
            log.error("event %s is not in the alarm series: %s", rejected.point.fields["event"], rejected.reason)
        with self._db.transaction() as tx:
            tx.execute(update(series_cursor).values(position=rows[-1].position))
        refused = {rejected.point.fields["event"] for rejected in result.rejected}
        for event in events:
            if event.rule == EXERCISE and event.transition == "raise":
                self._exercised(event, event.id not in refused)
        return len(rows)

    def _twins(self, time_s: float, position: int, rule: str) -> int:
        """How many events of this rule and time came before."""
        e = alarm_event.c
        before = self._db.rows(select(e.json).where(e.time_s == time_s, e.position < position))
        return sum(AlarmEvent.model_validate_json(row.json).rule == rule for row in before)

    def _copy_all(self) -> float | None:
        try:
            while self.copy() and not self.worker.stopping:
                pass
        except (Unavailable, NeedsPerson) as e:
            if not self._waiting:
                log.warning("alarm series waits: %s", e)
            self._waiting = True
            return self._clock.boot() + RETRY_S
        if self._waiting:
            log.info("alarm series is written again")
        self._waiting = False
        return None
