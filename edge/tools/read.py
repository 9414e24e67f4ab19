"""`maillages-edge read`: one reading now of each sensor of a configuration, through the transports that a gateway uses.

Nothing is journaled, judged by rules or sent. Sensors behind a network server are left out: whoever takes their uplinks from the
broker takes them from the gateway.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from common.clock import Clock, rfc3339
from edge import drivers
from edge.calibration import Air, Around, reckoned_sound, upright
from edge.config import EdgeConfig, Sensor, Station
from edge.errors import ConfigError
from edge.qc import SensorQc
from edge.qualify import Qualified, qualify
from edge.sample import Sample
from edge.sensors.base import Driver, ErrorKind
from edge.tools.screen import (
    BAD,
    FAINT,
    GOOD,
    STRONG,
    WARNING,
    error_object,
    field_object,
    field_text,
    paint,
    time_of_day,
)
from edge.transports.base import Source, duty_of
from edge.transports.build import build
from wire.quantities import QUANTITIES

_WIRED_S = 10.0
_DIALOGUE_S = 60.0
_NODE_S = 600.0
_LATE = 1.5
_LATER: frozenset[ErrorKind] = frozenset({"warming_up", "no_data", "sensor_state"})
"""What a device says that will have a value in a while."""

FLAGS = {
    1: ("good", GOOD),
    2: ("not judged: no gross_range is configured", FAINT),
    3: ("suspect: unusual here, or in doubt (air not known, humid)", WARNING),
    4: ("impossible: outside gross_range", BAD),
}
"""QARTOD flags as words (see edge.qc)."""

HINTS: dict[ErrorKind, str] = {
    "timeout": "Check power, that RX and TX are crossed (A and B on RS485), baud rate and address. `maillages-edge scan` finds out.",
    "port": "Is the adapter plugged in (`maillages-edge scan`)? A running gateway holds its ports: `sudo systemctl stop"
    " maillages-edge`, and start it again afterwards.",
    "checksum": "Bytes come in damaged: check the cable, the ground, the baud rate, that the adapter is the right"
    " one (TTL, RS232 or RS485), and that no two devices have one address.",
    "length": "Bytes are missing or too many: check the baud rate, the polarity (RS232 or TTL) and the options;"
    " `maillages-edge sniff` shows them.",
    "format": "That is not what this driver expects: check model and options; `maillages-edge sniff` shows the bytes.",
    "exception": "The device refuses the question: check model, register addresses and options.",
    "no_target": "No echo: is the sensor level, is the water in range, is something in the way?",
    "blind_zone": "Water, or something else, is right in front of the sensor.",
    "warming_up": "The sensor is not warm yet: try again in half a minute (CO2: 3 min).",
    "no_data": "The sensor has no new value: try again.",
    "sensor_state": "The sensor was not ready: try again; if that does not help, cut its power for 10 s.",
    "sensor_fault": "The device reports a fault of its own: clean it or replace it.",
    "sensor_missing": "The device answers, its probe does not: check the probe's plug and cable.",
    "out_of_range": "The value cannot be: check model, scale and options.",
    "saturated": "The sensor is at the end of its scale.",
}
_DAMAGED: tuple[ErrorKind, ...] = ("crc", "header", "tail", "gap", "overflow")
HINTS |= dict.fromkeys(_DAMAGED, HINTS["checksum"])
_NODE_HINT = "Is the node's battery good, is it in range, and has it the modem's settings (firmware-configs/)?"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sensor that is to be read: within `limit_s`, or not at all (`refusal` says why)."""

    station: str
    sensor: Sensor
    driver: Driver
    limit_s: float
    pause: str = ""
    refusal: str = ""
    sound_m_s: float | None = None

    @property
    def air(self) -> str:
        """The sensor by whose temperature its distance is compensated; empty where none is."""
        return f"{self.station}/{self.sensor.air.sensor}" if self.sensor.air is not None else ""

    @property
    def key(self) -> str:
        return f"{self.station}/{self.sensor.id}"

    @property
    def where(self) -> str:
        way = self.sensor.port or self.sensor.modem or self.sensor.network_server
        node = "" if self.sensor.address is None else f" node {self.sensor.address}"
        return f"{self.sensor.driver} on {way}{node}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it: a Sample, or none, and the readings in it."""

    wanted: Wanted
    sample: Sample | None
    waited_s: float
    readings: tuple[Qualified, ...] = ()

    @property
    def good(self) -> bool:
        return bool(self.readings)


class Reader:
    """Reads the sensors that `target` names: a station, `station/sensor`, or all when it is empty; and before a distance that the
    air's temperature compensates, that of the air.

    `timeout_s` is how long to wait for each; without it as long as its kind may take, for a radio node one and a half of its periods.
    """

    def __init__(self, settings: EdgeConfig, target: str, clock: Clock, timeout_s: float | None = None) -> None:
        """Raises ConfigError. Opens nothing."""
        stations = _selected(settings, target)
        self._clock = clock
        self._air = Air()
        self.wanted = [_wanted(station.id, sensor, timeout_s) for station in stations for sensor in station.sensor]
        here = {w.key: w.sensor for w in self.wanted if not w.refusal}
        kept = [
            station.model_copy(update={"sensor": sensors})
            for station in stations
            if (sensors := tuple(here[k] for s in station.sensor if (k := f"{station.id}/{s.id}") in here))
        ]
        modems = {sensor.modem for sensor in here.values()}
        part = {
            "station": tuple(kept),
            "modem": tuple(m for m in settings.modem if m.name in modems),
            "network_server": (),
        }
        self._samples: SimpleQueue[Sample] = SimpleQueue()
        self._transports = build(settings.model_copy(update=part), clock, self._samples.put) if kept else []

    def run(self, stop: Event, take: Callable[[Answer], None], tell: Callable[[str], None]) -> None:
        """Give an Answer for each sensor as soon as it is known, until `stop`; `tell` hears what is waited for."""
        start = self._clock.boot()
        for wanted in self.wanted:
            if wanted.refusal:
                take(Answer(wanted, None, 0.0))
        waiting = {wanted.key: wanted for wanted in self.wanted if not wanted.refusal}
        last: dict[str, Sample] = {}
        held: list[tuple[Wanted, Sample | None, float]] = []
        for transport in self._transports:
            transport.start()
        try:
            while waiting:
                waited = self._clock.boot() - start
                tell(_waiting(waiting.values(), waited))
                sample = self._next()
                if sample is not None and sample.key in waiting:
                    last[sample.key] = sample
                    if sample.error is None or sample.error.kind not in _LATER:
                        held.append((waiting.pop(sample.key), sample, waited))
                over = [key for key, w in waiting.items() if waited >= w.limit_s or stop.is_set()]
                held += [(waiting.pop(key), last.get(key), waited) for key in over]
                for known in sorted(
                    (one for one in held if one[0].air not in waiting), key=lambda one: one[0].air != ""
                ):
                    held.remove(known)
                    take(self._answer(*known))
        finally:
            tell("")
            for transport in self._transports:
                transport.stop()

    def _answer(self, wanted: Wanted, sample: Sample | None, waited_s: float) -> Answer:
        if sample is None:
            return Answer(wanted, None, waited_s)
        sensor = wanted.sensor
        sample = upright(sensor.tilt, sample)
        air_cel = self._air.at(wanted.air, sample.boot_s, sensor.air.max_age_s) if sensor.air is not None else None
        around = Around(sample.wall_s, wanted.sound_m_s, air_cel)
        readings, _ = qualify(sensor, sample, SensorQc(sensor), around)
        for reading in readings:
            if reading.series == f"{wanted.key}/air_temperature":
                self._air.note(wanted.key, sample.boot_s, reading.value, reading.qc)
        return Answer(wanted, sample, waited_s, tuple(readings))

    def _next(self) -> Sample | None:
        try:
            return self._samples.get(timeout=0.25)
        except Empty:
            return None


def _selected(settings: EdgeConfig, target: str) -> list[Station]:
    station_id, slash, sensor_id = target.partition("/")
    stations = [s for s in settings.station if station_id in ("", s.id)]
    if not stations:
        known = ", ".join(s.id for s in settings.station)
        raise ConfigError(f"station {station_id!r} is unknown, expected one of {known}")
    if not slash:
        return stations
    found = [
        station.model_copy(update={"sensor": tuple(s for s in station.sensor if s.id in (sensor_id, air))})
        for station in stations
        for sensor in station.sensor
        if sensor.id == sensor_id
        for air in (sensor.air.sensor if sensor.air is not None else None,)
    ]
    if not found:
        known = ", ".join(sensor.id for station in stations for sensor in station.sensor)
        raise ConfigError(f"sensor {sensor_id!r} is unknown, expected one of {known}")
    return found


def _wanted(station: str, sensor: Sensor, timeout_s: float | None) -> Wanted:
    """The sensor as it is to be asked now: what talks by itself gives its first frame, unless it rests between readings; then it
    warms up first, as it does for the gateway, and is put to rest again."""
    driver = drivers.find(sensor.driver)
    period_s = driver.period_s if sensor.period_s is None else sensor.period_s
    if sensor.network_server is not None:
        return Wanted(
            station, sensor, driver, 0, refusal=f"its uplinks go from {sensor.network_server} to the gateway alone"
        )
    if sensor.modem is not None:
        limit_s = _LATE * (sensor.period_s or _NODE_S)
        return Wanted(station, sensor, driver, timeout_s or limit_s, f"sends every {limit_s / _LATE:.0f} s")
    options = drivers.options(driver, sensor.options)
    talks = driver.link == "stream" and not (driver.request is not None and driver.request(options))
    window_s = min(sensor.median_s, period_s) if talks else 0.0
    duty = duty_of(Source(station, sensor.id, driver, options, period_s, sensor.median_s), window_s)
    if duty is not None:
        need_s = duty.warm_up_s + window_s
        return Wanted(station, sensor, driver, timeout_s or need_s + _WIRED_S, f"warms up, {need_s:.0f} s")
    limit_s = _WIRED_S if driver.dialogue is None else _DIALOGUE_S
    update = {"period_s": 0.0} if talks else {}
    now = sensor.model_copy(update=update)
    return Wanted(station, now, driver, timeout_s or limit_s, sound_m_s=reckoned_sound(sensor))


def _waiting(wanted: Iterable[Wanted], waited_s: float) -> str:
    names = ", ".join(w.key + (f" ({w.pause})" if w.pause else "") for w in wanted)
    return f"{waited_s:.0f} s   waiting for {names}"


def hint(answer: Answer) -> str:
    """What to do about an answer without a value."""
    wanted, sample = answer.wanted, answer.sample
    if wanted.refusal:
        return "Look at the network server, or at what the gateway logs."
    if wanted.sensor.modem is not None and (sample is None or sample.error is None or sample.error.kind == "timeout"):
        return _NODE_HINT
    return HINTS.get(sample.error.kind if sample is not None and sample.error is not None else "timeout", "")


def problem(answer: Answer) -> str:
    """Why there is no value; empty when there is one."""
    sample = answer.sample
    if answer.wanted.refusal:
        return f"not read: {answer.wanted.refusal}"
    if sample is None:
        return f"timeout: nothing heard in {answer.waited_s:.0f} s"
    if sample.error is not None:
        return sample.error.reason if sample.error.kind == "port" else str(sample.error)
    return "" if answer.readings else "it answers, with nothing that is a quantity"


def lines(answer: Answer) -> list[str]:
    """An answer for people."""
    wanted, sample = answer.wanted, answer.sample
    at = "" if sample is None else f"  {time_of_day(sample.wall_s)}"
    shown = [paint(wanted.key, STRONG) + paint(f"  {wanted.where}{at}", FAINT)]
    for reading in answer.readings:
        quantity = reading.series.rpartition("/")[2]
        word, style = FLAGS[reading.qc]
        shown.append(f"  {quantity:<18} {reading.value:>10g} {QUANTITIES[quantity].unit:<6} " + paint(word, style))
    if text := problem(answer):
        shown.append("  " + paint(text, BAD))
        if todo := hint(answer):
            shown.append("  " + paint(todo, WARNING))
    if sample is not None:
        said = {(r.series.rpartition("/")[2], r.value) for r in answer.readings}
        raw = [f for f in sample.fields if (f.name, f.value) not in said]
        if side := "  ".join(field_text(f) for f in [*raw, *sample.side]):
            shown.append(paint(f"  {side}", FAINT))
    return shown


def value(answer: Answer) -> dict[str, Any]:
    """An answer as an object for JSON."""
    sample = answer.sample
    text = problem(answer)
    error = None
    if text:
        known = None if sample is None or sample.error is None else error_object(sample.error)
        error = (known or {"kind": "timeout" if sample is None else "no_data", "reason": text}) | {"hint": hint(answer)}
    return {
        "station": answer.wanted.station,
        "sensor": answer.wanted.sensor.id,
        "time": None if sample is None else rfc3339(sample.wall_s),
        "readings": [
            {"quantity": quantity, "value": r.value, "unit": QUANTITIES[quantity].unit, "qc": r.qc}
            for r in answer.readings
            for quantity in (r.series.rpartition("/")[2],)
        ],
        "fields": [] if sample is None else [field_object(f) for f in (*sample.fields, *sample.side)],
        "error": error,
    }
