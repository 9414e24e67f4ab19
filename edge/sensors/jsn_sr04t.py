"""JSN-SR04T and AJ-SR04M waterproof ultrasonic range finders in their UART modes, 9600 8N1, 200 to 6000 mm.

A resistor on the board chooses the mode (JSN-SR04T: R27): 47 kOhm sends a frame every 100 ms, 120 kOhm only when a byte asks
for one. A frame is `FF | distance in mm, high byte first | sum`; the JSN-SR04T sums all three bytes, the AJ-SR04M the two of
the distance. Sources: esphome/esphome, components/jsn_sr04t (sums, and 250 mm as the end of the blind zone);
iovsiann/JSN-SR04T-Arduino (byte 55); cyrilb1531/aj_sr04m (byte 01 of the AJ-SR04M).
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import field_validator

from edge.sensors import _ultrasonic as ultrasonic
from edge.sensors.base import Driver, Field, Identify, Options, Sheet

BLIND_MM, FARTHEST_MM = 250, 6000
SOUND_M_S = 340.0
"""With which the board reckons, whatever the air's temperature (output modes of the JSN-SR04T, mode 1); V3.3 compensates."""


@dataclass(frozen=True, slots=True)
class Model:
    """How a board sums a frame, and the byte that asks for one."""

    checksum: ultrasonic.Sum
    trigger: bytes


JSN_SR04T = Model(ultrasonic.sum_with_head, b"\x55")
AJ_SR04M = Model(ultrasonic.sum_of_data, b"\x01")


@cache
def model(name: str) -> Model:
    """The board of this name, such as `JSN-SR04T-V3.0`. Raises ValueError."""
    plain = "".join(c for c in name.upper() if c.isalnum())
    if "JSN" in plain:
        return JSN_SR04T
    if "AJ" in plain:
        return AJ_SR04M
    raise ValueError(f"model {name!r} is unknown, expected JSN-SR04T or AJ-SR04M")


class JsnSr04tOptions(Options):
    """`model`: the same frame has another sum on the other board. `mode`: `auto` sends by itself, `query` on request."""

    model: str = "JSN-SR04T"
    mode: Literal["auto", "query"] = "auto"

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        model(name)
        return name


def decode(frame: bytes, options: JsnSr04tOptions) -> list[Field]:
    """One frame of 4 bytes -> `water_distance` in m.

    Raises FrameError: `header length checksum`; `no_target` for 0; `blind_zone` with `at_most_m` up to 250 mm;
    `out_of_range` beyond 6000 mm.
    """
    return ultrasonic.distance(frame, model(options.model).checksum, blind_mm=BLIND_MM, farthest_mm=FARTHEST_MM)


def sound_m_s(options: JsnSr04tOptions) -> float | None:
    """See Driver.sound_m_s."""
    return None if "V33" in "".join(c for c in options.model.upper() if c.isalnum()) else SOUND_M_S


def trigger(name: str = "JSN-SR04T") -> bytes:
    """Ask the board of this name for one frame. Raises ValueError."""
    return model(name).trigger


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    return [Field("command", "trigger", "")] if frame in (JSN_SR04T.trigger, AJ_SR04M.trigger) else []


def request(options: JsnSr04tOptions) -> bytes:
    """What is sent every period: the trigger in query mode, nothing (no bytes) in auto mode."""
    return trigger(options.model) if options.mode == "query" else b""


DRIVER = Driver(
    name="jsn_sr04t",
    title="JSN-SR04T, AJ-SR04M ultrasonic range finders (UART modes)",
    link="stream",
    quantities=("water_distance",),
    options=JsnSr04tOptions,
    decode=decode,
    framer=lambda options: ultrasonic.framer(model(options.model).checksum),
    request=request,
    sound_m_s=sound_m_s,
    identify=Identify(
        requests=(JSN_SR04T.trigger, AJ_SR04M.trigger), variants=({}, {"model": "AJ-SR04M"}), reply_s=0.3
    ),
    source="esphome/esphome, components/jsn_sr04t; iovsiann/JSN-SR04T-Arduino; cyrilb1531/aj_sr04m; user manual AJ-SR04M",
    sheet=Sheet(
        wiring="Supply 3.0 to 5.5 V, TTL. TX (pin Echo) has the level of the supply: 3.3 V for a Pi's pin, at 5 "
        "V through a level shifter or a USB adapter. A resistor sets the mode. JSN-SR04T, R27: 47 kOhm "
        'sends by itself, 120 kOhm answers (`mode = "query"`). AJ-SR04M, R19: 120 kOhm sends by itself, '
        "47 kOhm answers. Open is pulse mode, which is not read.",
        limits="250 to 6000 mm; nearer the water has reached the sensor. Only V3.3 compensates for the air's "
        "temperature: configure `air` for the others.",
        faults="With the other board's model every frame fails its checksum. The wide cone finds walls and "
        "pipes. The first frames after power-up are old.",
        options='model = "JSN-SR04T"',
    ),
    commands={"trigger": trigger},
    recognise=recognise,
)
