"""Milesight EM and AM sensors on LoRaWAN: channel, type, value, again and again. It looks like Cayenne LPP and is not:
values are little-endian, and a channel above 0x80 carries an alarm byte after its value.

Sources: Milesight user guides, chapter "Uplink Data", of EM300, EM310, EM320, EM400, EM410, EM500, AM100 and AM300;
Milesight-IoT/SensorDecoders@e79c9d8b25. The LoRaWAN port (85) can be set on the device, so it is not checked.
"""

import struct
from dataclasses import dataclass
from typing import Any, Literal

from edge.sensors._lorawan import UplinkOptions, reply, usable
from edge.sensors.base import Driver, ErrorKind, Field, FrameError, Sheet

_ALARM, _MUTATION, _EXCEPTION = 0x80, 0x90, 0xB0
_COMMANDS = (0xF8, 0xF9, 0xFE)
_INFO = 0xFF
_HISTORY = 0xCE
_NO_TARGET, _DISABLED, _FAULT = 0xFFFD, 0xFFFE, 0xFFFF
_BLIND, _EXCEPTIONS = 1, {2: _NO_TARGET, 3: _FAULT}
_LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (-60, 125),
    "humidity": (0, 100),
    "battery_level": (0, 100),
    "depth": (-100, 10_000),
    "distance": (-100, 40_000),
}
"""Beyond these no sensor of theirs can read (but a PT100): depth in cm, distance in mm, both signed where they are little."""
_PT100_LIMITS = (-200.0, 850.0)


class MilesightOptions(UplinkOptions):
    """`model`: decides what digital channels and history records mean. `probe`: what the temperature is of. `blind_m`:
    how near a radar's blind zone reaches, for the frames that do not say the distance."""

    probe: Literal["air_temperature", "water_temperature"] = "air_temperature"
    blind_m: float = 0.3


@dataclass(frozen=True, slots=True)
class _Type:
    """`layout`: how struct reads the value."""

    name: str
    unit: str
    layout: str
    scale: float = 1


_TYPES = {
    0x67: _Type("temperature", "degC", "<h", 10),
    0x68: _Type("humidity", "%RH", "<B", 2),
    0x6A: _Type("activity", "1", "<H"),
    0x73: _Type("air_pressure", "hPa", "<H", 10),
    0x75: _Type("battery_level", "%EL", "<B"),
    0x77: _Type("depth", "cm", "<H"),
    0x7B: _Type("pressure", "kPa", "<h"),
    0x7F: _Type("conductivity", "uS/cm", "<H"),
    0x82: _Type("distance", "mm", "<H"),
    0x94: _Type("illuminance", "lx", "<I"),
    0xC7: _Type("radar_strength", "dB", "<h", 100),
    0xC8: _Type("pulses", "1", "<I"),
    0xCA: _Type("soil_moisture", "%", "<H", 100),
    0xCB: _Type("light_level", "1", "<B"),
    0xD7: _Type("temperature", "degC", "<h", 10),
    0xE6: _Type("tvoc", "ug/m3", "<H"),
    0xE9: _Type("distance", "mm", "<H", 10),
}
_CONCENTRATIONS = {
    0x05: _Type("co2", "ppm", "<H"),
    0x07: _Type("co2", "ppm", "<H"),
    0x08: _Type("tvoc", "ppb", "<H"),
    0x0A: _Type("hcho", "mg/m3", "<H", 100),
    0x0B: _Type("pm2_5", "ug/m3", "<H"),
    0x0C: _Type("pm10", "ug/m3", "<H"),
    0x0D: _Type("o3_ppm", "ppm", "<H", 100),
}
"""Type 7D, by channel."""
_TVOC_INDEX = _Type("tvoc_index", "1", "<H", 100)
_SOIL_MOISTURE = _Type("soil_moisture", "%", "<B", 2)
_DIGITAL = (
    (("UDL", "MUD", "RDL", "TLD", "TILT"), "tilted"),
    (("SLD", "ZLD", "MLD"), "water_leak"),
    (("MCS",), "door_open"),
    (("AM1", "AM3"), "pir"),
)
_INFO_BYTES = {0x01: 1, 0x09: 2, 0x0A: 2, 0x0B: 1, 0x0F: 1, 0x16: 8, 0x18: 2, 0x1B: 5, 0x08: 6, 0xFE: 1, 0xFF: 2}

_AM300 = ("temperature/10h", "humidity/2H", "pir/1B", "light_level/1B", "co2/1H", "tvoc_index/100H", "pressure/10H")
_HISTORIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("EM410",), ("distance/1H", "temperature/10h", "distance_mutation/1h", "event/1B")),
    (("UDL",), ("distance/1H",)),
    (("SWL",), ("level/1H",)),
    (("PT100",), ("temperature/10h",)),
    (("EM500CO2",), ("co2/1H", "pressure/10H", "temperature/10h", "humidity/2B")),
    (("EM500PP",), ("pressure/1h",)),
    (("EM300DI",), ("temperature/10h", "humidity/2B", "state/1B", "event/1B", "pulses/1I")),
    (("EM300",), ("temperature/10h", "humidity/2B", "state/1B")),
    (("EM320", "AM102"), ("temperature/10h", "humidity/2B")),
    (("AM103",), ("temperature/10h", "humidity/2B", "co2/1H")),
    (("AM307",), _AM300),
    (("AM308",), (*_AM300, "pm2_5/1H", "pm10/1H")),
)
"""History records by model: name, divisor and struct code of each value, after the time."""


def decode(frame: bytes, options: MilesightOptions) -> list[Field]:
    """One payload -> `water_distance` and `water_level` in m, `water_pressure` in hPa (EM500-PP), air values of the
    table in its units, `battery_level`; as health `tilted`, `water_leak`, alarms (`distance_alarm` ...), `light_level`,
    `tvoc` ... Of a value that comes twice the later one counts. `history` holds records that the device kept: each with
    its own `timestamp` (Unix s), under the device's names and units, and never a reading of now.

    A type that is not known ends the payload: what stood before it is good, the rest comes as `undecoded` (hex).
    A payload of device information or answers to downlinks alone is a `reply`.

    Raises FrameError: `length` for a value cut short (then nothing is believed); `format` when nothing is known;
    `no_target`, `blind_zone`, `sensor_fault`, `sensor_missing` as a distance or depth says; `implausible` when nothing
    else is left; with what stays usable.
    """
    if not frame:
        raise FrameError("length", "0 bytes, expected a channel")
    reader = _Reader(frame, options)
    while reader.at < len(frame):
        reader.step()
    return reader.fields()


class _Reader:
    def __init__(self, frame: bytes, options: MilesightOptions) -> None:
        self.at = 0
        self._frame = frame
        self._options = options
        self._found: dict[str, Field] = {}
        self._error: tuple[ErrorKind, str, float | None] | None = None
        self._history: list[dict[str, Any]] = []
        self._replied = False

    def _take(self, layout: str) -> tuple[Any, ...]:
        end = self.at + struct.calcsize(layout)
        if end > len(self._frame):
            raise FrameError("length", f"{len(self._frame)} bytes, expected {end} or more")
        self.at, start = end, self.at
        return struct.unpack(layout, self._frame[start:end])

    def step(self) -> None:
        start = self.at
        channel, code = self._take("<BB")
        kind = self._type(channel & 0x0F, code)
        if channel in (0x20, 0x21) and code == _HISTORY and self._record(channel == 0x21):
            return
        if channel == _INFO and code in _INFO_BYTES:
            self._take(f"<{_INFO_BYTES[code]}s")
            self._replied = True
        elif channel in (_INFO, *_COMMANDS):
            self.at = len(self._frame)
            self._replied = True
        elif code == 0x65:
            lux, both, infrared = self._take("<HHH")
            for name, value in (("illuminance", lux), ("infrared_and_visible", both), ("infrared", infrared)):
                self._put(name, value, "lx" if name == "illuminance" else "1")
        elif code == 0x00 and channel < 0x20:
            self._put(self._digital(), bool(self._take("<B")[0]), "")
        elif code == 0x88:
            longitude, latitude, _motion = self._take("<iiB")
            self._put("longitude", longitude / 1e6, "deg")
            self._put("latitude", latitude / 1e6, "deg")
        elif kind is not None and channel < 0xC0:
            self._value(channel & 0xF0, code, kind)
        else:
            if not self._found and not self._history:
                raise FrameError("format", f"channel {channel:02X} with type {code:02X} at byte {start} is unknown")
            self._put("undecoded", self._frame[start:].hex().upper(), "")
            self.at = len(self._frame)

    def _type(self, channel: int, code: int) -> _Type | None:
        if code == 0x7D:
            indexed = channel == 0x08 and self._options.named("AM3")
            return _TVOC_INDEX if indexed else _CONCENTRATIONS.get(channel)
        if code == 0x68 and self._options.named("SMT"):
            return _SOIL_MOISTURE
        return _TYPES.get(code)

    def _digital(self) -> str:
        return next((name for models, name in _DIGITAL if self._options.named(*models)), "digital")

    def _value(self, variant: int, code: int, kind: _Type) -> None:
        (raw,) = self._take(kind.layout)
        if variant == _EXCEPTION:
            (exception,) = self._take("<B")
            if exception == _BLIND:
                near_m = raw / 1000 if raw < 0x8000 else self._options.blind_m
                self._fail("blind_zone", "the water has reached the blind zone of the radar", near_m)
                return
            raw = _EXCEPTIONS.get(exception, raw)
        elif variant == _MUTATION or code in (0xD7, 0xE9):
            (change,) = self._take("<h")
            self._put(f"{kind.name}_mutation", change / kind.scale, kind.unit)
        if variant and variant != _EXCEPTION:
            self._put(f"{kind.name}_alarm", bool(self._take("<B")[0]), "")
        self._measured(kind, raw)

    def _measured(self, kind: _Type, raw: int) -> None:
        if kind.name in ("distance", "depth") and raw in _SENTINELS:
            self._fail(*_SENTINELS[raw])
            return
        if raw >= 0x8000 and (
            kind.name == "depth" or (kind.name == "distance" and self._options.named("EM410", "EM411"))
        ):
            raw -= 0x10000
        value = raw if kind.scale == 1 else raw / kind.scale
        if not self._plausible(kind.name, value):
            self._fail("implausible", f"{kind.name} {value} {kind.unit}")
            return
        match kind.name:
            case "distance":
                self._put("water_distance", value / 1000, "m")
            case "depth":
                self._put("water_level", value / 100, "m")
            case "pressure":
                self._put("water_pressure", value * 10, "hPa")
            case "temperature" if self._options.named("SMT"):
                self._put("soil_temperature", value, "degC")
            case "temperature":
                self._put(self._options.probe, value, "Cel")
            case "humidity":
                self._put("relative_humidity", value, "%RH")
            case name:
                self._put(name, value, kind.unit)

    def _plausible(self, name: str, value: float) -> bool:
        low, high = _LIMITS.get(name, (float("-inf"), float("inf")))
        if name == "temperature" and self._options.named("PT100"):
            low, high = _PT100_LIMITS
        return low <= value <= high

    def _record(self, in_mass: bool) -> bool:
        """Whether the model's history records are known. `in_mass`: with VOC in ug/m3 in place of an index."""
        layout = next((names for models, names in _HISTORIES if self._options.named(*models)), None)
        if layout is None:
            return False
        parts = [(name, int(rest[:-1]), rest[-1]) for name, rest in (part.split("/") for part in layout)]
        timestamp, *raws = self._take("<I" + "".join(code for _, _, code in parts))
        if in_mass:
            parts = [("tvoc", 1, "H") if part[0] == "tvoc_index" else part for part in parts]
        record: dict[str, Any] = {"timestamp": timestamp}
        for (name, scale, _), raw in zip(parts, raws, strict=True):
            value = raw if scale == 1 else raw / scale
            if name in ("distance", "level") and raw in _SENTINELS:
                continue
            if not self._plausible(name, value):
                self._fail("implausible", f"record of {timestamp}: {name} {value}")
                return True
            if name not in ("state", "event"):
                record[name] = value
        self._history.append(record)
        return True

    def _put(self, name: str, value: Any, unit: str) -> None:
        self._found.pop(name, None)
        self._found[name] = Field(name, value, unit)

    def _fail(self, kind: ErrorKind, reason: str, at_most_m: float | None = None) -> None:
        self._error = self._error or (kind, reason, at_most_m)

    def fields(self) -> list[Field]:
        if self._history:
            self._put("history", self._history, "")
        if self._error is not None:
            kind, reason, at_most_m = self._error
            if kind == "implausible" and self._found.keys() - {"battery_level"}:
                return [*self._found.values(), Field("implausible", reason, "")]
            raise FrameError(kind, reason, usable(self._found.values()), at_most_m)
        found = list(self._found.values())
        return [reply("device_information"), *found] if self._replied and not found else found


_SENTINELS: dict[int, tuple[ErrorKind, str]] = {
    _NO_TARGET: ("no_target", "FFFD: no target, or out of range"),
    _DISABLED: ("sensor_missing", "FFFE: the sensor is switched off"),
    _FAULT: ("sensor_fault", "FFFF: the sensor does not answer"),
}


DRIVER = Driver(
    name="milesight",
    title="Milesight EM300/310/320/400/410/500 and AM100/300 sensors (LoRaWAN)",
    link="payload",
    quantities=(
        "water_distance",
        "water_level",
        "water_pressure",
        "water_temperature",
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "co2",
        "pm2_5",
        "pm10",
        "o3_ppm",
        "battery_level",
    ),
    options=MilesightOptions,
    decode=decode,
    source="Milesight user guides EM and AM series; Milesight-IoT/SensorDecoders@e79c9d8b25",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray. Set the zero of its tilt "
        "by magnet or app after mounting.",
        limits="Ranges by model (EM500-UDL, EM310-UDL, EM400-MUD, EM410-RDL radar). EM500-SWL and EM500-PP are "
        "submersed. `probe` says what an EM500-PT100 measures.",
        faults="FFFD: no target; FFFF: the sensor fails. `tilted`: no distance is taken. TVOC has another scale "
        "on each model. The depth of an EM500-SWL is in cm.",
        options='model = "EM500-UDL"',
    ),
)
