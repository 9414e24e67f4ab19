"""River City Innovations TxH temperature and humidity sensor on LoRaWAN, big-endian.

Source: TheThingsNetwork/lorawan-devices: vendor/rivercity-innovations/txh.js (the manufacturer's).
"""

import struct

from edge.sensors._lorawan import UplinkOptions, battery, plausible, reply, sized
from edge.sensors.base import Driver, Field, Sheet

_DATA = 2
_OTHERS = (3, 4, 5, 6)
"""Version, answers, parameters."""


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> `air_temperature` in Cel, `relative_humidity` in %RH, `temperature_alarm`, `humidity_alarm`, and
    `battery_voltage` in V where it is sent. Versions and parameters are a `reply`.

    Raises FrameError: `unknown_port`, `length`, `implausible` when nothing else is left.
    """
    if options.port(_DATA, *_OTHERS) != _DATA:
        return [reply("parameters")]
    temperature, humidity, alarms = struct.unpack(">hhB", sized(frame, 5, 7)[:5])
    fields = [
        Field("air_temperature", temperature / 10, "Cel"),
        Field("relative_humidity", humidity / 10, "%RH"),
        Field("temperature_alarm", bool(alarms & 2), ""),
        Field("humidity_alarm", bool(alarms & 1), ""),
    ]
    return plausible([*fields, battery(int.from_bytes(frame[5:], "big"))] if len(frame) > 5 else fields)


DRIVER = Driver(
    name="rivercity",
    title="River City Innovations TxH (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "battery_voltage"),
    options=UplinkOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/rivercity-innovations",
    sheet=Sheet(
        wiring="In shade or a radiation shield.",
        limits="By the device's label.",
        faults="Humidity of more than 100 % is no value.",
    ),
)
