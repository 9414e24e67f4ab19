"""From what a sensor said to readings: distance becomes level, each value gets its QARTOD gross-range flag. Pure.

Flags (QARTOD manual of IOOS, 2020): 1 good, 2 not evaluated, 3 suspect or of high interest, 4 fail, 9 missing.
"""

from dataclasses import dataclass

from edge import drivers
from edge.calibration import DISTANCE, Around, calibrated, compensated, upright
from edge.config import GrossRange, Sensor
from edge.rules import Observation
from edge.sample import Sample
from edge.sensors.base import COMMUNICATION_KINDS, Field

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
    """A reading, ready to be taken; `value` in the table's unit. `measured` is what the device said, where that was corrected."""

    series: str
    value: float
    qc: int
    measured: Field | None = None


def published(sensor: Sensor) -> list[str]:
    """The quantities that a sensor can publish: of its channels where it names some, else of its driver."""
    channels = sensor.options.get("channels", {})
    names = [str(name) for name in channels.values()] if isinstance(channels, dict) else []
    quantities = names or list(drivers.find(sensor.driver).quantities)
    return ["water_level" if q == DISTANCE and sensor.level is not None else q for q in quantities]


def gross_range(value: float, span: GrossRange | None) -> int:
    """The QARTOD gross-range flag: 4 outside `fail`, 3 outside `suspect`, 1 inside, 2 when there is no range."""
    if span is None:
        return 2
    if not span.fail[0] <= value <= span.fail[1]:
        return 4
    if span.suspect and not span.suspect[0] <= value <= span.suspect[1]:
        return 3
    return 1


def qualify(sensor: Sensor, sample: Sample, around: Around | None = None) -> tuple[list[Qualified], list[Observation]]:
    """The readings of a sample and what the rules shall observe. A sample without a usable value gives no reading.

    `around` None: nothing is to be compensated, and the sample's own time chooses the calibration.
    """
    around = around or Around(sample.wall_s)
    sample = upright(sensor.tilt, sample)
    readings: list[Qualified] = []
    observations: list[Observation] = []
    for field in sample.fields:
        quantity, value, doubtful = _published(sensor, field.name, float(field.value), around)
        qc = gross_range(value, sensor.gross_range.get(quantity, DEFAULT_RANGES.get(quantity)))
        qc = max(qc, 3) if doubtful else qc
        corrected = around.sound_m_s is not None or any(entry.quantity == quantity for entry in sensor.calibration)
        readings.append(Qualified(f"{sample.key}/{quantity}", value, qc, field if corrected else None))
        observations.append(Observation(boot_s=sample.boot_s, quantity=quantity, value=value, qc=qc))
    if sample.error is not None:
        observations.append(_without_value(sensor, sample, around))
    elif not observations:  # it answered, with nothing that the table knows: communication works
        observations.append(Observation(boot_s=sample.boot_s, quantity=None, value=None, qc=9))
    return readings, observations


def _published(sensor: Sensor, quantity: str, value: float, around: Around) -> tuple[str, float, bool]:
    """What a measured value is published as: quantity, value, and whether it is doubtful."""
    doubtful = False
    if quantity == DISTANCE:
        value, doubtful = compensated(value, around)
        if sensor.level is not None:
            # To 0.1 mm: finer is rounding noise of the subtraction, which no sensor measures.
            level = round(sensor.level.datum_m + sensor.level.mounting_height_m - value, 4)
            quantity, value = "water_level", level
    return quantity, calibrated(sensor.calibration, quantity, value, around.at_s), doubtful


def _without_value(sensor: Sensor, sample: Sample, around: Around) -> Observation:
    error = sample.error
    assert error is not None  # noqa: S101 - the caller looked
    if error.kind == "blind_zone" and error.at_most_m is not None and sensor.level is not None:
        quantity, bound, _ = _published(sensor, DISTANCE, error.at_most_m, around)
        return Observation(boot_s=sample.boot_s, quantity=quantity, value=None, qc=3, at_least=bound)
    heard = error.kind not in COMMUNICATION_KINDS
    return Observation(boot_s=sample.boot_s, quantity=None, value=None, qc=9, comm_ok=heard)
