"""`station_status`: every minute one row per registered station and quantity, the silent ones above all.

A series that vanishes turns normal in an alert rule and leaves a map, so silence is written down. Rows are computed from what
is stored and from the alarm log; nothing here is remembered.
"""

import logging
import threading

from central.alarms.log import AlarmLog
from central.errors import NeedsPerson, Unavailable
from central.registry import Registry
from central.store.base import Point, Row, Series, Store, Value
from common.clock import Clock

log = logging.getLogger(__name__)

PERIOD_S = 60.0
TREND_S = 3600.0
SILENT_PERIODS = 3
MIN_SILENT_S = 180.0
_USABLE = (1, 2, 3)


def rows(store: Store, registry: Registry, alarms: AlarmLog, now_s: float, *, exercise: bool) -> list[Point]:
    """The rows of this minute, silent stations first. Raises Unavailable or NeedsPerson.

    `value` and `age_s` are left out where nothing was ever stored; `online` is 0 when the newest usable value is older than
    three periods. Exercises and tests count only where central itself is in one (`exercise`).
    """
    now_ms = round(now_s * 1000)
    levels = _levels(alarms, exercise=exercise)
    recent: dict[str, list[Row]] = {}
    points = []
    for station in registry.stations.values():
        info = registry.info(station.id)
        for sensor in registry.sensors(station.id):
            for q in sensor.quantities:
                if q.quantity not in recent:
                    recent[q.quantity] = store.dump(q.quantity, now_ms - round(TREND_S * 1000), now_ms + 1)
                series = [
                    (row.time_ms, float(row.fields["value"]))
                    for row in recent[q.quantity]
                    if row.tags.get("station") == station.id
                    and row.tags.get("sensor") == sensor.id
                    and row.fields.get("qc") in _USABLE
                ]
                last = series[-1] if series else None
                if last is None:
                    found = store.last(q.quantity, {"station": station.id, "sensor": sensor.id})
                    last = (found[0], float(found[1])) if found else None
                age_s = (now_ms - last[0]) / 1000 if last else None
                online = bool(series) and age_s is not None and age_s <= max(SILENT_PERIODS * q.period_s, MIN_SILENT_S)
                fields: dict[str, Value] = {
                    "level": levels.get((station.id, q.quantity), 0),
                    "online": int(online),
                    "name": station.name,
                }
                if last is not None and age_s is not None:
                    fields |= {"value": last[1], "age_s": age_s}
                if len(series) > 1 and series[-1][0] > series[0][0]:
                    fields["trend_per_h"] = (series[-1][1] - series[0][1]) * 3.6e6 / (series[-1][0] - series[0][0])
                fields |= {f"threshold_{i}": float(t) for i, t in enumerate(q.thresholds, 1) if t is not None}
                if info is not None:
                    fields |= {"lat": float(info.lat), "lon": float(info.lon)}
                tags = {"station": station.id, "quantity": q.quantity, "commune": station.commune}
                points.append(Point(Series("station_status", tags), fields, now_ms))
        if info is None:  # registered, and its gateway never described it: nothing is known, and that is shown
            unknown = Series(
                "station_status", {"station": station.id, "quantity": "unknown", "commune": station.commune}
            )
            points.append(Point(unknown, {"level": 0, "online": 0, "name": station.name}, now_ms))
    # One row per station and quantity: where two sensors measure the same, a silent one must not hide behind a live one.
    first: dict[Series, Point] = {}
    for point in sorted(points, key=lambda p: p.fields["online"] != 0):
        first.setdefault(point.series, point)
    return list(first.values())


def _levels(alarms: AlarmLog, *, exercise: bool) -> dict[tuple[str, str], int]:
    levels: dict[tuple[str, str], int] = {}
    for occurrence in alarms.open_occurrences():
        event = alarms.event(occurrence.last_event)
        if event is None or event.station is None or event.quantity is None:
            continue
        if occurrence.status != "Actual" and not exercise:
            continue
        key = event.station, event.quantity
        levels[key] = max(levels.get(key, 0), occurrence.level)
    return levels


class StatusWriter:
    """Writes the rows every minute, in a thread. A minute that the database does not take is left out, not made up later."""

    def __init__(self, store: Store, registry: Registry, alarms: AlarmLog, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._alarms = alarms
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="station-status", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        failing = False
        while True:
            try:
                exercise = self._clock.exercise
                points = rows(self._store, self._registry, self._alarms, self._clock.wall(), exercise=exercise)
                if points:
                    self._store.write(points)
                failing = False
            except (Unavailable, NeedsPerson) as e:
                if not failing:
                    log.warning("station_status is not written: %s", e)
                failing = True
            if self._clock.wait(self._stop, PERIOD_S):
                return
