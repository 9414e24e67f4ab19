"""The measured series that the demo plays (demo/replay/README.md: where they come from, and under which licence)."""

import csv
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from importlib import resources


class Series:
    """Values at moments (Unix s, ascending): linear between them, held before the first and after the last."""

    def __init__(self, times: list[float], values: list[float]) -> None:
        self._times = times
        self._values = values

    @property
    def points(self) -> list[tuple[float, float]]:
        """As they were measured: moment, value."""
        return list(zip(self._times, self._values, strict=True))

    def at(self, time_s: float) -> float:
        after = bisect_right(self._times, time_s)
        if after in (0, len(self._times)):
            return self._values[min(after, len(self._values) - 1)]
        start, end = self._times[after - 1 : after + 1]
        low, high = self._values[after - 1 : after + 1]
        return low + (high - low) * (time_s - start) / (end - start)

    def crossing(self, value: float, start_s: float, end_s: float) -> float | None:
        """The first moment of a span at which a rising series reaches `value`, to the second."""
        moments = range(round(start_s) + 1, round(end_s))
        return next((float(t) for t in moments if self.at(t - 1) < value <= self.at(t)), None)


def river() -> Series:
    """Stage of Dead Run at Franklintown, June 2018, in metres (USGS 01589330)."""
    rows = list(_rows("usgs_01589330_deadrun_2018-06_5min.csv"))
    return Series([_time(r["time_utc"]) for r in rows], [float(r["gage_height_m"]) for r in rows])


def dust(sensor: str) -> tuple[Series, Series]:
    """PM2.5 and PM10 in ug/m3 of one sensor in Aberdeen, Bonfire Night 2018 (sensor.community)."""
    rows = sorted((r for r in _rows("sensorcommunity_aberdeen_2018-11_sds011.csv") if r["sensor"] == sensor), key=_at)
    times = [_time(r["time_utc"]) for r in rows]
    return Series(times, [float(r["pm25_ugm3"]) for r in rows]), Series(times, [float(r["pm10_ugm3"]) for r in rows])


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (resources.files("demo") / "replay" / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _at(row: dict[str, str]) -> str:
    return row["time_utc"]


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
