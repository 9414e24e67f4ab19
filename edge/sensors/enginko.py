"""enginko level sensors (MCF-LW20L, MCF-LW20W) on LoRaWAN, little-endian. Each record has its own date, in the device's
time.

Source: actility/device-catalog@53ef3f3388: vendors/enginko/drivers/level-sensors (the manufacturer's).
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, reply, sized, usable
from edge.sensors.base import Driver, Field, FrameError, Sheet

_TIME_SYNC, _IO, _LEVEL = 0x01, 0x0A, 0x14
_NO_DISTANCE = 60_000
_FILL, _DEBUG, _TEMPERATURE, _CLIMATE = "fill", "debug", "temperature", "climate"
_PARTS = {
    0: (),
    1: (_FILL, _TEMPERATURE),
    2: (_TEMPERATURE, _CLIMATE),
    3: (_FILL, _TEMPERATURE, _CLIMATE),
    0xFE: (_FILL, _DEBUG, _TEMPERATURE, _CLIMATE),
    0xFF: (_FILL, _DEBUG),
}
"""What stands between the distance and the battery, by level data type."""
_LAYOUT = {_FILL: "B", _DEBUG: "HH", _TEMPERATURE: "h", _CLIMATE: "B3s"}


def decode(frame: bytes, _options: UplinkOptions) -> list[Field]:
    """One payload -> `water_level` in m (above the bottom that was set) and `water_distance` in m, `height` in mm as
    sent, `fill` in %, `air_temperature` in Cel, `relative_humidity` in %RH, `air_pressure` in hPa, `battery_level` in
    %EL, `adc` in mV, `date` (ISO 8601, the device's local time, when it measured). Time requests and contacts are a
    `reply`.

    Raises FrameError: `length`; `format` for an unknown payload; `no_target` for a distance over 60 m, with the
    battery.
    """
    if not frame:
        raise FrameError("length", "0 bytes, expected a payload type")
    if frame[0] in (_TIME_SYNC, _IO):
        return [reply("time_request" if frame[0] == _TIME_SYNC else "contacts")]
    parts = _PARTS.get(frame[1]) if len(frame) > 1 and frame[0] == _LEVEL else None
    if parts is None:
        raise FrameError("format", f"payload {frame[:2].hex().upper()} is unknown, expected 14 and a level data type")
    layout = "<xxIHHH" + "".join(_LAYOUT[part] for part in parts) + "B"
    date, millivolts, height, distance, *rest = struct.unpack(layout, sized(frame, struct.calcsize(layout)))
    side = [
        Field("battery_level", rest.pop(), "%EL"),
        Field("adc", millivolts, "mV"),
        Field("date", _date(date), ""),
    ]
    for part in parts:
        match part:
            case "fill":
                fill = rest.pop(0)
                side += [Field("fill", fill, "%")] if fill <= 100 else []
            case "debug":
                side += [Field("amplitude", rest.pop(0), "1"), Field("gain", rest.pop(0), "1")]
            case "temperature":
                side.append(Field("air_temperature", rest.pop(0) / 100, "Cel"))
            case _:
                side.append(Field("relative_humidity", rest.pop(0) / 2, "%RH"))
                side.append(Field("air_pressure", int.from_bytes(rest.pop(0), "little") / 100, "hPa"))
    if distance > _NO_DISTANCE:
        raise FrameError("no_target", f"distance {distance}: distance error", usable(side))
    return plausible(
        [
            Field("water_level", height / 1000, "m"),
            Field("water_distance", distance / 1000, "m"),
            Field("height", height, "mm"),
            *side,
        ]
    )


def _date(raw: int) -> str:
    """Years from 2000 in 7 bits, month 4, day 5, hour 5, minute 6, half seconds 5."""
    year, month, day = 2000 + (raw >> 25), raw >> 21 & 15, raw >> 16 & 31
    return f"{year}-{month:02}-{day:02}T{raw >> 11 & 31:02}:{raw >> 5 & 63:02}:{(raw & 31) * 2:02}"


DRIVER = Driver(
    name="enginko",
    title="enginko MCF-LW20 level sensors (LoRaWAN)",
    link="payload",
    quantities=(
        "water_level",
        "water_distance",
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "battery_level",
    ),
    options=UplinkOptions,
    decode=decode,
    source="actility/device-catalog@53ef3f3388, vendors/enginko",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="Each record has a date in the device's own time.",
        faults="More than 60 m: no target.",
    ),
)
