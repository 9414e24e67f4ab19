"""KELLER ADT1 and ARC1 with LoRaWAN: which of a logger's channels are in the payload, then a float32 for each,
big-endian.

What a channel is depends on the connection type. Sources: KELLER, "LoRa payload" (docs.kolibricloud.ch) and "ADT1 LoRa
data communication protocol 02/2020"; TheThingsNetwork/lorawan-devices: vendor/keller.
"""

import math
import struct

from edge.sensors._lorawan import UplinkOptions, reply, usable
from edge.sensors.base import Driver, Field, FrameError, Sheet

_PORTS = (1, 2, 3, 4, 5)
_MEASUREMENT, _INFORMATION = 1, 12
_INFORMATION_BYTES = 20
_EPOCH_2000 = 946_684_800
"""2000-01-01 as Unix time: what the device counts from."""

_PD, _PD_BARO = ("pressure_difference_p1_p2", "bar"), ("pressure_difference", "bar")
_P1, _P2 = ("pressure_1", "bar"), ("pressure_2", "bar")
_T, _TOB1, _TOB2 = ("temperature", "degC"), ("temperature_1", "degC"), ("temperature_2", "degC")
_PBARO, _TBARO = ("pressure_barometric", "bar"), ("temperature_barometer", "degC")
_VOLT = (("voltage_1", "V"), ("voltage_2", "V"))
_COUNTER = ("counter", "1")
_CONDUCTIVITY = (("conductivity", "mS/cm"), ("conductivity_raw", "mS/cm"))
_T_CONDUCTIVITY = ("temperature_conductivity", "degC")
_SDI12 = tuple((f"sdi12_{n}", "") for n in range(1, 11))


def _nth(channel: tuple[str, str], number: int) -> tuple[str, str]:
    """The same channel of the 2nd to 5th probe."""
    return f"{channel[0]}_probe_{number}", channel[1]


_SIX = (_P1, _P2, _T, _TOB1, _TOB2)
_TEN = (*_SIX, _PBARO, _TBARO, *_VOLT)
_COMBINED = (_P1, _P2, _T_CONDUCTIVITY, _TOB1, _TOB2, _PBARO, _TBARO, *_VOLT, *_CONDUCTIVITY)
_CHANNELS: dict[int, tuple[tuple[str, str], ...]] = {
    0: (_PD, *_SIX),
    1: (_PD, *_SIX),
    2: (_PD_BARO, *_SIX, _PBARO, _TBARO),
    3: (_PD_BARO, *_SIX, _PBARO, _TBARO),
    4: (_PD, *_TEN),
    5: (_PD_BARO, *_TEN),
    6: (_PD, *_TEN, *(_nth(_P1, n) for n in (2, 3, 4, 5)), _COUNTER),
    7: (_PBARO, _TBARO, *_VOLT, *_SDI12),
    8: (
        *(_P1, _TOB1),
        *(_nth(channel, n) for n in (2, 3, 4, 5) for channel in (_P1, _TOB1)),
        *(*_VOLT, _PBARO, _TBARO, _COUNTER),
    ),
    9: (_PD, *_COMBINED),
    10: (_PD_BARO, *_COMBINED),
    11: (
        *(_P1, _TOB1, _CONDUCTIVITY[0], _T_CONDUCTIVITY),
        *(_nth(channel, n) for n in (2, 3) for channel in (_P1, _TOB1, _CONDUCTIVITY[0], _T_CONDUCTIVITY)),
        *(_PBARO, _TBARO, _COUNTER),
    ),
    13: (
        *(_P1, _P2, _TOB1, _TOB2),
        *(_nth(channel, 2) for channel in (_P1, _P2, _TOB1, _TOB2)),
        *(_PBARO, _TBARO, *_VOLT, _COUNTER),
    ),
}
"""Channel of each mask bit, lowest first, by connection type."""

_TABLE = {
    "pressure_difference": ("water_pressure", "hPa", 1000),
    "pressure_barometric": ("air_pressure", "hPa", 1000),
    "temperature_1": ("water_temperature", "Cel", 1),
}
"""What of it is a quantity of the table: the probe's pressure against the air, the air's, the probe's temperature."""


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> each channel under its name (pressures in bar, temperatures in degC, volts), and of those that the
    table has also `water_pressure` in hPa (probe against air), `air_pressure` in hPa, `water_temperature` in Cel.
    Device information is a `reply` with `battery_voltage`, `battery_level`, `enclosure_humidity` in %RH,
    `serial_number`, `time` (Unix).

    Raises FrameError: `unknown_port`; `length`; `format` for an unknown function, connection type or channel;
    `sensor_fault` when a pressure, or every channel, is not a number.
    """
    options.port(*_PORTS)
    if len(frame) < 2:
        raise FrameError("length", f"{len(frame)} bytes, expected a function and its data")
    if frame[0] == _INFORMATION:
        return _information(frame)
    if frame[0] != _MEASUREMENT:
        raise FrameError("format", f"function {frame[0]}, expected {_MEASUREMENT} or {_INFORMATION}")
    channels = _CHANNELS.get(frame[1])
    if channels is None:
        raise FrameError("format", f"connection type {frame[1]} is unknown")
    mask = int.from_bytes(frame[2:4], "big")
    named = [channel for bit, channel in enumerate(channels) if mask >> bit & 1]
    if len(frame) < 4 or len(frame) != 4 + 4 * mask.bit_count():
        raise FrameError("length", f"{len(frame)} bytes, expected {4 + 4 * mask.bit_count()} for mask {mask:#06x}")
    if mask >> len(channels) or not mask:
        raise FrameError("format", f"mask {mask:#06x}, expected at least one of {len(channels)} channels")
    fields: list[Field] = []
    broken = []
    for (name, unit), value in zip(named, struct.unpack(f">{len(named)}f", frame[4:]), strict=True):
        if math.isfinite(value):
            fields += _fields(name, unit, value)
        else:
            broken.append(name)
    if not fields or any(name.startswith("pressure") for name in broken):
        raise FrameError("sensor_fault", f"{', '.join(broken)}: not a number", usable(fields))
    return fields


def _fields(name: str, unit: str, value: float) -> list[Field]:
    shown = Field(name, float(f"{value:.7g}"), unit)
    if name not in _TABLE:
        return [shown]
    quantity, its_unit, factor = _TABLE[name]
    return [Field(quantity, round(value * factor, 4), its_unit), shown]


def _information(frame: bytes) -> list[Field]:
    if len(frame) < _INFORMATION_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {_INFORMATION_BYTES} or more")
    serial, at, volts, charge, humidity = struct.unpack(">IIfBB", frame[6:20])
    fields = [
        reply("device_information"),
        Field("battery_level", charge, "%EL"),
        Field("enclosure_humidity", humidity, "%RH"),
        Field("serial_number", serial, "1"),
        Field("time", _EPOCH_2000 + at, "s"),
        Field("firmware", f"{frame[4]:02}.{frame[5]:02}", ""),
    ]
    return [*fields, Field("battery_voltage", round(volts, 4), "V")] if math.isfinite(volts) else fields


DRIVER = Driver(
    name="keller_lorawan",
    title="KELLER ADT1 and ARC1 loggers with pressure probes (LoRaWAN)",
    link="payload",
    quantities=("water_pressure", "air_pressure", "water_temperature", "battery_voltage", "battery_level"),
    options=UplinkOptions,
    decode=decode,
    source="KELLER, LoRa payload (docs.kolibricloud.ch); TheThingsNetwork/lorawan-devices, vendor/keller",
    sheet=Sheet(
        wiring="Logger in dry air above the highest water (it breathes for the barometer), probe at the bottom.",
        limits="Gives pressures: the level is (P1 - PBaro) / 98.1 hPa per metre of water. What a channel means "
        "depends on the connection type, which the payload says.",
        faults="NaN: the probe does not answer. Humidity in the housing: an alarm of the logger.",
    ),
)
