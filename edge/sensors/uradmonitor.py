"""uRADMonitor A3 and Industrial air stations on LoRaWAN, big-endian; signed values are sign and magnitude.

Source: TheThingsNetwork/lorawan-devices: vendor/uradmonitor (a3.js, industrial.js, the manufacturer's). The length
tells the model.
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, sized
from edge.sensors.base import Driver, Field, Sheet

_A3_BYTES, _INDUSTRIAL_BYTES = 32, 50
_PRESSURE_OFFSET_PA = 65535
_GASES = {0x2A: "o3_ppm", 0x2B: "so2", 0x2C: "no2_ppm", 0x04: "co", 0x03: "h2s", 0x02: "nh3", 0x31: "cl2"}


def decode(frame: bytes, _options: UplinkOptions) -> list[Field]:
    """One payload -> `air_temperature` in Cel, `relative_humidity` in %RH, `air_pressure` in hPa, `pm1`, `pm2_5`,
    `pm10` in ug/m3, `noise` in dB, `gas_resistance` in Ohm; Industrial: `o3_ppm`, `no2_ppm`, `so2`, `co`, `h2s`, `nh3`,
    `cl2` in ppm as fitted; A3: `co2` in ppm, `o3_ppm` in ppm, `hcho` in ppb.

    Raises FrameError: `length`.
    """
    sized(frame, _A3_BYTES, _INDUSTRIAL_BYTES)
    at = 10 if len(frame) == _A3_BYTES else 20
    temperature, pressure, humidity, resistance, noise = struct.unpack(">HHB3sB", frame[at : at + 9])
    fields = [
        Field("air_temperature", _signed(temperature, 16) / 100, "Cel"),
        Field("air_pressure", (pressure + _PRESSURE_OFFSET_PA) / 100, "hPa"),
        Field("relative_humidity", humidity / 2, "%RH"),
        Field("gas_resistance", int.from_bytes(resistance, "big"), "Ohm"),
        Field("noise", noise / 2, "dB"),
    ]
    return plausible([*fields, *(_a3(frame) if len(frame) == _A3_BYTES else _industrial(frame))])


def _a3(frame: bytes) -> list[Field]:
    co2, formaldehyde, ozone, *dust = struct.unpack(">6H", frame[19:31])
    return [
        Field("co2", co2, "ppm"),
        Field("hcho", formaldehyde, "ppb"),
        Field("o3_ppm", ozone / 1000, "ppm"),
        *_dust(*dust),
    ]


def _industrial(frame: bytes) -> list[Field]:
    """Four gas sensors, then dust: PM2.5, and what PM1 is under and PM10 over it."""
    gases = [
        Field(_GASES[frame[at]], _signed(int.from_bytes(frame[at + 1 : at + 4], "big"), 24) / 1000, "ppm")
        for at in (29, 33, 37, 41)
        if frame[at] in _GASES
    ]
    under, middle, over = struct.unpack(">BHB", frame[45:49])
    return [*gases, *_dust(middle - under, middle, middle + over)]


def _dust(pm1: int, pm2_5: int, pm10: int) -> list[Field]:
    return [Field("pm1", pm1, "ug/m3"), Field("pm2_5", pm2_5, "ug/m3"), Field("pm10", pm10, "ug/m3")]


def _signed(raw: int, bits: int) -> int:
    sign = 1 << (bits - 1)
    return -(raw & (sign - 1)) if raw & sign else raw


DRIVER = Driver(
    name="uradmonitor",
    title="uRADMonitor A3 and Industrial air stations (LoRaWAN)",
    link="payload",
    quantities=(
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "pm1",
        "pm2_5",
        "pm10",
        "co2",
        "o3_ppm",
        "no2_ppm",
    ),
    options=UplinkOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/uradmonitor",
    sheet=Sheet(
        wiring="Outdoors under a roof, inlets down; the Industrial on its own supply.",
        limits="The length of the payload tells A3 from Industrial. O3 and NO2 in ppm, never converted.",
        faults="Particles read too high in humid air.",
    ),
)
