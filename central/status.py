"""`station_status`: every minute one row per registered station and quantity, the silent ones above all.

A series that vanishes turns normal in an alert rule and leaves a map, so silence is written down. Rows are computed from what
is stored and from the alarm log; nothing here is remembered.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from central import config
from central.alarms.log import AlarmLog, Occurrence
from central.errors import NeedsPerson, Unavailable
from central.registry import Registry
from central.store.base import Point, Series, Store, Value
from common.clock import Clock, from_rfc3339
from common.worker import Worker
from wire.station import QuantityInfo

log = logging.getLogger(__name__)

PERIOD_S = 60.0
RECENT_S = 3600.0
TREND_S = 1800.0
"""Short, since a flash flood that follows a fall would still pass for steady over an hour; long enough for a millimetre's noise."""
TREND_PERIODS = 2
MIN_TREND_S = 600.0
"""Two readings right after a start are no trend: a step between them would read as metres per hour."""
SILENT_PERIODS = 3
MIN_SILENT_S = 180.0
AHEAD_S = 86400.0
AHEAD_MIN = (0, 10, 20, 30, 40, 50, 60)
WAY_S = 5.0
"""Real seconds that a reading may take from its sensor to a reader, sped up or not: they count in an exercise that runs fast."""
_USABLE = (1, 2, 3)


class Key(NamedTuple):
    """What a sensor of a station measures."""

    quantity: str
    station: str
    sensor: str


Readings = Mapping[Key, list[tuple[int, float]]]
"""Usable readings (QARTOD flags 1 to 3): Unix ms and value, in order of time."""


class Measured(NamedTuple):
    """A quantity of a sensor as it stands.

    `newest`: Unix ms and value, None where no usable reading is known. `online`: it is not older than three periods. `level`:
    the highest local level of its open alarms. `trend_per_h`: over the last half hour, or two periods where that is longer.
    """

    station: config.Station
    sensor: str
    info: QuantityInfo
    newest: tuple[int, float] | None
    online: bool
    trend_per_h: float | None
    level: int

    @property
    def reached(self) -> int:
        """The highest local level whose threshold the newest value has reached, 0 for none."""
        if self.newest is None:
            return 0
        return max(
            (i for i, t in enumerate(self.info.thresholds, 1) if t is not None and t <= self.newest[1]), default=0
        )

    @property
    def next_threshold(self) -> float | None:
        """The lowest threshold that the newest value has not reached; None where there is none."""
        if self.newest is None:
            return None
        return min((t for t in self.info.thresholds if t is not None and t > self.newest[1]), default=None)

    @property
    def next_level_s(self) -> float | None:
        """In how many seconds after the newest value the next threshold is reached if the trend goes on; None when that is not
        within a day."""
        threshold = self.next_threshold
        if threshold is None or self.newest is None or not self.online or not self.trend_per_h or self.trend_per_h <= 0:
            return None
        ahead_s = (threshold - self.newest[1]) / self.trend_per_h * 3600
        return ahead_s if ahead_s <= AHEAD_S else None


def usable(store: Store, quantity: str, start_ms: int, end_ms: int) -> dict[Key, list[tuple[int, float]]]:
    """The usable readings of a quantity at all stations. Raises Unavailable or NeedsPerson."""
    found: dict[Key, list[tuple[int, float]]] = {}
    for row in store.dump(quantity, start_ms, end_ms):
        if row.fields.get("qc") in _USABLE and "value" in row.fields:
            key = Key(quantity, row.tags.get("station", ""), row.tags.get("sensor", ""))
            found.setdefault(key, []).append((row.time_ms, float(row.fields["value"])))
    return found


def usable_series(store: Store, key: Key, start_ms: int, end_ms: int) -> list[tuple[int, float]]:
    """The usable readings of one sensor. Raises Unavailable or NeedsPerson."""
    tags = {"station": key.station, "sensor": key.sensor}
    flags = dict(store.series(key.quantity, tags, "qc", start_ms, end_ms))
    values = store.series(key.quantity, tags, "value", start_ms, end_ms)
    return [(t, float(v)) for t, v in values if flags.get(t) in _USABLE]


def recent(store: Store, registry: Registry, now_s: float) -> Readings:
    """What `measured` needs: the last hour (or three periods, where that is longer) of all that is measured, and the newest
    reading of what is silent. Raises Unavailable or NeedsPerson."""
    now_ms = round(now_s * 1000)
    spans: dict[str, float] = {}
    for _, _, q in _quantities(registry):
        spans[q.quantity] = max(spans.get(q.quantity, RECENT_S), SILENT_PERIODS * q.period_s)
    found: dict[Key, list[tuple[int, float]]] = {}
    for quantity, span_s in spans.items():
        found |= usable(store, quantity, now_ms - round(span_s * 1000), now_ms + 1)
    for station, sensor, q in _quantities(registry):
        key = Key(q.quantity, station.id, sensor)
        if key not in found:
            tags = {"station": station.id, "sensor": sensor}
            value, flag = store.last(q.quantity, tags), store.last(q.quantity, tags, "qc")
            if value and flag and value[0] == flag[0] and flag[1] in _USABLE:
                found[key] = [(value[0], float(value[1]))]
    return found


def measured(
    registry: Registry, readings: Readings, levels: Mapping[tuple[str, str], int], clock: Clock
) -> list[Measured]:
    """All that registered stations measure now, in the order of the registry. `levels`: those of `alarm_levels`."""
    now_ms = round(clock.wall() * 1000)
    result = []
    for station, sensor, q in _quantities(registry):
        series = readings.get(Key(q.quantity, station.id, sensor), [])
        newest = series[-1] if series else None
        patience_s = max(SILENT_PERIODS * q.period_s, MIN_SILENT_S, WAY_S * clock.scale)
        online = newest is not None and now_ms - newest[0] <= patience_s * 1000
        since_ms = now_ms - max(TREND_S, TREND_PERIODS * q.period_s) * 1000
        window = [r for r in series if r[0] >= since_ms]
        trend = None
        if window and window[-1][0] - window[0][0] >= MIN_TREND_S * 1000:
            trend = (window[-1][1] - window[0][1]) * 3.6e6 / (window[-1][0] - window[0][0])
        level = levels.get((station.id, q.quantity), 0)
        result.append(Measured(station, sensor, q, newest, online, trend, level))
    return result


def alarm_levels(alarms: AlarmLog, *, exercise: bool) -> dict[tuple[str, str], int]:
    """Station and quantity -> the highest local level of its open alarms. Exercises and tests count only where central itself
    is in one (`exercise`)."""
    levels: dict[tuple[str, str], int] = {}
    for key, occurrence in _standing(alarms, exercise):
        levels[key] = max(levels.get(key, 0), occurrence.level)
    return levels


def answers(alarms: AlarmLog, *, exercise: bool) -> dict[tuple[str, str], str]:
    """Station and quantity -> who has answered for its open alarms: "" when nobody has for one of them, whose name for the worst
    otherwise. Which alarms count: as in `alarm_levels`."""
    worst: dict[tuple[str, str], Occurrence] = {}
    for key, occurrence in _standing(alarms, exercise):
        before = worst.get(key)
        if before is None or (not _answer(occurrence), occurrence.level) > (not _answer(before), before.level):
            worst[key] = occurrence
    return {key: _answer(occurrence) for key, occurrence in worst.items()}


def _answer(occurrence: Occurrence) -> str:
    return occurrence.acked_by or (occurrence.gateway if occurrence.state == "ACK" else "")


def _standing(alarms: AlarmLog, exercise: bool) -> Iterator[tuple[tuple[str, str], Occurrence]]:
    """The open alarms of a station's quantity that count."""
    for occurrence in alarms.open_occurrences():
        event = alarms.event(occurrence.last_event)
        # Central's own are not of the water at this station now: those of a reach tell others of it, and outlast it.
        if event is None or event.station is None or event.quantity is None or event.source == "central":
            continue
        if occurrence.status == "Actual" or exercise:
            yield (event.station, event.quantity), occurrence


def minute(store: Store, registry: Registry, alarms: AlarmLog, clock: Clock) -> list[Point]:
    """What is written this minute: `rows`, and of each water level where it will be (`projection`). Raises Unavailable or
    NeedsPerson."""
    found = _measured_now(store, registry, alarms, clock)
    now_ms = round(clock.wall() * 1000)
    water = [m for m in found if m.info.quantity == "water_level"]
    return _rows(found, registry, alarms, clock) + [point for m in water for point in _projection(m, now_ms)]


def _measured_now(store: Store, registry: Registry, alarms: AlarmLog, clock: Clock) -> list[Measured]:
    levels = alarm_levels(alarms, exercise=clock.exercise)
    return measured(registry, recent(store, registry, clock.wall()), levels, clock)


def rows(store: Store, registry: Registry, alarms: AlarmLog, clock: Clock) -> list[Point]:
    """The rows of this minute, silent stations first. Raises Unavailable or NeedsPerson.

    `value` and `age_s` are left out where no usable reading is known; `online` is 0 when the newest is older than three
    periods. `acked_by` is there while an alarm is open: who answered, "" while nobody has, and then `unanswered` is 1.
    """
    return _rows(_measured_now(store, registry, alarms, clock), registry, alarms, clock)


def _rows(found: Sequence[Measured], registry: Registry, alarms: AlarmLog, clock: Clock) -> list[Point]:
    now_ms = round(clock.wall() * 1000)
    points = []
    answered = answers(alarms, exercise=clock.exercise)
    for m in found:
        answer = answered.get((m.station.id, m.info.quantity))
        fields: dict[str, Value] = {"level": m.level, "online": int(m.online), "unanswered": int(answer == "")}
        fields |= _labels(m.station)
        known: dict[str, Value | None] = {
            "next_threshold": m.next_threshold,
            "next_level_s": m.next_level_s,
            "acked_by": answer,
        }
        fields |= {name: value for name, value in known.items() if value is not None}
        if m.newest is not None:
            fields |= {"value": m.newest[1], "age_s": (now_ms - m.newest[0]) / 1000}
        if m.trend_per_h is not None:
            fields["trend_per_h"] = m.trend_per_h
        fields |= {f"threshold_{i}": float(t) for i, t in enumerate(m.info.thresholds, 1) if t is not None}
        info = registry.info(m.station.id)
        if info is not None:
            fields |= {"lat": float(info.lat), "lon": float(info.lon)}
        points.append(Point(_series(m.station, m.info.quantity), fields, now_ms))
    points += [  # its gateway never described it: nothing is known, and that is shown
        Point(_series(station, "unknown"), {"level": 0, "online": 0} | _labels(station), now_ms)
        for station in registry.stations.values()
        if registry.info(station.id) is None
    ]
    # One row per station and quantity: where two sensors measure the same, a silent one must not hide behind a live one.
    first: dict[Series, Point] = {}
    for point in sorted(points, key=lambda p: p.fields["online"] != 0):
        first.setdefault(point.series, point)
    return list(first.values())


def _series(station: config.Station, quantity: str) -> Series:
    return Series("station_status", {"station": station.id, "quantity": quantity, "commune": station.commune})


def _projection(measured: Measured, now_ms: int) -> list[Point]:
    """Where a rising level is in the next hour if its trend goes on: a point for each of AHEAD_MIN, at the time it is about. None
    is ever overwritten: how many minutes ahead is a tag. `holds` is 0, and there is no value, when nothing is to be drawn."""
    rises = measured.next_level_s is not None and measured.newest is not None and measured.trend_per_h is not None
    points = []
    for minutes in AHEAD_MIN:
        fields: dict[str, Value] = {"holds": int(rises)}
        if rises and measured.newest and measured.trend_per_h:
            fields["value"] = measured.newest[1] + measured.trend_per_h * minutes / 60
        tags = {"station": measured.station.id, "sensor": measured.sensor, "ahead_min": f"{minutes:02}"}
        points.append(Point(Series("projection", tags), fields, now_ms + minutes * 60_000))
    return points


def _labels(station: config.Station) -> dict[str, Value]:
    """What a board shows of a station as it is registered."""
    labels = {
        "name": station.name,
        "river": station.river,
        "downstream": " ".join(station.downstream),
        "sheet": station.sheet,
        "photo": station.photo,
    }
    return {name: text for name, text in labels.items() if text}


def calibrations(registry: Registry) -> list[Point]:
    """Every calibration entry of every station as a point at its beginning: `slope`, `offset`, `by`."""
    points = []
    for station in registry.stations.values():
        for sensor in registry.sensors(station.id):
            for entry in sensor.calibration:
                tags = {"station": station.id, "sensor": sensor.id, "quantity": entry.quantity}
                fields: dict[str, Value] = {"slope": float(entry.slope), "offset": float(entry.offset), "by": entry.by}
                points.append(Point(Series("calibration", tags), fields, round(from_rfc3339(entry.since) * 1000)))
    return points


def _quantities(registry: Registry) -> list[tuple[config.Station, str, QuantityInfo]]:
    return [
        (station, sensor.id, q)
        for station in registry.stations.values()
        for sensor in registry.sensors(station.id)
        for q in sensor.quantities
    ]


class StatusWriter:
    """Writes the rows every minute, in a thread. A minute that the database does not take is left out, not made up later.

    `beside()` are further points of the minute. The calibrations are written whenever the stations were described anew.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        alarms: AlarmLog,
        clock: Clock,
        beside: Callable[[], Sequence[Point]] = tuple,
    ) -> None:
        self._store = store
        self._beside = beside
        self._calibrated = -1
        self._registry = registry
        self._alarms = alarms
        self._clock = clock
        self._failing = False
        self.worker = Worker("station-status", self._write, clock)

    def _write(self) -> float:
        until = self._clock.boot() + PERIOD_S
        try:
            points = minute(self._store, self._registry, self._alarms, self._clock)
            generation = self._registry.generation
            if generation != self._calibrated:
                points += calibrations(self._registry)
            points += self._beside()
            if points:
                self._store.write(points)
            self._calibrated = generation
            self._failing = False
        except (Unavailable, NeedsPerson) as e:
            if not self._failing:
                log.warning("station_status is not written: %s", e)
            self._failing = True
        return until
