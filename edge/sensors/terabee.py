"""Terabee LoRa Level Monitoring XL: time-of-flight distance on LoRaWAN, big-endian.

Source: TheThingsNetwork/lorawan-devices: vendor/terabee/lora-lm-xl.js (the manufacturer's; says what 0, 1 and 65535
mean).
"""

import struct

from edge.sensors._lorawan import UplinkOptions, battery, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_TOO_CLOSE, _INVALID, _TOO_FAR, _NO_LEVEL = 0, 1, 65535, 255


class TerabeeOptions(UplinkOptions):
    """`near_m`: the shortest distance that the sensor measures, where water means that it has reached the sensor."""

    near_m: float = 0.5


def decode(frame: bytes, options: TerabeeOptions) -> list[Field]:
    """One payload -> `water_distance` in m, `fill` in %, `battery_voltage` in V.

    Raises FrameError: `unknown_port`, `length`; `sensor_fault` for an error of the device; `blind_zone`, `no_target`,
    `out_of_range` for a target too close, invalid, too far; with the battery.
    """
    options.port(1)
    distance, fill, millivolts, errors = struct.unpack(">HBHB", sized(frame, 6))
    side = (battery(millivolts),)
    if errors:
        raise FrameError("sensor_fault", f"error bits {errors:08b}", side)
    if distance == _TOO_CLOSE:
        raise FrameError("blind_zone", f"the target is nearer than {options.near_m:g} m", side, options.near_m)
    if distance == _INVALID:
        raise FrameError("no_target", "1: invalid reading", side)
    if distance == _TOO_FAR:
        raise FrameError("out_of_range", "65535: the target is too far", side)
    level = [] if fill == _NO_LEVEL else [Field("fill", fill, "%")]
    return [Field("water_distance", distance / 1000, "m"), *level, *side]


DRIVER = Driver(
    name="terabee",
    title="Terabee LoRa Level Monitoring XL (LoRaWAN)",
    link="payload",
    quantities=("water_distance", "battery_voltage"),
    options=TerabeeOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/terabee",
    sheet=Sheet(
        wiring="Time of flight (infrared): mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="From `near_m` on (0.5 m); nearer the water has reached the sensor. Made for solids: clear water "
        "may not reflect.",
        faults="0: too near, 1: invalid, 65535: too far. Keep the window clean; sunlight shortens its range.",
    ),
)
