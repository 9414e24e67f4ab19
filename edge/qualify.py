"""From what a sensor said to readings: distance becomes level, each value gets its QARTOD flag (edge/qc.py). Pure."""

from dataclasses import dataclass

from edge import drivers
from edge.calibration import DISTANCE, Around, calibrated, compensated, upright
from edge.config import Sensor
from edge.qc import SensorQc
from edge.rules import Observation
from edge.sample import Sample
from edge.sensors.base import COMMUNICATION_KINDS, Field


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


def qualify(
    sensor: Sensor, sample: Sample, qc: SensorQc, around: Around | None = None, humidity: float | None = None
) -> tuple[list[Qualified], list[Observation]]:
    """The readings of a sample and what the rules shall observe. A sample without a usable value gives no reading.

    `qc` is the sensor's, and remembers. `around` None: nothing is to be compensated, and the sample's own time chooses the
    calibration. `humidity`: %RH at the station, as another of its sensors has it.
    """
    around = around or Around(sample.wall_s)
    sample = upright(sensor.tilt, sample)
    found = [
        (field, *_published(sensor, field.name, float(field.value), around))
        for field in sample.fields
        if not qc.missing(field.name, float(field.value))
    ]
    values = [(quantity, value) for _, quantity, value, _ in found]
    verdicts = qc.judge(sample.boot_s, values, dict(values).get("relative_humidity", humidity))
    readings: list[Qualified] = []
    observations: list[Observation] = []
    for (field, quantity, value, doubtful), verdict in zip(found, verdicts, strict=True):
        flag = max(verdict.flag, 3) if doubtful else verdict.flag
        corrected = around.sound_m_s is not None or any(entry.quantity == quantity for entry in sensor.calibration)
        readings.append(Qualified(f"{sample.key}/{quantity}", value, flag, field if corrected else None))
        observations.append(Observation(boot_s=sample.boot_s, quantity=quantity, value=value, qc=flag))
    if sample.error is not None:
        observations.append(_without_value(sensor, sample, around))
    elif not observations:  # it answered, with nothing that is a value: communication works
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
