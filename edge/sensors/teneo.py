"""Teneo IoT filling degree sensor and CO2 traffic light on LoRaWAN, big-endian.

Source: TheThingsNetwork/lorawan-devices: vendor/teneo-iot (the manufacturer's).
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, reply, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_NO_ECHO = 4
_NO_TEMPERATURE = 0x7FFF
_DATA, _STATUS, _CHARGING, _CO2_STATUS = 1, 2, 3, 223


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload of a `model` (a filling degree sensor unless it says CO2) -> `water_distance` in m or `co2` in ppm,
    where it is sent `air_temperature` in Cel and `relative_humidity` in %RH, `battery_voltage` in V. A charging or
    status payload is a `reply`.

    Raises FrameError: `unknown_port`, `length`; `no_target` (status 4) and `sensor_fault` (another), with the battery.
    """
    if options.named("CO2"):
        return _co2(frame, options)
    port = options.port(_DATA, _STATUS, _CHARGING)
    if not frame:
        raise FrameError("length", "0 bytes, expected a battery and a distance")
    side = (_battery(frame[0]),)
    if port == _CHARGING:
        return [reply("charging"), *side]
    if port == _STATUS:
        raise _status(sized(frame, 2)[1], side)
    sized(frame, 3, 4, 7, 8)
    if len(frame) in (4, 8) and frame[3]:
        raise _status(frame[3], side)
    climate = _climate(frame[-4:]) if len(frame) > 4 else []
    return plausible([Field("water_distance", int.from_bytes(frame[1:3], "big") / 100, "m"), *climate, *side])


def _co2(frame: bytes, options: UplinkOptions) -> list[Field]:
    if options.port(_DATA, _CO2_STATUS) == _CO2_STATUS:
        return [reply("status")]
    volts, co2 = struct.unpack(">BxI", sized(frame, 10)[:6])
    return plausible([Field("co2", co2 / 100, "ppm"), *_climate(frame[6:]), _battery(volts & 0x0F)])


def _battery(tenths: int) -> Field:
    return Field("battery_voltage", (20 + tenths) / 10, "V")


def _climate(four: bytes) -> list[Field]:
    temperature, humidity = struct.unpack(">hH", four)
    fields = [Field("relative_humidity", humidity / 100, "%RH")]
    return fields if temperature == _NO_TEMPERATURE else [Field("air_temperature", temperature / 100, "Cel"), *fields]


def _status(code: int, side: tuple[Field, ...]) -> FrameError:
    if code == _NO_ECHO:
        return FrameError("no_target", "status 4: nothing in reach", side)
    return FrameError("sensor_fault", f"status {code}: measuring error", side)


DRIVER = Driver(
    name="teneo",
    title="Teneo IoT filling degree and CO2 sensors (LoRaWAN)",
    link="payload",
    quantities=("water_distance", "co2", "air_temperature", "relative_humidity", "battery_voltage"),
    options=UplinkOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/teneo-iot",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits='By model: filling degree, or CO2 with `model = "CO2"`.',
        faults="Status 4: no target; another status is a fault of the device.",
    ),
)
