"""Dingtek DF555 and its like, distance sensors on LoRaWAN: a frame between 80 and 81, big-endian but for the position.

Source: TheThingsNetwork/lorawan-devices: vendor/dingtek (the manufacturer's), df555.js and those with the same layout.
"""

import math
import struct

from edge.sensors._lorawan import UplinkOptions, plausible, reply, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_HEAD, _TAIL = 0x80, 0x81
_PARAMETERS = 3


class DingtekOptions(UplinkOptions):
    """`model`: other types of this vendor have other layouts under the same head."""

    models = ("DF555", "DF530", "DF702", "DF703", "DC410", "DC413")


def decode(frame: bytes, options: DingtekOptions) -> list[Field]:
    """One payload -> `water_distance` in m, `temperature` in degC (of the sensor), `level_alarm`, `battery_alarm`,
    `frame_counter`, and with a position `longitude` and `latitude` in deg. A packet of parameters is a `reply`.

    Raises FrameError: `unknown_port`, `length`, `header`, `tail`; `no_target` for a distance of 0 or 65535.
    """
    options.port(3)
    sized(frame, 17, 25)
    if frame[0] != _HEAD:
        raise FrameError("header", f"first byte {frame[0]:02X}, expected {_HEAD:02X}")
    if frame[-1] != _TAIL:
        raise FrameError("tail", f"last byte {frame[-1]:02X}, expected {_TAIL:02X}")
    if frame[3] == _PARAMETERS:
        return [reply("parameters")]
    distance = int.from_bytes(frame[5:7], "big")
    temperature, level_alarm, battery_alarm, counter = struct.unpack(">bxxBBH", frame[-9:-2])
    side = [
        Field("temperature", temperature, "degC"),
        Field("level_alarm", bool(level_alarm >> 4), ""),
        Field("battery_alarm", bool(battery_alarm & 0x0F), ""),
        Field("frame_counter", counter, "1"),
    ]
    if len(frame) == 25:
        longitude, latitude = struct.unpack("<ff", frame[8:16])
        if math.isfinite(longitude) and math.isfinite(latitude):
            side += [Field("longitude", round(longitude, 6), "deg"), Field("latitude", round(latitude, 6), "deg")]
    if distance in (0, 0xFFFF):
        raise FrameError("no_target", f"distance {distance}: nothing measured", tuple(side))
    return plausible([Field("water_distance", distance / 1000, "m"), *side])


DRIVER = Driver(
    name="dingtek",
    title="Dingtek DF555 ultrasonic level sensor (LoRaWAN)",
    link="payload",
    quantities=("water_distance",),
    options=DingtekOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/dingtek",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="DF530, DF555, DF702, DF703, DC410 and DC413, which share a layout; others are refused. The range is on the label.",
        faults="0 or 65535: no echo. A packet of parameters is no reading.",
    ),
)
