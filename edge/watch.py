"""What a gateway watches: its sensors with their rules, as configured, with the thresholds of a day."""

import math
from dataclasses import dataclass
from datetime import date

from common.air import HOUR_S
from edge.calibration import reckoned_sound
from edge.config import CommFailRule, EdgeConfig, HighRule, Rule, Sensor, StaleRule, Station
from edge.rules import LevelRule, SensorRules

MEANS_S = 2 * HOUR_S
"""After the end of their hour, running means are told for so long; a rule that gets none for so long has lost its data."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A sensor with its rules."""

    station: Station
    sensor: Sensor
    rules: SensorRules
    sound_m_s: float | None

    @property
    def history_s(self) -> float:
        """How far back the journal has what this sensor needs after a restart."""
        return max(self.rules.history_s, self.sensor.air.max_age_s if self.sensor.air else 0.0)


class Watchlist:
    """`sensors` by key, `means` (the rules that judge a running mean) by series and hours, `own` of the gateway itself. `rules` by id,
    with the sensor that they are on, if any. `day` is the Belgian day whose thresholds hold."""

    def __init__(self, config: EdgeConfig, day: date) -> None:
        self.stations = config.station
        self.own = SensorRules(config.own_rules, math.inf)
        self._set(day)

    def begin(self, day: date) -> list[str]:
        """From now on the thresholds of this day hold, if it has others. Gives the rules that are not as they were."""
        before = self.rules
        self._set(day)
        return [rule_id for rule_id, (_, rule) in self.rules.items() if rule != before[rule_id][1]]

    def _set(self, day: date) -> None:
        self.day = day
        self.sensors = {
            f"{station.id}/{sensor.id}": Watched(
                station, sensor, sensor_rules(station, sensor, day), reckoned_sound(sensor)
            )
            for station in self.stations
            for sensor in station.sensor
        }
        self.means = {
            (f"{key}/{quantity}", hours): Watched(watched.station, watched.sensor, found, watched.sound_m_s)
            for key, watched in self.sensors.items()
            for (quantity, hours), found in mean_rules(watched.station, watched.sensor, day).items()
        }
        self.rules: dict[str, tuple[Watched | None, Rule]] = {
            rule.id: (watched, rule) for watched in self.everyone for rule in watched.rules.rules
        }
        self.rules |= {rule.id: (None, rule) for rule in self.own.rules}

    @property
    def everyone(self) -> tuple[Watched, ...]:
        """All that is judged but the gateway itself."""
        return (*self.sensors.values(), *self.means.values())


def sensor_rules(station: Station, sensor: Sensor, day: date) -> SensorRules:
    """The rules on the readings of a sensor as configured, with the thresholds of a day. One that watches a level or a rate always
    has `stale` and `comm_fail` too: a station lost in a rise is itself an alarm."""
    configured = tuple(
        rule.on(day) if isinstance(rule, LevelRule) else rule for rule in station.rule if rule.sensor == sensor.id
    )
    kinds = {rule.kind for rule in configured}
    added: list[Rule] = []
    if kinds & {"high", "low", "rise", "fall"}:
        name = f"{station.id}-{sensor.id}"[:50]
        if "stale" not in kinds:
            added.append(StaleRule(id=f"{name}-stale", sensor=sensor.id, kind="stale"))
        if "comm_fail" not in kinds:
            added.append(CommFailRule(id=f"{name}-comm-fail", sensor=sensor.id, kind="comm_fail"))
    period = sensor.period_s if sensor.period_s is not None else 60.0
    # Three periods; the value that is due then may be a little late.
    stale_after = sensor.stale_after_s or max(min(3 * period, 1800.0) + period / 4, 60.0)
    on_readings = [rule for rule in configured if not isinstance(rule, HighRule) or rule.mean_h is None]
    return SensorRules((*on_readings, *added), stale_after)


def mean_rules(station: Station, sensor: Sensor, day: date) -> dict[tuple[str, int], SensorRules]:
    """The rules on running means of a sensor, by quantity and hours."""
    found: dict[tuple[str, int], list[Rule]] = {}
    for rule in station.rule:
        if isinstance(rule, HighRule) and rule.mean_h is not None and rule.sensor == sensor.id:
            found.setdefault((rule.quantity, rule.mean_h), []).append(rule.on(day))
    return {key: SensorRules(tuple(of), MEANS_S) for key, of in found.items()}
