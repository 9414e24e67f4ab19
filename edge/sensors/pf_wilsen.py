"""Pepperl+Fuchs WILSEN sonic level sensors on LoRaWAN: length, record type, value, again and again, big-endian.

Source: TheThingsNetwork/lorawan-devices: vendor/pepperl-fuchs/wilsen.js (the manufacturer's). The unit of a distance is
in the record's type: 0B01 is in cm, 0B02 in mm. Records 0B08 (water body level, in mm) and 3104: actility/device-catalog:
vendors/pf.
"""

import math
import struct
from typing import Any

from edge.sensors._lorawan import UplinkOptions, plausible, reply, usable
from edge.sensors.base import Driver, Field, FrameError, Sheet

_TYPES: dict[int, tuple[str, str, str, float]] = {
    0x0201: (">f", "air_temperature", "Cel", 1),
    0x0B01: (">H", "water_distance", "m", 100),
    0x0B02: (">H", "water_distance", "m", 1000),
    0x0B06: (">B", "fill", "%", 1),
    0x0B07: (">B", "amplitude", "1", 1),
    0x0B08: (">H", "water_level", "m", 1000),
    0x0C04: (">B", "sensor_status", "1", 1),
    0x3101: (">H", "transmissions", "1", 1),
    0x3102: (">H", "gps_acquisitions", "1", 1),
    0x3103: (">I", "measurements", "1", 1),
    0x3104: (">I", "measurements", "1", 1),
    0x5001: (">i", "latitude", "deg", 1e6),
    0x5002: (">i", "longitude", "deg", 1e6),
    0x5101: (">B", "battery_voltage", "V", 10),
}
_MEASURED = (0x0B01, 0x0B02, 0x0B08)
_NO_DISTANCE = b"\xff\xff"
_SETTINGS_FROM = 0xF000


def decode(frame: bytes, _options: UplinkOptions) -> list[Field]:
    """One payload -> `water_distance` or `water_level` in m, `fill` in %, `air_temperature` in Cel (at the sensor), `battery_voltage` in
    V, `latitude` and `longitude` in deg, counters. Records of other types are passed over; settings alone are a
    `reply`.

    Raises FrameError: `length` for a record cut short or of the wrong size; `format` when no record is known;
    `no_target` for a distance or level of 65535, with what stays usable.
    """
    fields: list[Field] = []
    settings = nothing = False
    at = 0
    while at < len(frame):
        end = at + 1 + frame[at]
        if frame[at] < 2 or end > len(frame):
            raise FrameError("length", f"record of {frame[at]} bytes at byte {at}, {len(frame) - at - 1} left")
        kind, value = int.from_bytes(frame[at + 1 : at + 3], "big"), frame[at + 3 : end]
        settings = settings or kind >= _SETTINGS_FROM
        nothing = nothing or (kind in _MEASURED and value == _NO_DISTANCE)
        if kind in _TYPES:
            fields += _field(kind, value)
        at = end
    if not fields:
        if settings:
            return [reply("settings")]
        raise FrameError("format", "no record of a known type")
    if nothing:
        raise FrameError("no_target", "65535: nothing measured", usable(fields))
    return plausible(fields)


def _field(kind: int, value: bytes) -> list[Field]:
    layout, name, unit, divisor = _TYPES[kind]
    if len(value) != struct.calcsize(layout):
        raise FrameError("length", f"{len(value)} bytes, expected {struct.calcsize(layout)} in record {kind:04X}")
    raw: Any = struct.unpack(layout, value)[0]
    if isinstance(raw, float):
        return [Field(name, round(raw, 3), unit)] if math.isfinite(raw) else []
    return [Field(name, raw if divisor == 1 else raw / divisor, unit)]


DRIVER = Driver(
    name="pf_wilsen",
    title="Pepperl+Fuchs WILSEN sonic level sensors (LoRaWAN)",
    link="payload",
    quantities=("water_distance", "water_level", "air_temperature", "battery_voltage"),
    options=UplinkOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/pepperl-fuchs",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="By model; centimetres or millimetres, which the record says.",
        faults="65535: no echo.",
    ),
)
