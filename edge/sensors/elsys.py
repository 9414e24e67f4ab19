"""ELSYS sensors on LoRaWAN (ERS, EMS, ELT and their variants): type, value, again and again, big-endian.

Sources: ELSYS, "Sensor payload" (elsys.se/en/elsys-payload); TheThingsNetwork/lorawan-devices: vendor/elsys/elsys.js.
The LoRaWAN port can be set on the device (5 from the factory), so it is not checked.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.sensors._lorawan import UplinkOptions, plausible, usable
from edge.sensors.base import Driver, Field, FrameError, Sheet


@dataclass(frozen=True, slots=True)
class _Type:
    layout: str
    name: str
    unit: str
    scale: float = 1
    convert: Callable[[Any], Any] | None = None


def _axes(raw: tuple[int, ...]) -> dict[str, float]:
    return {axis: round(value / 63, 3) for axis, value in zip("xyz", raw, strict=True)}


def _position(raw: tuple[bytes, bytes]) -> dict[str, float]:
    latitude, longitude = (int.from_bytes(part, "little", signed=True) / 10_000 for part in raw)
    return {"latitude": latitude, "longitude": longitude}


def _grid(raw: tuple[int, ...]) -> list[float]:
    return [round(raw[0] + part / 10, 1) for part in raw[1:]]


_TYPES = {
    0x01: (_Type(">h", "air_temperature", "Cel", 10),),
    0x02: (_Type(">B", "relative_humidity", "%RH"),),
    0x03: (_Type(">bbb", "acceleration", "g", convert=_axes),),
    0x04: (_Type(">H", "illuminance", "lx"),),
    0x05: (_Type(">B", "motion", "1"),),
    0x06: (_Type(">H", "co2", "ppm"),),
    0x07: (_Type(">H", "battery_voltage", "V", 1000),),
    0x08: (_Type(">H", "analog_1", "mV"),),
    0x09: (_Type(">3s3s", "position", "deg", convert=_position),),
    0x0A: (_Type(">H", "pulse_1", "1"),),
    0x0B: (_Type(">I", "pulse_1_total", "1"),),
    0x0C: (_Type(">h", "external_temperature", "degC", 10),),
    0x0D: (_Type(">B", "digital_1", "1"),),
    0x0E: (_Type(">H", "water_distance", "m", 1000),),
    0x0F: (_Type(">B", "acceleration_motion", "1"),),
    0x10: (_Type(">h", "ir_internal_temperature", "degC", 10), _Type(">h", "ir_external_temperature", "degC", 10)),
    0x11: (_Type(">B", "occupancy", "1"),),
    0x12: (_Type(">B", "water_leak", "1"),),
    0x13: (_Type(">65B", "grid_temperatures", "degC", convert=_grid),),
    0x14: (_Type(">I", "air_pressure", "hPa", 1000),),
    0x15: (_Type(">B", "sound_peak", "dB"), _Type(">B", "sound_average", "dB")),
    0x16: (_Type(">H", "pulse_2", "1"),),
    0x17: (_Type(">I", "pulse_2_total", "1"),),
    0x18: (_Type(">H", "analog_2", "mV"),),
    0x19: (_Type(">h", "external_temperature_2", "degC", 10),),
    0x1A: (_Type(">B", "digital_2", "1"),),
    0x1B: (_Type(">i", "load", "uV"),),
    0x1C: (_Type(">H", "tvoc", "ppb"),),
    0x3D: (_Type(">I", "debug", "1"),),
}


def decode(frame: bytes, _options: UplinkOptions) -> list[Field]:
    """One payload -> the values in it, in the table's units where it has them (`air_temperature`, `relative_humidity`,
    `co2`, `water_distance`, `air_pressure`, `battery_voltage`), else under ELSYS' names; of one that comes twice the
    later counts.

    A value that its sensor cannot measure is left out and named in `implausible`. A type that is not known ends the
    payload: what stood before it is good, the rest comes as `undecoded` (hex).

    Raises FrameError: `length` for a value cut short (then nothing is believed); `format` when nothing is known;
    `no_target` for a distance of 0; `implausible` when nothing else is left; with what stays usable.
    """
    if not frame:
        raise FrameError("length", "0 bytes, expected a type and its value")
    found: dict[str, Field] = {}
    at = 0
    while at < len(frame):
        parts = _TYPES.get(frame[at])
        if parts is None:
            if not found:
                raise FrameError("format", f"type {frame[at]:02X} at byte {at} is unknown")
            found["undecoded"] = Field("undecoded", frame[at:].hex().upper(), "")
            break
        at += 1
        for part in parts:
            end = at + struct.calcsize(part.layout)
            if end > len(frame):
                raise FrameError("length", f"{len(frame) - at} bytes of {end - at} for {part.name}")
            field = _field(part, struct.unpack(part.layout, frame[at:end]))
            at = end
            found[field.name] = field
    fields = plausible(found.values())
    if "water_distance" in found and found["water_distance"].value == 0:
        raise FrameError("no_target", "distance 0: no echo", usable(fields))
    return fields


def _field(part: _Type, raw: tuple[Any, ...]) -> Field:
    if part.convert is not None:
        return Field(part.name, part.convert(raw), part.unit)
    return Field(part.name, raw[0] if part.scale == 1 else raw[0] / part.scale, part.unit)


DRIVER = Driver(
    name="elsys",
    title="ELSYS ERS, EMS and ELT sensors (LoRaWAN)",
    link="payload",
    quantities=(
        "air_temperature",
        "relative_humidity",
        "co2",
        "water_distance",
        "air_pressure",
        "battery_voltage",
    ),
    options=UplinkOptions,
    decode=decode,
    source="ELSYS, Sensor payload (elsys.se/en/elsys-payload); TheThingsNetwork/lorawan-devices, vendor/elsys/elsys.js",
    sheet=Sheet(
        wiring="ELT with an ultrasonic head: mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="By model. Its acceleration is judged as tilt when `tilt.upright` says how it hangs.",
        faults="Distance 0: no echo.",
        options='model = "ELT-Ultrasonic"',
    ),
)
