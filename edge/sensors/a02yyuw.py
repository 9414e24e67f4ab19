"""DFRobot A02YYUW waterproof ultrasonic range finder (SEN0311), UART 9600 8N1, 30 to 4500 mm.

Source: DFRobot wiki, SEN0311. It sends by itself: with its RX pin open or high a filtered value every 100 to 300 ms, with RX
low the raw one every 100 ms. A frame is `FF | distance in mm, high byte first | sum`, the low byte of the sum of all three.
"""

from edge.sensors import _ultrasonic as ultrasonic
from edge.sensors.base import Driver, Field, Options

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
    source="DFRobot wiki, SEN0311; esphome/esphome, components/a02yyuw",
)
