"""Sting Pengy air station on LoRaWAN, big-endian: the port is the version of the layout (1: 1.0, 2: 1.5, 3: 2.0).

Source: TheThingsNetwork/lorawan-devices: vendor/sting/pengy-decoder.js (the manufacturer's).
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, sized
from edge.sensors.base import Driver, Field, Sheet

Value = tuple[str, str, str, float]
_HUMIDITY: Value = ("H", "relative_humidity", "%RH", 10)
_TEMPERATURE: Value = ("h", "air_temperature", "Cel", 10)
_PRESSURE: Value = ("H", "air_pressure", "hPa", 1)
_PM1, _PM2_5, _PM10 = (("H", name, "ug/m3", 10) for name in ("pm1", "pm2_5", "pm10"))
_NOISE: Value = ("H", "noise", "dB", 100)
_FIRST: tuple[Value, ...] = (_HUMIDITY, _TEMPERATURE, _PM10, _PM2_5)
_GASES: tuple[Value, ...] = (("H", "co", "ppm", 1), ("H", "nh3", "ppm", 1), ("H", "no2_ppm", "ppm", 100))
_LAYOUTS: dict[int, tuple[Value, ...]] = {
    1: _FIRST,
    2: (*_FIRST, _PRESSURE, *_GASES, _NOISE),
    3: (_HUMIDITY, _TEMPERATURE, _PRESSURE, _PM1, _PM2_5, _PM10, _NOISE),
}


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> `air_temperature` in Cel, `relative_humidity` in %RH, `pm2_5` and `pm10` in ug/m3; from 1.5 on
    `air_pressure` in hPa and `noise` in dB; 1.5: `co`, `nh3`, `no2_ppm` in ppm; 2.0: `pm1` in ug/m3. A humidity over
    100 % is left out.

    Raises FrameError: `unknown_port`, `length`.
    """
    layout = _LAYOUTS[options.port(3, 1, 2)]
    code = ">" + "".join(part for part, *_ in layout)
    values = struct.unpack(code, sized(frame, struct.calcsize(code)))
    return plausible(
        Field(name, raw if divisor == 1 else raw / divisor, unit)
        for raw, (_, name, unit, divisor) in zip(values, layout, strict=True)
    )


DRIVER = Driver(
    name="sting_pengy",
    title="Sting Pengy air station (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "air_pressure", "pm1", "pm2_5", "pm10", "no2_ppm"),
    options=UplinkOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/sting",
    sheet=Sheet(
        wiring="Outdoors, inlets down, clear of exhausts.",
        limits="NO2 in ppm, never converted. The port tells the version of the layout.",
        faults="Particles read too high in humid air.",
    ),
)
