"""Watteco (nke) sensors on LoRaWAN: ZigBee cluster library reports, big-endian. Levo and Levo+ (4-20 mA, 0-10 V),
Hygrotempo, Atmo and what else reports the clusters below. Compressed batches (an even first byte) are not read.

Source: Watteco support, "Frame structure" and "Clusters"; TheThingsNetwork/lorawan-devices: vendor/nke-watteco;
actility/device-catalog@53ef3f3388: vendors/watteco.
"""

import math
import struct
from typing import Any

from pydantic import Field as Constraint

from edge.sensors._lorawan import UplinkOptions, plausible, reply
from edge.sensors.base import Driver, Field, FrameError, Sheet

_PORT = 125
_READ_ANSWER, _CONFIGURED, _CONFIGURATION, _REPORT, _ALARM = 0x01, 0x07, 0x09, 0x0A, 0x8A
_TYPES = {
    **dict.fromkeys((0x08, 0x18, 0x20, 0x30), ">B"),
    0x10: ">?",
    0x21: ">H",
    0x23: ">I",
    0x28: ">b",
    0x29: ">h",
    0x2B: ">i",
    0x39: ">f",
}
"""How struct reads a ZCL data type."""
_BYTE_STRING, _FIRMWARE = 0x41, 0x0D
_FIRMWARE_BYTES = 6
_SUPPLIES = (
    "external_power_voltage",
    "rechargeable_battery_voltage",
    "battery_voltage",
    "solar_voltage",
    "tic_voltage",
)
_FAULT_BELOW_MA, _FAULT_ABOVE_MA = 3.8, 20.5


class WattecoOptions(UplinkOptions):
    """`range_m`: water over a 4-20 mA probe at 20 mA; without it a Levo gives its current only."""

    range_m: float | None = Constraint(default=None, gt=0)


def decode(frame: bytes, options: WattecoOptions) -> list[Field]:
    """One report -> `air_temperature` in Cel, `relative_humidity` in %RH, `air_pressure` in hPa, `water_level` in m and
    `current` in mA (analog input, first endpoint), `voltage` in V (second), `battery_voltage` in V and other supplies,
    `state`, `count`. An alarm report is a report with its causes behind it; answers to commands are a `reply`.

    Raises FrameError: `unknown_port`; `length`; `format` for a batch, an unknown cluster or type; `exception` for a
    refused command; `sensor_fault` for a current outside 3.8 to 20.5 mA (NAMUR NE 43).
    """
    options.port(_PORT)
    if len(frame) < 6:
        raise FrameError("length", f"{len(frame)} bytes, expected 6 or more")
    if not frame[0] & 1:
        raise FrameError("format", "a compressed batch, which this driver does not read")
    endpoint = (frame[0] & 0xE0) >> 5 | (frame[0] & 0x06) << 2
    command = frame[1]
    if command == _CONFIGURED:
        if frame[4]:
            raise FrameError("exception", f"the device refused a report configuration: status {frame[4]:02X}")
        return [reply("configure_report_ok")]
    if command == _CONFIGURATION:
        return [reply("report_configuration")]
    cluster, attribute = struct.unpack(">HH", frame[2:6])
    at = 6
    if command == _READ_ANSWER:
        if len(frame) > 6 and frame[6]:
            raise FrameError("exception", f"the device refused to read: status {frame[6]:02X}")
        at = 7
    elif command not in (_REPORT, _ALARM):
        return [reply("command_answer")]
    return plausible(_attribute((cluster, attribute), endpoint, _value(frame, at), options))


def _value(frame: bytes, at: int) -> Any:
    if at >= len(frame):
        raise FrameError("length", f"{len(frame)} bytes, expected a type at byte {at}")
    kind = frame[at]
    if kind == _BYTE_STRING:
        end = at + 2 + (frame[at + 1] if at + 1 < len(frame) else 0)
        if end > len(frame) or at + 1 >= len(frame):
            raise FrameError("length", f"{len(frame)} bytes, expected {end} or more")
        return frame[at + 2 : end]
    if kind == _FIRMWARE:
        if len(frame) < at + 1 + _FIRMWARE_BYTES:
            raise FrameError("length", f"{len(frame)} bytes, expected {at + 1 + _FIRMWARE_BYTES} or more")
        return frame[at + 1 : at + 1 + _FIRMWARE_BYTES]
    layout = _TYPES.get(kind)
    if layout is None:
        raise FrameError("format", f"type {kind:02X} is unknown")
    end = at + 1 + struct.calcsize(layout)
    if end > len(frame):
        raise FrameError("length", f"{len(frame)} bytes, expected {end} or more")
    return struct.unpack(layout, frame[at + 1 : end])[0]


def _attribute(which: tuple[int, int], endpoint: int, value: Any, options: WattecoOptions) -> list[Field]:
    """By cluster and attribute of the ZigBee cluster library."""
    if which == (0x0000, 0x0002) and isinstance(value, bytes):
        first, second, third, *build = value
        return [reply("firmware"), Field("firmware", f"{first}.{second}.{third}.{int.from_bytes(build)}", "")]
    if isinstance(value, bytes):
        name = f"attribute_{which[0]:04X}_{which[1]:04X}"
        return _supplies(value) if which == (0x0050, 0x0006) else [Field(name, value.hex().upper(), "")]
    match which:
        case (0x0402, 0x0000):
            return [Field("air_temperature", value / 100, "Cel")]
        case (0x0405, 0x0000):
            return [Field("relative_humidity", value / 100, "%RH")]
        case (0x0403, 0x0000):
            return [Field("air_pressure", float(value), "hPa")]
        case (0x000C, 0x0055):
            return _analog(endpoint, value, options)
        case (0x000F, 0x0055):
            return [Field("state", bool(value), "")]
        case (0x000F, 0x0402):
            return [Field("count", value, "1")]
        case (0x8004, 0x0000):
            return [reply("message_type"), Field("confirmed", bool(value), "")]
    raise FrameError("format", f"cluster {which[0]:04X} with attribute {which[1]:04X} is unknown")


def _analog(endpoint: int, value: float, options: WattecoOptions) -> list[Field]:
    if not math.isfinite(value):
        raise FrameError("sensor_fault", f"the analog input is {value}")
    shown = round(value, 6)
    if endpoint != 0:
        return [Field("voltage", shown, "V")]
    if not _FAULT_BELOW_MA <= value <= _FAULT_ABOVE_MA:
        raise FrameError("sensor_fault", f"{shown} mA, expected {_FAULT_BELOW_MA} to {_FAULT_ABOVE_MA} (NAMUR NE 43)")
    fields = [Field("current", shown, "mA")]
    if options.range_m is None:
        return fields
    return [Field("water_level", round((value - 4) / 16 * options.range_m, 6), "m"), *fields]


def _supplies(data: bytes) -> list[Field]:
    """Node power descriptor: which supply is in use, which are there (a bit each), then millivolts of each."""
    if len(data) < 2:
        raise FrameError("length", f"{len(data)} bytes in a power descriptor, expected 2 or more")
    present = [name for bit, name in enumerate(_SUPPLIES) if data[1] >> bit & 1]
    if len(data) < 2 + 2 * len(present):
        raise FrameError("length", f"{len(data)} bytes in a power descriptor, expected {2 + 2 * len(present)}")
    volts = struct.unpack(f">{len(present)}H", data[2 : 2 + 2 * len(present)])
    if not present:
        return [reply("power_descriptor")]
    return [Field(name, value / 1000, "V") for name, value in zip(present, volts, strict=True)]


DRIVER = Driver(
    name="watteco",
    title="Watteco Levo, Hygrotempo and other ZCL reports (LoRaWAN)",
    link="payload",
    quantities=("water_level", "air_temperature", "relative_humidity", "air_pressure", "battery_voltage"),
    options=WattecoOptions,
    decode=decode,
    source="Watteco support, frame structure and clusters; TheThingsNetwork/lorawan-devices, vendor/nke-watteco",
    sheet=Sheet(
        wiring="A 4-20 mA probe to the Levo's input, polarity as printed; Hygrotempo outdoors in a radiation shield.",
        limits="`range_m`: metres of water at 20 mA, else the current only. Batches (compressed) are not read: "
        "switch them off.",
        faults="Below 3.8 or above 20.5 mA: broken wire or probe (NAMUR NE 43).",
        options="range_m = 5.0",
    ),
)
