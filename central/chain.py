"""How the chain from the gateways to the database is: rows that central writes every minute, of what is silent too.

`gateway_status` is written by central and not by the gateway, because one that is away tells nothing. `central_status` is of central,
its broker and its database; where the broker lets central read none of `$SYS` (mosquitto(8)), those fields are left out.
"""

import threading
from collections.abc import Iterable
from typing import Literal

from sqlalchemy import ColumnElement, ScalarSelect, Table, func, select

from central.db import Database
from central.errors import StateUnavailable
from central.holding import Holding
from central.mqtt import Received
from central.store.base import Point, Series, Value
from central.tables import alarm_occurrence, message
from common.clock import Clock
from wire import topics
from wire.alarm import EXERCISE
from wire.errors import WireError

_BROKER = {
    "$SYS/broker/clients/connected": "broker_clients",
    "$SYS/broker/publish/messages/dropped": "broker_dropped",
    "$SYS/broker/store/messages/count": "broker_stored",
    "$SYS/broker/heap/current": "broker_heap_bytes",
    "$SYS/broker/uptime": "broker_uptime_s",
}
BROKER_TOPICS = tuple(_BROKER)
DAY_S = 86400.0


class Chain:
    """Notes what passes (from any thread) and tells it by the minute. `gateways`: those with a registered station."""

    def __init__(self, gateways: Iterable[str], holding: Holding, db: Database, clock: Clock) -> None:
        self._gateways = sorted(gateways)
        self._holding = holding
        self._db = db
        self._clock = clock
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        """Gateway -> boot seconds of its last live message."""
        self._delays: dict[str, float] = {}
        """Gateway -> the longest delay in this minute, seconds."""
        self._broker: dict[str, tuple[float, float]] = {}
        """Field -> boot seconds, value."""

    def heard(self, message: Received) -> None:
        """A message came, of a gateway or of the broker itself. Never raises for what was sent."""
        field = _BROKER.get(message.topic)
        with self._lock:
            if field is not None:
                try:  # "12345 seconds" is an uptime
                    self._broker[field] = self._clock.boot(), float(message.payload.split()[0])
                except (ValueError, LookupError):
                    self._broker.pop(field, None)
                return
            try:
                gateway, leaf = topics.parse(message.topic)
            except WireError:
                return
            # A retained message is old, and a status may be the Will: the broker's voice.
            if not message.retained and leaf != topics.STATUS:
                self._heard[gateway] = self._clock.boot()

    def stored(self, gateway: str, lane: Literal["live", "backlog"], newest_ms: int | None) -> None:
        """The database has confirmed a pack whose last reading was measured at `newest_ms` (Unix ms)."""
        if lane != "live" or newest_ms is None:
            return
        delay_s = max(0.0, self._clock.wall() - newest_ms / 1000)
        with self._lock:
            self._delays[gateway] = max(delay_s, self._delays.get(gateway, 0.0))

    def points(self) -> list[Point]:
        """The rows of this minute; the delays begin anew. `heard_s` is left out for a gateway not heard since central started,
        `delay_s` where nothing live was stored."""
        now_ms, boot = round(self._clock.wall() * 1000), self._clock.boot()
        with self._lock:
            heard, delays, broker = dict(self._heard), self._delays, dict(self._broker)
            self._delays = {}
        try:
            said = self._holding.gateways()
            outbox = self._outbox()
        except StateUnavailable:
            return []
        points = []
        for gateway in self._gateways:
            status = said.get(gateway, (None, None, None))[1]
            fields: dict[str, Value] = {"online": int(status is not None and status.online)}
            if gateway in heard:
                fields["heard_s"] = boot - heard[gateway]
            if gateway in delays:
                fields["delay_s"] = delays[gateway]
            points.append(Point(Series("gateway_status", {"gateway": gateway}), fields, now_ms))
        # $SYS topics that do not change are not repeated by every broker: what was said within the hour holds.
        known = {field: value for field, (at_s, value) in broker.items() if boot - at_s <= 3600}
        return [*points, Point(Series("central_status", {}), {**outbox, **known}, now_ms)]

    def _outbox(self) -> dict[str, int]:
        o, m = alarm_occurrence.c, message.c
        unanswered = (o.state.in_(("UNACK", "RTN_UNACK")), o.acked_by.is_(None), o.rule != EXERCISE)
        lost = (m.state.in_(("failed", "unknown")), m.changed_s > self._clock.wall() - DAY_S)
        row = self._db.row(
            select(
                _count(alarm_occurrence, o.state != "NORMAL", o.rule != EXERCISE).label("alarms_open"),
                _count(alarm_occurrence, *unanswered).label("alarms_unanswered"),
                _count(message, m.state.in_(("waiting", "trying"))).label("messages_waiting"),
                _count(message, *lost).label("messages_failed"),
            )
        )
        assert row is not None  # noqa: S101 - an aggregate has one
        return {name: int(n) for name, n in row._asdict().items()}


def _count(table: Table, *where: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(table).where(*where).scalar_subquery()
