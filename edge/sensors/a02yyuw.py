"""DFRobot A02YYUW waterproof ultrasonic range finder (SEN0311), UART 9600 8N1, 30 to 4500 mm.

Source: DFRobot wiki, SEN0311. It sends by itself: with its RX pin open or high a filtered value every 100 to 300 ms, with RX
low the raw one every 100 ms. A frame is `FF | distance in mm, high byte first | sum`, the low byte of the sum of all three.
"""

from edge.sensors import _ultrasonic as ultrasonic
from edge.sensors.base import Driver, Field, Options, Sheet

SOUND_M_S = 340.0
"""The manual names neither a compensation nor a speed; that of its relatives (JSN-SR04T). A wrong one is a constant factor,
which a calibration takes away."""
BLIND_MM, FARTHEST_MM = 30, 4500


class A02yyuwOptions(Options):
    """None."""


def decode(frame: bytes, options: A02yyuwOptions) -> list[Field]:
    """One frame of 4 bytes -> `water_distance` in m.

    Raises FrameError: `header length checksum`; `no_target` for 0; `blind_zone` with `at_most_m` up to 30 mm (ESPHome takes
    such a value for invalid too); `out_of_range` beyond 4500 mm.
    """
    del options
    return ultrasonic.distance(frame, ultrasonic.sum_with_head, blind_mm=BLIND_MM, farthest_mm=FARTHEST_MM)


DRIVER = Driver(
    name="a02yyuw",
    title="DFRobot A02YYUW ultrasonic range finder (UART)",
    link="stream",
    quantities=("water_distance",),
    options=A02yyuwOptions,
    decode=decode,
    framer=lambda _options: ultrasonic.framer(ultrasonic.sum_with_head),
    sound_m_s=lambda _options: SOUND_M_S,
    source="DFRobot wiki, SEN0311; esphome/esphome, components/a02yyuw",
    sheet=Sheet(
        wiring="Four wires: supply 3.3 to 5 V, ground, RX, TX. TX has the level of the supply: 3.3 V for a Pi's "
        "pin, at 5 V through a level shifter or a USB adapter. RX open: filtered values every 100 to 300 "
        "ms; RX to ground: raw ones every 100 ms.",
        limits="30 to 4500 mm; nearer the water has reached the sensor. Does not compensate for the air's "
        "temperature: configure `air`.",
        faults="0 is no echo: foam, a sloping surface, a cone that meets a wall. The first frames after power-up "
        "are old.",
    ),
)
