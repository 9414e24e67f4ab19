"""Quality control of readings as they come: QARTOD flags (IOOS) from what is known so far. Pure: no clock, no I/O.

Flags: 1 good, 2 not evaluated, 3 suspect *or of high interest*, 4 fail, 9 missing. The flag of a reading is given once, when it
comes, and depends on no later one. Of several tests the worst wins, by QARTOD's order: not evaluated, good, suspect, fail.

    test         flags      of a reading that
    gross_range  3, 4       lies outside what is plausible, or what the sensor can measure; of rainfall its rate is judged, in mm/h
    rate         3          changes faster than `change` in `within_s` since the one before (see `RATE_STEP_S`): the onset of a
                            flood does, so this test never fails a reading
    flat_line    3, 4       stays within `tolerance` of all readings of the last `suspect_s`, `fail_s`; a sustained zero gets 3 at
                            most, since a dry bed and clean air are real
    pm_order     3          is a PM2.5 above the PM10 of the same sample, or that PM10
    humidity     3          is of an optical particle counter in humid air, which counts droplets
    spike        later      stood out from both its neighbours, to the same side: known one reading later, so it changes no flag
                            and is reported as health

A value that is no number, or that stands for "no value" (`sentinels`), is missing: there is no reading of it.

Only a reading newer than all of its series before has a neighbour: of a repeated moment, or of one that comes late, `rate`,
`flat_line` and `spike` are not evaluated. What lies outside the gross range is no neighbour either. The state of a series is a
few readings, so that it can be rebuilt by `remember` from the journal.

Sources: QARTOD manuals of IOOS (water level, 2.1 of 2021, and others); definitions of rate, flat line and spike (the
differential one, which does not see a spike in its neighbours too) as in `ioos_qc` 3.0, with which a test compares them.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from edge.config import FlatLine, GrossRange, Rate, Sensor, Spike

GROSS_RANGE: Final[Mapping[str, GrossRange]] = {
    "water_level": GrossRange(fail=(-100, 800)),
    "water_distance": GrossRange(fail=(0, 200)),
    "pm1": GrossRange(fail=(0, 1000), suspect=(0, 500)),
    "pm2_5": GrossRange(fail=(0, 1000), suspect=(0, 500)),
    "pm10": GrossRange(fail=(0, 2000), suspect=(0, 1000)),
    "no2": GrossRange(fail=(0, 1000), suspect=(0, 400)),
    "o3": GrossRange(fail=(0, 1000), suspect=(0, 400)),
    "air_temperature": GrossRange(fail=(-40, 60), suspect=(-25, 42)),
    "relative_humidity": GrossRange(fail=(0, 100.5), suspect=(5, 100)),
    "water_temperature": GrossRange(fail=(-5, 50), suspect=(-0.5, 30)),
    "rainfall": GrossRange(fail=(0, 300), suspect=(0, 150)),
}
"""Where the configuration gives none. That of a level only keeps out what is no level anywhere in Belgium (gauge zeros from the
river's bed to 694 m above sea): the site's own is configured."""

SPIKE: Final[Mapping[str, Spike]] = {
    "water_level": Spike(suspect=0.15, fail=0.30),
    "water_distance": Spike(suspect=0.15, fail=0.30),
    "air_temperature": Spike(suspect=5, fail=10),
}

RATE: Final[Mapping[str, Rate]] = {
    "water_level": Rate(change=0.5, within_s=600),
    "water_distance": Rate(change=0.5, within_s=600),
    "air_temperature": Rate(change=10, within_s=3600),
}

_H = 3600.0
_PM = FlatLine(tolerance=0.001, suspect_s=2 * _H, fail_s=6 * _H)
_GAS = FlatLine(tolerance=0.001, suspect_s=4 * _H, fail_s=12 * _H)
_WATER = FlatLine(tolerance=0.001, suspect_s=12 * _H, fail_s=24 * _H)

FLAT_LINE: Final[Mapping[str, FlatLine]] = {
    "water_level": _WATER,
    "water_distance": _WATER,
    "pm1": _PM,
    "pm2_5": _PM,
    "pm10": _PM,
    "no2": _GAS,
    "o3": _GAS,
    "air_temperature": FlatLine(tolerance=0.05, suspect_s=6 * _H, fail_s=24 * _H),
    "relative_humidity": FlatLine(tolerance=0.001, suspect_s=24 * _H),
}
"""Long where nature stands still: low flow is flat, and fog is 100 %."""

SENTINELS: Final = (-999.0, -999.9, -9999.0, -9999.9, -99999.0)
"""What loggers write for "no value", and no quantity of the table ever is."""

OPTICAL: Final = frozenset({"pm1", "pm2_5", "pm4", "pm10"})
"""Measured by optical counters, in every driver that we have."""

RATE_STEP_S = 30.0
"""A rate is taken over at least this: the millimetre by which a sensor flickers from frame to frame is no rate."""

NEIGHBOUR_S = 3600.0
"""A neighbour farther away says nothing about a spike (QARTOD's example of a gap in water level)."""

RAIN_STEP_S = 60.0
"""Rain is a rate over at least this: a tip of the bucket is 0.2 mm, however soon it is told."""

_RUN_POINTS = 256
_SEVERITY = {2: 0, 1: 1, 3: 2, 4: 3}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one reading: its flag, and which tests gave it 3 or 4."""

    flag: int
    findings: tuple[str, ...] = ()


def aggregate(flags: Iterable[int]) -> int:
    """The worst flag of several tests. Without any, 2."""
    return max(flags, key=_SEVERITY.__getitem__, default=2)


def gross_range(value: float, span: GrossRange | None) -> int:
    """The QARTOD gross-range flag: 4 outside `fail`, 3 outside `suspect`, 1 inside, 2 when there is no range."""
    if span is None:
        return 2
    if not span.fail[0] <= value <= span.fail[1]:
        return 4
    if span.suspect and not span.suspect[0] <= value <= span.suspect[1]:
        return 3
    return 1


class RateTest:
    """3 for what changes faster than `limit`, 1 for what does not, 2 without a reading `RATE_STEP_S` before or earlier."""

    def __init__(self, limit: Rate) -> None:
        self._limit_per_s = limit.change / limit.within_s
        self._past: deque[tuple[float, float]] = deque()

    def flag(self, boot_s: float, value: float) -> int:
        past = self._past
        while len(past) > 1 and boot_s - past[1][0] >= RATE_STEP_S:
            past.popleft()
        flag = 2
        if past and boot_s - past[0][0] >= RATE_STEP_S:
            rate = abs(value - past[0][1]) / (boot_s - past[0][0])
            flag = 3 if rate > self._limit_per_s else 1
        if not past or boot_s - past[-1][0] >= RATE_STEP_S / 10:
            past.append((boot_s, value))
        return flag


class FlatLineTest:
    """3 and 4 for what has stayed within a range below `tolerance` for `suspect_s` and `fail_s`, else 1.

    A silence longer than half of `suspect_s` begins anew: nobody saw what the quantity did, so at least three readings speak.
    The run is the longest that ends now. Its extremes are kept, not its readings.
    """

    def __init__(self, limit: FlatLine) -> None:
        self._limit = limit
        self._range = limit.tolerance * (1 - 1e-6)  # 1.235 - 1.234 is a little less than a millimetre
        self._since_s = self._newest_s = -math.inf
        # Candidates for the lowest and the highest of what remains of the run: [value, its moment, that of the reading after it].
        self._low: deque[list[float]] = deque()
        self._high: deque[list[float]] = deque()

    def flag(self, boot_s: float, value: float) -> int:
        self._extend(boot_s, value)
        flat_s = boot_s - self._since_s
        if self._limit.fail_s is not None and flat_s >= self._limit.fail_s:
            return 4
        return 3 if flat_s >= self._limit.suspect_s else 1

    def _extend(self, boot_s: float, value: float) -> None:
        low, high = self._low, self._high
        if boot_s - self._newest_s > self._limit.suspect_s / 2:
            low.clear()
            high.clear()
            self._since_s = boot_s
        self._newest_s = boot_s
        for extremes, sign in ((low, 1), (high, -1)):
            if extremes:
                extremes[-1][2] = boot_s
            while extremes and sign * extremes[-1][0] >= sign * value:
                extremes.pop()
            extremes.append([value, boot_s, boot_s])
        while high[0][0] - low[0][0] >= self._range or max(len(low), len(high)) > _RUN_POINTS:
            # The run begins after the older of two that do not fit together, or, to stay small, later than it could.
            _, _, self._since_s = (low if low[0][1] < high[0][1] else high).popleft()
            while low[0][1] < self._since_s:
                low.popleft()
            while high[0][1] < self._since_s:
                high.popleft()


class SpikeTest:
    """The flag of the reading *before* the one given: 3 or 4 when it stands out, to one side, from both its neighbours by more
    than `suspect` or `fail`. 2 without both."""

    def __init__(self, limit: Spike) -> None:
        self._limit = limit
        self._past: deque[tuple[float, float]] = deque(maxlen=2)

    def flag(self, boot_s: float, value: float) -> int:
        flag = 2
        if len(self._past) == 2:
            (first_s, first), (middle_s, middle) = self._past
            if max(middle_s - first_s, boot_s - middle_s) <= NEIGHBOUR_S:
                up, down = middle - first, middle - value
                height = min(abs(up), abs(down)) if up * down > 0 else 0.0
                flag = 4 if height > self._limit.fail else 3 if height > self._limit.suspect else 1
        self._past.append((boot_s, value))
        return flag


class SeriesQc:
    """The tests of one series, with what they remember of it."""

    def __init__(self, sensor: Sensor, quantity: str) -> None:
        self._span = sensor.gross_range.get(quantity, GROSS_RANGE.get(quantity))
        self._per_h = quantity == "rainfall"
        rate, flat_line, spike = (
            configured.get(quantity, defaults.get(quantity))
            for configured, defaults in ((sensor.rate, RATE), (sensor.flat_line, FLAT_LINE), (sensor.spike, SPIKE))
        )
        self._rate = RateTest(rate) if isinstance(rate, Rate) else None
        self._flat_line = FlatLineTest(flat_line) if isinstance(flat_line, FlatLine) else None
        self._spike = SpikeTest(spike) if isinstance(spike, Spike) else None
        self._newest_s = -math.inf
        self.spiked = 2
        """The spike test's flag of the reading before the newest."""

    def judge(self, boot_s: float, value: float) -> Verdict:
        """Of a finite value at boot second `boot_s`."""
        self.spiked = 2
        flags = {"gross_range": self._gross_range(boot_s, value)}
        if boot_s > self._newest_s:
            self._newest_s = boot_s
            if flags["gross_range"] != 4:
                if self._rate:
                    flags["rate"] = self._rate.flag(boot_s, value)
                if self._flat_line:
                    flat = self._flat_line.flag(boot_s, value)
                    flags["flat_line"] = 3 if flat == 4 and value == 0 else flat
                if self._spike:
                    self.spiked = self._spike.flag(boot_s, value)
        return Verdict(aggregate(flags.values()), tuple(test for test, flag in flags.items() if flag in (3, 4)))

    def _gross_range(self, boot_s: float, value: float) -> int:
        if not self._per_h:
            return gross_range(value, self._span)
        if not 0 < boot_s - self._newest_s < math.inf:  # what fell in an unknown time
            return 2
        return gross_range(value * 3600 / max(boot_s - self._newest_s, RAIN_STEP_S), self._span)


class SensorQc:
    """Quality control of one sensor. `found` counts what was found since the start: `<quantity>/qc_<test>`."""

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self._series: dict[str, SeriesQc] = {}
        self.found: Counter[str] = Counter()

    def missing(self, quantity: str, value: float) -> bool:
        """Whether what the device said of a quantity, before any conversion, is no value."""
        if math.isfinite(value) and value not in self._sensor.sentinels.get(quantity, SENTINELS):
            return False
        self.found[f"{quantity}/qc_missing"] += 1
        return True

    def judge(
        self, boot_s: float, readings: Iterable[tuple[str, float]], humidity: float | None = None
    ) -> list[Verdict]:
        """The verdicts on the readings of one sample (quantity, value). `humidity`: %RH of the air, where it is known."""
        readings = list(readings)
        across = findings_across(dict(readings), humidity, self._sensor.humid_from)
        verdicts = []
        for quantity, value in readings:
            series = self._of(quantity)
            verdict = series.judge(boot_s, value)
            more = across.get(quantity, ())
            verdict = Verdict(aggregate((verdict.flag, *(3 for _ in more))), verdict.findings + more)
            verdicts.append(verdict)
            self.found.update(f"{quantity}/qc_{test}" for test in verdict.findings)
            if series.spiked in (3, 4):
                self.found[f"{quantity}/qc_spike"] += 1
        return verdicts

    def remember(self, boot_s: float, quantity: str, value: float) -> None:
        """Take in a reading that was judged before a restart; oldest first."""
        self._of(quantity).judge(boot_s, value)

    def _of(self, quantity: str) -> SeriesQc:
        if quantity not in self._series:
            self._series[quantity] = SeriesQc(self._sensor, quantity)
        return self._series[quantity]


def findings_across(
    values: Mapping[str, float], humidity: float | None, humid_from: float
) -> dict[str, tuple[str, ...]]:
    """What only the quantities of a sample together tell, by quantity; each is worth a 3.

    PM2.5 may exceed PM10, of which it is a part, by a tenth and 1 ug/m3: counters round and estimate each by itself.
    """
    found: dict[str, tuple[str, ...]] = {}
    if "pm2_5" in values and "pm10" in values and values["pm2_5"] > values["pm10"] * 1.1 + 1:
        found = {"pm2_5": ("pm_order",), "pm10": ("pm_order",)}
    if humidity is not None and humidity > humid_from:
        for quantity in OPTICAL & values.keys():
            found[quantity] = (*found.get(quantity, ()), "humidity")
    return found


def history_s(sensor: Sensor) -> float:
    """How much of the past `remember` wants: the longest flat line, and the longest silence within it."""
    limits = {**FLAT_LINE, **sensor.flat_line}.values()
    return max(
        ((limit.fail_s or limit.suspect_s) + limit.suspect_s / 2 for limit in limits if isinstance(limit, FlatLine)),
        default=0.0,
    )
