"""Air quality by commune: the mean of 24 hours over all of a commune's sensors, against the thresholds of the Walloon smog plan.

Judged at the end of each hour, in event time: of each sensor the hourly means that are valid (75 %, directive 2008/50/EC, annex VII), of
the commune the mean over its sensors that have 18 of 24. A gateway judges what it measures itself; no gateway sees a commune. Without
a valid mean nothing changes: an alarm never clears because data stopped. A level is left at `LEAVES` of its threshold.

It is *indicative*: sensors of this kind may be wrong by half, and an episode is declared by the authority, on stations of its own.
"""

import logging
import math
from collections.abc import Iterator

from central.alarms.log import Occurrence
from central.alarms.own import Own, stands
from central.config import SMOG_RULE, Smog, smog_rule
from central.errors import NeedsPerson, Unavailable
from central.registry import Registry
from central.status import Key, usable_series
from central.store.base import Store
from common import texts
from common.air import HOUR_S, RunningMeans
from common.clock import Clock, rfc3339
from common.worker import Worker
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

LOOK_S = 600.0
"""The hour that has ended is judged again so long after, since what was on its way may have come."""
DAY_H = 24
LEAVES = 0.95
STREAM_S = 60.0
"""For so long a value of a sensor without a period counts."""


def mean_of_day(points: list[tuple[int, float]], period_s: float, end_s: float) -> float | None:
    """The mean over the 24 hours before `end_s` (Unix, a full hour) of one sensor's readings (Unix ms, in order); None where it is
    not valid."""
    running = RunningMeans(period_s or STREAM_S)
    for at_ms, value in points:
        if end_s - DAY_H * HOUR_S <= at_ms / 1000 < end_s:
            running.add(at_ms / 1000, value)
    means = running.add(end_s, 0.0)  # of the hour after, so it only ends those before
    return means.h24 if means else None


class SmogWatch:
    """Judges every commune that has such sensors, in its `worker`."""

    def __init__(self, smog: Smog | None, store: Store, registry: Registry, own: Own, clock: Clock) -> None:
        self._smog = smog
        self._store = store
        self._registry = registry
        self._own = own
        self._clock = clock
        self._blind = False
        self.worker = Worker("smog-watch", self.look, clock)

    def look(self) -> float | None:
        """Judge the hour that has ended; gives the boot second of the next look, or None without `[smog]`. Raises
        StateUnavailable."""
        communes = {s.commune for s in self._registry.stations.values()} if self._smog else ()
        self._own.end_gone(SMOG_RULE, [smog_rule(q, c) for q in ("pm10", "pm2_5") for c in communes])
        if self._smog is None:
            return None
        end_s = math.floor(self._clock.wall() / HOUR_S) * HOUR_S
        for quantity, limits in (("pm10", self._smog.pm10), ("pm2_5", self._smog.pm2_5)):
            means: dict[str, list[float]] = {}
            try:
                for commune, mean in self._means(quantity, end_s):
                    means.setdefault(commune, []).append(mean)
            except (Unavailable, NeedsPerson) as e:
                if not self._blind:
                    log.warning("the air of the communes cannot be judged: %s", e)
                self._blind = True
                break
            self._blind = False
            for commune, valid in sorted(means.items()):
                with self._own.lock:
                    self._judge(commune, quantity, sum(valid) / len(valid), limits, end_s)
        return self._clock.boot() + LOOK_S

    def _means(self, quantity: str, end_s: float) -> Iterator[tuple[str, float]]:
        """Commune and mean of each sensor that has one."""
        start_ms, end_ms = round((end_s - DAY_H * HOUR_S) * 1000), round(end_s * 1000)
        for station in self._registry.stations.values():
            for sensor in self._registry.sensors(station.id):
                for info in sensor.quantities:
                    if info.quantity == quantity:
                        key = Key(quantity, station.id, sensor.id)
                        mean = mean_of_day(usable_series(self._store, key, start_ms, end_ms), info.period_s, end_s)
                        if mean is not None:
                            yield station.commune, mean

    def _judge(self, commune: str, quantity: str, mean: float, limits: tuple[float, ...], end_s: float) -> None:
        rule = smog_rule(quantity, commune)
        alarm: Occurrence | None = next(iter(self._own.open(rule)), None)
        before = alarm.level if alarm and stands(alarm) else 0
        level = sum(mean >= limit for limit in limits)
        level = max(level, min(before, sum(mean >= LEAVES * limit for limit in limits)))
        facts = {"time": rfc3339(end_s), "value": round(mean, 3), "threshold": limits[max(level, 1) - 1]}
        if level == before:
            return
        log.warning("%s: %s %.1f over 24 h, level %d", texts.commune(commune), quantity, mean, level)
        if alarm is None or not stands(alarm):
            facts |= {"quantity": quantity, "unit": QUANTITIES[quantity].unit, "mean_h": DAY_H}
            self._own.begin(texts.SEVERAL, rule, "high", level, alarm, **facts)
        elif level > before:
            self._own.follow(alarm, "escalate", "UNACK", level, **facts)
        elif level:
            self._own.follow(alarm, "deescalate", alarm.state, level, **facts)
        else:
            self._own.end(alarm, **facts)
