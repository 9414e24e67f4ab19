"""Air quality over hours: running means, the Belgian index BelAQI, the Walloon smog thresholds. Pure: no clock, no I/O.

What follows from low-cost sensors is *indicative* and never an official index or a phase of the smog plan: directive 2008/50/EC
allows an indicative measurement an uncertainty of 50 % (PM10), which an optical counter in fog exceeds.

A mean is no reading: it is not journaled, and nothing is published under a quantity's name but what was measured. Means feed
rules (`mean_h`) and health.

Sources: directive 2008/50/EC, annexes I and VII (uncertainty, validity of 75 %); BelAQI as IRCEL-CELINE has it since November 2022 (many
pages still show the older scale); smog plan of the Walloon Region (wallonie.be).
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HOUR_S = 3600.0

_VALID_S = 0.75 * HOUR_S
_VALID_OF_8 = 6
_VALID_OF_24 = 18

BELAQI_HOURLY: Final[Mapping[str, tuple[float, ...]]] = {
    "pm2_5": (3.5, 7.5, 10, 15, 20, 35, 50, 60, 75),
    "pm10": (10, 20, 35, 45, 60, 80, 95, 110, 140),
    "no2": (10, 15, 20, 30, 40, 45, 50, 60, 75),
    "o3": (30, 65, 75, 90, 110, 150, 180, 210, 240),
}
"""Of hourly means in ug/m3: the upper bounds of index 1 (excellent) to 9; above the last it is 10."""

BELAQI_DAILY: Final[Mapping[str, tuple[float, ...]]] = {
    "pm2_5": (2.5, 5, 7.5, 10, 15, 25, 35, 40, 50),
    "pm10": (5, 15, 25, 35, 45, 60, 70, 80, 100),
    "no2": (5, 10, 15, 20, 25, 30, 35, 40, 50),
    "o3": (30, 60, 70, 80, 100, 130, 160, 190, 220),
}
"""The same of means over 24 hours; of o3, of its highest mean over 8 hours in 24."""

SMOG: Final[Mapping[str, tuple[float, ...]]] = {"pm10": (50, 70, 150), "pm2_5": (35, 50)}
"""Of running means over 24 hours in ug/m3: thresholds 0 (information), 1 (alerte) and 2 of the Walloon smog plan."""


@dataclass(frozen=True, slots=True)
class Means:
    """Running means that end at `end_s`, in the unit of the values; None where less than 75 % is there.

    `h1` is that of the last hour; `h8` needs 6 valid hours, `h24` 18; `max_h8` is the highest `h8` of 24 hours, of at least 18.
    """

    end_s: float
    h1: float | None
    h8: float | None
    h24: float | None
    max_h8: float | None

    def over(self, hours: int) -> float | None:
        """That over 1, 8 or 24 hours."""
        return {1: self.h1, 8: self.h8, 24: self.h24}[hours]


class RunningMeans:
    """Of one series. Hours are those of the scale on which times are given.

    Each value stands for the time since the one before, at most `period_s`, and for the hour in which it was measured: an hour is
    valid when at least 45 minutes of it are so covered. Values come in the order of their time; one that does not is left out.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._newest_s = -math.inf
        self._hour = 0
        self._covered_s = self._sum = 0.0
        self._hours: deque[float | None] = deque(maxlen=24)
        self._h8: deque[float | None] = deque(maxlen=24)

    def add(self, at_s: float, value: float) -> Means | None:
        """Take in a finite value. The first of a later hour gives the means up to the beginning of that hour."""
        if at_s <= self._newest_s:
            return None
        hour = math.floor(at_s / HOUR_S)
        means = None
        if self._newest_s > -math.inf and hour > self._hour:
            means = self._close(hour)
        self._hour = hour
        covered_s = min(at_s - self._newest_s, self._period_s)
        self._newest_s = at_s
        self._covered_s += covered_s
        self._sum += value * covered_s
        return means

    def _close(self, hour: int) -> Means:
        """End the hour that was, and those in which nothing came, before `hour`."""
        h1 = self._sum / self._covered_s if self._covered_s >= _VALID_S else None
        for mean in [h1, *[None] * min(hour - self._hour - 1, 24)]:
            self._hours.append(mean)
            self._h8.append(_mean(list(self._hours)[-8:], _VALID_OF_8))
        self._covered_s = self._sum = 0.0
        valid_h8 = [mean for mean in self._h8 if mean is not None]
        return Means(
            hour * HOUR_S,
            self._hours[-1],
            self._h8[-1],
            _mean(list(self._hours), _VALID_OF_24),
            max(valid_h8) if len(valid_h8) >= _VALID_OF_24 else None,
        )


class Averages:
    """The running means of all series, and the newest of each."""

    def __init__(self) -> None:
        self._series: dict[str, RunningMeans] = {}
        self._newest: dict[str, Means] = {}

    def add(self, series: str, period_s: float, at_s: float, value: float) -> Means | None:
        """Take a value of a series in; as `RunningMeans.add`."""
        if series not in self._series:
            self._series[series] = RunningMeans(period_s)
        means = self._series[series].add(at_s, value)
        if means is not None:
            self._newest[series] = means
        return means

    def indicators(self, at_s: float, within_s: float) -> dict[str, float]:
        """By `<sensor key>/<name>`: those of the means that ended within so many seconds before `at_s`."""
        fresh: dict[str, dict[str, Means]] = {}
        for series, means in self._newest.items():
            if at_s - means.end_s < within_s:
                key, _, quantity = series.rpartition("/")
                fresh.setdefault(key, {})[quantity] = means
        return {f"{key}/{name}": value for key, of in fresh.items() for name, value in indicators(of).items()}


def belaqi(values: Mapping[str, float | None], bounds: Mapping[str, tuple[float, ...]]) -> int | None:
    """The index, 1 (excellent) to 10 (exécrable): the worst of its substances'. None when there is none.

    `values` in ug/m3 by quantity, `bounds` one of the tables above; a value on a bound belongs below it.
    """
    return max(
        (bisect_left(bounds[q], value) + 1 for q, value in values.items() if value is not None and q in bounds),
        default=None,
    )


def smog(means: Mapping[str, float | None]) -> int | None:
    """How many thresholds of the smog plan the means over 24 hours (ug/m3) reach: 0 none, 1 information, 2 alerte, 3 the last."""
    return max(
        (sum(value >= bound for bound in SMOG[q]) for q, value in means.items() if value is not None and q in SMOG),
        default=None,
    )


def indicators(means: Mapping[str, Means]) -> dict[str, float]:
    """What a sensor's means (by quantity) tell, for its health: names say over what, and that an index is indicative."""
    values: dict[str, float | None] = {}
    for quantity, of in means.items():
        values |= {f"{quantity}_mean_{hours}h": of.over(hours) for hours in (1, 8, 24)}
    daily = {q: of.max_h8 if q == "o3" else of.h24 for q, of in means.items()}
    values["belaqi_hourly_indicative"] = belaqi({q: of.h1 for q, of in means.items()}, BELAQI_HOURLY)
    values["belaqi_daily_indicative"] = belaqi(daily, BELAQI_DAILY)
    values["smog_indicative"] = smog({q: of.h24 for q, of in means.items()})
    return {name: round(value, 3) for name, value in values.items() if value is not None}


def _mean(hours: list[float | None], valid: int) -> float | None:
    known = [mean for mean in hours if mean is not None]
    return sum(known) / len(known) if len(known) >= valid else None
