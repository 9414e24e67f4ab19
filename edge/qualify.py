"""From what a sensor said to readings: distance becomes level, each value gets its QARTOD gross-range flag. Pure.

Flags (QARTOD manual of IOOS, 2020): 1 good, 2 not evaluated, 3 suspect or of high interest, 4 fail, 9 missing.
"""

from dataclasses import dataclass

from edge.config import GrossRange, Sensor
from edge.rules import Observation
from edge.sample import Sample
from edge.sensors.base import COMMUNICATION_KINDS

DEFAULT_RANGES: dict[str, GrossRange] = {
    "pm1": GrossRange(fail=(0, 1000), suspect=(0, 500)),
    "pm2_5": GrossRange(fail=(0, 1000), suspect=(0, 500)),
    "pm10": GrossRange(fail=(0, 2000), suspect=(0, 1000)),
    "air_temperature": GrossRange(fail=(-40, 60), suspect=(-25, 42)),
    "relative_humidity": GrossRange(fail=(0, 100.5), suspect=(5, 100)),
    "water_temperature": GrossRange(fail=(-5, 50), suspect=(-0.5, 30)),
}
"""Where the configuration gives none. A water level has none: its range is the site's."""


@dataclass(frozen=True, slots=True)
class Qualified:
    """A reading, ready to be taken; `value` in the table's unit."""

    series: str
    value: float
    qc: int


def gross_range(value: float, span: GrossRange | None) -> int:
    """The QARTOD gross-range flag: 4 outside `fail`, 3 outside `suspect`, 1 inside, 2 when there is no range."""
    if span is None:
        return 2
    if not span.fail[0] <= value <= span.fail[1]:
        return 4
    if span.suspect and not span.suspect[0] <= value <= span.suspect[1]:
        return 3
    return 1


def qualify(sensor: Sensor, sample: Sample) -> tuple[list[Qualified], list[Observation]]:
    """The readings of a sample and what the rules shall observe. A sample without a usable value gives no reading."""
    if sample.error is not None and not sample.fields:
        return [], [_without_value(sensor, sample)]
    readings: list[Qualified] = []
    observations: list[Observation] = []
    for field in sample.fields:
        quantity, value = field.name, float(field.value)
        if sensor.level is not None and quantity == "water_distance":
            quantity, value = "water_level", _level(sensor, value)
        qc = gross_range(value, sensor.gross_range.get(quantity, DEFAULT_RANGES.get(quantity)))
        readings.append(Qualified(f"{sample.key}/{quantity}", value, qc))
        observations.append(Observation(boot_s=sample.boot_s, quantity=quantity, value=value, qc=qc))
    if not observations:  # it answered, with nothing that the table knows: communication works
        observations.append(Observation(boot_s=sample.boot_s, quantity=None, value=None, qc=9))
    return readings, observations


def _level(sensor: Sensor, distance_m: float) -> float:
    assert sensor.level is not None  # noqa: S101 - the caller looked
    # To 0.1 mm: finer is rounding noise of the subtraction, which no sensor measures.
    return round(sensor.level.datum_m + sensor.level.mounting_height_m - distance_m, 4)


def _without_value(sensor: Sensor, sample: Sample) -> Observation:
    error = sample.error
    assert error is not None  # noqa: S101 - the caller looked
    if error.kind == "blind_zone" and error.at_most_m is not None and sensor.level is not None:
        bound = _level(sensor, error.at_most_m)
        return Observation(boot_s=sample.boot_s, quantity="water_level", value=None, qc=3, at_least=bound)
    heard = error.kind not in COMMUNICATION_KINDS
    return Observation(boot_s=sample.boot_s, quantity=None, value=None, qc=9, comm_ok=heard)
