"""From what a sensor said to readings: distance becomes level, each value gets its QARTOD flag (edge/qc.py). Pure."""

from dataclasses import dataclass

from edge.config import Sensor
from edge.qc import SensorQc
from edge.rules import Observation
from edge.sample import Sample
from edge.sensors.base import COMMUNICATION_KINDS


@dataclass(frozen=True, slots=True)
class Qualified:
    """A reading, ready to be taken; `value` in the table's unit."""

    series: str
    value: float
    qc: int


def qualify(
    sensor: Sensor, sample: Sample, qc: SensorQc, humidity: float | None = None
) -> tuple[list[Qualified], list[Observation]]:
    """The readings of a sample and what the rules shall observe. A sample without a usable value gives no reading.

    `qc` is the sensor's, and remembers. `humidity`: %RH at the station, as another of its sensors has it.
    """
    if sample.error is not None and not sample.fields:
        return [], [_without_value(sensor, sample)]
    values: list[tuple[str, float]] = []
    for field in sample.fields:
        quantity, value = field.name, float(field.value)
        if qc.missing(quantity, value):
            continue
        if sensor.level is not None and quantity == "water_distance":
            quantity, value = "water_level", _level(sensor, value)
        values.append((quantity, value))
    verdicts = qc.judge(sample.boot_s, values, dict(values).get("relative_humidity", humidity))
    readings: list[Qualified] = []
    observations: list[Observation] = []
    for (quantity, value), verdict in zip(values, verdicts, strict=True):
        readings.append(Qualified(f"{sample.key}/{quantity}", value, verdict.flag))
        observations.append(Observation(boot_s=sample.boot_s, quantity=quantity, value=value, qc=verdict.flag))
    if not observations:  # it answered, with nothing that is a value: communication works
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
