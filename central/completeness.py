"""Completeness: of what a station should have measured on a day, how much is stored.

Numbers belong to a gateway's journal, not to a station: of a number that never came nobody can say whose it was. So there are
two views. A station's *expectation* comes from the periods that its gateway describes; a gateway's *gaps* come from the numbers.
A day is a day in Belgium (23, 24 or 25 hours).
"""

import logging
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import NamedTuple

from central.errors import NeedsPerson, StateUnavailable, Unavailable
from central.ranges import Gap, Ranges
from central.registry import Registry
from central.store.base import Point, Series, Store
from common.clock import BRUSSELS, Clock
from common.worker import Worker

log = logging.getLogger(__name__)

PERIOD_S = 3600.0
LATE_DAYS = 8
"""So many days back are counted again each day: a backlog comes late."""


class StationDay(NamedTuple):
    """A station on one day.

    `expected`: readings that the periods of its description, as it is now, give in the day (for today: until now); a quantity
    without a period is expected as it was stored. `stored`: rows in the database, of the described sensors and quantities.
    `missing`: expected and not stored, counted per sensor and quantity, so that a surplus of one hides no lack of another: polls that
    failed, readings that are still on the way, and those that are lost. `thinned`: at most so many of the missing were
    given up by thinning; exact where the gateway has one station.
    """

    station: str
    gateway: str
    day: date
    expected: int
    stored: int
    missing: int
    thinned: int


class GatewayDay(NamedTuple):
    """A gateway on one day, in numbers of its journal: `thinned` were given up, `duplicate` came again (a repeat of the same
    day of arrival). By the hours of the packs that brought them."""

    gateway: str
    day: date
    thinned: int
    duplicate: int


class DatedGap(NamedTuple):
    """Numbers of a gateway that have not come. They were measured between two moments (Unix s), known to the hour; None: nothing is
    known on that side. What the gateway said that it has no longer is no gap any more."""

    gateway: str
    gap: Gap
    after_s: float | None
    before_s: float | None


def bounds(day: date) -> tuple[float, float]:
    """Beginning and end of a day in Belgium, Unix s."""
    start, end = (datetime.combine(d, time_of_day(), BRUSSELS).timestamp() for d in (day, day + timedelta(days=1)))
    return start, end


def days(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`."""
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def today(clock: Clock) -> date:
    """The day in Belgium."""
    return datetime.fromtimestamp(clock.wall(), BRUSSELS).date()


def gateway_day(ranges: Ranges, gateway: str, day: date) -> GatewayDay:
    """Raises StateUnavailable."""
    hours = ranges.hours(gateway, *bounds(day))
    return GatewayDay(gateway, day, sum(h.thinned for h in hours), sum(h.duplicate for h in hours))


def station_day(store: Store, registry: Registry, station: str, day: date, thinned: int, now_s: float) -> StationDay:
    """`thinned`: numbers that its gateway gave up on the day. Raises Unavailable or NeedsPerson."""
    start_s, end_s = bounds(day)
    length_s = max(0.0, min(end_s, now_s) - start_s)
    expected = stored = missing = 0
    for sensor in registry.sensors(station):
        tags = {"station": station, "sensor": sensor.id}
        for q in sensor.quantities:
            here = store.count(q.quantity, round(start_s * 1000), round(end_s * 1000), tags)
            due = int(length_s / q.period_s) if q.period_s else here
            expected, stored, missing = expected + due, stored + here, missing + max(0, due - here)
    gateway = registry.stations[station].gateway
    return StationDay(station, gateway, day, expected, stored, missing, min(thinned, missing))


def of_stations(
    store: Store, registry: Registry, ranges: Ranges, stations: Iterable[str], of: Iterable[date], now_s: float
) -> list[StationDay]:
    """Every station on every day. Raises Unavailable, NeedsPerson or StateUnavailable."""
    chosen, found = list(stations), []
    for day in of:
        thinned: dict[str, int] = {}
        for station in chosen:
            gateway = registry.stations[station].gateway
            if gateway not in thinned:
                thinned[gateway] = gateway_day(ranges, gateway, day).thinned
            found.append(station_day(store, registry, station, day, thinned[gateway], now_s))
    return found


def gaps(ranges: Ranges, gateway: str, start_s: float, end_s: float) -> list[DatedGap]:
    """The gaps of a gateway that may lie within a time (Unix s). Raises StateUnavailable."""
    dated = [DatedGap(gateway, gap, *ranges.when(gateway, gap)) for gap in ranges.gaps(gateway)]
    return [d for d in dated if (d.after_s or 0.0) < end_s and (d.before_s is None or d.before_s > start_s)]


def point(day: StationDay) -> Point:
    """As it is stored, at the beginning of its day: counted again it overwrites itself."""
    fields = {"expected": day.expected, "stored": day.stored, "missing": day.missing, "thinned": day.thinned}
    return Point(Series("completeness", {"station": day.station}), fields, round(bounds(day.day)[0] * 1000))


class CompletenessWriter:
    """Writes today and yesterday every hour, and once a day the last `LATE_DAYS`, in its `worker`."""

    def __init__(self, store: Store, registry: Registry, ranges: Ranges, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._ranges = ranges
        self._clock = clock
        self._counted: date | None = None
        self._failing = False
        self.worker = Worker("completeness", self.write, clock)

    def write(self) -> float:
        """Count and store; gives the boot second of the next time. A station that was never described has no row."""
        now = today(self._clock)
        back = 1 if self._counted == now else LATE_DAYS
        described = [s for s in self._registry.stations if self._registry.info(s) is not None]
        try:
            for day in days(now - timedelta(days=back), now):
                found = of_stations(self._store, self._registry, self._ranges, described, [day], self._clock.wall())
                # Before its first reading a station may not have been there.
                self._store.write([point(d) for d in found if d.stored or day >= now - timedelta(days=1)])
            self._counted, self._failing = now, False
        except (Unavailable, NeedsPerson, StateUnavailable) as e:
            if not self._failing:
                log.warning("completeness is not written: %s", e)
            self._failing = True
        return self._clock.boot() + PERIOD_S
