"""The readings that the page shows, read in a thread of its own while someone looks at it: the page never waits for the database.

The last hour is read each time. Of the day before it, each hour once when it is over, then again by turns, since a backlog may
still fill it; it is kept as the lowest and the highest of each five minutes.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from central.errors import NeedsPerson, Unavailable
from central.registry import Registry
from central.status import RECENT_S, Key, Readings, recent, usable
from central.store.base import Store
from common.clock import Clock
from wire.station import SensorInfo

log = logging.getLogger(__name__)

REFRESH_S = 1.0
"""Real seconds between two looks into the database, more where it is slow: it works for the page a fifth of the time."""
REFRESH_MAX_S = 10.0
PATIENCE_S = 3.0
"""Real seconds for which a page waits, once, for a first or newer look."""
OUTDATED_S = 30.0
"""Real seconds after which a look that has not come to its end counts as none."""
DAY_S = 86400.0
HOUR_MS = 3_600_000
BUCKET_MS = 300_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last read. `day`: 24 hours, thinned. `read_s`: when (Unix), None for never; `failed`: no answer now."""

    readings: Readings
    day: Readings
    read_s: float | None
    failed: bool


class History:
    """What a database holds, kept for the page. The day is kept of each station's main quantity only."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._hours: dict[int, Readings] = {}  # Unix hour -> thinned; in the order in which they were read
        self._seen = Seen({}, {}, None, failed=False)
        self._looked_boot: float | None = None  # when a look last ended, well or not
        self._hangs = False
        self._changed = threading.Condition()
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="page-readings", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()
        if self._thread:
            self._thread.join(5)

    def series(self, station: str, quantity: str, hours: float) -> list[tuple[int, float]]:
        """Times (ms) and values of the last hours, straight from the database. Raises Unavailable and NeedsPerson."""
        now_ms = round(self._clock.wall() * 1000)
        found = self._store.series(
            quantity, {"station": station}, "value", now_ms - round(hours * 3_600_000), now_ms + 1
        )
        return [(at, float(value)) for at, value in found if isinstance(value, int | float)]

    def look(self) -> Seen:
        """What was last read, and a wish for newer. Waits where that is outdated, but not for long, and once for a database
        that hangs."""
        self._wanted.set()
        with self._changed:
            if not self._hangs:
                self._hangs = not self._changed.wait_for(self._current, PATIENCE_S)
            return self._seen if self._current() else replace(self._seen, failed=True)

    def _current(self) -> bool:
        at = self._looked_boot
        return at is not None and self._clock.real(self._clock.boot() - at) <= OUTDATED_S

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stop.is_set():
                return
            began = self._clock.boot()
            seen = self._refresh(self._seen)
            with self._changed:
                self._seen, self._looked_boot, self._hangs = seen, self._clock.boot(), False
                self._changed.notify_all()
            took_s = self._clock.real(self._clock.boot() - began)
            pause_s = min(max(REFRESH_S, 4 * took_s), REFRESH_MAX_S)
            if self._clock.wait(self._stop, pause_s * self._clock.scale):
                return

    def _refresh(self, before: Seen) -> Seen:
        now_s = self._clock.wall()
        try:
            readings = recent(self._store, self._registry, now_s)
            self._read_hours(now_s)
        except (Unavailable, NeedsPerson) as e:
            if not before.failed:
                log.warning("the page has no readings: %s", e)
            return replace(before, failed=True)
        except Exception:
            if not before.failed:
                log.exception("the page cannot read")
            return replace(before, failed=True)
        if before.failed:
            log.info("the page has readings again")
        return Seen(readings, self._day(readings, now_s), now_s, failed=False)

    def _read_hours(self, now_s: float) -> None:
        this_hour = int(now_s * 1000) // HOUR_MS
        wanted = range(int((now_s - DAY_S) * 1000) // HOUR_MS, this_hour)
        self._hours = {h: kept for h, kept in self._hours.items() if h in wanted}
        missing = [h for h in reversed(wanted) if h not in self._hours]
        for hour in missing or list(self._hours)[:1]:
            found: dict[Key, list[tuple[int, float]]] = {}
            for quantity in self._charted():
                found |= usable(self._store, quantity, hour * HOUR_MS, (hour + 1) * HOUR_MS)
            self._hours.pop(hour, None)
            self._hours[hour] = {key: thin(points) for key, points in found.items()}

    def _charted(self) -> set[str]:
        main = (main_quantity(self._registry.sensors(station)) for station in self._registry.stations)
        return {quantity for quantity in main if quantity}

    def _day(self, readings: Readings, now_s: float) -> Mapping[Key, list[tuple[int, float]]]:
        joint_ms = (now_s - RECENT_S) * 1000  # before it from the hours, after it from the newest
        start_ms = (now_s - DAY_S) * 1000
        day: dict[Key, list[tuple[int, float]]] = {}
        for hour in sorted(self._hours):
            for key, points in self._hours[hour].items():
                day.setdefault(key, []).extend(p for p in points if start_ms <= p[0] < joint_ms)
        for key, points in readings.items():
            day.setdefault(key, []).extend(thin([p for p in points if p[0] >= joint_ms]))
        return day


def main_quantity(sensors: Sequence[SensorInfo]) -> str | None:
    """What a station is there for: the level of the water, else what has thresholds, else the first that it measures."""
    infos = [q for sensor in sensors for q in sensor.quantities]
    order = sorted(infos, key=lambda q: (q.quantity != "water_level", not any(t is not None for t in q.thresholds)))
    return order[0].quantity if order else None


def thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The lowest and the highest point of each five minutes, in order of time."""
    buckets: dict[int, list[tuple[int, float]]] = {}
    for point in points:
        buckets.setdefault(point[0] // BUCKET_MS, []).append(point)
    kept: list[tuple[int, float]] = []
    for bucket in buckets.values():
        kept += sorted({min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])})
    return kept
