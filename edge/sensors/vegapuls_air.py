"""VEGAPULS Air 23, 41, 42: radar distance on LoRaWAN, big-endian, with the sensor's own judgement (NAMUR NE 107).

Sources: VEGA operating instructions VEGAPULS Air 41/42 LoRaWAN, chapter "LoRaWAN data transmission" (packets 2 to 5);
actility/device-catalog@53ef3f3388: vendors/vega; HART common table 2 for units of length.
"""

import math
import struct

from edge.sensors._lorawan import UplinkOptions
from edge.sensors.base import Driver, ErrorKind, Field, FrameError, Sheet

_DUMMY = 0xFE
_POSITION, _DEVICE_STATUS = (3, 5), (4, 5)
_PACKETS = (2, 3, 4, 5)
_METRES = {44: 0.3048, 45: 1.0, 47: 0.0254, 48: 0.01, 49: 0.001}
_NAMUR = ("good", "function_check", "maintenance_required", "out_of_specification", "failure")
_UNUSABLE: dict[int, tuple[ErrorKind, str]] = {
    1: ("sensor_state", "NAMUR status 1: function check, the value is temporarily not valid"),
    3: ("out_of_range", "NAMUR status 3: out of specification"),
    4: ("sensor_fault", "NAMUR status 4: failure"),
}


class VegapulsAirOptions(UplinkOptions):
    """`max_tilt_deg`: beyond it the radar does not look at the water any more."""

    max_tilt_deg: float = 45.0


def decode(frame: bytes, options: VegapulsAirOptions) -> list[Field]:
    """One payload -> `water_distance` in m, `battery_level` in %EL, and as health `temperature` in degC (of the
    sensor), `namur_status`, `tilt` in deg, `latitude` and `longitude` in deg, `device_status` (hex). A maintenance
    request leaves the distance valid.

    Raises FrameError: `length`; `format` for an unknown packet, unit or status; `no_data` for a dummy packet;
    `sensor_state`, `out_of_range`, `sensor_fault` as the NAMUR status says, and `sensor_fault` for NaN; `sensor_state`
    for a sensor that hangs askew; with what stays usable.
    """
    if not frame:
        raise FrameError("length", "0 bytes, expected a packet")
    packet = frame[0]
    if packet == _DUMMY:
        raise FrameError("no_data", "dummy packet: no measurement in it")
    if packet not in _PACKETS:
        raise FrameError("format", f"packet {packet}, expected 2 to 5")
    layout = ">xBfBBh" + ("ff" if packet in _POSITION else "") + ("4s" if packet in _DEVICE_STATUS else "")
    size = struct.calcsize(layout)
    if len(frame) not in (size, size + 1):
        raise FrameError("length", f"{len(frame)} bytes, expected {size} or {size + 1} in packet {packet}")
    status, value, unit, charge, temperature, *rest = struct.unpack(layout, frame[:size])
    if status >= len(_NAMUR):
        raise FrameError("format", f"NAMUR status {status}, expected 0 to 4")
    if unit not in _METRES:
        raise FrameError("format", f"unit {unit:#04x}, expected one of length (0x2d: metres)")
    side = [
        Field("battery_level", charge, "%EL"),
        Field("temperature", temperature / 10, "degC"),
        Field("namur_status", _NAMUR[status], ""),
    ]
    if packet in _POSITION and math.isfinite(rest[0]) and math.isfinite(rest[1]):
        side += [Field("latitude", round(rest[0], 6), "deg"), Field("longitude", round(rest[1], 6), "deg")]
    if packet in _DEVICE_STATUS:
        side.append(Field("device_status", rest[-1].hex().upper(), ""))
    tilt = frame[size] if len(frame) > size else None
    if tilt is not None:
        side.append(Field("tilt", tilt, "deg"))
    if status in _UNUSABLE:
        raise FrameError(*_UNUSABLE[status], tuple(side))
    if not math.isfinite(value):
        raise FrameError("sensor_fault", f"the distance is {value}", tuple(side))
    if tilt is not None and tilt > options.max_tilt_deg:
        raise FrameError("sensor_state", f"tilt {tilt} deg, expected at most {options.max_tilt_deg:g}", tuple(side))
    return [Field("water_distance", round(value * _METRES[unit], 6), "m"), *side]


DRIVER = Driver(
    name="vegapuls_air",
    title="VEGAPULS Air 23, 41, 42 radar (LoRaWAN)",
    link="payload",
    quantities=("water_distance", "battery_level"),
    options=VegapulsAirOptions,
    decode=decode,
    source="VEGA operating instructions VEGAPULS Air (LoRaWAN); actility/device-catalog@53ef3f3388: vendors/vega",
    sheet=Sheet(
        wiring="Radar: looks straight down, clear of walls; works through a plastic cover.",
        limits="Up to 3 m (23), 15 m (41), 30 m (42). No influence of air temperature, foam or mist. Beyond "
        "`max_tilt_deg` no distance is taken.",
        faults="NAMUR status: 1 function check, 3 out of specification, 4 failure give no value; 2 (maintenance, "
        "a weak battery) does. A dummy packet has no measurement.",
        options="max_tilt_deg = 45.0",
    ),
)
