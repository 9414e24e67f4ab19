"""The `message` series: what became of each message, in the words that were sent, as one point, for the boards.

As the `alarm` series: the outbox is the truth, a cursor says how far it was copied, a database that is away delays the copy only.
Of the recipients it holds the names, never a number or an address.
"""

import logging
from typing import Any

from sqlalchemy import Row, func, select, update

from central.alarms.log import AlarmLog
from central.config import CentralConfig
from central.db import Database
from central.errors import NeedsPerson, StateUnavailable, Unavailable
from central.notify.shared import recipients_of
from central.store.base import Point, Series, Store, Value
from central.tables import message, message_cursor, message_outcome
from common.clock import Clock
from common.worker import Worker

log = logging.getLogger(__name__)

BATCH = 500
RETRY_S = 5.0
LOOK_S = 60.0
"""What is dropped wakes nobody."""


class MessageSeries:
    """Copies the outcomes, in its `worker`, which is woken when there is a new one."""

    def __init__(self, config: CentralConfig, store: Store, db: Database, alarms: AlarmLog, clock: Clock) -> None:
        self._store = store
        self._db = db
        self._alarms = alarms
        self._clock = clock
        self._people = recipients_of(config, db, clock)
        self._communes = {s.id: s.commune for s in config.station}
        self._waiting = False
        self.worker = Worker("message-series", self._copy_all, clock)

    def copy(self) -> int:
        """Copy the next outcomes; gives how many. Raises Unavailable or NeedsPerson, and then nothing is forgotten."""
        o, m, twin = message_outcome.c, message.c, message_outcome.alias().c
        twins = select(func.count()).where(twin.at_s == o.at_s, twin.position < o.position).scalar_subquery()
        sent = (m.purpose, m.event, m.occurrence, m.recipient, m.channel, m.level)
        rows = self._db.rows(
            select(message_outcome, *sent, twins.label("twins"))
            .join(message, m.id == o.message)
            .where(o.position > select(message_cursor.c.position).scalar_subquery())
            .order_by(o.position)
            .limit(BATCH)
        )
        if not rows:
            return 0
        result = self._store.write([self._point(row) for row in rows])
        for rejected in result.rejected:
            log.error("a message is not in the message series: %s", rejected.reason)
        with self._db.transaction() as tx:
            tx.execute(update(message_cursor).values(position=rows[-1].position))
        return len(rows)

    def _point(self, row: Row[Any]) -> Point:
        event = self._alarms.event(row.event)
        names = {r.id: r.name for r in self._people.all()}
        station = event.station if event else None
        tags = {
            "channel": row.channel,
            "purpose": row.purpose,
            "station": station,
            "commune": self._communes.get(station) if station else None,
        }
        fields: dict[str, Value] = {
            "recipient": names.get(row.recipient, row.recipient),
            "result": row.state,
            "level": row.level,
            "accepted": int(row.state == "accepted"),
            "failed": int(row.state in ("failed", "unknown")),
        }
        known = {name: getattr(row, name) for name in ("occurrence", "reason", "via", "text")}
        fields |= {name: text for name, text in known.items() if text}
        series = Series("message", {name: value for name, value in tags.items() if value})
        return Point(series, fields, round(row.at_s * 1000) + row.twins)

    def _copy_all(self) -> float:
        try:
            while self.copy() and not self.worker.stopping:
                pass
        except (Unavailable, NeedsPerson, StateUnavailable) as e:
            if not self._waiting:
                log.warning("message series waits: %s", e)
            self._waiting = True
            return self._clock.boot() + RETRY_S
        self._waiting = False
        return self._clock.boot() + LOOK_S
