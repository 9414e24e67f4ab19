"""The present as the gateway knows it, put together for people: stations, sensors and alarms. It reads, and changes nothing.

For the page (edge/situation.py has the shapes) and for who asks by SMS.
"""

from collections.abc import Iterator

from common import texts
from common.clock import Clock, from_rfc3339, rfc3339
from common.texts import Present
from edge import rules
from edge.alarms import Alarms
from edge.config import HighRule, LowRule, Station
from edge.latest import Latest
from edge.qualify import published
from edge.rules import AlarmState, LevelRule
from edge.situation import Measure, SensorNow, Standing, StationNow, Trouble
from edge.watch import Watched, Watchlist
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

RECENT_S = 3600.0
"""So much of a level is drawn on the page."""
MIN_TREND_S = 600.0
"""A step between the first readings after a start would read there as metres per hour."""


class Overview:
    """For the thread of the data path alone."""

    def __init__(self, gateway: str, clock: Clock, watch: Watchlist, alarms: Alarms, latest: Latest) -> None:
        self._gateway = gateway
        self._clock = clock
        self._watch = watch
        self._alarms = alarms
        self._latest = latest

    def stations(self) -> tuple[StationNow, ...]:
        """Every station, in the order of the configuration."""
        now = self._clock.boot()
        return tuple(self._station_now(station, now) for station in self._watch.stations)

    def alarms(self) -> tuple[Standing, ...]:
        """Those that are not NORMAL, the highest first, of one level the oldest."""
        return tuple(sorted(self._standing(), key=lambda a: (-a.level, a.since_s)))

    def present(self) -> list[Present]:
        """What each station's watched quantities are now, in the order of the configuration."""
        now, found = self._clock.boot(), []
        for key, watched in self._watch.sensors.items():
            station = watched.station
            states = [(r, self._alarms.states.get(r.id, AlarmState())) for r in watched.rules.rules]
            level = max((s.level for r, s in states if r.kind not in ("power", "quality")), default=0)
            for quantity in dict.fromkeys(
                r.quantity for r, _ in states if isinstance(r, LevelRule) and r.kind != "power"
            ):
                value, at, _ = self._latest.usable.get(f"{key}/{quantity}", (None, 0.0, 9))
                fresh = value is not None and now - at < watched.rules.silence_s
                where = station.name
                if quantity != "water_level":
                    where = f"{QUANTITIES[quantity].label_fr}, {where}"
                found.append(Present(where, quantity, value if fresh else None, level))
        return found

    def _station_now(self, station: Station, now: float) -> StationNow:
        levels = [
            self._alarms.states.get(rule.id, AlarmState()).level
            for owner, rule in self._watch.rules.values()
            if owner is not None and owner.station.id == station.id and rule.kind not in ("power", "quality")
        ]
        return StationNow(
            id=station.id,
            name=station.name,
            river=station.river,
            commune=station.commune,
            level=max(levels, default=0),
            sensors=tuple(self._sensor_now(self._watch.sensors[f"{station.id}/{s.id}"], now) for s in station.sensor),
        )

    def _sensor_now(self, watched: Watched, now: float) -> SensorNow:
        sensor = watched.sensor
        key = f"{watched.station.id}/{sensor.id}"
        measured = (name.rpartition("/")[2] for name in self._latest.usable if name.startswith(f"{key}/"))
        trouble = self._latest.failing.get(key)
        return SensorNow(
            id=sensor.id,
            driver=sensor.driver,
            out_of_service=sensor.out_of_service,
            missed=self._latest.missed[key],
            trouble=None
            if trouble is None
            else Trouble(
                kind=trouble.kind,
                detail=trouble.detail,
                since_s=self._clock.wall_of(trouble.since_s),
                age_s=max(0.0, now - trouble.since_s),
            ),
            measures=tuple(
                self._measure(watched, f"{key}/{quantity}", now)
                for quantity in dict.fromkeys((*published(sensor), *measured))
            ),
        )

    def _measure(self, watched: Watched, series: str, now: float) -> Measure:
        quantity = series.rpartition("/")[2]
        value, at, flag = self._latest.usable.get(series, (None, 0.0, None))
        judging = sorted(
            (rule for rule in watched.rules.rules if isinstance(rule, LevelRule) and rule.quantity == quantity),
            key=lambda rule: ("high", "low").index(rule.kind) if rule.kind in ("high", "low") else 2,
        )
        state = self._alarms.states.get(judging[0].id, AlarmState()) if judging else AlarmState()
        reached = state.at_least and state.value is not None and state.valid_s is not None and state.valid_s > at
        if reached:
            value, at, flag = state.value, state.valid_s or 0.0, 3
        levels = judging[0].levels if judging and isinstance(judging[0], HighRule | LowRule) else ()
        thresholds: list[float | None] = [*levels, None, None, None]
        refused = self._latest.refused.get(series)
        settled = bool(state.window) and now - state.window[0].boot_s >= MIN_TREND_S
        recent = [(now - p.boot_s, p.value) for p in state.window if 0 <= now - p.boot_s <= RECENT_S]
        if recent and value is not None and 0 <= now - at < recent[-1][0]:
            recent.append((now - at, value))
        return Measure(
            quantity=quantity,
            unit=QUANTITIES[quantity].unit,
            value=value,
            qc=flag,
            age_s=None if value is None else max(0.0, now - at),
            fresh=value is not None and now - at < watched.rules.silence_s,
            at_least=reached,
            refused_age_s=None if refused is None else max(0.0, now - refused),
            thresholds=(thresholds[0], thresholds[1], thresholds[2]),
            descending=bool(judging) and isinstance(judging[0], LowRule),
            trend_per_h=rules.trend_per_h(state) if settled else None,
            recent=tuple((round(age, 1), v) for age, v in recent),
        )

    def _standing(self) -> Iterator[Standing]:
        for rule_id, state in self._alarms.states.items():
            if state.state == "NORMAL" or state.occurrence is None or rule_id not in self._watch.rules:
                continue
            watched, rule = self._watch.rules[rule_id]
            quantity = rule.quantity if isinstance(rule, LevelRule) else None
            place = texts.Place(watched.station.name, watched.station.river) if watched else None
            raised_s = self._clock.wall_of(state.raised_s or 0.0)
            event = AlarmEvent(  # of now, for the words
                id=state.occurrence,
                occurrence=state.occurrence,
                seq=1,
                source="gateway",
                gateway=self._gateway,
                station=watched.station.id if watched else None,
                sensor=watched.sensor.id if watched else None,
                quantity=quantity,
                rule=rule_id,
                kind=rule.kind,
                transition="clear" if state.state == "RTN_UNACK" else "raise",
                state=state.state,
                level=state.level,
                value=state.value,
                unit=None,
                threshold=None,
                time=rfc3339(max(raised_s, 0.0)),
                clock="estimated",
                data_lost=state.data_lost,
                mean_h=rule.mean_h if isinstance(rule, HighRule) else None,
            )
            done = self._alarms.answers.get(state.occurrence, {})
            ack = done.get("ack") if state.state == "ACK" or state.acknowledged else None
            shelved = done.get("shelve") if state.withheld == "shelved" else None
            yield Standing(
                occurrence=state.occurrence,
                reference=texts.reference(state.occurrence),
                where=texts.where(event, place),
                what=texts.headline(event),
                station=event.station,
                sensor=event.sensor,
                rule=rule_id,
                kind=rule.kind,
                state=state.state,
                level=state.level,
                data_lost=state.data_lost,
                since_s=raised_s,
                acknowledged_by=ack.by if ack else None,
                acknowledged_s=from_rfc3339(ack.time) if ack else None,
                withheld=state.withheld,
                withheld_by=state.suppressed_by if state.withheld == "suppressed" else shelved.by if shelved else None,
                until_s=self._clock.wall_of(state.shelved_s)
                if state.withheld == "shelved" and state.shelved_s is not None
                else None,
            )
