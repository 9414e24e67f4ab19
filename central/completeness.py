"""What of the readings of a day is here: expected, stored, missing, thinned, per station and day of Belgium; and the gaps.

`stored` is counted in the database. What is missing is known by the gateway's numbers (contract, Numbers): those between two that
came, on the day of the one before. A number says no station: a missing one counts at each station of its gateway, of which it may
be any, so a station never looks more complete than it is. `expected` is the sum of stored, missing and thinned. What a gateway
never took, because its sensor was silent or it was off, has no number and is not counted here: the station is silent then.
"""

import logging
import threading
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from sqlalchemy import case, select

from central.db import Database
from central.errors import NeedsPerson, StateUnavailable, Unavailable
from central.registry import Registry
from central.store.base import Point, Series, Store
from central.tables import journal_day, journal_range
from common.clock import BRUSSELS, Clock
from common.intervals import Intervals
from common.worker import Worker
from wire.readings import PackProperties

log = logging.getLogger(__name__)

SAVE_S = 5.0
WRITE_S = 3600.0
DAYS_AGAIN = 8
"""A backlog may complete a day later: so many days are counted again each hour."""


class Missing(NamedTuple):
    """Numbers `first` to `last` of a journal never came. They were measured on `day`, or the night after."""

    gateway: str
    journal: str
    first: int
    last: int
    day: date


class StationDay(NamedTuple):
    """Readings of a station on a day. `missing` and `thinned` are those of its gateway."""

    station: str
    gateway: str
    day: date
    stored: int
    missing: int
    thinned: int

    @property
    def expected(self) -> int:
        return self.stored + self.missing + self.thinned


class GatewayDay(NamedTuple):
    """Numbers of a gateway on a day. `repeated`: how many came more than once, which the database does not show."""

    gateway: str
    missing: tuple[Missing, ...]
    thinned: int
    repeated: int


class Completeness:
    """`note` what came (from any thread); `worker` writes it down every few seconds, `series` the figures every hour."""

    def __init__(self, db: Database, store: Store, registry: Registry, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._new: dict[tuple[str, str, str], tuple[int, int, int, int]] = {}
        self._warned = False
        self.worker = Worker("completeness", self._save_later, clock)
        self.series = Worker("completeness-series", self._write_later, clock)

    def note(self, gateway: str, pack: PackProperties, newest_ms: int | None) -> None:
        """The database has confirmed a pack. One without a value that could be stored has no day."""
        if newest_ms is None:
            return
        day = datetime.fromtimestamp(newest_ms / 1000, BRUSSELS).date().isoformat()
        first, last = pack.range.first, pack.range.last
        thinned = pack.thinned[1] - pack.thinned[0] + 1 if pack.thinned else 0
        key = (gateway, pack.range.journal, day)
        with self._lock:
            low, high, received, given_up = self._new.get(key, (first, last, 0, 0))
            self._new[key] = (min(low, first), max(high, last), received + last - first + 1, given_up + thinned)

    def save(self) -> None:
        """Write down what is new. Raises StateUnavailable, and then nothing is forgotten."""
        with self._lock:
            new = dict(self._new)
        if not new:
            return
        d, insert = journal_day.c, self._db.insert(journal_day)
        low, high = insert.excluded.first, insert.excluded.last
        grown = {
            "first": case((low < d.first, low), else_=d.first),
            "last": case((high > d.last, high), else_=d.last),
            "received": d.received + insert.excluded.received,
            "thinned": d.thinned + insert.excluded.thinned,
        }
        names = ("first", "last", "received", "thinned")
        rows = [
            dict(zip(("gateway", "journal", "day"), k, strict=True)) | dict(zip(names, v, strict=True))
            for k, v in new.items()
        ]
        with self._db.transaction() as tx:
            tx.execute(insert.on_conflict_do_update(index_elements=list(journal_day.primary_key), set_=grown), rows)
        with self._lock:
            for key, (_, _, received, thinned) in new.items():
                low_, high_, all_, given_up = self._new.pop(key)
                if all_ > received:  # more came meanwhile
                    self._new[key] = (low_, high_, all_ - received, given_up - thinned)

    def gateway(self, gateway: str, day: date) -> GatewayDay:
        """The numbers of a gateway on a day."""
        known: dict[str, Intervals] = {}
        for r in self._db.rows(select(journal_range).where(journal_range.c.gateway == gateway)):
            known.setdefault(r.journal, Intervals()).add(r.first, r.last)
        d = journal_day.c
        rows = self._db.rows(select(journal_day).where(d.gateway == gateway).order_by(d.journal, d.first))
        missing: list[Missing] = []
        thinned = repeated = at = 0
        for i, row in enumerate(rows):
            later = rows[i + 1] if i + 1 < len(rows) and rows[i + 1].journal == row.journal else None
            begins, ends = at + 1, max(at, row.last, later.first - 1 if later else 0)
            at = ends if later else 0
            if row.day != day.isoformat():
                continue
            here = Intervals(_within(known.get(row.journal, Intervals()), begins, ends))
            missing += [Missing(gateway, row.journal, a, b, day) for a, b in _between(here, begins, ends)]
            thinned += row.thinned
            came = Intervals(_within(known.get(row.journal, Intervals()), row.first, row.last))
            repeated += max(0, row.received + row.thinned - len(came))
        return GatewayDay(gateway, tuple(missing), thinned, repeated)

    def station(self, station: str, day: date, of: GatewayDay) -> StationDay:
        """A station on a day. Raises Unavailable or NeedsPerson when the database does not answer."""
        begins, ends = (round(_midnight(d).timestamp() * 1000) for d in (day, day + timedelta(days=1)))
        info = self._registry.info(station)
        quantities = {q.quantity for sensor in info.sensors for q in sensor.quantities} if info else set()
        stored = sum(self._store.count(q, begins, ends, {"station": station}) for q in quantities)
        return StationDay(station, of.gateway, day, stored, sum(m.last - m.first + 1 for m in of.missing), of.thinned)

    def day(self, day: date) -> Iterator[tuple[GatewayDay, list[StationDay]]]:
        """Every gateway with its registered stations."""
        gateways: dict[str, list[str]] = {}
        for station in self._registry.stations.values():
            gateways.setdefault(station.gateway, []).append(station.id)
        for gateway, stations in sorted(gateways.items()):
            of = self.gateway(gateway, day)
            yield of, [self.station(station, day, of) for station in sorted(stations)]

    def write(self, day: date) -> None:
        """The `completeness` points of a day, at its midnight: the same again overwrites. Raises Unavailable, NeedsPerson."""
        at_ms = round(_midnight(day).timestamp() * 1000)
        points = [
            Point(
                Series("completeness", {"station": s.station}),
                {"expected": s.expected, "stored": s.stored, "missing": s.missing, "thinned": s.thinned},
                at_ms,
            )
            for _, stations in self.day(day)
            for s in stations
            if s.expected
        ]
        if points:
            self._store.write(points)

    def _save_later(self) -> float:
        self.save()
        return self._clock.boot() + SAVE_S * self._clock.scale  # real seconds, as for the ranges

    def _write_later(self) -> float:
        today = datetime.fromtimestamp(self._clock.wall(), BRUSSELS).date()
        try:
            for back in range(DAYS_AGAIN):
                if self.series.stopping:
                    break
                self.write(today - timedelta(days=back))
            self._warned = False
        except (Unavailable, NeedsPerson, StateUnavailable) as e:
            if not self._warned:
                log.warning("completeness waits: %s", e)
            self._warned = True
        return self._clock.boot() + WRITE_S


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), BRUSSELS)


def _within(known: Intervals, first: int, last: int) -> Iterator[tuple[int, int]]:
    for a, b in known:
        if b >= first and a <= last:
            yield max(a, first), min(b, last)


def _between(known: Intervals, first: int, last: int) -> Iterator[tuple[int, int]]:
    """What of `first` to `last` is not known."""
    at = first
    for a, b in known:
        if a > at:
            yield at, a - 1
        at = b + 1
    if at <= last:
        yield at, last
