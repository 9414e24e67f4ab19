"""Neighbours that disagree: of two stations of one reach one shows what cannot be beside the other.

Neither gateway can see it: each reading is plausible by itself (QARTOD, Water Level manual, test 11). Judged in event time, on what the
database holds: at each reading of the one against the last of the other, as long as both are fresh. It is raised when they have been
apart for all of `for_s` up to the newest moment that both have, and cleared when they have gone together for as long: in between,
and while one is silent, nothing changes. Technicians are told, nobody else: whether the water is high is not known by it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from central.alarms.log import Occurrence
from central.alarms.own import Own, stands
from central.config import NEIGHBOURS_RULE, Neighbours
from central.errors import NeedsPerson, Unavailable
from central.registry import Registry
from central.status import MIN_SILENT_S, SILENT_PERIODS, Key, usable_series
from central.store.base import Store
from common.clock import Clock, rfc3339
from common.worker import Worker
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

KIND = "quality"
LOOK_S = 60.0
READ_S = 6 * 3600.0
"""So far back is read, or twice `for_s`: what began earlier is told with the earliest time that is known."""

Points = Sequence[tuple[int, float]]
"""Unix ms and value, in order of time."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The newest stretch of time (Unix ms) through which two stations went together, or did not. `off`: at its end, by how much the
    first is more above the second than expected."""

    apart: bool
    since_ms: int
    until_ms: int
    off: float


def newest_stretch(first: Points, second: Points, pair: Neighbours, patience_ms: float) -> Stretch | None:
    """None when there is no moment at which both are known. A value counts for `patience_ms`; a longer gap ends the stretch."""
    found: Stretch | None = None
    for at_ms, difference in _differences(first, second, patience_ms):
        off = difference - pair.difference
        apart = abs(off) > pair.tolerance
        goes_on = found is not None and found.apart == apart and at_ms - found.until_ms <= patience_ms
        found = Stretch(apart, found.since_ms if found and goes_on else at_ms, at_ms, off)
    return found


def _differences(first: Points, second: Points, patience_ms: float) -> Iterator[tuple[int, float]]:
    newest: dict[int, tuple[int, float]] = {}
    for at_ms, which, value in sorted([(t, 0, v) for t, v in first] + [(t, 1, v) for t, v in second]):
        newest[which] = at_ms, value
        if len(newest) == 2 and all(at_ms - t <= patience_ms for t, _ in newest.values()):
            yield at_ms, newest[0][1] - newest[1][1]


class NeighbourWatch:
    """Judges every pair each minute, in its `worker`."""

    def __init__(self, pairs: Sequence[Neighbours], store: Store, registry: Registry, own: Own, clock: Clock) -> None:
        self._pairs = pairs
        self._store = store
        self._registry = registry
        self._own = own
        self._clock = clock
        self._blind = False
        self.worker = Worker("neighbour-watch", self.look, clock)

    def look(self) -> float | None:
        """Judge every pair now; gives the boot second of the next look, or None without any. Raises StateUnavailable."""
        self._own.end_gone(NEIGHBOURS_RULE, [pair.rule for pair in self._pairs])
        if not self._pairs:
            return None
        until = self._clock.boot() + LOOK_S
        for pair in self._pairs:
            try:
                seen = self._seen(pair)
            except (Unavailable, NeedsPerson) as e:
                if not self._blind:
                    log.warning("neighbours cannot be compared: %s", e)
                self._blind = True
                return until
            self._blind = False
            if seen is not None:
                with self._own.lock:
                    self._judge(pair, *seen)
        return until

    def _seen(self, pair: Neighbours) -> tuple[Stretch, Key] | None:
        """The newest stretch, and what is measured at the first station."""
        keys, period_s = [], 0.0
        for station in pair.stations:
            measured = (
                (Key(pair.quantity, station, sensor.id), q.period_s)
                for sensor in self._registry.sensors(station)
                for q in sensor.quantities
                if q.quantity == pair.quantity
            )
            key, period = next(measured, (None, 0.0))
            if key is None:
                return None
            keys.append(key)
            period_s = max(period_s, period)
        now_ms = round(self._clock.wall() * 1000)
        start_ms = now_ms - round(max(2 * pair.for_s, READ_S) * 1000)
        points = [usable_series(self._store, key, start_ms, now_ms + 1) for key in keys]
        patience_s = max(SILENT_PERIODS * period_s, MIN_SILENT_S)
        found = newest_stretch(points[0], points[1], pair, patience_s * 1000)
        return (found, keys[0]) if found else None

    def _judge(self, pair: Neighbours, seen: Stretch, key: Key) -> None:
        if seen.until_ms - seen.since_ms < pair.for_s * 1000:
            return
        alarm = next(iter(self._own.open(pair.rule)), None)
        facts = {"time": rfc3339(seen.since_ms / 1000 + pair.for_s), "value": round(seen.off, 6)}
        if seen.apart and not stands(alarm):
            log.warning("%s: %s and %s are apart by %+g more than expected", pair.id, *pair.stations, seen.off)
            facts |= {
                "station": key.station,
                "sensor": key.sensor,
                "quantity": key.quantity,
                "unit": QUANTITIES[key.quantity].unit,
                "threshold": pair.tolerance,
            }
            gateway = self._registry.owner(key.station) or ""
            self._own.begin(gateway, pair.rule, KIND, 1, alarm, **facts)
        elif not seen.apart and isinstance(alarm, Occurrence) and stands(alarm):
            log.info("%s: %s and %s go together again", pair.id, *pair.stations)
            self._own.end(alarm, **facts)
