"""What stands between what a device said and the value that counts: its tilt, the air's temperature, the site's calibration. Pure.

In this order: a distance measured askew is none; a distance reckoned with a fixed speed of sound is corrected for the air;
(edge.qualify makes it a level;) the calibration in force when it was measured is applied.

To have back what was measured: measured = (published - offset) / slope, with the entry that was in force at the reading's
time (`stations` carries the history); a compensated distance is divided by speed_of_sound(air) / sound_m_s.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edge import drivers
from edge.config import Calibration, Sensor, Tilt
from edge.errors import ConfigError
from edge.sample import Sample
from edge.sensors.base import Field, FrameError

DISTANCE = "water_distance"


# ---------------------------------------------------------------------- calibration


def in_force(history: Sequence[Calibration], quantity: str, at_s: float) -> Calibration | None:
    """The newest entry of `quantity` that begins at or before `at_s` (Unix). None before the first."""
    begun = [entry for entry in history if entry.quantity == quantity and entry.begin_s <= at_s]
    return begun[-1] if begun else None


def calibrated(history: Sequence[Calibration], quantity: str, value: float, at_s: float) -> float:
    """slope * value + offset of the entry in force at `at_s`; the value itself without one."""
    entry = in_force(history, quantity, at_s)
    # To 9 decimals: finer is rounding noise.
    return value if entry is None else round(entry.slope * value + entry.offset, 9)


def recalibrated(history: Sequence[Calibration], quantity: str, value: float, then_s: float, now_s: float) -> float:
    """What was published at `then_s` as the entry in force at `now_s` would have it, to compare with what is published now."""
    old = in_force(history, quantity, then_s)
    measured = value if old is None else (value - old.offset) / old.slope
    return calibrated(history, quantity, measured, now_s)


# ---------------------------------------------------------------------- the air


def speed_of_sound(cel: float) -> float:
    """In dry air of `cel` degrees Celsius, m/s: 331.3 * sqrt(1 + cel / 273.15), the ideal gas's."""
    return 331.3 * math.sqrt(1 + cel / 273.15)


def reckoned_sound(sensor: Sensor) -> float | None:
    """The speed of sound (m/s) with which this sensor's device reckons, None where nothing is to be compensated.

    Raises ConfigError when `air` is configured for a device that needs none.
    """
    if sensor.air is None:
        return None
    driver = drivers.find(sensor.driver)
    speed = driver.sound_m_s and driver.sound_m_s(drivers.options(driver, sensor.options))
    if not speed:
        raise ConfigError(
            f"sensor {sensor.id}: air: found for {sensor.driver}, which is not ultrasonic or compensates by itself, expected none"
        )
    return speed


class Air:
    """The newest good air temperature of each sensor that gives one, with its moment."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[float, float]] = {}

    def note(self, key: str, boot_s: float, cel: float, qc: int) -> None:
        """A reading of `<station>/<sensor>`. A suspect or failed one (3, 4) is not taken, nor what no air can be, nor one older
        than the newest."""
        if qc in (1, 2) and -60 <= cel <= 80 and boot_s >= self._newest.get(key, (-math.inf, 0.0))[0]:
            self._newest[key] = (boot_s, cel)

    def at(self, key: str, boot_s: float, max_age_s: float) -> float | None:
        """The temperature near boot second `boot_s`; None when none was measured within `max_age_s` of it."""
        measured_s, cel = self._newest.get(key, (-math.inf, 0.0))
        return cel if abs(boot_s - measured_s) <= max_age_s else None


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beside a sample. `at_s`: the Unix time by which its calibration is chosen. `sound_m_s`: what an
    uncompensated device reckons with, None when nothing is to be compensated. `air_cel`: None when no fresh one is known."""

    at_s: float
    sound_m_s: float | None = None
    air_cel: float | None = None


def compensated(distance_m: float, around: Around) -> tuple[float, bool]:
    """The distance, and whether it is suspect because it should have been compensated and could not: then it stays as the
    device said it. The device measured a time and multiplied it by its own speed of sound."""
    if around.sound_m_s is None:
        return distance_m, False
    if around.air_cel is None:
        return distance_m, True
    return distance_m * speed_of_sound(around.air_cel) / around.sound_m_s, False


# ---------------------------------------------------------------------- tilt


def upright(tilt: Tilt, sample: Sample) -> Sample:
    """The sample without a distance that was measured askew, with the error `sensor_state` in its place. Water in the blind
    zone of a device that looks elsewhere is no evidence either. The other values stay."""
    reason = _askew(tilt, sample.side)
    blind = sample.error is not None and sample.error.kind == "blind_zone"
    if reason is None or not (blind or any(field.name == DISTANCE for field in sample.fields)):
        return sample
    kept = tuple(field for field in sample.fields if field.name != DISTANCE)
    return replace(sample, fields=kept, error=FrameError("sensor_state", reason))


def _askew(tilt: Tilt, side: Iterable[Field]) -> str | None:
    for field in side:
        if field.name == "tilted" and field.value:
            return "the device says that it is tilted"
        if field.name == "tilt" and isinstance(field.value, int | float) and field.value > tilt.max_deg:
            return f"tilt {field.value} deg, expected at most {tilt.max_deg:g}"
        if tilt.upright is not None and isinstance(field.value, dict) and field.value.keys() == set("xyz"):
            angle = _angle_deg(tuple(field.value[axis] for axis in "xyz"), tilt.upright)
            if angle is not None and angle > tilt.max_deg:
                return f"tilt {angle:.0f} deg by acceleration, expected at most {tilt.max_deg:g}"
    return None


def _angle_deg(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Between two vectors; None where one has no direction."""
    lengths = math.hypot(*a) * math.hypot(*b)
    if not lengths:
        return None
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / lengths
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
