"""Tektelic Breeze air sensors on LoRaWAN: channel, type, value, again and again, big-endian.

Source: Tektelic Breeze technical reference manual; TheThingsNetwork/lorawan-devices:
vendor/tektelic/decoder_breeze-v.js.
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, reply
from edge.sensors.base import Driver, Field, FrameError, Sheet

_DATA = 10
_TYPES: dict[int, tuple[str, str, str, float]] = {
    0x00BA: (">H", "battery_voltage", "V", 1000),
    0x00BD: (">H", "battery_days", "1", 1),
    0x00D3: (">B", "battery_level", "%EL", 1),
    0x00FF: (">h", "battery_voltage", "V", 100),
    0x0367: (">h", "air_temperature", "Cel", 10),
    0x0468: (">B", "relative_humidity", "%RH", 2),
    0x0A00: (">B", "motion", "1", 1),
    0x0B67: (">h", "device_temperature", "degC", 10),
    0x0BE4: (">H", "co2", "ppm", 1),
    0x0C73: (">H", "air_pressure", "hPa", 10),
    0x0D04: (">H", "motion_count", "1", 1),
    0x0EE4: (">H", "co2_raw", "ppm", 1),
    0x11D3: (">B", "display_battery_level", "%", 1),
}


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> `air_temperature` in Cel, `relative_humidity` in %RH, `air_pressure` in hPa, `co2` in ppm,
    `battery_level` in %EL, `motion`. A payload on another port than 10 answers a command: `reply`. A type that is not
    known ends the payload: what stood before it is good, the rest comes as `undecoded` (hex).

    Raises FrameError: `length` for a value cut short (then nothing is believed); `format` when nothing is known.
    """
    if options.fport not in (None, _DATA):
        return [reply("command_answer")]
    fields: list[Field] = []
    at = 0
    while at < len(frame):
        known = _TYPES.get(int.from_bytes(frame[at : at + 2], "big")) if at + 2 <= len(frame) else None
        if known is None:
            if not fields:
                raise FrameError("format", f"{frame[at : at + 2].hex().upper()} at byte {at} is unknown")
            return plausible([*fields, Field("undecoded", frame[at:].hex().upper(), "")])
        layout, name, unit, divisor = known
        end = at + 2 + struct.calcsize(layout)
        if end > len(frame):
            raise FrameError("length", f"{len(frame) - at - 2} bytes of {end - at - 2} for {name}")
        (raw,) = struct.unpack(layout, frame[at + 2 : end])
        fields.append(Field(name, raw if divisor == 1 else raw / divisor, unit))
        at = end
    if not fields:
        raise FrameError("length", "0 bytes, expected a channel")
    return plausible(fields)


DRIVER = Driver(
    name="tektelic",
    title="Tektelic Breeze air sensors (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "air_pressure", "co2", "battery_voltage", "battery_level"),
    options=UplinkOptions,
    decode=decode,
    source="Tektelic Breeze technical reference manual; TheThingsNetwork/lorawan-devices, vendor/tektelic",
    sheet=Sheet(
        wiring="Indoors, away from windows and doors.",
        limits="By model.",
        faults="An unknown type ends the payload.",
    ),
)
