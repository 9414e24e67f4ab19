"""Browan (MerryIoT, Tabs) sensors on LoRaWAN: TBHH100, TBHV110, CD10 air and TBWL100 water leak, little-endian.

Source: Browan reference manuals; TheThingsNetwork/lorawan-devices: vendor/browan;
chirpstack/chirpstack-device-profiles: vendors/browan (CD10 of 6 bytes). The CO2 of a TBHV110 is inferred from
its VOC sensor, hence `co2_equivalent`.
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_CLIMATE, _LEAK, _CO2 = 103, 106, 127
_NO_HUMIDITY = 127


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> by its port (and its `model`, where one port has two) `air_temperature` in Cel,
    `relative_humidity` in %RH, `co2` in ppm, `co2_equivalent` in ppm, `voc` in ppm, `iaq`, `water_leak`;
    `battery_voltage` in V; `board_temperature` in degC.

    Raises FrameError: `unknown_port`, `length`, `no_data` for a payload of zeros.
    """
    port = options.port(
        _LEAK if options.named("WL") else _CO2 if options.named("CD10") else _CLIMATE, _CLIMATE, _LEAK, _CO2
    )
    if frame and not any(frame):
        raise FrameError("no_data", "zeros: nothing measured yet")
    if port == _CO2:
        return plausible(_co2(sized(frame, 6, 7)))
    if port == _LEAK:
        return plausible(_leak(sized(frame, 5)))
    return plausible(_iaq(sized(frame, 11)) if options.named("HV") else _climate(sized(frame, 4, 8)))


def _climate(frame: bytes) -> list[Field]:
    return [*_air(frame[2], frame[3]), _battery(frame[1]), Field("status", frame[0] >> 3, "1")]


def _iaq(frame: bytes) -> list[Field]:
    eco2, voc, iaq = struct.unpack("<HHH", frame[4:10])
    return [
        *_air(frame[10], frame[3]),
        Field("co2_equivalent", eco2, "ppm"),
        Field("voc", voc, "ppm"),
        Field("iaq", iaq, "1"),
        _battery(frame[1]),
        _board(frame[2]),
    ]


def _leak(frame: bytes) -> list[Field]:
    leak = Field("water_leak", bool(frame[0] & 1), "")
    return [leak, *_air(frame[4], frame[3]), _battery(frame[1]), _board(frame[2])]


def _co2(frame: bytes) -> list[Field]:
    """Older firmware says whole degrees in one byte."""
    temperature, humidity, co2 = struct.unpack("<hBH" if len(frame) == 7 else "<bBH", frame[2:])
    return [
        Field("co2", co2, "ppm"),
        Field("air_temperature", temperature / 10 if len(frame) == 7 else temperature, "Cel"),
        Field("relative_humidity", humidity, "%RH"),
        Field("battery_voltage", (21 + (frame[1] & 0x0F)) / 10, "V"),
    ]


def _air(temperature: int, humidity: int) -> list[Field]:
    fields = [Field("air_temperature", (temperature & 0x7F) - 32, "Cel")]
    wet = humidity & 0x7F
    return fields if wet == _NO_HUMIDITY else [*fields, Field("relative_humidity", wet, "%RH")]


def _battery(raw: int) -> Field:
    return Field("battery_voltage", (25 + (raw & 0x0F)) / 10, "V")


def _board(raw: int) -> Field:
    return Field("board_temperature", (raw & 0x7F) - 32, "degC")


DRIVER = Driver(
    name="browan",
    title="Browan TBHH100, TBHV110, CD10 and TBWL100 sensors (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "co2", "battery_voltage"),
    options=UplinkOptions,
    decode=decode,
    source="Browan reference manuals; TheThingsNetwork/lorawan-devices, vendor/browan",
    sheet=Sheet(
        wiring="TBWL100: electrodes down. The others in shade.",
        limits="The CO2 of a TBHV110 is inferred, so it is `co2_equivalent`.",
        faults="A payload of zeros is no data.",
        options='model = "TBHH100"',
    ),
)
